//! The commands about unit files: `verify`, `diff` and `edit`, against the real API, and a `systemd-analyze` and an
//! editor that are scripts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use super::fake::{Ran, Script, fleetctl, run};
use super::real::Real;
use super::{N1, N2};

const GPU: &str = "[Unit]\nRequires=db.service\n[Service]\nExecStrat=/bin/true\n  [X-Fleet]\nMachineMetadata=gpu=yes\n";
const DB: &str = "[Service]\nExecStart=/bin/db\n[Install]\nWantedby=multi-user.target\n";

/// A `systemd-analyze` in `dir` that prints `lines`, with `DIR` for the folder of the files.
fn systemd(dir: &Path, lines: &str) {
    let program = dir.join("bin/systemd-analyze");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    let lines = lines.replace("DIR", &dir.display().to_string());
    std::fs::write(&program, format!("#!/bin/sh\n[ \"$1\" = verify ] && /bin/cat >&2 <<'END'\n{lines}END\nexit 1\n"))
        .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn verify(dir: &Path, args: &str) -> Ran {
    let mut command = fleetctl(dir);
    command.arg("verify").args(args.split(' ')).arg("--endpoint").arg(dir.join("fleet.sock"));
    command.env("PATH", dir.join("bin"));
    run(command)
}

#[test]
fn verify_says_what_we_systemd_and_the_cluster_find() {
    let real = Real::new();
    for host in [N1, N2] {
        real.host(host);
    }
    let dir = real.dir.path();
    std::fs::write(dir.join("gpu.service"), GPU).unwrap();
    std::fs::write(dir.join("db.service"), DB).unwrap();
    systemd(
        dir,
        "DIR/gpu.service:4: Unknown key 'ExecStrat' in section [Service], ignoring.\n\
         Unit gpu.service has a bad unit file setting.\n\
         /lib/systemd/system/other.service:3: Unknown section 'X'. Ignoring.\n\
         db.service: Command /bin/db is not executable: No such file or directory\n",
    );
    let Ran { code, out, err } = verify(dir, "gpu.service db typo.service");
    assert_eq!(
        out,
        "gpu.service:2: warning: Requires=db.service without MachineOf=db.service: it may be on another host \
         (cluster)\n\
         gpu.service:4: Unknown key 'ExecStrat' in section [Service], ignoring (systemd)\n\
         gpu.service:6: no host fits: n1, n1: no metadata gpu, wanted yes (cluster)\n\
         db.service:4: unknown option `Wantedby` in [Install]; there are Alias, WantedBy, RequiredBy, UpheldBy, Also, \
         DefaultInstance\n\
         db.service: warning: Command /bin/db is not executable: No such file or directory (systemd)\n\
         typo.service: no such file\n"
    );
    assert_eq!((code, err.as_str()), (Some(1), "4 errors, 2 warnings in 3 files\n"));
    let json = verify(dir, "gpu.service --output json").out;
    let findings: Value = serde_json::from_str(&json).unwrap();
    let of = |key: &str| findings.as_array().unwrap().iter().map(|finding| finding[key].clone()).collect::<Vec<_>>();
    assert_eq!((of("line"), of("column")), (vec![4.into(), 6.into()], vec![1.into(), 1.into()]));
    assert_eq!((of("source"), of("severity")), (vec!["systemd".into(), "cluster".into()], vec!["error".into(); 2]));
    real.expect("list-unit-files --no-legend", 0, "", "");
}

#[test]
fn verify_works_with_neither_systemd_nor_a_cluster() {
    let fake =
        super::fake::Fake::new(Script { refuse: Some((503, super::error(503, "etcd is away"))), ..Script::default() });
    let dir = fake.dir.path();
    fake.file("ok.service", super::OK).file("bad.service", "[Service\n");
    let Ran { code, out, err } = verify(dir, "ok.service");
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert_eq!(
        err,
        "not checked by systemd: there is no systemd-analyze here\n\
         not compared with the cluster: etcd is away\n\
         0 errors, 0 warnings in 1 file\n"
    );
    let Ran { code, out, .. } = verify(dir, "bad.service ok.service");
    assert_eq!(
        (code, out.as_str()),
        (Some(1), "bad.service:1: bad section header \"[Service\": it must be [Name], alone on its line\n")
    );
    assert_eq!(fake.run("verify").code, Some(2));
}

// ---- diff

#[test]
fn diff_has_the_exit_status_of_diff_and_says_what_storing_would_do() {
    let real = Real::new();
    real.host(N1);
    let write = |name: &str, text: &str| std::fs::write(real.dir.path().join(name), text).unwrap();
    let stored = "[Service]\nExecStart=/bin/true\n";
    write("web.service", stored);
    real.run("submit web.service");
    real.expect("diff web.service", 0, "", "");
    write("web.service", "[Service]\nExecStart=/bin/new\n");
    let lines = "--- cluster/web.service\n+++ web.service\n@@ -1,2 +1,2 @@\n [Service]\n-ExecStart=/bin/true\n\
                 +ExecStart=/bin/new\n";
    real.expect("diff web", 1, lines, "web.service: it is on no host, nothing is restarted\n");
    real.run("start --no-block web");
    real.place("web.service", N1, "active");
    real.expect("diff web", 1, lines, "web.service: restarts it on n1\n");
    write("web.service", "# why\n[Service]\nExecStart=/bin/true\n");
    let Ran { code, out, err } = real.run("diff web.service");
    assert!(code == Some(1) && out.ends_with("@@ -1,2 +1,3 @@\n+# why\n [Service]\n ExecStart=/bin/true\n"), "{out}");
    assert_eq!(err, "web.service: only comments or white space differ, nothing is restarted\n");
    write("new.service", stored);
    let Ran { code, out, err } = real.run("diff new.service --output json");
    let documents: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert_eq!(documents[0]["effect"], "it is new, and fits n1");
    assert!(documents[0]["diff"].as_str().unwrap().starts_with("--- /dev/null\n+++ new.service\n"), "{documents}");
}

#[test]
fn diff_compares_instances_with_their_template_and_trouble_is_2() {
    let real = Real::new();
    real.host(N1);
    let write = |name: &str, text: &str| std::fs::write(real.dir.path().join(name), text).unwrap();
    write("web@.service", "[Service]\nExecStart=/bin/true\n");
    real.run("submit web@.service web@1.service web@2.service");
    write("web@.service", "[Service]\nExecStart=/bin/new\n");
    let Ran { code, err, .. } = real.run("diff web@.service");
    let effect = "web@.service: 2 instances have its present file and keep it, unless `--instances` is given\n";
    assert_eq!((code, err.as_str()), (Some(1), effect));
    assert_eq!(real.run("submit --replace web@.service").code, Some(0));
    std::fs::remove_file(real.dir.path().join("web@.service")).unwrap();
    let Ran { code, out, .. } = real.run("diff web@1");
    assert!(code == Some(1) && out.starts_with("--- cluster/web@1.service\n+++ cluster/web@.service\n"), "{out}");
    real.expect("diff nothing", 2, "", "there is no file of nothing.service here to compare with\n");
    real.expect("diff db*", 2, "", "no unit matches `db*`\n");
    write("bad.service", "[Service\n");
    assert_eq!(real.run("diff bad.service").code, Some(2));
}

// ---- edit

/// Run `edit web` with an editor that is this script.
fn edit(real: &Real, script: &str) -> Ran {
    edit_with(real, script, &[])
}

/// The same with further options.
fn edit_with(real: &Real, script: &str, options: &[&str]) -> Ran {
    let dir = real.dir.path();
    let editor = dir.join("editor");
    std::fs::write(&editor, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(dir.join("tmp")).unwrap();
    let mut command = fleetctl(dir);
    command.args(["edit", "web", "--endpoint"]).arg(dir.join("fleet.sock")).args(options);
    command.env("EDITOR", format!("{} ", editor.display())).env("TMPDIR", dir.join("tmp"));
    run(command)
}

fn submitted() -> Real {
    let real = Real::new();
    real.host(N1);
    std::fs::write(real.dir.path().join("web.service"), "# why\n[Service]\nExecStart=/bin/true\n").unwrap();
    real.run("submit web.service");
    real
}

#[test]
fn edit_stores_what_was_changed_and_nothing_else() {
    let real = submitted();
    let Ran { code, out, err } = edit(&real, "grep -q '# why' \"$1\"");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", "web.service: nothing was changed\n"));
    let Ran { code, out, err } = edit(&real, "sed -i s/true/new/ \"$1\"");
    let effect = "web.service: it is on no host, nothing is restarted\n";
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "Unit web.service inactive\n", effect));
    real.expect("cat web", 0, "# why\n[Service]\nExecStart=/bin/new\n", "");
    assert_eq!(std::fs::read_dir(real.dir.path().join("tmp")).unwrap().count(), 0, "no copy is left");
    real.run("start --no-block web");
    real.place("web.service", N1, "active");
    let Ran { code, out, err } = edit(&real, "sed -i s/new/newer/ \"$1\"");
    assert_eq!((code, err.as_str()), (Some(0), "web.service: restarts it on n1\n"));
    assert_eq!(out, format!("Unit web.service launched on {}.../10.88.0.11\n", &N1[..8]));
}

