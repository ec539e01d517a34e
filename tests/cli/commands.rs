//! What can be typed besides the commands that fleet's users know by heart: restart, patterns, instances and their
//! templates, old options, help.

use serde_json::{Value, json};

use super::fake::{Fake, Ran, Script, run};
use super::real::Real;
use super::{N1, N2, OK, applied, global, running, script, snapshot, state, synced, told, unit};

const NEW: &str = "[Service]\nExecStart=/bin/new\n";

fn hash(text: &str) -> String {
    flotilla::model::file::UnitFile::parse(text.as_bytes()).unwrap().hash().to_string()
}

fn with_hash(mut unit: Value, hash: &str) -> Value {
    unit["hash"] = hash.into();
    unit
}

// ---- commands that there aren't, and options that mean nothing any more

#[test]
fn unknown_commands_are_answered_with_the_command_that_does_what_was_meant() {
    let fake = Fake::new(Script::default());
    let cases = [
        ("frobnicate", "no command `frobnicate`\n"),
        ("strat a", "no command `strat`\n"),
        ("list-u", "the command `list-u` is ambiguous: it could be list-units, list-unit-files\n"),
        ("logs -f web@1", "no command `logs`: `fleetctl journal -f web@1` shows what units log\n"),
        (
            "rm web@*",
            "no command `rm`: `fleetctl destroy 'web@*'` stops units and removes them from the cluster (`stop` and \
             `unload` keep them)\n",
        ),
    ];
    for (args, err) in cases {
        fake.expect(args, 2, "", err);
    }
    assert!(fake.asked().is_empty(), "none of them is run");
}

#[test]
fn signed_units_are_no_more() {
    let fake = Fake::new(Script { applied: [applied(&[("a.service", "created")])].into(), ..Script::default() });
    let warning = "WARNING: The signed/verified units feature is DEPRECATED and cannot be used.\n";
    fake.file("a.service", OK).expect("submit --sign a", 0, "Unit a.service inactive\n", warning);
}

#[test]
fn ways_around_fleetd_do_nothing_and_say_so() {
    let fake = Fake::new(Script::default());
    fake.expect("--driver=API list-machines --no-legend", 0, "", "");
    fake.expect(
        "list-machines --no-legend -etcd-key-prefix /x --etcd-cafile ca.pem --experimental-api=true",
        0,
        "",
        "--etcd-key-prefix does nothing any more: only fleetd talks to etcd\n\
         --etcd-cafile does nothing any more: only fleetd talks to etcd; for a fleetd behind https, there is \
         `--ca-file`\n\
         --experimental-api does nothing any more: only fleetd talks to etcd\n",
    );
    let err = "there is no driver `etcd`: fleetctl always asks fleetd, and never its store\n";
    for (variable, args) in [("", "--driver etcd list-machines"), ("etcd", "list-machines")] {
        let mut command = fake.command(args);
        command.env("FLEETCTL_DRIVER", variable);
        let Ran { code, out, err: said } = run(command);
        assert!((code, out.as_str()) == (Some(2), "") && said.starts_with(err), "{args}: {said}");
    }
    assert!(!fake.run("--help").out.contains("etcd-keyfile"));
}

// ---- help

#[test]
fn help_has_every_command_in_its_group() {
    let fake = Fake::new(Script::default());
    let help = fake.run("--help").out;
    let names = |heading: &str| -> Vec<&str> {
        let lines = help.split(&format!("{heading}:\n")).nth(1).unwrap().lines();
        let lines = lines.take_while(|line| line.starts_with("  "));
        lines.map(|line| line.split_whitespace().next().unwrap()).collect()
    };
    assert_eq!(
        names("Run units"),
        ["submit", "load", "start", "restart", "stop", "unload", "destroy", "scale", "rollback", "rollout", "wait"]
    );
    assert_eq!(names("Unit files"), ["cat", "diff", "edit", "verify"]);
    assert_eq!(names("See what is there")[..3], ["status", "doctor", "explain"]);
    assert!(help.lines().count() <= 32 && help.contains("  restore") && !help.contains("--tunnel"), "{help}");
    assert_eq!(fake.run("").err, help, "without a command, the same");
    for asked in ["options", "help options", "options --help"] {
        let options = fake.run(asked).out;
        for said in ["Examples:", "FLEETCTL_ENDPOINT", "Exit status:", "--tunnel"] {
            assert!(options.contains(said), "{asked}, {said}: {options}");
        }
    }
    let restart = fake.run("help restart").out;
    assert!(restart.contains("--block-attempts") && !restart.contains("--tunnel"), "{restart}");
    assert!(restart.contains("Examples:\n  fleetctl restart 'web@*'\n"), "{restart}");
}

