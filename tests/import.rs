//! `fleetctl import`: from the API of a CoreOS fleet to the real API of Flotilla, over a store in memory.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[allow(dead_code, reason = "shared with tests/cli.rs")]
#[path = "cli/fake.rs"]
mod fake;
#[allow(dead_code, reason = "shared with tests/lab")]
#[path = "import/fleet.rs"]
mod fleet;
#[allow(dead_code, reason = "shared with tests/cli.rs")]
#[path = "cli/real.rs"]
mod real;
#[path = "support/records.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod records;

use fake::Ran;
use fleet::{OldFleet, Unit};
use real::Real;
use serde_json::{Value, json};

const A: &str = "a2d7e4a6000000000000000000000001";
const B: &str = "844a981f000000000000000000000002";
/// SHA-1 of the canonical text, as fleet reports it.
const HELLO: &str = "3750b3e9f3962a56c7582929426e9abb012754cf";
const HELLO_START: &str = "/bin/bash -c \"while true; do echo Hello, World!; sleep 1; done\"";

fn unit(name: &'static str, desired: &'static str, machine: &'static str, start: &'static str) -> Unit {
    Unit { name, desired, machine, options: vec![("Service", "ExecStart", start)], states: vec![] }
}

fn running(unit: Unit, hash: &'static str) -> Unit {
    let machine = unit.machine;
    Unit { states: vec![(machine, hash, "active", "running")], ..unit }
}

fn with(mut unit: Unit, option: &'static str, value: &'static str) -> Unit {
    unit.options.push(("X-Fleet", option, value));
    unit
}

fn machines() -> Value {
    json!([
        { "id": B, "metadata": { "disk": "ssd", "zone": "a" }, "primaryIP": "10.0.0.2" },
        { "id": A, "metadata": { "zone": "a" }, "primaryIP": "10.88.0.11" },
    ])
}

fn import(here: &Real, from: &OldFleet, more: &str) -> Ran {
    here.run(format!("import --from {} {more}", from.endpoint()).trim_end())
}

fn listed(here: &Real) -> String {
    here.run("list-unit-files --no-legend --fields=unit,dstate,hash --full").out
}

#[test]
fn without_apply_it_says_what_it_would_do_and_does_nothing() {
    let fleet = OldFleet::new(
        vec![
            running(unit("hello.service", "launched", B, HELLO_START), HELLO),
            unit("idle@.service", "inactive", "", "/bin/idle"),
            running(unit("web@1.service", "launched", A, "/bin/web"), "9efcbbb0d31fd0a5cc5d1a6a77b1a2a5ae1a2fa4"),
        ],
        machines(),
        100,
    );
    let here = Real::new();
    here.host(A);
    let ran = import(&here, &fleet, "");
    assert_eq!(
        ran.out,
        "UNIT\t\tDSTATE\t\tMACHINE\t\t\tPLAN\n\
         hello.service\tlaunched\t844a981f.../10.0.0.2\tsubmit\n\
         idle@.service\tinactive\t-\t\t\tsubmit\n\
         web@1.service\tlaunched\ta2d7e4a6.../10.88.0.11\tsubmit\n\
         web@1.service: the file on a2d7e4a6000000000000000000000001 has another hash (9efcbbb): it will be replaced, \
         and the unit restarted\n\
         844a981f.../10.0.0.2: isn't a host here yet; its metadata there: disk=ssd,zone=a\n\
         # To hand over what runs, without restarting it (docs/from-fleet.md has each step):\n\
         # stop the old daemons on all hosts at once, so that they stop no unit; then start fleetd on one host after\n\
         # the other, in this order, and give each its units when `fleetctl list-machines` shows it\n\
         # 844a981f.../10.0.0.2: 1 unit\n\
         fleetctl start hello.service\n\
         # a2d7e4a6.../10.88.0.11: 1 unit\n\
         fleetctl start web@1.service\n"
    );
    assert_eq!(
        ran.err,
        "metadata that was set through the other cluster's API can't be told from that of its fleet.conf: check which \
         is which\n\
         nothing was submitted; with --apply, 3 of 3 units would be\n"
    );
    assert_eq!(ran.code, Some(0));
    let placed = |unit: &str| format!("{unit}  is placed on n1: the least loaded host\n");
    let plan = import(&here, &fleet, "--plan --start");
    assert!(plan.code == Some(3) && plan.out.contains(&placed("hello.service")), "{plan:?}");
    assert_eq!(listed(&here), "");
    assert!(fleet.asked().iter().all(|asked| asked.starts_with("GET ")), "{:?}", fleet.asked());
}

