//! How long a command waits, and `wait`: what it waits for, what it says when the time is over, and its exit code.

use serde_json::{Value, json};

use super::fake::{Fake, Ran, Script, finish};
use super::real::Real;
use super::{N1, N2, OK, global, removed, running, script, snapshot, state, synced, told, unit, waiting};

fn starting(name: &str) -> Value {
    unit(name, "launched", Some(N1), &[state(N1, "7 activating start job=start")])
}

fn oneshot(name: &str) -> Value {
    unit(name, "launched", Some(N1), &[state(N1, "7 inactive dead result=done")])
}

fn leaving(name: &str) -> String {
    json!({ "leaving": name }).to_string()
}

#[test]
fn a_timeout_ends_the_wait_and_says_what_it_still_waited_for() {
    let watch = || snapshot(&[running("a.service", N1), starting("b.service")]);
    let fake = Fake::new(script(&[], vec![watch(), watch()]));
    fake.file("a.service", OK).file("b.service", OK);
    let err = "b.service: start job on n1 (activating, start)\n\
               not done after 2 s; nothing is undone, and the cluster continues to start:\n\
               \x20 b.service: start job on n1 (activating, start)\n";
    fake.expect("start --timeout 2s a b", 1, "Unit a.service launched on a2d7e4a6.../10.88.0.11\n", err);
    let Ran { code, out, .. } = fake.run("start --timeout=1 --output json a b");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["units"][1]["end"]), (Some(1), &json!("timeout")));
    assert_eq!(json["units"][1]["error"], "start job on n1 (activating, start)");
    assert_eq!(fake.sent().len(), 2, "nothing is taken back");
}

/// The time is that of the whole command, and the units after the one that it ends with aren't touched.
#[test]
fn a_timeout_is_for_all_units_that_are_restarted() {
    let known = [running("a.service", N1), running("b.service", N1)];
    let slow = unit("a.service", "launched", Some(N1), &[state(N1, "6 active running")]);
    let fake = Fake::new(script(&known, vec![snapshot(&[slow])]));
    let Ran { code, err, .. } = fake.run("restart --timeout 1s a b");
    let said = "not done after 1 s; nothing is undone, and the cluster continues to restart:\n  a.service: waiting for \
                n1 to restart it\nnot restarted, as they were to come after it: b.service\n";
    assert!(code == Some(1) && err.ends_with(said), "{err}");
    assert_eq!(fake.sent().len(), 1);
}

#[test]
fn a_timeout_goes_with_every_command_that_waits_and_not_with_another_limit() {
    let fake = Fake::new(script(&[running("a.service", N1)], vec![]));
    for command in ["start", "load", "stop", "unload", "destroy", "restart"] {
        let Ran { code, err, .. } = fake.run(&format!("{command} --timeout 1s a"));
        assert!(code == Some(1) && err.contains("not done after 1 s"), "{command}: {err}");
        for other in ["--no-block", "--block-attempts 3"] {
            let Ran { code, err, .. } = fake.run(&format!("{command} {other} --timeout 1s a"));
            assert!(code == Some(2) && err.contains("--timeout"), "{command} {other}: {err}");
        }
        assert_eq!(fake.run(&format!("{command} --timeout soon a")).code, Some(2));
    }
}

#[test]
fn wait_is_over_when_all_units_are_in_the_state_at_the_same_time() {
    let mut watch = snapshot(&[running("a.service", N1), starting("web@1.service")]);
    watch.push(told(&running("web@1.service", N1)));
    let fake = Fake::new(script(&[], vec![watch]));
    let out = "a.service is active on n1\nweb@1.service is active on n1\n";
    fake.expect("wait --for=active a web@*", 0, out, "");
    assert_eq!(fake.sent().len(), 0, "it changes nothing");

    // One of them fails while the other one comes up.
    let failed = unit("a.service", "launched", Some(N1), &[state(N1, "7 failed failed error=no-such-file")]);
    let mut watch = snapshot(&[running("a.service", N1), starting("b.service")]);
    watch.extend([told(&failed), told(&running("b.service", N2))]);
    let fake = Fake::new(script(&[], vec![watch]));
    let err = "a.service failed on n1: no-such-file\n";
    fake.expect("wait --for=active a b", 1, "b.service is active on n2\n", err);
}

#[test]
fn a_finished_oneshot_is_ready_and_not_active() {
    let fake = Fake::new(script(&[], vec![snapshot(&[oneshot("job.service")]), snapshot(&[oneshot("job.service")])]));
    fake.expect("wait --for=ready job", 0, "job.service is ready on n1\n", "");
    fake.expect("wait --for=active job", 1, "", "job.service has finished on n1, and is inactive\n");
}

