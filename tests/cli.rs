//! The real `fleetctl` against a fake API: what is on stdout and stderr, and the exit code.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "cli/backup.rs"]
mod backup;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/completion.rs"]
mod completion;
#[path = "cli/contexts.rs"]
mod contexts;
#[path = "cli/cordon.rs"]
mod cordon;
#[path = "cli/drain.rs"]
mod drain;
#[path = "cli/explain.rs"]
mod explain;
#[path = "cli/fake.rs"]
mod fake;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/live.rs"]
mod live;
#[path = "cli/metadata.rs"]
mod metadata;
#[path = "cli/moves.rs"]
mod moves;
#[path = "cli/offline.rs"]
mod offline;
#[path = "cli/plan.rs"]
mod plan;
#[path = "cli/real.rs"]
mod real;
#[path = "cli/rebalance.rs"]
mod rebalance;
#[path = "cli/reboot.rs"]
mod reboot;
#[path = "support/records.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod records;
#[path = "cli/revisions.rs"]
mod revisions;
#[path = "cli/rollouts.rs"]
mod rollouts;
#[path = "cli/safety.rs"]
mod safety;
#[path = "cli/sets.rs"]
mod sets;
#[path = "cli/settings.rs"]
mod settings;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/waiting.rs"]
mod waiting_for;
#[path = "cli/what_if.rs"]
mod what_if;

use std::io::{BufRead as _, BufReader};

use fake::{CLOSE, Fake, Ran, Script, error, fleetctl, run};
use real::Real;
use serde_json::{Value, json};

const N1: &str = "a2d7e4a6000000000000000000000001";
const N2: &str = "844a981f000000000000000000000002";
const OK: &str = "[Service]\nExecStart=/bin/true\n";

fn machine(id: &str) -> Value {
    let (host, ip) = if id == N1 { ("n1", "10.88.0.11") } else { ("n2", "10.88.0.12") };
    json!({ "id": id, "ip": ip, "hostname": host })
}

/// `gen active sub [job=…] [result=…] [error=…] [ready=…] [health=…]` on a host.
fn state(id: &str, text: &str) -> Value {
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
    json!({
        "machine": machine(id), "generation": words[0].parse::<u64>().unwrap(), "target": "launched",
        "hash": "3750b3e9f3962a56c7582929426e9abb012754cf", "load": "loaded", "active": words[1], "sub": words[2],
        "job": after("job="), "result": after("result="), "error": after("error="), "since": 0,
        "ready": after("ready=").map(|ready| ready == "yes"), "health": after("health="),
    })
}

fn unit(name: &str, desired: &str, host: Option<&str>, states: &[Value]) -> Value {
    json!({
        "name": name, "hash": "3750b3e9f3962a56c7582929426e9abb012754cf", "description": "a unit", "desired": desired,
        "current": if host.is_some() { desired } else { "inactive" }, "generation": 7,
        "machine": host.map(machine), "states": states,
    })
}

fn global(name: &str, desired: &str, states: &[Value]) -> Value {
    let mut unit = unit(name, desired, None, states);
    unit["global"] = true.into();
    unit["current"] = "".into();
    unit
}

fn waiting(name: &str, why: &str) -> Value {
    let mut unit = unit(name, "launched", None, &[]);
    unit["waiting"] = why.into();
    unit
}

fn running(name: &str, host: &str) -> Value {
    unit(name, "launched", Some(host), &[state(host, "7 active running result=done")])
}

fn told(unit: &Value) -> String {
    json!({ "unit": unit }).to_string()
}

fn removed(name: &str) -> String {
    json!({ "removed": name }).to_string()
}

fn synced() -> String {
    json!({ "synced": 7 }).to_string()
}

/// A watch that tells of `units` as they are.
fn snapshot(units: &[Value]) -> Vec<String> {
    units.iter().map(told).chain([synced()]).collect()
}

fn applied(units: &[(&str, &str)]) -> (u16, Value) {
    let one = |(name, outcome): &(&str, &str)| json!({ "name": name, "outcome": outcome, "generation": 7 });
    (200, json!({ "revision": 7, "units": units.iter().map(one).collect::<Vec<_>>() }))
}

fn script(units: &[Value], watches: Vec<Vec<String>>) -> Script {
    Script { units: units.to_vec(), watches: watches.into(), ..Script::default() }
}

fn idle() -> Fake {
    Fake::new(Script::default())
}

// ---- what can be typed