#[test]
fn apply_submits_and_starts_nothing_and_hashes_are_fleets() {
    let continued = "/usr/bin/docker run \\\n  --name web \\\n  nginx";
    let web = Unit {
        options: vec![("Service", "ExecStart", continued), ("Service", "Restart", "always")],
        ..unit("web.service", "launched", A, "")
    };
    let fleet = OldFleet::new(
        vec![
            running(unit("hello.service", "launched", B, HELLO_START), HELLO),
            running(web, "24ce13a7dc02323f908adcfc005e772f86bf89c9"),
            Unit {
                options: vec![
                    ("Service", "ExecStart", ""),
                    ("Service", "ExecStart", "/bin/x"),
                    ("Unit", "After", "y.service"),
                ],
                ..unit("x.service", "loaded", A, "")
            },
        ],
        json!([]),
        100,
    );
    let here = Real::new();
    let ran = import(&here, &fleet, "--apply");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "3 of 3 units were taken over\n"));
    assert!(!ran.out.contains("another hash"), "{}", ran.out);
    assert!(
        ran.out.ends_with(
            "fleetctl start web.service\nfleetctl load x.service\n# 844a981f...: 1 unit\nfleetctl start hello.service\n"
        ),
        "{}",
        ran.out
    );
    let all = listed(&here);
    let rows: Vec<Vec<&str>> = all.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["hello.service", "inactive", HELLO]);
    assert_eq!(rows[1], ["web.service", "inactive", "24ce13a7dc02323f908adcfc005e772f86bf89c9"]);
    assert_eq!(rows[2][..2], ["x.service", "inactive"]);
    assert_eq!(
        here.run("cat x.service").out,
        "[Service]\nExecStart=\nExecStart=/bin/x\n\n[Unit]\nAfter=y.service\n",
        "sections in order, an empty value kept"
    );
    // Again: there is nothing to do, and nothing is done.
    let again = import(&here, &fleet, "--apply");
    assert_eq!((again.code, again.err.as_str()), (Some(0), "0 of 3 units were taken over\n"));
    assert!(again.out.contains("hello.service\tlaunched\t844a981f...\tsame\n"), "{}", again.out);
}

#[test]
fn all_pages_are_read_also_the_empty_last_one() {
    const NAMES: [&str; 6] = ["a.service", "b.service", "c.service", "d.service", "e.service", "f.service"];
    let units: Vec<Unit> = NAMES.iter().map(|name| unit(name, "inactive", "", "/bin/x")).collect();
    let fleet = OldFleet::new(units, machines(), 3);
    let here = Real::new();
    assert_eq!(import(&here, &fleet, "--apply").code, Some(0));
    assert_eq!(listed(&here).lines().count(), 6);
    let pages = fleet.asked().iter().filter(|asked| asked.starts_with("GET /fleet/v1/units")).count();
    assert_eq!(pages, 3, "two full pages, and an empty one: {:?}", fleet.asked());
}

#[test]
fn what_is_refused_or_read_otherwise_says_why_and_the_rest_is_taken() {
    let fleet = OldFleet::new(
        vec![
            with(unit("bogus.service", "launched", A, "/bin/x"), "Bogus", "1"),
            with(unit("glob.service", "inactive", "", "/bin/x"), "Conflicts", "[a"),
            unit("dbus.service", "launched", A, "/bin/x"),
            unit("it.scope", "inactive", "", "/bin/x"),
            with(unit("meta.service", "inactive", "", "/bin/x"), "MachineMetadata", "a=b c=d"),
            with(unit("self.service", "inactive", "", "/bin/x"), "MachineOf", "%n"),
            Unit { states: vec![(A, "", "inactive", "dead")], ..unit("over.service", "launched", A, "/bin/true") },
            // Its record is damaged: fleet's list omits it, but its host reports it.
            Unit { states: vec![(B, "", "active", "running")], ..unit("lost.service", "foo", B, "/bin/x") },
        ],
        json!([]),
        100,
    );
    let here = Real::new();
    let ran = import(&here, &fleet, "--apply");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for line in [
        "bogus.service: refused: unknown option `Bogus` in [X-Fleet]",
        "glob.service: refused: `Conflicts=[a`: ",
        "dbus.service: refused: the name belongs to one of systemd's own units",
        "it.scope: refused: invalid unit type `scope`",
        "self.service: refused: `MachineOf` names self.service itself",
        "meta.service: `MachineMetadata=a=b c=d`: fleet ignored it; here it means `a=b` and `c=d`",
        "over.service: it is to run and is inactive/dead on a2d7e4a6000000000000000000000001: it has ended or failed",
        "lost.service: runs on 844a981f..., and the cluster there doesn't list it",
    ] {
        assert!(ran.out.contains(line), "{line}: {}", ran.out);
    }
    assert!(ran.err.contains("2 of 7 units were taken over\n5 can't be taken over as they are"), "{}", ran.err);
    let names: Vec<String> = listed(&here).lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["meta.service", "over.service"]);
    assert!(!ran.out.contains("fleetctl start bogus"), "what is refused isn't handed over: {}", ran.out);
}

