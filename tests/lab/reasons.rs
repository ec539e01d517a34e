//! The reason why a unit failed is shown on any host, even if it has no SSH key for the others, as after a new
//! installation.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Lab, eventually};

const ABSENT: &str = "[Service]\nExecStart=/opt/api/bin/api\n[X-Fleet]\nMachineMetadata=host=n2\n";
/// A program that fails while it starts and is restarted after a minute. journald has read what it says by then.
const LATER: &str =
    "[Service]\nType=notify\nExecStart=/bin/sh -c \"echo boom; sleep 1; exit 7\"\nRestart=always\nRestartSec=60\n";
/// A program that fails after two seconds and is restarted.
const CRASHES: &str = "[Service]\nExecStart=/bin/sh -c \"sleep 2; exit 3\"\nRestart=on-failure\nRestartSec=100ms\n\
    [X-Fleet]\nMachineMetadata=host=n2\n";

/// A program that says what it is doing while it starts, which takes until there is a file.
const SAYS: &str = "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/sh -c \"systemd-notify \
    --status='loading 1 of 3'; until [ -e /run/loaded ]; do sleep 0.2; done; \
    systemd-notify --ready --status='serving'; exec sleep 1000\"\n\
    [X-Fleet]\nMachineMetadata=host=n2\n";

/// The row of one unit in `list-units --output json`.
fn listed(lab: &Lab, unit: &str) -> Value {
    let rows = lab.fleetctl(&["list-units", "--output=json", unit]).ok();
    serde_json::from_str::<Value>(&rows).unwrap()[0].clone()
}

#[test]
fn the_reason_of_a_failure_is_shown_on_every_host_without_ssh() {
    let lab = Lab::cluster(2);
    lab.file("api.service", ABSENT);
    let started = lab.fleetctl(&["start", "api.service"]);
    let sentence = "api.service failed on n2: exit status 203/EXEC: /opt/api/bin/api (no such file or directory)";
    assert!(started.code == 1 && started.stderr.contains(sentence), "{started:?}");
    let journal = "/opt/api/bin/api: No such file or directory";
    assert!(started.stderr.lines().any(|line| line.starts_with("  ") && line.ends_with(journal)), "{started:?}");
    let row = listed(&lab, "api.service");
    assert_eq!(row["error"], "exit status 203/EXEC: /opt/api/bin/api (no such file or directory)");
    assert_eq!((&row["failure"]["result"], &row["failure"]["exit"]), (&"exit-code".into(), &"exited 203/EXEC".into()));
    let table = lab.fleetctl(&["list-units", "--no-legend", "--fields=unit,error", "api.service"]).ok();
    assert!(table.contains("exit status 203/EXEC"), "{table}");
    // The host is unreachable, but its report is shown.
    let status = lab.fleetctl(&["status", "api.service"]);
    assert!(status.code == 255 && status.stderr.contains(sentence), "{status:?}");

    lab.file("later.service", LATER);
    let began = Instant::now();
    let later = lab.fleetctl(&["start", "later.service"]);
    assert!(later.code == 1 && began.elapsed() < Duration::from_secs(40), "{:?}: {later:?}", began.elapsed());
    let sentence = "exit status 7/NOTRUNNING: /bin/sh; systemd starts it again after 60 s";
    assert!(later.stderr.contains(sentence) && later.stderr.contains("boom"), "{later:?}");
}

#[test]
fn a_crash_loop_is_counted_and_a_watched_start_of_it_fails() {
    let lab = Lab::cluster(2);
    lab.file("crashes.service", CRASHES);
    let started = lab.fleetctl(&["start", "--watch", "20s", "crashes.service"]);
    assert!(started.code == 1, "{started:?}");
    assert!(started.stdout.contains("Unit crashes.service launched on "), "{started:?}");
    assert!(
        started.stderr.contains("exit status 3/NOTIMPLEMENTED") || started.stderr.contains("restart"),
        "{started:?}"
    );
    eventually(Duration::from_secs(30), "three restarts to be reported", || {
        let row = listed(&lab, "crashes.service");
        if row["restarts"].as_u64() >= Some(3) { Ok(()) } else { Err(row.to_string()) }
    });
    lab.file("calm.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    lab.fleetctl(&["start", "--watch", "3s", "calm.service"]).ok();
}

#[test]
fn a_unit_that_starts_is_shown_with_its_own_status_text() {
    let lab = Lab::cluster(2);
    lab.file("says.service", SAYS);
    let started = lab.fleetctl(&["start", "--timeout=5s", "says.service"]);
    let said = "not done after 5 s; nothing is undone, and the cluster continues to start:\n  \
                says.service: starting on n2: loading 1 of 3\n";
    assert!(started.code == 1 && started.stderr.ends_with(said), "{started:?}");
    assert_eq!(listed(&lab, "says.service")["status"], "loading 1 of 3");
    lab.sh("n2", "touch /run/loaded").ok();
    let waited = lab.fleetctl(&["wait", "--for=active", "--timeout=60s", "says.service"]).ok();
    assert_eq!(waited, "says.service is active on n2\n");
    // What it says while it runs isn't reported.
    assert_eq!(listed(&lab, "says.service")["status"], Value::Null);
}
