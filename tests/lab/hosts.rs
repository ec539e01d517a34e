//! Hosts that people take out of service.

use std::time::Duration;

use flotilla::api::wire::UnitView;

use crate::harness::{Lab, eventually};
use crate::rollouts::under_load;

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
    // Nothing comes back by itself; a person asks for what is better there.
    let better = format!(" -> {home}  avoided units 0 < 1\n");
    for (args, code) in [(&["rebalance", "--plan"][..], 3), (&["rebalance"], 1)] {
        let plan = lab.fleetctl(args);
        assert!(plan.code == code && plan.stdout.contains(&better), "{plan:?}");
    }
    let moved = lab.fleetctl(&["rebalance", "--yes"]);
    assert!(moved.code == 0 && moved.stdout.contains(&format!(" moved to {home} (")), "{moved:?}");
    let members = ["w@1.service", "w@2.service", "w@3.service"].map(|unit| place(&lab, unit));
    assert!(members.contains(&home), "{members:?}");
    let again = lab.fleetctl(&["rebalance", "--plan"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "nothing would be better on another host\n"));
}

/// A set of five behind the balancer and the ambassador, with a sidekick for each member.
fn serve(lab: &Lab) {
    for set in ["ambassador", "balancer"] {
        lab.units_of(set);
    }
    lab.sh("n1", "printf '[X-Fleet]\\nMachineMetadata=host=n1\\n' >> /root/shop.service").ok();
    lab.file(
        "web@.service",
        "[Unit]\nWants=web-announce@%i.service\n\
         [Service]\nType=notify\nExecStart=/usr/local/bin/answer --port 809%i --say web-%i\n\
         [X-Fleet]\nReplicas=5\n[X-Health]\nReady=http://:809%i/\nIntervalSec=1\n[X-Rollout]\nParallel=1\n",
    );
    lab.file(
        "web-announce@.service",
        "[Unit]\nRequires=web@%i.service\nAfter=web@%i.service\n\
         [Service]\nType=notify\nExecStart=/usr/bin/fleet-sidecar announce web --unit web@%i.service --port 809%i \
         --meta http=80 --meta host=web.example --drain 2\n\
         [X-Fleet]\nReplicas=web@.service\nMachineOf=web@%i.service\n",
    );
    let units = ["web@.service", "web-announce@.service", "web-ambassador", "shop", "balancer", "balancer-config"];
    lab.fleetctl(&[&["start"][..], &units].concat()).ok();
    eventually(SOON, "all members are announced", || {
        let listed = lab.fleetctl(&["service", "web", "--no-legend"]).ok();
        if listed.lines().count() == 5 { Ok(()) } else { Err(listed) }
    });
    eventually(SOON, "the balancer answers", || lab.asks("n1", 80, "web.example"));
    eventually(SOON, "the shop answers", || lab.asks("n1", 8081, "shop"));
}

/// The same on three hosts. Returns a host other than n1 that has two of the members.
fn served(lab: &Lab) -> String {
    serve(lab);
    let members = |host: &str| (1..=5).filter(|number| place(lab, &format!("web@{number}.service")) == host).count();
    let home = ["n2", "n3"].into_iter().find(|host| members(host) == 2);
    home.expect("five members on three hosts: two hosts have two of them").to_owned()
}

