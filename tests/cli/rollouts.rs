//! Rollouts: what `fleetctl` shows of them, asks of them, and says while it follows one. The test writes the records
//! that a leader would write.

use std::process::Child;
use std::time::{Duration, Instant};

use flotilla::model::file::UnitFile;
use serde_json::{Value, json};

use super::OK;
use super::fake::{Ran, finish, read_until};
use super::real::Real;

const HOST: &str = "a2d7e4a6000000000000000000000001";

/// The file of a set of two that runs `start`.
fn file(start: &str) -> String {
    OK.replace("/bin/true", start) + "[X-Fleet]\nReplicas=2\n"
}

/// A set of two, whose members run a file `abc` and are held there by their gates, and the hash of the file that
/// `start --replace` sends for it.
fn set() -> (Real, String) {
    let real = Real::new();
    real.host(HOST);
    std::fs::write(real.dir.path().join("web@.service"), file("/bin/true")).unwrap();
    real.run("start --no-block web@.service");
    let text = file("/bin/false");
    std::fs::write(real.dir.path().join("web@.service"), &text).unwrap();
    let target = UnitFile::parse(text.as_bytes()).unwrap().hash().to_string();
    let gate = json!({ "rollout": "web@.service", "target": target, "hash": "abc", "generation": 1, "asked": 1 });
    for unit in ["web@1.service", "web@2.service"] {
        real.place(unit, HOST, "active");
        real.record(&format!("gate/{unit}"), &gate);
    }
    (real, target)
}

/// The leader's record of its rollout.
fn rollout(target: &str, phase: &str, more: Value) -> Value {
    let mut record = json!({
        "target": target, "from": { "hash": "abc" }, "phase": phase, "since": 7, "began": 5, "heeded": 0,
    });
    record.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    record
}

fn enter(real: &Real, target: &str, phase: &str, more: Value) {
    real.record("rollout/web@.service", &rollout(target, phase, more));
}

fn spawn(real: &Real, args: &str) -> Child {
    real.command(args).spawn().unwrap()
}

#[test]
fn a_file_that_fails_ends_start_replace_with_status_1() {
    let (real, target) = set();
    let short = &target[..7];
    // The leader's part, which `fleetctl` finds when it has sent the file.
    enter(&real, &target, "rolling", Value::Null);
    let mut child = spawn(&real, "start --replace web@.service");
    let begun = read_until(&mut child, "before it abc\n");
    assert!(begun.ends_with(&format!("web@.service: rolling out {short}, before it abc\n")), "{begun}");
    let why = "web@2.service failed on n1: exit-code";
    let failed = json!({ "why": why, "failed": "web@2.service", "lines": ["web[9]: no such table"] });
    enter(&real, &target, "reverting", failed.clone());
    let turned = read_until(&mut child, "no such table\n");
    let expected = format!("web@.service: {short} failed: {why}; going back to abc\n  web[9]: no such table\n");
    assert_eq!(turned, expected);
    enter(&real, &target, "reverted", failed);
    let out = format!("web@.service: {short} failed: {why}; abc runs on 2 of 2\n");
    assert_eq!(finish(child), Ran { code: Some(1), out, err: String::new() });
}

#[test]
fn a_file_that_works_ends_start_replace_with_status_0() {
    let (real, target) = set();
    enter(&real, &target, "rolling", Value::Null);
    let mut child = spawn(&real, "start --replace web@.service");
    read_until(&mut child, "before it abc\n");
    enter(&real, &target, "done", Value::Null);
    let Ran { code, out, err } = finish(child);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with(&format!("web@.service: {} runs on ", &target[..7])), "{out}");
}

/// The file of the set, of which only where its members may be differs from that with which they run, and its hash.
fn moved(real: &Real) -> String {
    let text = file("/bin/false");
    std::fs::write(real.dir.path().join("web@.service"), &text).unwrap();
    real.run("start --replace --no-block web@.service");
    let text = text + "MachineMetadata=zone=b\n";
    std::fs::write(real.dir.path().join("web@.service"), &text).unwrap();
    UnitFile::parse(text.as_bytes()).unwrap().hash().to_string()
}