#[test]
fn all_manual_pages_can_be_written_at_once() {
    let fake = Fake::new(Script::default());
    fake.expect("man --all pages/man1", 0, "", "");
    let page = |name: &str| std::fs::read_to_string(fake.dir.path().join("pages/man1").join(name)).unwrap();
    let whole = page("fleetctl.1");
    assert!(
        whole.contains(".TH fleetctl 1") && whole.contains(".SH ENVIRONMENT") && whole.contains(".SH \"EXIT STATUS\"")
    );
    let commands = std::fs::read_dir(fake.dir.path().join("pages/man1")).unwrap();
    let commands: Vec<String> =
        commands.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|n| n.contains('-')).collect();
    assert!(commands.len() > 15, "{commands:?}");
    for name in &commands {
        let page = page(name);
        assert!(page.contains(".SH EXAMPLES") && page.contains("\\-\\-tunnel"), "{name}: {page}");
        assert!(!page.contains("etcd\\-keyfile"), "{name}");
    }
    assert!(page("fleetctl-restart.1").contains("block\\-attempts"));
    fake.file("file", "");
    let Ran { code, err, .. } = fake.run("man --all file/x");
    assert!(code == Some(1) && err.starts_with("can't write file/x: "), "{err}");
}

#[test]
fn the_version_is_there_for_programs() {
    let version = json!({ "version": env!("CARGO_PKG_VERSION") });
    let out = Fake::new(Script::default()).run("version --output json").out;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), version);
}

// ---- restart

#[test]
fn restart_waits_for_each_unit_before_the_next() {
    let before = [running("a.service", N1), running("b.service", N2)];
    let again = vec![
        told(&unit("a.service", "launched", Some(N1), &[state(N1, "6 active running")])),
        synced(),
        told(&unit("a.service", "launched", Some(N1), &[state(N1, "7 deactivating stop job=restart")])),
        told(&running("a.service", N1)),
    ];
    let fake = Fake::new(Script {
        applied: [applied(&[("a.service", "restarted")]), applied(&[("b.service", "restarted")])].into(),
        ..script(&before, vec![again, snapshot(&[running("b.service", N2)])])
    });
    let out = "Unit a.service launched on a2d7e4a6.../10.88.0.11\nUnit b.service launched on 844a981f.../10.88.0.12\n";
    fake.expect("restart a b", 0, out, "");
    let sent = ["a.service", "b.service"].map(|name| json!([{ "name": name, "restart": true }]));
    assert_eq!(fake.sent(), sent);
    let order: Vec<String> = fake.asked().iter().map(|line| line.split('?').next().unwrap().to_owned()).collect();
    let (post, watch) = ("POST /fleet/v2/units", "GET /fleet/v2/watch");
    assert_eq!(order, ["GET /fleet/v2/units", post, watch, post, watch]);
}