#[test]
fn a_host_is_drained_under_load_without_a_failed_request() {
    let lab = Lab::cluster(3);
    let home = served(&lab);
    let service = "[Service]\nExecStart=/bin/sleep 1000\n";
    lab.file("db.service", &format!("{service}[X-Fleet]\nMachinePrefers=host={home}\n"));
    lab.file(
        "app.service",
        &format!("[Unit]\nRequires=db.service\nAfter=db.service\n{service}[X-Fleet]\nMachineOf=db.service\n"),
    );
    lab.file("kept.service", &format!("{service}[X-Fleet]\nMachinePrefers=host={home}\nMoveAfterSec=infinity\n"));
    lab.fleetctl(&["start", "db.service", "app.service", "kept.service"]).ok();
    for unit in ["db.service", "app.service", "kept.service"] {
        until(&lab, unit, &home);
    }
    let members: Vec<u32> = (1..=5).filter(|number| place(&lab, &format!("web@{number}.service")) == home).collect();
    let balancer = lab.main_pid(&home, "balancer.service");

    under_load(&lab, 5, || {
        let drained = lab.fleetctl(&["drain", &home]);
        assert_eq!(drained.code, 1, "{drained:?}");
        let stays = "  kept.service  stays: kept.service belongs to the host (MoveAfterSec=infinity); \
                     fleetctl move kept.service HOST moves it\n";
        assert!(drained.stdout.contains(stays), "{drained:?}");
        assert!(drained.stdout.contains(&format!("{home}: 6 units left, 1 stay\n")), "{drained:?}");
    });
    for (first, then) in [("app.service".to_owned(), "db.service".to_owned())]
        .into_iter()
        .chain(members.iter().map(|number| (format!("web-announce@{number}.service"), format!("web@{number}.service"))))
    {
        assert_ne!(place(&lab, &then), home, "{then}");
        assert_eq!(place(&lab, &first), place(&lab, &then), "{first} goes with {then}");
        assert_eq!(lab.order(&home, "Stopped", &[&first, &then]), [first.as_str(), &then]);
    }
    assert_eq!(lab.main_pid(&home, "balancer.service"), balancer, "global units belong to the host");
    assert_eq!(place(&lab, "kept.service"), home);
}

#[test]
fn what_has_left_a_drained_host_comes_back() {
    let lab = Lab::cluster(3);
    let service = "[Service]\nExecStart=/bin/sleep 1000\n";
    lab.file("w@.service", &format!("{service}[X-Fleet]\nReplicas=3\n"));
    lab.file("db.service", service);
    lab.file("app.service", &format!("{service}[X-Fleet]\nMachineOf=db.service\n"));
    lab.file("other.service", service);
    lab.fleetctl(&["start", "w@.service", "db.service", "app.service"]).ok();
    let home = lab.until_active("db.service", SOON);
    let members = ["w@1.service", "w@2.service", "w@3.service"];
    let before: Vec<&str> = members.into_iter().filter(|member| place(&lab, member) == home).collect();
    assert_eq!(before.len(), 1, "one on each host");
    lab.fleetctl(&["drain", &home, "--why", "kernel"]).ok();
    assert_ne!(place(&lab, "app.service"), home);
    // New ones stay where they are.
    lab.fleetctl(&["start", "other.service"]).ok();
    let other = lab.until_active("other.service", SOON);
    assert_eq!(lab.fleetctl(&["undrain", &home, "--restore", "--plan"]).code, 3);
    let back = lab.fleetctl(&["undrain", &home, "--restore"]);
    assert_eq!(back.code, 0, "{}{}", back.stdout, back.stderr);
    assert!(back.stdout.contains("  app.service  is back"), "{}", back.stdout);
    assert!(back.stdout.ends_with(&format!("{home}: 3 units back\n")), "{}", back.stdout);
    for unit in ["db.service", "app.service", before[0]] {
        assert_eq!(lab.until_active(unit, SOON), home, "{unit}");
    }
    assert_eq!(place(&lab, "other.service"), other);
    assert_eq!(lab.fleetctl(&["undrain", &home]).code, 1, "it isn't drained");
}

/// Where all units are that have a host.
fn places(lab: &Lab) -> Vec<(String, String)> {
    let placed = |unit: UnitView| Some((unit.name.to_string(), unit.machine?.hostname));
    lab.units().unwrap_or_default().into_iter().filter_map(placed).collect()
}