/// One with `RunOnce=`, which no host has any more.
#[test]
fn a_unit_that_has_run_once_is_done_everywhere() {
    let mut done = unit("job.service", "launched", Some(N1), &[]);
    (done["done"], done["progress"]) = (json!(60_000), json!({ "state": "done" }));
    let watch = || snapshot(std::slice::from_ref(&done));
    let fake = Fake::new(script(std::slice::from_ref(&done), vec![watch(), watch(), watch()]));
    fake.expect("wait --for=ready job", 0, "job.service is ready on n1\n", "");
    fake.expect("wait --for=active job", 1, "", "job.service has run once, and is done\n");
    fake.expect("start job", 0, "Unit job.service launched on a2d7e4a6.../10.88.0.11\n", "");
    let files = "job.service\tlaunched\tdone\ta2d7e4a6.../10.88.0.11\n";
    fake.expect("list-unit-files --no-legend --fields=unit,dstate,state,target", 0, files, "");
    let Ran { out, .. } = fake.run("list-unit-files --output json --fields=unit,state");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), json!([{ "unit": "job.service", "state": "done" }]));
    let ran = "job.service is done: it ran on n1; `fleetctl journal job.service` shows its lines\n";
    fake.expect("status job", 0, "", ran);
}

#[test]
fn a_unit_with_probes_is_waited_for_until_it_is_ready() {
    let probed =
        |more: &str| unit("a.service", "launched", Some(N1), &[state(N1, &format!("7 active running {more}"))]);
    let (not, now) = (probed("ready=no health=tcp:80:refused"), probed("ready=yes"));
    let watch = || vec![told(&not), synced()];
    let up = || watch().into_iter().chain([told(&now)]).collect();
    let fake = |watches: Vec<Vec<String>>| {
        let fake = Fake::new(script(std::slice::from_ref(&not), watches));
        fake.file("a.service", OK);
        fake
    };
    let done = "Unit a.service launched on a2d7e4a6.../10.88.0.11\n";
    fake(vec![up()]).expect("start a", 0, done, "");
    fake(vec![watch()]).expect("start --wait=active a", 0, done, "");
    fake(vec![watch()]).expect("restart --wait active a", 0, done, "");
    let err = "a.service: not ready on n1: tcp:80:refused\n\
               not done after 2 s; nothing is undone, and the cluster continues to start:\n\
               \x20 a.service: not ready on n1: tcp:80:refused\n";
    fake(vec![watch()]).expect("start --timeout 2s a", 1, "", err);
    fake(vec![up()]).expect("wait --for=ready a", 0, "a.service is ready on n1\n", "");
    fake(vec![watch()]).expect("wait --for=active a", 0, "a.service is active on n1\n", "");
    let list = "unit\tactive\tready\thealth\na.service\tactive\tno\ttcp:80:refused\n";
    let said = fake(vec![]).run("list-units --fields=unit,active,ready,health").out;
    assert_eq!(said.replace("\t\t", "\t").to_lowercase(), list);
}

#[test]
fn wait_for_inactive_takes_what_is_destroyed_or_never_was() {
    let watch = vec![leaving("a.service"), told(&running("b.service", N1)), synced()];
    let stopped = told(&unit("b.service", "loaded", Some(N1), &[state(N1, "7 inactive dead")]));
    let watch = watch.into_iter().chain([stopped, removed("a.service")]).collect();
    let fake = Fake::new(script(&[], vec![watch, snapshot(&[])]));
    fake.expect("wait --for=inactive a b", 0, "a.service is inactive\nb.service is inactive on n1\n", "");
    fake.expect("wait --for=inactive a x@*", 0, "a.service is inactive\n", "");
}

#[test]
fn what_isnt_there_isnt_waited_for() {
    let fake = Fake::new(script(&[], vec![snapshot(&[]), snapshot(&[]), snapshot(&[])]));
    fake.expect("wait --for=active nosuch", 1, "", "nosuch.service is not in the cluster\n");
    fake.expect("wait --for=ready x@*", 1, "", "no unit matches `x@*`\n");
    fake.expect("wait --for=settled", 0, "settled: 0 units\n", "");
}