#[test]
fn edit_says_what_a_change_would_lead_to_and_keeps_it() {
    let real = submitted();
    let Ran { code, out, err } = edit_with(&real, "sed -i s/true/new/ \"$1\"", &["--plan"]);
    assert_eq!((code, out.as_str()), (Some(3), "web.service  gets its new file, and runs nowhere\n"), "{err}");
    let kept = err.lines().last().unwrap().strip_prefix("nothing was stored; your text is kept in ").unwrap();
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "# why\n[Service]\nExecStart=/bin/new\n");
    real.expect("cat web", 0, "# why\n[Service]\nExecStart=/bin/true\n", "");
    let Ran { code, out, err } = edit_with(&real, ":", &["--plan"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", "web.service: nothing was changed\n"));
}

#[test]
fn a_change_of_comments_is_stored_and_restarts_nothing() {
    const STORED: &str = "web.service: only comments changed; stored, nothing restarted\n";
    let real = submitted();
    real.run("start --no-block web");
    real.place("web.service", N1, "active");
    let Ran { code, out, err } = edit(&real, "sed -i s/why/because/ \"$1\"");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", STORED));
    let because = "# because\n[Service]\nExecStart=/bin/true\n";
    real.expect("cat web", 0, because, "");
    // The stored file is kept without --replace, as always.
    let write = |text: &str| std::fs::write(real.dir.path().join("web.service"), text).unwrap();
    write("# plain\n[Service]\nExecStart=/bin/true\n");
    real.expect("start --no-block web.service", 0, "", "");
    real.expect("cat web", 0, because, "");
    // What a program reads is what fleet printed.
    let same = "Found same Unit(web.service) in Registry, nothing to do\n";
    for command in ["submit --replace web.service", "start --no-block --replace web.service"] {
        real.expect(command, 0, same, STORED);
        real.expect("cat web", 0, "# plain\n[Service]\nExecStart=/bin/true\n", "");
        real.expect(command, 0, same, "");
        write(because);
        real.run("submit --replace web.service");
        write("# plain\n[Service]\nExecStart=/bin/true\n");
    }
    let applied: Value = serde_json::from_str(&real.run("submit --replace web.service --output json").out).unwrap();
    assert_eq!(
        (&applied["units"][0]["outcome"], &applied["units"][0]["comments"]),
        (&"unchanged".into(), &true.into())
    );
    let again = real.run("submit --replace web.service --output json").out;
    assert!(!again.contains("comments"), "{again}");
}

#[test]
fn a_change_of_sections_that_systemd_skips_restarts_nothing() {
    const STORED: &str = "web.service: only [X-...] sections changed; stored, nothing restarted where it still fits\n";
    let real = submitted();
    real.run("start --no-block web");
    real.place("web.service", N1, "active");
    let write = |more: &str| {
        let text = format!("# why\n[Service]\nExecStart=/bin/true\n[X-Fleet]\n{more}");
        std::fs::write(real.dir.path().join("web.service"), text).unwrap();
    };
    write("Conflicts=other.service\n");
    let Ran { code, err, .. } = real.run("diff web");
    let effect = "[X-Fleet] Conflicts: not set -> other.service (restarts nothing where it still fits)\n\
                  web.service: it stays up on n1, nothing is restarted, because only [X-...] sections differ\n";
    assert_eq!((code, err.as_str()), (Some(1), effect));
    let Ran { code, out, err } = real.run("start --no-block --replace web.service");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "Triggered unit web.service start\n", STORED));
    write("MachineMetadata=zone=nowhere\n");
    let Ran { err, .. } = real.run("diff web");
    assert!(err.ends_with("still fits)\nweb.service: takes it off n1, and no other host fits\n"), "{err}");
    let start = "start --no-block --replace web.service";
    let applied: Value = serde_json::from_str(&real.run(&format!("{start} --output json")).out).unwrap();
    let unit = &applied["units"][0];
    assert_eq!((&unit["outcome"], &unit["same_body"]), (&"replaced".into(), &true.into()));
    write("OnDisconnect=stop\n");
    assert_eq!(real.run(start).err, "", "systemd has a drop-in for this");
}