#[test]
fn usage_errors_exit_2_and_print_on_stderr_only() {
    let cases = [
        ("start", "No units given"),
        ("restart", "No units given"),
        ("submit --replace", "No units given"),
        ("load", "No units given"),
        ("stop", "No units given"),
        ("unload", "No units given"),
        ("destroy", "No units given"),
        ("cat", "One unit file must be provided"),
        ("cat a b", "One unit file must be provided"),
        ("start --bogus a", "no option `--bogus`\n"),
        ("start --block-attempts many a", "`--block-attempts many`: it must be a whole number\n"),
        ("list-units --output yaml", "`--output yaml`: it must be one of text, json\n"),
        ("--request-timeout 0 list-units", "it must be more than 0"),
        ("--endpoint tcp://x list-units", "`tcp://x` is no endpoint"),
        ("", "Usage: fleetctl"),
        ("man frobnicate", "there is no command `frobnicate`"),
    ];
    let fake = idle();
    for (args, message) in cases {
        let Ran { code, out, err } = fake.run(args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args}: {err}");
        assert!(err.contains(message), "{args}: {err}");
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn help_and_version_are_data_wherever_they_stand() {
    let fake = idle();
    for args in ["help", "--help", "-h", "--h", "start --help", "help start", "list-m -h", "start a -h"] {
        let Ran { code, out, err } = fake.run(args);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{args}");
        assert!(out.contains("Usage: fleetctl"), "{args}: {out}");
    }
    let version = format!("fleetctl version {}\n", env!("CARGO_PKG_VERSION"));
    for args in ["version", "--version", "-v", "-V", "-version", "vers", "start a --version", "--version list-units"] {
        fake.expect(args, 0, &version, "");
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn completions_and_manual_pages_come_from_the_same_definitions() {
    let fake = idle();
    for shell in ["bash", "zsh", "fish"] {
        let Ran { code, out, .. } = fake.run(&format!("completion {shell}"));
        assert!(code == Some(0) && out.contains("list-unit-files") && out.contains("block-attempts"), "{shell}");
    }
    assert!(fake.run("man").out.contains(".TH fleetctl 1"));
    assert!(fake.run("man start").out.contains("block\\-attempts"));
}

#[test]
fn the_environment_counts_unless_empty_and_the_command_line_counts_more() {
    let fake = Fake::new(Script { machines: vec![], ..Script::default() });
    let with = |variables: &[(&str, &str)], args: &str| {
        let mut command = fake.command(args);
        command.envs(variables.iter().copied());
        run(command)
    };
    let empty = [("FLEETCTL_REQUEST_TIMEOUT", ""), ("FLEETCTL_DEBUG", "")];
    assert_eq!(
        with(&empty, "list-machines --no-legend"),
        Ran { code: Some(0), out: String::new(), err: String::new() }
    );
    assert_eq!(with(&[("FLEETCTL_REQUEST_TIMEOUT", "soon")], "list-machines").code, Some(2));
    let debug = with(&[("FLEETCTL_DEBUG", "true")], "list-machines").err;
    assert!(debug.contains("answered method=GET path=\"/fleet/v2/machines\" status=200"), "{debug}");
    assert!(fake.run("--debug list-machines").err.contains("/fleet/v2/machines"));
    let elsewhere = [("FLEETCTL_ENDPOINT", "/nowhere")];
    assert_eq!(with(&elsewhere, "list-machines").code, Some(1));
    assert_eq!(with(&elsewhere, &format!("list-machines --endpoint {}", fake.endpoint())).code, Some(0));
    assert_eq!(with(&elsewhere, &format!("-endpoint={} list-m", fake.endpoint())).code, Some(0));
    assert_eq!(with(&elsewhere, &format!("list-m --endpoint /nowhere,{}", fake.endpoint())).code, Some(0));
}

// ---- lists and cat

fn listing() -> Fake {
    let mut b = running("b.service", N2);
    b["states"].as_array_mut().unwrap().insert(0, state(N1, "6 inactive dead"));
    let machines = vec![
        json!({
            "id": N2, "ip": "10.88.0.12", "hostname": "n2",
            "metadata": {"zone": "a", "host": "n2"}, "version": "0.1.0",
        }),
        json!({ "id": N1, "ip": "", "hostname": "n1", "metadata": {}, "version": "0.1.0" }),
    ];
    let units = [
        running("a.service", N1),
        b,
        global("g.service", "launched", &[]),
        waiting("w@1.service", "2 of 2 hosts: conflict"),
    ];
    Fake::new(Script { machines, ..script(&units, vec![]) })
}

#[test]
fn list_units_has_a_row_for_each_unit_on_each_host() {
    let fake = listing();
    let table = "UNIT\t\tMACHINE\t\t\tACTIVE\t\tSUB\n\
                 a.service\ta2d7e4a6.../10.88.0.11\tactive\t\trunning\n\
                 b.service\t844a981f.../10.88.0.12\tactive\t\trunning\n\
                 b.service\ta2d7e4a6.../10.88.0.11\tinactive\tdead\n";
    fake.expect("list-units", 0, table, "");
    fake.expect(
        "list-units -no-legend -fields=unit,load,hash",
        0,
        "a.service\tloaded\t3750b3e\nb.service\tloaded\t3750b3e\nb.service\tloaded\t3750b3e\n",
        "",
    );
    fake.expect("list-units --no-legend --fields unit,machine -l a", 0, &format!("a.service\t{N1}/10.88.0.11\n"), "");
    let hash = "3750b3e9f3962a56c7582929426e9abb012754cf\n";
    fake.expect("list-units -full -no-legend -fields hash a*", 0, hash, "");
    fake.expect("list-units nothing", 1, "UNIT\tMACHINE\tACTIVE\tSUB\n", "Unit nothing.service not found\n");
    let (row, err) = ("a.service\tactive\n", "no unit matches `x*`\n");
    fake.expect("list-units --no-legend --fields=unit,active x* a", 1, row, err);
    fake.expect("list-units --no-legend w@*", 0, "", "");
}

#[test]
fn list_unit_files_shows_what_is_wanted_and_where_it_is() {
    let fake = listing();
    let table = "UNIT\t\tHASH\tDSTATE\t\tSTATE\t\tTARGET\n\
                 a.service\t3750b3e\tlaunched\tlaunched\ta2d7e4a6.../10.88.0.11\n\
                 b.service\t3750b3e\tlaunched\tlaunched\t844a981f.../10.88.0.12\n\
                 g.service\t3750b3e\tlaunched\t-\t\tglobal\n\
                 w@1.service\t3750b3e\tlaunched\tinactive\t-\n";
    fake.expect("list-unit-files", 0, table, "");
    fake.expect("list-unit-files --fields=global,desc --no-legend g", 0, "true\ta unit\n", "");
    let warning = "WARNING: The field \"tmachine\" is deprecated, use \"target\" instead\n";
    fake.expect("list-unit-files --fields=tmachine --no-legend g", 0, "global\n", warning);
}

#[test]
fn list_machines_shows_metadata_sorted() {
    let fake = listing();
    let table = "MACHINE\t\tIP\t\tMETADATA\n844a981f...\t10.88.0.12\thost=n2,zone=a\na2d7e4a6...\t-\t\t-\n";
    fake.expect("list-machines", 0, table, "");
    fake.expect("list-machines --no-legend n7*", 1, "", "no host matches `n7*`\n");
    fake.expect("list-machines --full --no-legend --fields=machine,hostname n1", 0, &format!("{N1}\tn1\n"), "");
}

#[test]
fn fields_that_dont_exist_are_named() {
    let fake = listing();
    for list in ["list-units", "list-unit-files", "list-machines"] {
        fake.expect(&format!("{list} --fields="), 1, "", "Must define output format\n");
        fake.expect(&format!("{list} --fields=x"), 1, "", "Invalid key in output format: \"x\"\n");
    }
}

#[test]
fn lists_as_json_have_every_field_or_those_asked_for() {
    let fake = listing();
    let json = |args: &str| serde_json::from_str::<Value>(&fake.run(args).out).unwrap();
    let files = json("list-unit-files --output json");
    assert_eq!(files[3]["waiting"], "2 of 2 hosts: conflict");
    assert_eq!(
        (&files[0]["target"], &files[2]["target"], &files[3]["target"]),
        (&json!(N1), &json!("global"), &Value::Null)
    );
    assert_eq!(
        json("list-units --output=json --fields=unit,sub a"),
        json!([{ "unit": "a.service", "sub": "running" }])
    );
    assert_eq!(json("list-machines --output json")[0]["metadata"]["zone"], "a");
    assert_eq!(json("list-units --output json g"), json!([]));
    // All fields of each list, and `status`; `run` validates them against the description.
    assert_eq!(json("list-units --output json")[0]["unit"], "a.service");
    assert_eq!(json("status --output json a")[0]["desired"], "launched");
}

#[test]
fn cat_prints_what_was_submitted() {
    let text = "# mine\n[Service]\nExecStart = /bin/true\n\n";
    let mut detail = running("web@1.service", N1);
    detail["text"] = text.into();
    detail["by"] = json!({ "uid": 0, "user": "root" });
    let fake = Fake::new(Script { details: [("web@1.service".into(), detail)].into(), ..Script::default() });
    fake.expect("cat web@1", 0, text, "");
    fake.expect("cat units/web@1.service", 0, text, "");
    fake.expect("cat db", 1, "", "Unit db.service not found\n");
    let json: Value = serde_json::from_str(&fake.run("cat web@1 --output json").out).unwrap();
    assert_eq!((&json["unit"], &json["text"]), (&json!("web@1.service"), &json!(text)));
    assert_eq!(json["by"], json!({ "uid": 0, "user": "root" }));
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let units: Vec<Value> = (0..5000).map(|i| running(&format!("unit-{i:05}.service"), N1)).collect();
    let fake = Fake::new(script(&units, vec![]));
    assert_eq!(fake.run("list-units").out.lines().count(), 5001);
    let mut child = fake.command("list-units").spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let Ran { code, err, .. } = fake::finish(child);
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

// ---- submit, load, start

#[test]
fn files_are_sent_in_one_batch_as_they_were_written() {
    let fake = Fake::new(Script {
        applied: [applied(&[("a.service", "created"), ("b.timer", "created")])].into(),
        ..Script::default()
    });
    fake.file("units/a.service", "# mine\n[Service]\nExecStart=/bin/a\n")
        .file("b.timer", "[Timer]\nOnCalendar=daily\n");
    fake.expect("submit units/a b.timer a.service", 0, "Unit a.service inactive\nUnit b.timer inactive\n", "");
    assert_eq!(
        fake.sent(),
        [json!([
            { "name": "a.service", "text": "# mine\n[Service]\nExecStart=/bin/a\n" },
            { "name": "b.timer", "text": "[Timer]\nOnCalendar=daily\n" }
        ])]
    );
}

#[test]
fn what_is_there_already_is_silent() {
    let fake = Fake::new(Script {
        applied: [applied(&[("a.service", "unchanged")]), applied(&[("a.service", "unchanged")])].into(),
        ..script(&[running("a.service", N1)], vec![snapshot(&[running("a.service", N1)])])
    });
    fake.expect("submit a", 0, "", "");
    fake.expect("start a", 0, "", "");
}

#[test]
fn all_problems_of_all_files_are_told_and_nothing_is_sent() {
    let fake = idle();
    fake.file("db.service", "[Service]\nExecStart=/bin/true\n[X-Fleet]\nMachineMetdata=a=b\nGlobal=maybe\n");
    fake.file("x.service", "not a unit file\n").file("y.service", "[Unit\n").file("bin.service", "\u{7f}ELF");
    fake.file("ok.service", OK).file("sick.service", "[Service]\nExecStart=/bin/true\n[X-Health]\nReady=alive\n");
    let err = "db.service:4: unknown option `MachineMetdata` in [X-Fleet]; did you mean `MachineMetadata`?\n\
               db.service:5: `Global=maybe`: must be true or false\n\
               x.service: no options in it: not a unit file\n\
               y.service:1: bad section header \"[Unit\": it must be [Name], alone on its line\n\
               bin.service:1: not a text file (byte 0x7f)\n\
               sick.service:4: `Ready=alive`: write http://HOST:PORT/PATH, tcp:PORT or exec:COMMAND\n\
               no unit none.service in the cluster, and no file of that name here\n\
               nothing was submitted\n";
    for verb in ["submit", "load", "start"] {
        fake.expect(&format!("{verb} ok db x y bin sick none"), 1, "", err);
    }
    assert!(fake.sent().is_empty());
}

#[test]
fn files_that_cant_be_units_are_refused_in_a_sentence() {
    let fake = idle();
    fake.file("big.service", &"x".repeat(10 << 20));
    std::fs::create_dir(fake.dir.path().join("dir.service")).unwrap();
    let over = "big.service: unit file is 10485760 bytes long; at most 262144 are possible\nnothing was submitted\n";
    fake.expect("submit big", 1, "", over);
    fake.expect("submit dir", 1, "", "dir.service: a directory, not a unit file\nnothing was submitted\n");
    let odd = "web!: invalid character '!' in unit name\nnothing was submitted\n";
    fake.expect("submit web!", 1, "", odd);
    // A file takes precedence over a pattern, but its name is not a unit name.
    fake.file("web[1].service", OK);
    let pattern = "web[1]: invalid character '[' in unit name\nnothing was submitted\n";
    fake.expect("start web[1]", 1, "", pattern);
    fake.file("t@.service", OK).expect(
        "start t@",
        1,
        "",
        "cannot activate template \"t@.service\"\nnothing was submitted\n",
    );
}

#[test]
fn what_systemd_will_ignore_is_told_and_doesnt_stop() {
    let fake = Fake::new(Script { applied: [applied(&[("a.service", "created")])].into(), ..Script::default() });
    fake.file(
        "a.service",
        "[Service]\nExecStart=/bin/true\nnonsense\n[Timer]\nOnCalendar=daily\n[X-fleet]\nGlobal=true\n[X-Mine]\na=b\n\
         [X-Healht]\na=b\n",
    );
    let err = "a.service:3: \"nonsense\" has no `=`, ignored\n\
               a.service:4: section [Timer] means nothing in a .service unit, ignored by systemd\n\
               a.service:6: section [X-fleet] means nothing, ignored; did you mean [X-Fleet]?\n\
               a.service:10: section [X-Healht] means nothing, ignored; did you mean [X-Health]?\n";
    fake.expect("submit a", 0, "Unit a.service inactive\n", err);
}

#[test]
fn a_file_that_differs_is_left_unless_replace_says_otherwise() {
    let outcomes = ["differs", "differs", "replaced", "unchanged"].map(|outcome| applied(&[("a.service", outcome)]));
    let mut here = unit("a.service", "inactive", None, &[]);
    here["hash"] = "0".into();
    let fake = Fake::new(Script { applied: outcomes.into(), ..script(&[here], vec![]) });
    fake.file("a.service", OK);
    let warning =
        "WARNING: Unit a.service in registry differs from local unit file a.service. Add --replace to override.\n";
    fake.expect("submit a", 0, "", warning);
    fake.expect("submit --strict a", 1, "", warning);
    fake.expect("submit --replace a", 0, "Unit a.service inactive\n", "");
    fake.expect("submit a --replace=true", 0, "Found same Unit(a.service) in Registry, nothing to do\n", "");
    let replaces: Vec<Value> = fake.sent().iter().map(|sent| sent[0]["replace"].clone()).collect();
    assert_eq!(replaces, [Value::Null, Value::Null, json!(true), json!(true)]);
}

#[test]
fn a_template_that_differs_is_named_as_such() {
    let fake = Fake::new(Script {
        applied: [applied(&[("t@1.service", "differs")])].into(),
        ..script(&[unit("t@1.service", "inactive", None, &[])], vec![])
    });
    fake.file("t@.service", OK);
    let warning = "WARNING: Unit t@1.service in registry differs from local template unit file t@.service. Add \
        --replace to override.\n";
    fake.expect("submit t@1", 0, "", warning);
}

#[test]
fn submit_doesnt_replace_what_runs() {
    let mut here = running("a.service", N1);
    here["hash"] = "0".into();
    let fake =
        Fake::new(Script { applied: [applied(&[("a.service", "unchanged")])].into(), ..script(&[here], vec![]) });
    fake.file("a.service", OK);
    let warning = "a.service was not replaced: it is launched, and `submit` replaces inactive units only; use \
        `fleetctl start --replace a.service`\n";
    fake.expect("submit --replace a", 1, "", warning);
}

#[test]
fn instances_of_the_clusters_template_need_no_file() {
    let fake = Fake::new(script(
        &[unit("t@.service", "inactive", None, &[])],
        vec![snapshot(&[running("t@1.service", N1), running("t@2.service", N2)])],
    ));
    fake.file("t@.service", OK);
    let lines =
        "Unit t@1.service launched on a2d7e4a6.../10.88.0.11\nUnit t@2.service launched on 844a981f.../10.88.0.12\n";
    fake.expect("start t@1 t@2", 0, lines, "");
    let sent =
        json!([{ "name": "t@1.service", "desired": "launched" }, { "name": "t@2.service", "desired": "launched" }]);
    assert_eq!(fake.sent(), [sent]);
    let watch = "GET /fleet/v2/watch?name=t%401.service&name=t%402.service&operation=start";
    assert_eq!(fake.asked().last().map(String::as_str), Some(watch));
}

#[test]
fn start_waits_for_what_systemd_calls_done() {
    let on = |text: &str| told(&unit("a.service", "launched", Some(N1), &[state(N1, text)]));
    let watch = vec![
        told(&unit("a.service", "launched", None, &[])),
        synced(),
        told(&unit("a.service", "launched", Some(N1), &[])),
        on("6 active running"),
        on("7 activating start job=start"),
        on("7 inactive dead result=done"),
    ];
    let fake = Fake::new(script(&[], vec![watch]));
    fake.file("a.service", OK).expect("start a", 0, "Unit a.service launched on a2d7e4a6.../10.88.0.11\n", "");
}

#[test]
fn load_waits_until_the_host_has_it() {
    let loaded = unit("a.service", "loaded", Some(N1), &[state(N1, "7 inactive dead")]);
    let fake = Fake::new(script(&[], vec![snapshot(&[loaded])]));
    fake.file("a.service", OK).expect("load a", 0, "Unit a.service loaded on a2d7e4a6.../10.88.0.11\n", "");
}

#[test]
fn a_unit_that_fails_is_told_and_the_others_go_on() {
    let failed = unit("a.service", "launched", Some(N1), &[state(N1, "7 failed failed result=failed error=203/EXEC")]);
    let waits = told(&unit("b.service", "launched", Some(N2), &[state(N2, "7 activating start job=start")]));
    let watch = vec![told(&failed), waits, synced(), told(&running("b.service", N2))];
    let fake = Fake::new(script(&[], vec![watch]));
    fake.file("a.service", OK).file("b.service", OK);
    fake.expect(
        "start a b",
        1,
        "Unit b.service launched on 844a981f.../10.88.0.12\n",
        "a.service failed on n1: 203/EXEC\n",
    );
}

#[test]
fn a_unit_without_a_host_says_why_host_by_host() {
    let unplaced = waiting("web@3.service", "2 of 2 hosts: conflict");
    let mut detail = unplaced.clone();
    detail["text"] = OK.into();
    detail["reasons"] = json!([
        { "machine": machine(N1), "misfits": ["conflicts with web@1.service, which runs there"] },
        { "machine": machine(N2), "misfits": [
            "conflicts with web@2.service, which runs there", "disk=ssd is wanted, hdd is there",
        ] },
    ]);
    let fake = Fake::new(Script {
        details: [("web@3.service".into(), detail)].into(),
        ..script(&[], vec![snapshot(std::slice::from_ref(&unplaced))])
    });
    let err = "web@3.service can't run anywhere yet; it stays submitted and starts as soon as a host fits:\n\
               \x20 n1  conflicts with web@1.service, which runs there\n\
               \x20 n2  conflicts with web@2.service, which runs there\n\
               \x20     disk=ssd is wanted, hdd is there\n";
    fake.file("web@.service", OK).expect("start web@3", 1, "", err);
}

#[test]
fn a_unit_that_gets_a_host_in_time_is_fine() {
    let watch = vec![told(&waiting("a.service", "no host")), synced(), told(&running("a.service", N1))];
    let fake = Fake::new(script(&[], vec![watch]));
    fake.file("a.service", OK).expect("start a", 0, "Unit a.service launched on a2d7e4a6.../10.88.0.11\n", "");
}

#[test]
fn no_block_says_so_once_and_doesnt_wait() {
    let known = [global("g.service", "inactive", &[]), running("r.service", N1)];
    let outcomes = applied(&[("a.service", "created"), ("g.service", "changed"), ("r.service", "unchanged")]);
    let fake = Fake::new(Script { applied: [outcomes].into(), ..script(&known, vec![]) });
    fake.file("a.service", OK);
    let out = "Triggered unit a.service start\nTriggered global unit g.service start\n";
    fake.expect("start -no-block a g r", 0, out, "");
    assert!(!fake.asked().iter().any(|line| line.contains("watch")));
}

#[test]
fn block_attempts_bound_the_waiting() {
    let slow = unit("a.service", "launched", Some(N1), &[state(N1, "7 activating start job=start")]);
    let fake = Fake::new(script(&[], vec![snapshot(&[slow])]));
    fake.file("a.service", OK);
    let err = "a.service: start job on n1 (activating, start)\n\
               Error waiting for units: timed out waiting for unit a.service to report state launched\n";
    fake.expect("start --block-attempts 1 a", 1, "", err);
}

#[test]
fn globals_are_waited_for_on_every_host_they_have() {
    let on = |first: &str, second: &str| global("g.service", "launched", &[state(N2, first), state(N1, second)]);
    let watch = vec![
        told(&on("6 inactive dead", "6 inactive dead")),
        synced(),
        told(&on("7 active running", "6 inactive dead")),
        told(&on("7 active running", "7 active running")),
    ];
    let fake = Fake::new(script(&[], vec![watch]));
    fake.file("g.service", OK).expect("start g", 0, "Triggered global unit g.service start\n", "");
    let failed = snapshot(&[on("7 active running", "7 failed failed error=no-such-file")]);
    let fake = Fake::new(script(&[], vec![failed]));
    fake.file("g.service", OK).expect("start g", 1, "", "g.service failed on n1: no-such-file\n");
}

#[test]
fn a_watch_that_breaks_is_opened_again() {
    let starting = unit("a.service", "launched", Some(N1), &[state(N1, "7 activating start job=start")]);
    let mut broken = snapshot(std::slice::from_ref(&starting));
    broken.push(CLOSE.into());
    let ended = vec![told(&starting), json!({ "error": "compacted" }).to_string()];
    let behind = vec![told(&starting), json!({ "synced": 3 }).to_string()];
    let watches = vec![broken, ended, behind, snapshot(&[running("a.service", N1)])];
    let fake = Fake::new(script(&[], watches));
    fake.file("a.service", OK).expect("start a", 0, "Unit a.service launched on a2d7e4a6.../10.88.0.11\n", "");
}

/// A fleetd of an older version refuses a request for progress and sends none; fleetctl computes it.
#[test]
fn a_fleetd_that_sends_no_progress_is_waited_for_all_the_same() {
    let starting = unit("a.service", "launched", Some(N1), &[state(N1, "7 activating start job=start")]);
    let mut watch = snapshot(&[starting]);
    watch.push(told(&running("a.service", N1)));
    let fake = Fake::new(Script { old: true, ..script(&[], vec![watch]) });
    fake.file("a.service", OK).expect("start a", 0, "Unit a.service launched on a2d7e4a6.../10.88.0.11\n", "");

    let failed = unit("a.service", "launched", Some(N1), &[state(N1, "7 failed failed result=failed")]);
    let fake = Fake::new(Script { old: true, ..script(&[], vec![snapshot(&[failed])]) });
    let ran = fake.file("a.service", OK).run("start a");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
}

#[test]
fn a_unit_that_others_take_away_ends_the_waiting() {
    let starting = unit("a.service", "launched", Some(N1), &[state(N1, "7 activating start job=start")]);
    let mut overruled = unit("b.service", "inactive", None, &[]);
    overruled["generation"] = 9.into();
    let mut watch = snapshot(&[starting, overruled]);
    watch.push(removed("a.service"));
    let fake = Fake::new(script(&[], vec![watch]));
    fake.file("a.service", OK).file("b.service", OK);
    let err = "b.service is to be inactive meanwhile, as somebody else asked\na.service was destroyed meanwhile\n";
    fake.expect("start a b", 1, "", err);
}

#[test]
fn ctrl_c_ends_the_waiting_and_says_so() {
    let slow = unit("a.service", "launched", Some(N1), &[state(N1, "7 activating start job=start")]);
    let fake = Fake::new(script(&[], vec![snapshot(&[slow])]));
    fake.file("a.service", OK);
    let child = fake.command("start a").spawn().unwrap();
    while !fake.asked().iter().any(|line| line.contains("watch")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let Ran { code, out, err } = fake::finish(child);
    let said = "no longer waiting; the cluster continues to start a.service\n";
    assert_eq!((code, out.as_str(), err.as_str()), (Some(130), "", said));
}

#[test]
fn what_was_done_is_one_json_document() {
    let failed = unit("b.service", "launched", Some(N2), &[state(N2, "7 failed failed error=203/EXEC")]);
    let fake = Fake::new(script(&[], vec![snapshot(&[running("a.service", N1), failed])]));
    fake.file("a.service", OK).file("b.service", OK);
    let Ran { code, out, err } = fake.run("start --output json a b");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str()), (Some(1), "b.service failed on n2: 203/EXEC\n"));
    let (a, b) = (&json["units"][0], &json["units"][1]);
    assert_eq!((&a["name"], &a["end"], &a["outcome"]), (&json!("a.service"), &json!("done"), &json!("changed")));
    assert_eq!((&a["unit"]["machine"]["hostname"], &b["end"]), (&json!("n1"), &json!("failed")));
    assert_eq!(b["error"], "b.service failed on n2: 203/EXEC");
}

// ---- stop, unload, destroy

#[test]
fn stop_waits_and_names_what_it_stopped() {
    let stopping = |text: &str| unit("a.service", "loaded", Some(N1), &[state(N1, text)]);
    let watch = vec![
        told(&stopping("7 deactivating stop-sigterm job=stop")),
        synced(),
        told(&stopping("7 inactive dead result=done")),
    ];
    let fake = Fake::new(script(&[running("a.service", N1)], vec![watch]));
    fake.expect(
        "stop a",
        0,
        "Unit a.service loaded on a2d7e4a6.../10.88.0.11\n",
        "Successfully stopped units [a.service].\n",
    );
    assert_eq!(fake.sent(), [json!([{ "name": "a.service", "desired": "loaded" }])]);
}

#[test]
fn stop_does_what_can_be_done_and_reports_the_rest() {
    let stopped = unit("a.service", "loaded", Some(N1), &[state(N1, "7 inactive dead")]);
    let known = [running("a.service", N1), unit("off.service", "inactive", None, &[])];
    let fake = Fake::new(script(&known, vec![snapshot(&[stopped])]));
    let err = "Unable to stop unit off.service in state inactive\nUnit x.service not found\nUnit y.service not found\n\
               Successfully stopped units [a.service].\n";
    fake.expect("stop off x a y", 1, "Unit a.service loaded on a2d7e4a6.../10.88.0.11\n", err);
}

#[test]
fn stop_takes_patterns_of_what_can_be_stopped() {
    let stopped = |name: &str| unit(name, "loaded", Some(N1), &[state(N1, "7 inactive dead")]);
    let known =
        [unit("web@.service", "inactive", None, &[]), running("web@1.service", N1), running("web@2.service", N1)];
    let fake = Fake::new(script(&known, vec![snapshot(&[stopped("web@1.service"), stopped("web@2.service")])]));
    let out =
        "Unit web@1.service loaded on a2d7e4a6.../10.88.0.11\nUnit web@2.service loaded on a2d7e4a6.../10.88.0.11\n";
    fake.expect("stop web@*", 0, out, "Successfully stopped units [web@1.service web@2.service].\n");
    fake.expect("stop db@*", 1, "", "no unit matches `db@*`\n");
}

#[test]
fn stop_of_what_is_stopped_does_nothing() {
    let stopped = unit("a.service", "loaded", Some(N1), &[state(N1, "7 inactive dead")]);
    let fake = Fake::new(Script {
        applied: [applied(&[("a.service", "unchanged")])].into(),
        ..script(std::slice::from_ref(&stopped), vec![snapshot(std::slice::from_ref(&stopped))])
    });
    fake.expect("stop a", 0, "", "Successfully stopped units [].\n");
}

#[test]
fn unload_waits_until_no_host_has_it() {
    let leaving = unit("a.service", "inactive", None, &[state(N1, "7 deactivating stop job=stop")]);
    let watch = vec![told(&leaving), synced(), told(&unit("a.service", "inactive", None, &[]))];
    let fake = Fake::new(script(&[running("a.service", N1)], vec![watch]));
    fake.expect("unload a", 0, "Unit a.service inactive\n", "Successfully unloaded units [a.service].\n");
}

#[test]
fn destroy_waits_until_it_is_gone() {
    let leaving = unit("a.service", "launched", None, &[state(N1, "6 deactivating stop job=stop")]);
    let gone = json!({ "leaving": "a.service" }).to_string();
    let watch = vec![told(&leaving), synced(), gone, String::new(), removed("a.service")];
    let fake = Fake::new(script(&[running("a.service", N1)], vec![watch]));
    fake.expect("destroy a", 0, "Destroyed a.service\n", "");
    assert_eq!(fake.sent(), [json!([{ "name": "a.service", "destroy": true }])]);
}

#[test]
fn destroy_of_what_isnt_there_is_fine() {
    let fake = Fake::new(script(&[running("a.service", N1)], vec![snapshot(&[])]));
    fake.expect("destroy x y", 0, "", "Units not found in registry: x.service y.service\n");
    fake.expect("destroy x y@*", 1, "", "Units not found in registry: x.service\nno unit matches `y@*`\n");
    fake.expect("destroy x a", 0, "Destroyed a.service\n", "Units not found in registry: x.service\n");
}

#[test]
fn no_block_works_for_all_that_take_away() {
    let fake = Fake::new(script(&[running("a.service", N1)], vec![]));
    fake.expect("stop --no-block a", 0, "Triggered unit a.service stop\n", "");
    fake.expect("unload --no-block a", 0, "Triggered unit a.service unload\n", "");
    fake.expect("destroy --no-block a", 0, "Destroyed a.service\n", "");
}

// ---- when the cluster is unreachable

#[test]
fn a_fleetd_out_of_reach_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |endpoint: &str, args: &str| {
        let mut command = fleetctl(dir.path());
        command.args(["--endpoint", endpoint]).args(args.split(' '));
        let Ran { code, out, err } = run(command);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        err
    };
    assert_eq!(at("/nowhere/fleet.sock", "list-units"), "can't reach fleetd at /nowhere/fleet.sock: no such socket\n");
    let socket = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let dead = format!("can't reach fleetd at {}: connection refused\n", socket.display());
    for args in ["list-units", "list-unit-files", "list-machines", "cat a", "stop a", "destroy a", "start a"] {
        assert_eq!(at(&format!("unix://{}", socket.display()), args), dead);
    }
}

#[test]
fn a_fleetd_that_is_silent_is_not_waited_for() {
    let fake = Fake::new(Script { mute: true, ..Script::default() });
    let path = fake.dir.path().display();
    let err = format!("can't reach fleetd at {path}/fleet.sock: no answer within 0.2 s\n");
    fake.expect("list-units --request-timeout 0.2", 1, "", &err);
}

#[test]
fn the_apis_words_are_passed_on() {
    let message = "fleetd on n1 can't reach its store: etcd at 10.88.0.1:2379 refuses connections\nnothing was changed";
    let fake = Fake::new(Script { refuse: Some((503, error(503, message))), ..Script::default() });
    fake.expect("stop db", 1, "", &format!("{message}\n"));
    let fake = Fake::new(Script { refuse: Some((404, error(404, ""))), ..Script::default() });
    fake.expect("list-machines", 1, "", "fleetd answered GET /fleet/v2/machines with 404 Not Found and nothing else\n");
    let fake = Fake::new(Script { refuse: Some((200, json!("hello"))), ..Script::default() });
    let err = fake.run("list-machines").err;
    assert!(err.starts_with("can't understand fleetd's answer to GET /fleet/v2/machines: "), "{err}");
}

#[test]
fn the_apis_problems_point_at_files() {
    let problems = json!({ "error": { "code": 400, "message": "1 unit can't be accepted", "problems": [
        { "unit": "a.service", "line": 2, "what": "ExecStart= is no absolute path" }
    ]}});
    let fake = Fake::new(Script { applied: [(400, problems)].into(), ..Script::default() });
    let err = "1 unit can't be accepted\nunits/a.service:2: ExecStart= is no absolute path\nnothing was changed\n";
    fake.file("units/a.service", OK).expect("start units/a", 1, "", err);
}

// ---- against the real API

#[test]
fn the_real_api_understands_and_is_understood() {
    let fleetd = Real::new();
    fleetd.host(N1);
    let write = |name: &str, text: &str| std::fs::write(fleetd.dir.path().join(name), text).unwrap();
    write("a.service", OK);
    write("web@.service", "# mine\n[Service]\nExecStart=/bin/web %i\n");
    fleetd.expect("list-machines", 0, "MACHINE\t\tIP\t\tMETADATA\na2d7e4a6...\t10.88.0.11\tzone=a\n", "");
    fleetd.expect("submit a web@", 0, "Unit a.service inactive\nUnit web@.service inactive\n", "");
    fleetd.expect("submit a --replace", 0, "Found same Unit(a.service) in Registry, nothing to do\n", "");
    write("a.service", "[Service]\nExecStart=/bin/other\n");
    let differs =
        "WARNING: Unit a.service in registry differs from local unit file a.service. Add --replace to override.\n";
    fleetd.expect("submit a", 0, "", differs);
    fleetd.expect("cat a", 0, OK, "");
    fleetd.expect(
        "start --no-block web@1 web@2",
        0,
        "Triggered unit web@1.service start\nTriggered unit web@2.service start\n",
        "",
    );
    fleetd.expect("cat web@1", 0, "# mine\n[Service]\nExecStart=/bin/web %i\n", "");
    let fields = "list-unit-files --no-legend --fields=unit,dstate,state,target";
    fleetd.expect(
        &format!("{fields} web@?"),
        0,
        "web@1.service\tlaunched\tinactive\t-\nweb@2.service\tlaunched\tinactive\t-\n",
        "",
    );

    fleetd.place("web@1.service", N1, "active");
    fleetd.place("web@2.service", N1, "active");
    fleetd.expect("start web@1", 0, "", "");
    fleetd.expect("list-units --no-legend web@1", 0, "web@1.service\ta2d7e4a6.../10.88.0.11\tactive\trunning\n", "");
    fleetd.place("web@1.service", N1, "inactive");
    let stopped = "Unit web@1.service loaded on a2d7e4a6.../10.88.0.11\n";
    fleetd.expect("stop web@1", 0, stopped, "Successfully stopped units [web@1.service].\n");
    let leaving = "web@2.service: waiting for its host to stop and forget it\n\
                   Error waiting for units: timed out waiting for unit web@2.service to report state destroyed\n";
    fleetd.expect("destroy --block-attempts 1 web@2", 1, "", leaving);
    fleetd.take_away("web@2.service", N1);
    fleetd.expect("destroy a web@2", 0, "Destroyed a.service\n", "Units not found in registry: web@2.service\n");
}

#[test]
fn services_are_listed_and_shown() {
    let fleetd = Real::new();
    fleetd.expect("list-services", 0, "SERVICE\tINSTANCES\tADDRESSES\n", "");
    fleetd.expect("service web", 1, "", "no instance of `web` is announced\n");
    for port in 1..=4 {
        fleetd.announce("web", &format!("web-{port}.n1"), N1, port);
    }
    fleetd.announce("db", "db.n1", N1, 5432);
    let table = "SERVICE\tINSTANCES\tADDRESSES\n\
                 db\t1\t\t10.88.0.11:5432\n\
                 web\t4\t\t10.88.0.11:1,10.88.0.11:2,10.88.0.11:3,...\n";
    fleetd.expect("list-services", 0, table, "");
    fleetd.expect("list-services --no-legend --fields service,instances w*", 0, "web\t4\n", "");
    let one = "INSTANCE\tADDRESS\t\tWEIGHT\tUNIT\t\tMACHINE\t\tHOSTNAME\n\
               db.n1\t\t10.88.0.11:5432\t1\tweb@1.service\ta2d7e4a6...\tn1\n";
    fleetd.expect("service db", 0, one, "");
    let json = "[\n  {\n    \"instance\": \"db.n1\",\n    \"address\": \"10.88.0.11\",\n    \"port\": 5432,\n    \
        \"metadata\": {\n      \"zone\": \"a\"\n    }\n  }\n]\n";
    let same = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let ran = fleetd.run("service db --output json --fields instance,address,port,metadata");
    assert_eq!((ran.code, same(&ran.out)), (Some(0), same(json)));
    fleetd.expect("service", 2, "", &fleetd.run("service").err);
    assert!(fleetd.run("service DB").err.starts_with("invalid character 'D' in the name of a service"));
}
