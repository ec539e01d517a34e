//! Hosts that people take out of service.

use std::time::Duration;

use crate::harness::{Lab, eventually};

const SOON: Duration = Duration::from_secs(20);

/// The hosts on which `unit` is, or why it waits, as `list-unit-files` says it.
fn place(lab: &Lab, unit: &str) -> String {
    let found = lab.units().unwrap_or_default().into_iter().find(|view| view.name.as_str() == unit);
    let machine = found.as_ref().and_then(|view| Some(view.machine.as_ref()?.hostname.clone()));
    machine.or_else(|| found?.waiting).unwrap_or_default()
}

fn until(lab: &Lab, unit: &str, expected: &str) {
    eventually(SOON, &format!("{unit}: {expected}"), || {
        let place = place(lab, unit);
        if place == expected { Ok(()) } else { Err(place) }
    });
}

#[test]
fn a_cordoned_host_keeps_what_it_has_and_gets_nothing_new() {
    let lab = Lab::cluster(2);
    lab.file("a.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineMetadata=role=x\n");
    lab.file("b.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    lab.file("c.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineOf=b.service\n");
    lab.fleetctl(&["start", "b.service"]).ok();
    let home = lab.until_active("b.service", SOON);
    let pid = lab.main_pid(&home, "b.service");
    let other = if home == "n1" { "n2" } else { "n1" };
    lab.fleetctl(&["cordon", other, "--why", "disk"]).ok();
    lab.fleetctl(&["start", "c.service"]).ok();
    until(&lab, "c.service", &home);
    lab.fleetctl(&["cordon", &home]).ok();
    assert!(lab.fleetctl(&["status"]).ok().contains("cordoned by root: disk"));
    lab.fleetctl(&["start", "--no-block", "a.service"]).ok();
    until(&lab, "a.service", "2 of 2 hosts: cordoned");
    let said = lab.fleetctl(&["list-unit-files", "--fields=waiting", "a.service"]).ok();
    assert!(said.contains("2 of 2 hosts: cordoned"), "{said}");
    // A host that is restarted is cordoned as before.
    lab.sh(other, "systemctl restart fleetd").ok();
    lab.fleetctl(&["restart", "b.service"]).ok();
    assert_ne!(lab.main_pid(&home, "b.service"), pid, "it is restarted where it is");
    until(&lab, "a.service", "2 of 2 hosts: cordoned");
    lab.fleetctl(&["uncordon", "n1", "n2"]).ok();
    until(&lab, "a.service", "2 of 2 hosts: metadata");
}

#[test]
fn units_leave_a_drained_host_in_order_and_what_can_not_is_named() {
    let lab = Lab::cluster(3);
    let service = "[Service]\nExecStart=/bin/sleep 1000\n";
    lab.file("w@.service", &format!("{service}[X-Fleet]\nReplicas=3\n"));
    lab.file("db.service", service);
    lab.file(
        "app.service",
        &format!("[Unit]\nRequires=db.service\nAfter=db.service\n{service}[X-Fleet]\nMachineOf=db.service\n"),
    );
    lab.file("every.service", &format!("{service}[X-Fleet]\nGlobal=true\n"));
    lab.fleetctl(&["start", "w@.service", "db.service", "app.service", "every.service"]).ok();
    let home = lab.until_active("db.service", SOON);
    let id = lab.sh(&home, "cat /etc/machine-id").ok();
    lab.file("bound.service", &format!("{service}[X-Fleet]\nMachineID={}\n", id.trim()));
    lab.fleetctl(&["start", "bound.service"]).ok();
    let drained = lab.fleetctl(&["drain", &home, "--why", "kernel"]);
    assert_eq!(drained.code, 1, "{}{}", drained.stdout, drained.stderr);
    assert!(drained.stdout.contains("  bound.service  stays: fits no other host"), "{}", drained.stdout);
    for unit in ["db.service", "app.service", "w@1.service", "w@2.service", "w@3.service"] {
        assert_ne!(place(&lab, unit), home, "{unit}");
    }
    assert_eq!(place(&lab, "db.service"), place(&lab, "app.service"));
    // The one that needs the other stopped first.
    assert_eq!(lab.order(&home, "Stopped", &["app.service", "db.service"]), ["app.service", "db.service"]);
    assert_eq!(lab.sh(&home, "systemctl is-active every.service").stdout.trim(), "active", "it belongs to the host");
    lab.fleetctl(&["undrain", &home]).ok();
    assert_eq!(lab.fleetctl(&["undrain", &home]).code, 1, "it isn't drained");
}