#[test]
fn what_was_replaced_or_destroyed_can_be_had_back() {
    let real = submitted();
    let write = |text: &str| std::fs::write(real.dir.path().join("web.service"), text).unwrap();
    let first = "# why\n[Service]\nExecStart=/bin/true\n";
    let rows = |real: &Real| -> Vec<String> {
        let Ran { code, out, err } = real.run("history web");
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        // Without times, by whom and the hash, which are those of this run.
        let short = |line: &str| {
            let fields: Vec<&str> = line.split("  ").filter(|field| !field.is_empty()).map(str::trim).collect();
            let then = match fields[4].split_once(" s ago") {
                Some((what, rest)) => format!("{}ago{rest}", what.trim_end_matches(|c: char| c.is_ascii_digit())),
                None => fields[4].to_owned(),
            };
            format!("{} {then}", fields[0])
        };
        out.lines().map(short).collect()
    };
    assert_eq!(rows(&real), ["REVISION THEN", "1 present"]);
    write("# because\n[Service]\nExecStart=/bin/true\n");
    real.run("submit --replace web.service");
    write("[Service]\nExecStart=/bin/new\n");
    real.run("submit --replace web.service");
    real.run("destroy --no-block web.service");
    real.expect("cat web", 1, "", "Unit web.service not found\n");
    let (fleetctl, dir) = (env!("CARGO_BIN_EXE_fleetctl"), real.dir.path().display());
    let mut terminal = std::process::Command::new("script");
    terminal.env_clear().envs([("TERM", "xterm"), ("PATH", "/usr/bin:/bin"), ("SHELL", "/bin/sh")]);
    terminal.args(["-qec", &format!("{fleetctl} cat web --endpoint {dir}/fleet.sock"), "/dev/null"]);
    let shown = String::from_utf8(terminal.output().unwrap().stdout).unwrap();
    assert!(shown.contains("ago; `fleetctl cat --revision 3 web.service` prints its file"), "{shown}");
    let then = ["3 destroyed ago by", "2 replaced ago", "1 replaced ago"];
    let seen = rows(&real);
    assert!(seen[1..].iter().zip(then).all(|(row, then)| row.starts_with(then)) && seen.len() == 4, "{seen:?}");
    real.expect("cat --revision 1 web", 0, first, "");
    real.expect("cat --revision 4 web", 1, "", "web.service: revision 4 does not exist; 1 to 3 are there\n");
    let json: Value = serde_json::from_str(&real.run("history web --output json").out).unwrap();
    assert_eq!(json["unit"], "web.service");
    assert_eq!(json["revisions"][0]["text"], "[Service]\nExecStart=/bin/new\n");
    assert!(json["revisions"][0]["by"]["uid"].is_number(), "{json}");
    assert!(json["revisions"][0]["author"]["uid"].is_number() && json.get("present").is_none(), "{json}");
    // It comes back as it was, and its history goes on.
    write(&real.run("cat --revision 1 web").out);
    real.expect("submit web.service", 0, "Unit web.service inactive\n", "");
    real.expect("cat web", 0, first, "");
    real.run("destroy --no-block web.service");
    assert!(rows(&real)[1].starts_with("4 destroyed ago by "), "{:?}", rows(&real));
    write(first);
    real.run("submit web.service");
    assert_eq!(rows(&real)[1], "5 present, the file of 1");
    let json: Value = serde_json::from_str(&real.run("history web --output json").out).unwrap();
    assert_eq!((&json["present"]["revision"], &json["present"]["text"]), (&5.into(), &first.into()));
    real.expect("cat --revision 5 web", 0, first, "");
    let nothing = real.run("history other");
    assert!(
        nothing.code == Some(1) && nothing.err.contains("other.service not found, and no earlier text"),
        "{nothing:?}"
    );
}