#[test]
fn a_change_of_sections_alone_that_moves_members_is_followed() {
    let (real, _) = set();
    let target = moved(&real);
    let short = &target[..7];
    enter(&real, &target, "rolling", Value::Null);
    let mut child = spawn(&real, "start --replace web@.service");
    let begun = read_until(&mut child, "before it abc\n");
    assert!(begun.ends_with(&format!("web@.service: rolling out {short}, before it abc\n")), "{begun}");
    let why = "web@2.service fits no host with its new file (n1: doesn't have zone=b)";
    enter(&real, &target, "reverted", json!({ "why": why, "failed": "web@2.service" }));
    let out = format!("web@.service: {short} failed: {why}; abc runs on 2 of 2\n");
    let only = "only [X-...] sections changed; stored, nothing restarted where it still fits";
    let err = ["web@.service", "web@1.service", "web@2.service"].map(|name| format!("{name}: {only}\n")).concat();
    assert_eq!(finish(child), Ran { code: Some(1), out, err });
}

/// The rollout of such a file is done at once if the members stay; a set that has had none needs none for it.
#[test]
fn a_change_of_sections_alone_that_moves_nobody_ends_as_soon_as_the_hosts_have_it() {
    for has_rollout in [true, false] {
        let (real, _) = set();
        let target = moved(&real);
        ["web@1.service", "web@2.service"].iter().for_each(|unit| real.erase(&format!("gate/{unit}")));
        if has_rollout {
            enter(&real, &target, "done", Value::Null);
        }
        let began = Instant::now();
        let Ran { code, out, err } = real.run("start --replace web@.service");
        assert_eq!((code, err.lines().count()), (Some(0), 3), "{err}");
        assert!(!out.contains("runs on") && out.contains("web@1.service launched on "), "{out}");
        // So long, it would wait for a rollout to begin.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[test]
fn a_rollout_is_shown_to_people_and_programs() {
    let (real, target) = set();
    real.expect("rollout web@", 1, "", "rollout: web@.service has had no rollout\n");
    enter(&real, &target, "waiting", json!({ "why": null }));
    let Ran { code, out, err } = real.run("rollout web@2");
    assert_eq!(code, Some(0));
    assert!(out.starts_with("web@.service: waiting for promotion for "), "{out}");
    let next = "next: `fleetctl rollout web@.service pause` or `fleetctl rollout web@.service promote`\n";
    assert_eq!((out.lines().count(), err.as_str()), (4, next), "{out}");
    // The documents are compared with docs/openapi.json.
    let one: Value = serde_json::from_str(&real.run("rollout web@ --output json").out).unwrap();
    assert_eq!((&one["name"], &one["phase"]), (&json!("web@.service"), &json!("waiting")));
    assert_eq!(one["members"].as_array().unwrap().len(), 2);
    let all: Value = serde_json::from_str(&real.run("rollout --output json").out).unwrap();
    assert_eq!(all, json!([one]));
    enter(&real, &target, "done", Value::Null);
    real.expect("rollout", 0, "", "no rollout is under way, and none has failed\n");
    real.expect("rollout --output json", 0, "[]\n", "");
}

#[test]
fn what_is_asked_is_answered_with_what_was_asked_or_why_not() {
    let (real, target) = set();
    enter(&real, &target, "rolling", Value::Null);
    let refused = "rollout web@.service promote: web@.service waits for no promotion: it is rolling\n";
    real.expect("rollout web@ promote", 1, "", refused);
    real.expect("rollout web@ pause", 0, "web@.service: asked to pause\n", "");
    let shown = real.run("rollout web@");
    assert!(shown.out.contains(" (asked to pause), "), "{}", shown.out);
    let json: Value = serde_json::from_str(&real.run("rollout web@ pause --output json").out).unwrap();
    assert_eq!((&json["ask"]["what"], &json["ask"]["heeded"]), (&json!("pause"), &json!(false)));
    let none = real.run("rollout db retry");
    assert_eq!((none.code, none.out.as_str(), none.err.is_empty()), (Some(1), "", false));
}

#[test]
fn what_would_follow_is_planned_and_not_asked() {
    let (real, target) = set();
    real.run("start --replace --no-block web@.service");
    enter(&real, &target, "reverted", json!({ "why": "it broke" }));
    let refused = "rollout web@.service promote: web@.service waits for no promotion: it is reverted\n";
    real.expect("rollout web@ promote --plan", 1, "", refused);
    let planned = real.run("rollout web@ retry --plan");
    assert_eq!((planned.code, planned.err.as_str()), (Some(3), ""), "{}", planned.out);
    assert!(planned.out.starts_with("web@.service  rolls out to "), "{}", planned.out);
    // The document is compared with docs/openapi.json.
    let plan: Value = serde_json::from_str(&real.run("rollout web@ retry --plan --output json").out).unwrap();
    assert_eq!((&plan["changes"], &plan["rollouts"][0]["name"]), (&json!(true), &json!("web@.service")), "{plan}");
    assert!(!real.run("rollout web@").out.contains("asked to"));
    for wrong in ["rollout web@ --plan", "rollout web@ retry --plan --follow"] {
        assert_eq!(real.run(wrong).code, Some(2), "{wrong}");
    }
}

#[test]
fn following_ends_with_the_rollout_with_the_set_or_with_the_time() {
    for (phase, more, code) in [
        ("waiting", Value::Null, 0),
        ("done", Value::Null, 0),
        ("reverted", json!({ "why": "it broke" }), 1),
        ("stuck", json!({ "why": "it broke" }), 1),
        ("paused", json!({ "why": "it broke" }), 1),
    ] {
        let (real, target) = set();
        enter(&real, &target, phase, more);
        let ran = real.run("rollout web@ --follow");
        assert_eq!((ran.code, ran.err.as_str()), (Some(code), ""), "{phase}: {}", ran.out);
    }
    let (real, target) = set();
    enter(&real, &target, "rolling", Value::Null);
    let ran = real.run("rollout web@ --follow --timeout 1s");
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.err, "web@.service: not done in time; the cluster goes on with its rollout\n");
    let mut child = spawn(&real, "rollout web@ --follow");
    read_until(&mut child, "before it abc\n");
    real.erase("rollout/web@.service");
    let err = "web@.service was destroyed, and its rollout with it\n".to_owned();
    assert_eq!(finish(child), Ran { code: Some(1), out: String::new(), err });
}

#[test]
fn status_names_a_rollout_that_needs_a_person() {
    let (real, target) = set();
    let status = || {
        let ran = real.run("status");
        let about = |line: &&str| line.starts_with("rollout") || line.contains("\tweb@.service\t");
        (ran.code, ran.out.lines().filter(about).map(str::to_owned).collect::<Vec<_>>())
    };
    // Nobody leads.
    assert_eq!(status(), (Some(3), vec![]));
    enter(&real, &target, "rolling", Value::Null);
    let long = "problem\tslow\tweb@.service\t-\t7\trolling";
    assert_eq!(status(), (Some(3), vec!["rollout\trolling\t1".into(), long.into()]));
    enter(&real, &target, "stuck", json!({ "why": "web@2.service failed on n1" }));
    let stuck = "problem\tstuck\tweb@.service\t-\t7\tstuck: web@2.service failed on n1";
    assert_eq!(status(), (Some(3), vec!["rollout\tstuck\t1".into(), stuck.into()]));
    // The document is compared with docs/openapi.json.
    let json: Value = serde_json::from_str(&real.run("status --output json").out).unwrap();
    let problems = json["findings"].as_array().unwrap().iter().map(|finding| finding["problem"].as_str().unwrap());
    assert_eq!(
        (&json["rollouts"], problems.collect::<Vec<_>>()),
        (&json!({ "stuck": 1 }), vec!["leaderless", "stuck"])
    );
}