/// Whatever runs is left alone, and what can't be named is an error; the cluster decides what is really down.
#[test]
fn what_has_failed_is_started_again() {
    let failed = |name: &str| unit(name, "launched", Some(N1), &[state(N1, "6 failed failed result=failed")]);
    let known = [failed("a.service"), running("b.service", N2), failed("c.service")];
    let fake = Fake::new(Script {
        applied: [applied(&[("a.service", "changed"), ("c.service", "changed")])].into(),
        ..script(&known, vec![snapshot(&[running("a.service", N1), running("c.service", N1)])])
    });
    let out = "Unit a.service launched on a2d7e4a6.../10.88.0.11\nUnit c.service launched on a2d7e4a6.../10.88.0.11\n";
    fake.expect("reset-failed *", 0, out, "");
    let sent = json!([{ "name": "a.service", "desired": "launched" }, { "name": "c.service", "desired": "launched" }]);
    assert_eq!(fake.sent(), [sent]);

    let fake = Fake::new(script(&[running("b.service", N2)], Vec::new()));
    fake.expect("reset-failed b", 0, "", "b.service hasn't failed\n");
    let Ran { code, err, .. } = fake.run("reset-failed b x");
    assert_eq!((code, err.starts_with("Unit x.service not found\n")), (Some(1), true), "{err}");
    assert!(fake.sent().is_empty());
}

/// The daemon knows from the file when that is, and from the placement how often it was tried.
#[test]
fn what_is_tried_again_by_itself_says_when() {
    let fleetd = Real::new();
    fleetd.host(N1);
    let text = OK.to_owned() + "[X-Fleet]\nReschedule=on-failure\n";
    let hash = flotilla::model::file::UnitFile::parse(text.as_bytes()).unwrap().hash();
    std::fs::write(fleetd.dir.path().join("a.service"), &text).unwrap();
    fleetd.run("start --no-block a.service");
    fleetd.place("a.service", N1, "failed");
    let state = json!({
        "generation": 2, "target": "launched", "hash": hash, "load": "loaded", "active": "failed", "sub": "failed",
        "since": 5,
    });
    fleetd.record(&format!("state/{N1}/a.service"), &state);
    let said = || fleetd.run("status").out;
    assert!(said().contains("\tfailed; next try soon\n"), "{}", said());
    // Of a failure before somebody has asked for it again, nothing is said.
    fleetd.run("restart --no-block a.service");
    assert!(said().contains("\tfailed\n") && !said().contains("next try"), "{}", said());
}

#[test]
fn what_doesnt_come_back_keeps_the_others_running() {
    let failed = unit("a.service", "launched", Some(N1), &[state(N1, "7 failed failed result=failed error=exit-code")]);
    let known = [running("a.service", N1), running("b.service", N2), running("c.service", N1)];
    let fake = Fake::new(script(&known, vec![snapshot(&[failed])]));
    let Ran { code, out, err } = fake.run("restart a b c");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("a.service failed on n1: exit-code\n"), "{err}");
    assert!(err.ends_with("not restarted, as they were to come after it: b.service c.service\n"), "{err}");
    assert_eq!(fake.sent().len(), 1);
}

#[test]
fn what_was_restarted_before_an_error_is_reported() {
    let known = [running("a.service", N1), running("b.service", N2), running("c.service", N1)];
    let gone = (400, json!({ "error": { "code": 400, "message": "b.service was destroyed" } }));
    let fake = Fake::new(Script {
        applied: [applied(&[("a.service", "restarted")]), gone].into(),
        ..script(&known, vec![snapshot(&[running("a.service", N1)])])
    });
    let Ran { code, out, err } = fake.run("restart a b c");
    assert_eq!((code, out.as_str()), (Some(1), "Unit a.service launched on a2d7e4a6.../10.88.0.11\n"), "{err}");
    assert!(err.starts_with("not restarted, as they were to come after it: c.service\n"), "{err}");
    assert!(err.contains("b.service was destroyed"), "{err}");
}

#[test]
fn restart_refuses_what_isnt_there_or_not_loaded() {
    let known = [
        unit("off.service", "inactive", None, &[]),
        unit("web@.service", "inactive", None, &[]),
        running("web@1.service", N1),
    ];
    let fake = Fake::new(script(&known, vec![snapshot(&[running("web@1.service", N1)])]));
    let err = "Unable to restart unit off.service in state inactive\nUnit x.service not found\nno unit matches `y*`\n";
    fake.expect("restart off x y*", 1, "", err);
    assert!(fake.sent().is_empty());
    fake.expect("restart web@*", 0, "Unit web@1.service launched on a2d7e4a6.../10.88.0.11\n", "");
}