#[test]
fn wait_for_settled_is_about_the_whole_cluster_and_names_what_failed() {
    let failed = unit("c.service", "launched", Some(N2), &[state(N2, "7 failed failed error=disk")]);
    let units = [
        running("a.service", N1),
        global("g.service", "launched", &[state(N1, "7 active running"), state(N2, "7 active running")]),
        unit("web@.service", "inactive", None, &[]),
        failed,
        waiting("w.service", "2 of 2 hosts: conflict"),
    ];
    let mut watch = snapshot(&units);
    watch.insert(0, leaving("old.service"));
    watch.push(removed("old.service"));
    let fake = Fake::new(script(&units, vec![watch]));
    let Ran { code, out, err } = fake.run("wait --for=settled");
    assert_eq!((code, out.as_str()), (Some(1), "settled: 5 units, 2 of them failed\n"), "{err}");
    let said = "c.service failed on n2: disk\n\
                w.service can't run anywhere yet; it stays submitted and starts as soon as a host fits:\n\
                \x20 2 of 2 hosts: conflict\n";
    assert_eq!(err, said);

    let fake = Fake::new(script(&units[..2], vec![snapshot(&units[..2])]));
    let json: Value = serde_json::from_str(&fake.run("wait --for settled --output json").out).unwrap();
    assert_eq!((&json["for"], &json["units"][1]["end"]), (&json!("settled"), &json!("done")));
}

#[test]
fn a_wait_without_an_end_has_a_timeout_and_takes_ctrl_c() {
    let fake = Fake::new(script(&[], vec![snapshot(&[starting("a.service")])]));
    let err = "a.service: start job on n1 (activating, start)\nnot ready after 2 s:\n\
               \x20 a.service: start job on n1 (activating, start)\n";
    fake.expect("wait --for=ready --timeout 2s a", 1, "", err);
    let fake = Fake::new(script(&[], vec![snapshot(&[starting("a.service")])]));
    let child = fake.command("wait --for=settled").spawn().unwrap();
    while !fake.asked().iter().any(|line| line.contains("watch")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let Ran { code, err, .. } = finish(child);
    assert_eq!(code, Some(130));
    assert!(err.starts_with("no longer waiting"), "{err}");
}

#[test]
fn wait_wants_to_know_for_what() {
    let fake = Fake::new(Script::default());
    assert_eq!(fake.run("wait a").code, Some(2));
    assert_eq!(fake.run("wait --for=happy a").code, Some(2));
    fake.expect("wait --for=active", 2, "", "which units are to be active?\n");
    assert!(fake.asked().is_empty());
}

/// On a terminal the request and the cluster's answer are one line that is cleared, from the first column.
#[test]
fn ctrl_c_on_a_terminal_leaves_a_clean_line() {
    for columns in [80, 45] {
        let fake = Fake::new(script(&[], vec![snapshot(&[starting("a.service")])]));
        let (code, text) = fake.on_terminal_after("wait --for=active a", columns, "\u{3}", "activating");
        assert_eq!(code, Some(130), "{text:?}");
        let (_, last) = text.rsplit_once("\r\u{1b}[1A\u{1b}[J").unwrap_or_else(|| panic!("not cleared: {text:?}"));
        assert_eq!(last, "no longer waiting for a.service to be active\n");
    }
}

#[test]
fn the_real_api_is_waited_for() {
    let fleetd = Real::new();
    fleetd.host(N1);
    std::fs::write(fleetd.dir.path().join("a.service"), OK).unwrap();
    fleetd.expect("start --no-block a", 0, "Triggered unit a.service start\n", "");
    assert_eq!(fleetd.run("wait --for=settled --timeout 1s").code, Some(1));
    fleetd.place("a.service", N1, "active");
    fleetd.expect("wait --for=active a", 0, "a.service is active on n1\n", "");
    fleetd.expect("wait --for=settled", 0, "settled: 1 unit\n", "");
    fleetd.expect("wait --for=inactive --timeout 2s a", 1, "", &{
        let still = "on n1 (active, running)";
        format!("a.service: {still}\nnot inactive after 2 s:\n  a.service: {still}\n")
    });
}

/// A host with a slow disk reports a failure before its journal was read.
#[test]
fn the_journal_lines_of_a_failure_are_waited_for_if_its_report_came_without_them() {
    let failed = |lines: &[&str]| {
        let mut unit = unit("a.service", "launched", Some(N1), &[state(N1, "7 failed failed error=disk")]);
        unit["states"][0]["failure"] = json!({ "result": "exit-code", "lines": lines });
        unit["text"] = OK.into();
        unit
    };
    let mut runs = running("a.service", N1);
    runs["text"] = OK.into();
    for (later, said) in [(failed(&["boom"]), "  boom\n"), (runs, "")] {
        let mut script = script(&[], vec![snapshot(&[failed(&[])])]);
        script.details.insert("a.service".into(), later);
        let fake = Fake::new(script);
        fake.file("a.service", OK);
        fake.expect("start a", 1, "", &format!("a.service failed on n1: disk\n{said}"));
    }
}