#[test]
fn three_hosts_reboot_under_load_without_a_failed_request() {
    let lab = Lab::cluster(4);
    serve(&lab);
    let service = "[Service]\nExecStart=/bin/sleep 1000\n";
    lab.file("db.service", &format!("{service}[X-Fleet]\nMachinePrefers=host=n2\n"));
    lab.file("app.service", &format!("[Unit]\nRequires=db.service\n{service}[X-Fleet]\nMachineOf=db.service\n"));
    lab.file("kept.service", &format!("{service}[X-Fleet]\nMachinePrefers=host=n3\nMoveAfterSec=infinity\n"));
    lab.fleetctl(&["start", "db.service", "app.service", "kept.service"]).ok();
    for (unit, host) in [("app.service", "n2"), ("kept.service", "n3")] {
        until(&lab, unit, host);
    }
    let hosts = ["n4", "n2", "n3"];
    // Gone after a reboot. The hosts are containers, and so have the same kernel after it.
    hosts.iter().for_each(|host| drop(lab.sh(host, "touch /run/of-this-boot").ok()));
    let before = places(&lab);
    under_load(&lab, 10, || {
        let rebooted = lab.fleetctl(&[&["reboot"][..], &hosts].concat());
        assert_eq!(rebooted.code, 0, "{}{}", rebooted.stdout, rebooted.stderr);
        let done: Vec<&str> = rebooted.stdout.lines().filter(|line| line.contains(": done (")).collect();
        assert!(done.iter().zip(hosts).all(|(line, host)| line.starts_with(host)) && done.len() == 3, "{done:?}");
    });
    let is_left = |host: &str| lab.sh(host, "test -e /run/of-this-boot").code == 0;
    assert!(!hosts.into_iter().any(is_left), "each of them was rebooted");
    assert_eq!(places(&lab), before);
    assert_eq!(lab.fleetctl(&["list-machines", "--no-legend", "--fields=state"]).ok(), "up\n".repeat(4));
}