#[test]
fn restart_can_be_asked_for_only() {
    let known = [running("a.service", N1), global("g.service", "launched", &[])];
    let fake = Fake::new(script(&known, vec![]));
    let out = "Triggered unit a.service restart\nTriggered global unit g.service restart\n";
    fake.expect("restart --no-block a g", 0, out, "");
    assert_eq!(fake.sent().len(), 1);
    let slow = unit("a.service", "launched", Some(N1), &[state(N1, "6 active running")]);
    let fake = Fake::new(script(&known, vec![snapshot(&[slow])]));
    let Ran { code, err, .. } = fake.run("restart --block-attempts 1 a");
    let said = "Error waiting for units: timed out waiting for unit a.service to report state launched\n";
    assert!(code == Some(1) && err.ends_with(said), "{err}");
}

#[test]
fn a_global_is_done_when_every_host_that_was_told_has_reported() {
    let told_of = |generations: [u64; 2], states: &[Value]| {
        let mut unit = global("g.service", "launched", states);
        let order = |id: &str, generation| {
            let machine = super::machine(id);
            json!({ "machine": machine, "generation": generation, "target": "launched" })
        };
        unit["hosts"] = json!([order(N2, generations[0]), order(N1, generations[1])]);
        told(&unit)
    };
    let n2 = state(N2, "7 active running");
    let watch = vec![
        told_of([7, 6], std::slice::from_ref(&n2)),
        synced(),
        told_of([7, 7], std::slice::from_ref(&n2)),
        told_of([7, 7], &[n2, state(N1, "7 failed failed error=no-such-file")]),
    ];
    let fake = Fake::new(script(&[], vec![watch]));
    let Ran { code, err, .. } = fake.file("g.service", OK).run("start g");
    assert!(code == Some(1) && err.starts_with("g.service failed on n1: no-such-file\n"), "{err}");
}

// ---- patterns

#[test]
fn start_takes_patterns_of_what_the_cluster_has() {
    let known = [
        unit("web@.service", "inactive", None, &[]),
        unit("web@1.service", "inactive", None, &[]),
        unit("web@2.service", "inactive", None, &[]),
    ];
    let up = || snapshot(&[running("web@1.service", N1), running("web@2.service", N2)]);
    let fake = Fake::new(script(&known, vec![up(), up()]));
    let out = "Unit web@1.service launched on a2d7e4a6.../10.88.0.11\n\
        Unit web@2.service launched on 844a981f.../10.88.0.12\n";
    fake.expect("start web@*", 0, out, "");
    let sent =
        json!([{ "name": "web@1.service", "desired": "launched" }, { "name": "web@2.service", "desired": "launched" }]);
    assert_eq!(fake.sent(), [sent]);
    let nothing = "no unit matches `db*`\nnothing was submitted\n";
    for verb in ["submit", "load", "start"] {
        fake.expect(&format!("{verb} db* web@1"), 1, "", nothing);
    }
    // With a folder, the files there go along to be compared.
    fake.file("units/web@2.service", OK).expect(
        "start units/web@[2]",
        0,
        "Unit web@2.service launched on 844a981f.../10.88.0.12\n",
        "",
    );
    assert_eq!(fake.sent()[1][0]["text"], OK);
}

#[test]
fn cat_takes_a_pattern() {
    let with_text = |name: &str, text: &str| {
        let mut detail = running(name, N1);
        detail["text"] = text.into();
        (name.to_owned(), detail)
    };
    let details = [with_text("a@1.service", OK), with_text("a@2.service", NEW)];
    let units: Vec<Value> = details.iter().map(|(_, detail)| detail.clone()).collect();
    let fake = Fake::new(Script { details: details.into(), ..script(&units, vec![]) });
    fake.expect("cat a@*", 0, &format!("# a@1.service\n{OK}\n# a@2.service\n{NEW}"), "");
    fake.expect("cat a@[1]", 0, OK, "");
    fake.expect("cat b*", 1, "", "no unit matches `b*`\n");
    let json: Value = serde_json::from_str(&fake.run("cat a@* --output json").out).unwrap();
    assert_eq!(json[1]["text"], NEW);
    assert!(json[1].get("by").is_none(), "an older fleetd doesn't say it");
}

