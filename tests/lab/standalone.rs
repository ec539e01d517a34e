//! One host without etcd: the same commands, and state that survives restart, kill and power loss.

use std::time::Duration;

use crate::harness::{Lab, eventually};

#[test]
fn a_standalone_host_keeps_everything_through_restart_kill_and_power_loss() {
    let lab = Lab::boot(1, &["--standalone"]);
    lab.start_fleet(1);
    lab.file("a.service", "[Service]\nExecStart=/bin/sleep 10000");
    lab.file("b.service", "[Service]\nExecStart=/bin/sleep 10000");
    lab.fleetctl(&["start", "a.service"]).ok();
    lab.fleetctl(&["submit", "b.service"]).ok();
    let pid = lab.main_pid("n1", "a.service");

    lab.lab(&["fleet", "restart"]).ok();
    lab.until_active("a.service", Duration::from_secs(10));
    lab.run("n1", &["systemctl", "kill", "-s", "KILL", "fleetd"]).ok();
    eventually(Duration::from_secs(15), "a.service still active, by the cluster's word", || {
        lab.active_on("n1", "a.service")
    });
    assert_eq!(lab.main_pid("n1", "a.service"), pid);

    lab.lab(&["kill", "n1"]).ok();
    lab.lab(&["boot", "n1"]).ok();
    lab.until_active("a.service", Duration::from_secs(20));
    let files = lab.fleetctl(&["list-unit-files", "--no-legend", "--fields=unit,dstate"]).ok();
    let rows: Vec<Vec<&str>> = files.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["a.service", "launched"], ["b.service", "inactive"]]);
}

#[test]
fn without_etcd_and_without_being_told_there_is_no_cluster() {
    let lab = Lab::boot(1, &[]);
    lab.lab(&["etcd", "down"]).ok();
    lab.lab(&["fleet", "start"]).ok();
    let said = eventually(Duration::from_secs(10), "fleetctl told why", || {
        let ran = lab.fleetctl(&["list-units"]);
        if ran.stderr.contains("etcd at ") { Ok(ran) } else { Err(format!("{ran:?}")) }
    });
    assert_eq!(said.code, 1);
    assert!(!lab.sh("n1", "ls /var/lib/fleet").stdout.contains("redb"), "standalone is never chosen silently");
    let log = lab.run("n1", &["journalctl", "-b", "-u", "fleetd", "-o", "cat"]).ok();
    assert!(log.contains("etcd at "), "{log}");
}