#[test]
fn a_unit_that_is_here_and_differs_stays_unless_told() {
    let here = Real::new();
    let file = here.dir.path().join("hello.service");
    std::fs::write(&file, "[Service]\nExecStart=/bin/mine\n").unwrap();
    here.run("submit hello.service");
    let fleet = OldFleet::new(vec![unit("hello.service", "launched", B, HELLO_START)], json!([]), 100);
    let ran = import(&here, &fleet, "--apply");
    assert!(
        ran.out.contains("\tdiffers\n") && ran.err.contains("1 are here with another file, which stays"),
        "{ran:?}"
    );
    assert!(!listed(&here).contains(HELLO));
    let ran = import(&here, &fleet, "--apply --replace");
    assert!(ran.out.contains("\treplace\n") && ran.err.contains("1 of 1 units were taken over"), "{ran:?}");
    assert!(listed(&here).contains(HELLO));
}

#[test]
fn start_wants_what_the_other_cluster_wants() {
    let fleet = OldFleet::new(
        vec![
            with(unit("everywhere.service", "launched", "", "/bin/x"), "Global", "true"),
            unit("loaded.service", "loaded", A, "/bin/x"),
            unit("started.service", "launched", A, "/bin/x"),
            // fleet allowed templates with this desired state.
            unit("t@.service", "launched", "", "/bin/x"),
        ],
        json!([]),
        100,
    );
    let here = Real::new();
    let ran = import(&here, &fleet, "--apply --start");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.out.ends_with(
            "Triggered global unit everywhere.service start\nTriggered unit loaded.service load\n\
             Triggered unit started.service start\n"
        ),
        "{ran:?}"
    );
    let states: Vec<String> =
        here.run("list-unit-files --no-legend --fields=dstate").out.lines().map(str::to_owned).collect();
    assert_eq!(states, ["launched", "loaded", "launched", "inactive"]);
}

#[test]
fn patterns_pick_and_json_tells_all() {
    let fleet = OldFleet::new(
        vec![
            running(unit("hello.service", "launched", B, HELLO_START), HELLO),
            unit("web.service", "launched", A, "/bin/x"),
        ],
        machines(),
        100,
    );
    let here = Real::new();
    here.host(A);
    let ran = import(&here, &fleet, "hel* --output json");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["units"].as_array().unwrap().len(), 1);
    let hello = &report["units"][0];
    assert_eq!(
        (&hello["unit"], &hello["action"], &hello["hash"]),
        (&json!("hello.service"), &json!("submit"), &json!(HELLO))
    );
    assert_eq!(hello["text"], format!("[Service]\nExecStart={HELLO_START}\n"));
    assert_eq!(report["handover"], json!([{ "machine": B, "start": ["hello.service"], "load": [] }]));
    assert_eq!(report["machines"][0]["missing"], json!({ "disk": "ssd", "zone": "a" }));
    assert_eq!((&report["machines"][1]["here"], &report["machines"][1]["missing"]), (&json!(true), &json!({})));
    assert_eq!(report["applied"], json!([]));
}

#[test]
fn a_cluster_of_our_own_can_be_read_too() {
    let (there, here) = (Real::new(), Real::new());
    std::fs::write(there.dir.path().join("a.service"), "# mine\n[Service]\nExecStart=/bin/a\n").unwrap();
    there.run("submit a.service");
    let from = format!("import --from {} --apply", there.dir.path().join("fleet.sock").display());
    let ran = here.run(&from);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "1 of 1 units were taken over\n"), "{ran:?}");
    assert_eq!(listed(&here), listed(&there));
}

#[test]
fn what_cant_be_read_is_said_in_a_sentence() {
    let here = Real::new();
    let own = here.run(&format!("import --from {}", here.dir.path().join("fleet.sock").display()));
    assert!(own.code == Some(2) && own.err.contains("is the cluster that would be written to"), "{own:?}");
    let nobody = here.run("import --from /nowhere/fleet.sock");
    assert!(nobody.code == Some(1) && nobody.err.contains("can't reach fleetd at /nowhere/fleet.sock"), "{nobody:?}");
    let nonsense = here.run("import --from nonsense");
    assert!(nonsense.code == Some(2) && nonsense.err.contains("`nonsense` is no endpoint"), "{nonsense:?}");
    let nothing = here.run("import");
    assert!(nothing.code == Some(2) && nothing.err.contains("--from"), "{nothing:?}");
    let start = here.run("import --from /x --start");
    assert!(start.code == Some(2) && start.err.contains("--apply"), "{start:?}");
}