// ---- instances follow their template

fn family() -> Vec<Value> {
    vec![
        with_hash(unit("t@.service", "inactive", None, &[]), &hash(OK)),
        with_hash(running("t@1.service", N1), &hash(OK)),
        with_hash(unit("t@2.service", "inactive", None, &[]), &hash(OK)),
        with_hash(running("t@own.service", N2), "0"),
        with_hash(running("tt@1.service", N2), &hash(OK)),
    ]
}

#[test]
fn instances_keep_the_old_file_unless_asked() {
    let fake =
        Fake::new(Script { applied: [applied(&[("t@.service", "replaced")])].into(), ..script(&family(), vec![]) });
    let err = "t@own.service has a file of its own, and is left as it is\n\
        t@1.service t@2.service keep the old file of t@.service; with --instances they get the new one together with \
        it\n";
    fake.file("t@.service", NEW).expect("submit --replace t@", 0, "Unit t@.service inactive\n", err);
    assert_eq!(fake.sent(), [json!([{ "name": "t@.service", "text": NEW, "replace": true }])]);
    assert_eq!(fake.run("submit t@ --instances").code, Some(2), "it goes with --replace only");
}

#[test]
fn instances_are_replaced_with_their_template_in_one_batch() {
    let outcomes = ["t@.service", "t@1.service", "t@2.service"].map(|name| (name, "replaced"));
    let fake = Fake::new(Script {
        applied: [applied(&outcomes)].into(),
        ..script(&family(), vec![snapshot(&[running("t@1.service", N1)])])
    });
    let out =
        "Unit t@.service inactive\nUnit t@2.service inactive\nUnit t@1.service launched on a2d7e4a6.../10.88.0.11\n";
    let err = "t@own.service has a file of its own, and is left as it is\n";
    fake.file("t@.service", NEW).expect("submit --replace --instances t@", 0, out, err);
    let one = |name: &str| json!({ "name": name, "text": NEW, "replace": true });
    assert_eq!(fake.sent(), [json!([one("t@.service"), one("t@1.service"), one("t@2.service")])]);
}

// ---- against the real API

#[test]
fn the_real_api_replaces_in_place_and_restarts() {
    let fleetd = Real::new();
    fleetd.host(N1);
    let write = |name: &str, text: &str| std::fs::write(fleetd.dir.path().join(name), text).unwrap();
    write("web@.service", OK);
    fleetd.expect("submit web@", 0, "Unit web@.service inactive\n", "");
    let triggered = "Triggered unit web@1.service start\nTriggered unit web@2.service start\n";
    fleetd.expect("start --no-block web@1 web@2", 0, triggered, "");
    fleetd.place("web@1.service", N1, "active");
    fleetd.place("web@2.service", N1, "active");
    // What runs is replaced where it is: its placement and what is wanted of it stay.
    write("web@.service", NEW);
    let up = "Unit web@1.service launched on a2d7e4a6.../10.88.0.11\n";
    fleetd.expect("start --replace web@1", 0, up, "");
    fleetd.expect("cat web@1", 0, NEW, "");
    let refused = "web@2.service was not replaced: it is launched, and `submit` replaces inactive units only; use \
        `fleetctl start --replace web@2.service`\n";
    fleetd.expect("submit --replace web@2", 1, "", refused);
    // Of the instances, one has the new file already, the other follows.
    let out = "Unit web@.service inactive\nUnit web@2.service launched on a2d7e4a6.../10.88.0.11\n";
    fleetd.expect("submit --replace --instances web@", 0, out, "");
    fleetd.expect("cat web@2", 0, NEW, "");
    fleetd.expect("restart web@1", 0, up, "");
    fleetd.expect("restart --no-block web@*", 0, &triggered.replace(" start", " restart"), "");
    fleetd.expect("restart web@", 1, "", "Unable to restart unit web@.service in state inactive\n");
    let json: Value = serde_json::from_str(&fleetd.run("restart --output json web@1").out).unwrap();
    assert_eq!((&json["units"][0]["outcome"], &json["units"][0]["end"]), (&json!("restarted"), &json!("done")));
}