/// What a program on `host` is told by FleetLock, as Zincati asks: the status, and the `kind` of the error.
fn fleetlock(lab: &Lab, host: &str, operation: &str) -> (String, String) {
    let body = format!(r#"{{"client_params":{{"id":"{host}-by-another-name","group":"default"}}}}"#);
    let ask = format!(
        "curl -sS -m 10 -w '\n%{{http_code}}' -H 'fleet-lock-protocol: true' -d '{body}' \
         http://127.0.0.1:7979/v1/{operation}"
    );
    let answer = lab.sh(host, &ask);
    let (error, status) = answer.stdout.rsplit_once('\n').unwrap_or(("", &answer.stderr));
    let error: serde_json::Value = serde_json::from_str(error).unwrap_or_default();
    (status.trim().to_owned(), error["kind"].as_str().unwrap_or_default().to_owned())
}

/// Ask until that is the status and the `kind`.
fn until_told(lab: &Lab, host: &str, operation: &str, expected: (&str, &str)) {
    eventually(Duration::from_secs(60), &format!("{operation} on {host}: {expected:?}"), || {
        let told = fleetlock(lab, host, operation);
        if (told.0.as_str(), told.1.as_str()) == expected { Ok(()) } else { Err(format!("{told:?}")) }
    });
}

#[test]
fn programs_ask_by_fleetlock_before_they_reboot_their_hosts() {
    let lab = Lab::cluster(3);
    for host in ["n2", "n3"] {
        lab.sh(host, "echo fleetlock=127.0.0.1:7979 >> /etc/fleet/fleet.conf; systemctl restart fleetd").ok();
        until_told(&lab, host, "steady-state", ("200", ""));
    }
    lab.file("w.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachinePrefers=host=n2\n");
    lab.fleetctl(&["start", "w.service"]).ok();
    assert_eq!(lab.until_active("w.service", SOON), "n2");
    // Both ask in the same moment.
    let told = std::thread::scope(|scope| {
        let both = ["n2", "n3"].map(|host| scope.spawn(|| fleetlock(&lab, host, "pre-reboot").1));
        both.map(|asked| asked.join().unwrap())
    });
    let (first, second) = if told[0] == "failed_lock_draining" { ("n2", "n3") } else { ("n3", "n2") };
    let mut kinds = told.clone();
    kinds.sort();
    assert_eq!(kinds, ["failed_lock_draining", "failed_lock_semaphore_full"], "{told:?}");
    // The window closes meanwhile: it is for what begins.
    lab.fleetctl(&["set", "reboot-windows=Mon..Sun 00:00/1min Pacific/Kiritimati"]).ok();
    until_told(&lab, first, "pre-reboot", ("200", ""));
    lab.sh(first, "touch /run/of-this-boot; systemctl restart fleetd").ok();
    until_told(&lab, first, "pre-reboot", ("200", ""));
    assert_eq!(fleetlock(&lab, second, "pre-reboot").1, "failed_lock_outside_window");
    lab.fleetctl(&["unset", "reboot-windows"]).ok();
    assert_ne!(place(&lab, "w.service"), first);
    // It is cut off, and so can't say that it is back; it keeps the slot, and everybody is told.
    lab.lab(&["cut", first]).ok();
    until_told(&lab, first, "steady-state", ("503", "unavailable"));
    assert_eq!(fleetlock(&lab, second, "pre-reboot").1, "failed_lock_semaphore_full");
    lab.lab(&["join", first]).ok();
    lab.lab(&["reboot", first]).ok();
    eventually(Duration::from_secs(90), &format!("{first} has rebooted"), || {
        let left = lab.sh(first, "test ! -e /run/of-this-boot && systemctl is-active fleetd");
        if left.stdout.trim() == "active" { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert_eq!(fleetlock(&lab, second, "pre-reboot").1, "failed_lock_semaphore_full");
    until_told(&lab, first, "steady-state", ("200", ""));
    until_told(&lab, second, "pre-reboot", ("200", ""));
    let status = lab.fleetctl(&["status"]).stdout;
    assert!(status.contains("drained: reboot, as a program on it has asked"), "{status}");
}

#[test]
fn a_unit_is_moved_under_load_without_a_failed_request() {
    let lab = Lab::cluster(3);
    let home = served(&lab);
    let member = (1..=5).find(|number| place(&lab, &format!("web@{number}.service")) == home).unwrap();
    let (member, sidekick) = (format!("web@{member}.service"), format!("web-announce@{member}.service"));
    let other = if home == "n2" { "n3" } else { "n2" };
    assert_eq!(lab.fleetctl(&["move", &member, other, "--plan"]).code, 3);
    under_load(&lab, 2, || {
        let moved = lab.fleetctl(&["move", &member, other]);
        assert_eq!(moved.code, 0, "{moved:?}");
        assert!(moved.stdout.contains(&format!("  {member}  moved to {other} (")), "{moved:?}");
        assert!(moved.stdout.contains(&format!("  {sidekick}  moved to {other} (")), "{moved:?}");
    });
    assert_eq!((place(&lab, &member).as_str(), place(&lab, &sidekick).as_str()), (other, other));
    assert_eq!(lab.order(&home, "Stopped", &[&sidekick, &member]), [sidekick.as_str(), &member]);
}

#[test]
fn a_unit_whose_host_is_off_is_moved_by_force() {
    let lab = Lab::cluster(3);
    lab.fleetctl(&["cordon", "n1", "n2"]).ok();
    lab.file("db.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMoveAfterSec=infinity\n");
    lab.fleetctl(&["start", "db.service"]).ok();
    assert_eq!(lab.until_active("db.service", SOON), "n3");
    lab.fleetctl(&["uncordon", "n1", "n2"]).ok();
    lab.lab(&["kill", "n3"]).ok();
    eventually(Duration::from_secs(60), "n3 is gone", || {
        let listed = lab.fleetctl(&["list-machines", "--fields=hostname", "--no-legend"]).ok();
        if listed.contains("n3") { Err(listed) } else { Ok(()) }
    });
    let refused = lab.fleetctl(&["move", "db.service", "n2"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("move db.service: n3 has been away since "), "{refused:?}");
    lab.fleetctl(&["move", "--force", "db.service", "n2"]).ok();
    assert_eq!(lab.until_active("db.service", SOON), "n2");
    lab.lab(&["boot", "n3"]).ok();
    eventually(Duration::from_secs(90), "n3 is back", || {
        let listed = lab.fleetctl(&["list-machines", "--fields=hostname", "--no-legend"]).ok();
        if listed.contains("n3") { Ok(()) } else { Err(listed) }
    });
    assert_eq!(place(&lab, "db.service"), "n2");
    assert_ne!(lab.sh("n3", "systemctl is-active db.service").stdout.trim(), "active");
}