/// The text that `err` says is kept.
fn kept(err: &str) -> String {
    let path = err.trim_end().rsplit(' ').next().unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn edit_loses_no_text() {
    let real = submitted();
    let Ran { code, err, .. } = edit(&real, "echo '[Service' > \"$1\"");
    assert!(code == Some(1) && err.contains("web.service:1: bad section header"), "{err}");
    assert!(err.contains("\nnothing was changed\nyour text is kept in "), "{err}");
    assert_eq!(kept(&err), "[Service\n");
    let Ran { code, err, .. } = edit(&real, "exit 3");
    assert!(code == Some(1) && err.contains("failed (exit status: 3); nothing was changed\n"), "{err}");
    assert!(!err.contains("kept"), "there is nothing to keep: {err}");
    // Somebody else is faster.
    let theirs = real.dir.path().join("theirs/web.service");
    std::fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    std::fs::write(&theirs, "[Service]\nExecStart=/bin/theirs\n").unwrap();
    let program = env!("CARGO_BIN_EXE_fleetctl");
    let socket = real.dir.path().join("fleet.sock");
    let submit = format!("{program} submit --replace {} --endpoint {} >/dev/null", theirs.display(), socket.display());
    let Ran { code, err, .. } = edit(&real, &format!("sed -i s/true/mine/ \"$1\"; {submit}"));
    assert!(code == Some(1) && err.contains("web.service: somebody else has changed it meanwhile\n"), "{err}");
    assert_eq!(kept(&err), "# why\n[Service]\nExecStart=/bin/mine\n");
    real.expect("cat web", 0, "[Service]\nExecStart=/bin/theirs\n", "");
    assert_eq!(real.run("edit nothing").code, Some(1));
}

#[test]
fn edit_on_a_terminal_offers_to_edit_again() {
    let mut unit = super::unit("web.service", "inactive", None, &[]);
    unit["text"] = super::OK.into();
    unit["revision"] = 5.into();
    let details = [("web.service".to_owned(), unit)].into();
    let mut fake = super::fake::Fake::new(Script { details, ..Script::default() });
    fake.file(
        "editor",
        "#!/bin/sh\nif [ -e once ]; then echo '[Service]\nExecStart=/b' >$1; else echo '[' >$1; fi\n>once\n",
    );
    let editor = fake.dir.path().join("editor");
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    fake.variables = vec![("EDITOR", "./editor")];
    let (code, text) = fake.on_terminal("edit web", 80, "y\n");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("edit it again? [y/N] ") && text.ends_with("Unit web.service inactive\n"), "{text}");
    let sent = fake.sent();
    let stored = sent.last().unwrap();
    assert_eq!((&stored[0]["revision"], &stored[0]["text"]), (&5.into(), &"[Service]\nExecStart=/b\n".into()));
}