#[test]
fn a_unit_that_is_leaving_is_waited_for_by_a_second_destroy_too() {
    let fleetd = Real::new();
    fleetd.host(N1);
    std::fs::write(fleetd.dir.path().join("a.service"), OK).unwrap();
    fleetd.run("start --no-block a");
    fleetd.place("a.service", N1, "active");
    fleetd.expect("destroy --no-block a", 0, "Destroyed a.service\n", "");
    let again = fleetd.run("destroy --block-attempts 1 a b");
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.starts_with("Units not found in registry: b.service\n"), "{again:?}");
    assert!(again.err.contains("a.service"), "what it waited for: {again:?}");
    fleetd.take_away("a.service", N1);
    fleetd.expect("destroy a", 0, "", "Units not found in registry: a.service\n");
}

/// What can't be read is still told of, by everything that tells of units, and what it is told to do works.
#[test]
fn a_damaged_record_is_told_of_and_can_be_mended() {
    let fleetd = Real::new();
    fleetd.host(N1);
    for unit in ["a.service", "b.service", "c.service"] {
        std::fs::write(fleetd.dir.path().join(unit), OK).unwrap();
    }
    fleetd.run("start --no-block a b c");
    fleetd.place("a.service", N1, "active");
    fleetd.place("c.service", N1, "active");
    fleetd.damage("a.service");
    fleetd.damage("b.service");
    let line = |unit: &str| {
        format!(
            "The record of unit {unit} in the store is damaged (EOF while parsing an object at line 1 column 1). \
             It keeps running where it is; submit it again with its file, or destroy it\n"
        )
    };
    let both = line("a.service") + &line("b.service");
    let files = "a.service\t-\t\tdamaged\t\ta2d7e4a6.../10.88.0.11\n\
                 b.service\t-\t\tdamaged\t\t-\n\
                 c.service\tlaunched\tlaunched\ta2d7e4a6.../10.88.0.11\n";
    fleetd.expect("list-unit-files --no-legend --fields=unit,dstate,state,target", 0, files, &both);
    fleetd.expect("list-unit-files --no-legend --fields=unit,state b*", 0, "b.service\tdamaged\n", &line("b.service"));
    fleetd.expect("list-unit-files --no-legend --fields=unit c", 0, "c.service\n", "");
    fleetd.expect("list-units --no-legend --fields=unit,active", 0, "a.service\tactive\nc.service\tactive\n", &both);
    let json = |args: &str| serde_json::from_str::<Value>(&fleetd.run(args).out).unwrap();
    let files = json("list-unit-files --output json");
    assert_eq!(
        (&files[0]["state"], &files[0]["hash"], &files[2]["state"]),
        (&json!("damaged"), &Value::Null, &json!("launched"))
    );
    assert_eq!(
        json("list-units --output json --fields=unit,sub a"),
        json!([{ "unit": "a.service", "sub": "running" }])
    );
    assert_eq!(json("status --output json a b")[0]["active"], "active");
    fleetd.expect("status b", 1, "", &line("b.service"));
    fleetd.expect("journal b", 1, "", &line("b.service"));
    fleetd.expect("stop b", 1, "", &line("b.service"));
    fleetd.expect("restart b", 1, "", &line("b.service"));
    let cat = fleetd.run("cat b");
    assert!(cat.code == Some(1) && cat.err.contains("b.service: its record in the store is damaged"), "{cat:?}");
    // The other one goes on; both ways out work.
    fleetd.expect("destroy b", 0, "Destroyed b.service\n", "");
    fleetd.expect("start a", 0, "Unit a.service launched on a2d7e4a6.../10.88.0.11\n", "");
    fleetd.expect(
        "list-unit-files --no-legend --fields=unit,state",
        0,
        "a.service\tlaunched\nc.service\tlaunched\n",
        "",
    );
    fleetd.damage("a.service");
    fleetd.expect("destroy --no-block *", 0, "Destroyed c.service\nDestroyed a.service\n", "");
}

// ---- more than one request holds

/// Writes so many unit files of 250 KiB, and names them all.
fn large(dir: &std::path::Path, number: usize) -> String {
    let text = format!("{OK}# {}\n", "x".repeat(250 * 1024));
    let names: Vec<String> = (0..number).map(|index| format!("u{index:02}.service")).collect();
    names.iter().for_each(|name| std::fs::write(dir.join(name), &text).unwrap());
    names.join(" ")
}

/// More than a request may have goes in several, and still all of it is looked at before any is done.
#[test]
fn a_large_command_is_sent_in_parts_and_is_whole_or_nothing_where_it_is_wrong() {
    let fleetd = Real::new();
    fleetd.host(N1);
    let names = large(fleetd.dir.path(), 18);
    std::fs::write(fleetd.dir.path().join("t@.service"), OK).unwrap();
    fleetd.run("submit t@");
    std::fs::remove_file(fleetd.dir.path().join("t@.service")).unwrap();
    fleetd.damage("t@1.service");
    // What is wrong with the last unit only the cluster knows: the first part must not have been done.
    let wrong = fleetd.run(&format!("start --no-block {names} t@1"));
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(1), ""), "{wrong:?}");
    assert!(wrong.err.contains("t@1.service: its record in the store is damaged"), "{}", wrong.err);
    assert!(wrong.err.ends_with("nothing was changed\n"), "{}", wrong.err);
    fleetd.expect("list-unit-files --no-legend --fields=unit u*", 1, "", "no unit matches `u*`\n");
    // An instance goes after the template that comes with it.
    std::fs::write(fleetd.dir.path().join("t@.service"), NEW).unwrap();
    let right = fleetd.run(&format!("submit --replace t@2 {names} t@"));
    assert_eq!((right.code, right.out.lines().count()), (Some(0), 20), "{right:?}");
    assert!(
        right.out.starts_with("Unit t@2.service inactive\nUnit u00.service inactive\n"),
        "as they were named: {right:?}"
    );
    fleetd.expect("cat t@2", 0, NEW, "");
}

#[test]
fn what_was_done_of_a_large_command_that_failed_in_the_middle_is_said() {
    let accepted = || (200, json!({ "revision": 7, "units": [] }));
    let broken = || (503, super::fake::error(503, "fleetd on n1 can't reach its store"));
    let fake = Fake::new(Script {
        applied: [accepted(), accepted(), accepted(), broken(), accepted(), broken()].into(),
        ..Script::default()
    });
    let names = large(fake.dir.path(), 18);
    let err = "fleetd on n1 can't reach its store\n\
        16 of 18 units were done before that, u00.service to u15.service; the same command again does the rest\n";
    fake.expect(&format!("start --no-block {names}"), 1, "", err);
    let parts: Vec<usize> = fake.sent().iter().map(|units| units.as_array().unwrap().len()).collect();
    assert_eq!(parts, [16, 2, 16, 2]);
    let asked: Vec<String> = fake.asked().into_iter().filter(|line| line.starts_with("POST")).collect();
    let (check, apply) = ("POST /fleet/v2/units?check=true", "POST /fleet/v2/units");
    assert_eq!(asked, [check, check, apply, apply]);
    // A part that can't be looked at means that none was done.
    fake.expect(&format!("start --no-block {names}"), 1, "", "fleetd on n1 can't reach its store\n");
    assert_eq!(fake.sent().len(), 6);
}
