//! Decisions of the scheduler, as seen by systemd on real hosts: every type of unit, moves, changes of hosts and their
//! metadata, restarts.

use std::time::Duration;

use flotilla::model::systemd::{ActiveState, LoadState};

use crate::harness::{Lab, eventually};

const SOON: Duration = Duration::from_secs(20);

/// A host's machine id.
fn id(lab: &Lab, host: &str) -> String {
    lab.sh(host, "cat /etc/machine-id").ok().trim().to_owned()
}

/// Send `METHOD path` with a JSON body to n1's socket.
///
/// # Panics
/// If the answer is an error.
fn call(lab: &Lab, method: &str, path: &str, body: &serde_json::Value) {
    let (url, body) = (format!("http://fleet{path}"), body.to_string());
    let args = ["curl", "-sS", "--fail-with-body", "--unix-socket", "/run/fleet.sock", "-X", method];
    let rest = ["-H", "Content-Type: application/json", "-d", &body, &url];
    lab.run("n1", &[&args[..], &rest].concat()).ok();
}

/// Set or remove `role` of some hosts, in one request.
fn roles(lab: &Lab, roles: &[(&str, Option<&str>)]) {
    let change = |(host, role): &(&str, Option<&str>)| {
        let path = format!("/{}/metadata/role", id(lab, host));
        match role {
            Some(role) => serde_json::json!({"op": "add", "path": path, "value": role}),
            None => serde_json::json!({"op": "remove", "path": path}),
        }
    };
    call(lab, "PATCH", "/fleet/v1/machines", &roles.iter().map(change).collect());
}

/// The hosts on which `unit` is active, according to the cluster.
fn active(lab: &Lab, unit: &str) -> Vec<String> {
    let units = lab.units().unwrap_or_default();
    let states = units.iter().filter(|view| view.name.as_str() == unit).flat_map(|view| &view.states);
    states
        .filter(|state| state.report.active == ActiveState::Active)
        .map(|state| state.machine.hostname.clone())
        .collect()
}

fn until_on(lab: &Lab, unit: &str, hosts: &[&str]) {
    eventually(SOON, &format!("{unit} active on {hosts:?}"), || {
        let on = active(lab, unit);
        if on == hosts { Ok(()) } else { Err(format!("{on:?}")) }
    });
}

#[test]
fn every_type_that_systemd_loads_from_a_file_is_placed_started_and_reported() {
    let lab = Lab::cluster(1);
    let service = "[Service]\nExecStart=/bin/sleep 1000";
    // Name, text, and the state after the start. A host in a container has no swap, no device and perhaps no autofs.
    let units = [
        ("t-plain.service", service, Some("active/running")),
        ("t-sock.socket", "[Socket]\nListenStream=/run/t-sock\nService=t-plain.service", Some("active/running")),
        ("t-clock.timer", "[Timer]\nOnActiveSec=1h\nUnit=t-plain.service", Some("active/waiting")),
        ("t-look.path", "[Path]\nPathExists=/run/t-never\nUnit=t-plain.service", Some("active/waiting")),
        ("t-group.target", "[Unit]\nDescription=A group", Some("active/active")),
        ("t-part.slice", "[Slice]\nTasksMax=100", Some("active/active")),
        ("run-tmnt.mount", "[Mount]\nWhat=tmpfs\nWhere=/run/tmnt\nType=tmpfs", Some("active/mounted")),
        ("run-tauto.automount", "[Automount]\nWhere=/run/tauto", None),
        ("run-tswap.swap", "[Swap]\nWhat=/run/tswap", None),
        ("dev-tnone.device", "[Unit]\nDescription=A device", None),
    ];
    let names: Vec<&str> = units.iter().map(|(name, ..)| *name).collect();
    for (name, text, _) in units {
        lab.file(name, text);
    }
    lab.fleetctl(&[&["load"], &names[..]].concat()).ok();
    for name in &names {
        eventually(SOON, &format!("{name} loaded"), || {
            let units = lab.units()?;
            let view = units.iter().find(|view| view.name.as_str() == *name).ok_or("not there")?;
            let loaded = view.states.iter().any(|state| state.report.load == LoadState::Loaded);
            if loaded { Ok(()) } else { Err(format!("{view:?}")) }
        });
    }
    // The socket first: it can't be started while its service runs.
    for (name, _, wanted) in units.iter().rev() {
        let Some(wanted) = wanted else { continue };
        if *name == "t-sock.socket" {
            continue;
        }
        lab.fleetctl(&["start", name]).ok();
        let list = lab.fleetctl(&["list-units", "--no-legend", "--fields=unit,active,sub"]).ok();
        let row = list.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        let state = row.split_whitespace().skip(1).collect::<Vec<_>>().join("/");
        assert_eq!(state, *wanted, "{name}");
    }
    lab.fleetctl(&["stop", "t-plain.service"]).ok();
    lab.fleetctl(&["start", "t-sock.socket"]).ok();
    assert_eq!(lab.run("n1", &["systemctl", "is-active", "t-sock.socket"]).stdout.trim(), "active");
    let listed = lab.fleetctl(&["list-units", "--no-legend", "--fields=unit,active,sub", "t-sock.socket"]).ok();
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["t-sock.socket", "active", "listening"]);
    lab.fleetctl(&[&["destroy"], &names[..]].concat()).ok();
    eventually(SOON, "no file left", || {
        let left = lab.sh("n1", "ls /run/fleet/units").stdout;
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });
    for (name, why) in [("t.scope", "made by programs"), ("t.snapshot", "dropped"), ("t.busname", "dropped")] {
        let body = serde_json::json!({"units": [{"name": name, "text": service}]}).to_string();
        let url = "http://fleet/fleet/v2/units";
        let args = ["curl", "-sS", "--unix-socket", "/run/fleet.sock", "-H", "Content-Type: application/json"];
        let answer = lab.run("n1", &[&args[..], &["-d", &body, url]].concat()).ok();
        assert!(answer.contains(why), "{answer}");
    }
}

#[test]
fn metadata_moves_units_one_after_the_other_and_outlives_its_host() {
    let lab = Lab::cluster(2);
    lab.file(
        "mover.service",
        "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sleep 1\n[X-Fleet]\nMachineMetadata=role=db",
    );
    lab.file(
        "every.service",
        "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nGlobal=true\nMachineMetadata=role=db\nConflicts=shy.service",
    );
    roles(&lab, &[("n1", Some("db"))]);
    lab.fleetctl(&["start", "mover.service", "every.service"]).ok();
    until_on(&lab, "mover.service", &["n1"]);
    until_on(&lab, "every.service", &["n1"]);
    roles(&lab, &[("n1", None), ("n2", Some("db"))]);
    until_on(&lab, "mover.service", &["n2"]);
    until_on(&lab, "every.service", &["n2"]);
    // Containers share one kernel, and so its monotonic clock.
    let when = |host: &str, what: &str| {
        let history = lab.history(host).into_iter();
        history.filter(|(_, w, unit)| *w == what && unit == "mover.service").map(|(at, ..)| at).max().unwrap()
    };
    let (stopped, started) = (when("n1", "Stopped"), when("n2", "Started"));
    assert!(stopped <= started, "stopped at {stopped} µs, started elsewhere at {started} µs");
    // Its host fails, and no other one has the role; it returns, and still has the role.
    lab.lab(&["kill", "n2"]).ok();
    eventually(Duration::from_secs(30), "mover.service waiting", || {
        let units = lab.units()?;
        let mover = units.iter().find(|view| view.name.as_str() == "mover.service").ok_or("not there")?;
        mover.waiting.clone().map(drop).ok_or(format!("{mover:?}"))
    });
    assert_eq!(active(&lab, "every.service"), Vec::<String>::new());
    lab.lab(&["boot", "n2"]).ok();
    eventually(Duration::from_secs(30), "both back on n2", || {
        let on = (active(&lab, "mover.service"), active(&lab, "every.service"));
        if on == (vec!["n2".into()], vec!["n2".into()]) { Ok(()) } else { Err(format!("{on:?}")) }
    });
}

#[test]
fn a_restart_happens_where_the_unit_runs_and_brings_its_dependents_back() {
    let lab = Lab::cluster(2);
    lab.file("base.service", "[Service]\nExecStart=/bin/sleep 1000");
    lab.file(
        "top.service",
        "[Unit]\nRequires=base.service\nAfter=base.service\n[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\n\
         MachineOf=base.service",
    );
    lab.fleetctl(&["start", "base.service", "top.service"]).ok();
    let host = lab.until_active("top.service", SOON);
    let pids = || ["base.service", "top.service"].map(|unit| lab.main_pid(&host, unit));
    let before = pids();
    let restart = |names: &[&str]| {
        let units: Vec<_> = names.iter().map(|name| serde_json::json!({"name": name, "restart": true})).collect();
        call(&lab, "POST", "/fleet/v2/units", &serde_json::json!({"units": units}));
    };
    let renewed = |before: &[String; 2]| {
        eventually(SOON, "both were restarted", || {
            let now = pids();
            let new = before.iter().zip(&now).all(|(old, new)| old != new && new != "0");
            if new && active(&lab, "top.service") == [host.clone()] { Ok(now) } else { Err(format!("{now:?}")) }
        })
    };
    restart(&["base.service"]);
    let second = renewed(&before);
    restart(&["base.service", "top.service"]);
    renewed(&second);
    // When the host has reported both requests as carried out and has no job left, they have no further effect.
    eventually(SOON, "both requests carried out, and nothing going on", || {
        let units = lab.units()?;
        let done = units.iter().all(|unit| unit.states.iter().any(|state| state.report.generation >= unit.generation));
        let jobs = lab.run(&host, &["systemctl", "list-jobs", "--no-legend"]).stdout;
        if done && !jobs.contains(".service") { Ok(()) } else { Err(format!("{jobs}{units:?}")) }
    });
    let order = |what| lab.order(&host, what, &["base.service", "top.service"]);
    assert_eq!(order("Started"), ["base.service", "top.service"].repeat(3), "each once for each request");
    assert_eq!(order("Stopped"), ["top.service", "base.service"].repeat(2));
}

/// The zone of each member of `w@.service` that is active, in order.
fn zones(lab: &Lab) -> Vec<String> {
    let active = (1..=6).filter_map(|number| active(lab, &format!("w@{number}.service")).pop());
    let mut zones: Vec<String> = active.map(|host| format!("z{}", &host[1..])).collect();
    zones.sort();
    zones
}

#[test]
fn a_zone_is_lost_and_back_and_memory_that_shrinks_moves_nobody() {
    let lab = Lab::cluster(3);
    let each = "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\n";
    for host in ["n1", "n2", "n3"] {
        lab.fleetctl(&["set-metadata", host, &format!("zone=z{}", &host[1..])]).ok();
    }
    lab.file("w@.service", &format!("{each}Replicas=5\nSpread=zone\nMaxSkew=1\n"));
    lab.fleetctl(&["start", "w@.service"]).ok();
    // Which zone has one member only is as the hosts' ids are.
    eventually(Duration::from_secs(60), "two members in two zones, and one in the third", || {
        let zones = zones(&lab);
        let mut counts = ["z1", "z2", "z3"].map(|zone| zones.iter().filter(|there| *there == zone).count());
        counts.sort_unstable();
        if counts == [1, 2, 2] { Ok(()) } else { Err(format!("{zones:?}")) }
    });
    lab.lab(&["kill", "n3"]).ok();
    // Either zone may have three.
    let left = eventually(Duration::from_secs(60), "five members in two zones", || {
        let zones = zones(&lab);
        let is_whole = zones.len() == 5 && !zones.contains(&"z3".into());
        if is_whole { Ok(zones) } else { Err(format!("{zones:?}")) }
    });
    lab.lab(&["boot", "n3"]).ok();
    eventually(Duration::from_secs(60), "n3 is back", || {
        let listed = lab.fleetctl(&["list-machines", "--fields=hostname,state", "--no-legend"]).ok();
        if listed.contains("n3\tup") { Ok(()) } else { Err(listed) }
    });
    assert_eq!(zones(&lab), left, "nobody moves because a zone is back");
    lab.fleetctl(&["scale", "w@.service", "6"]).ok();
    eventually(SOON, "the new member is in the zone that is back", || {
        let zones = zones(&lab);
        if zones.contains(&"z3".into()) && zones.len() == 6 { Ok(()) } else { Err(format!("{zones:?}")) }
    });
    // Two units that don't fit on one host together, asked for at once, and a third one that fits on none.
    let offered = |host: &str| {
        let listed = lab.fleetctl(&["list-machines", "-o", "json", "--fields=hostname,memory"]).ok();
        let hosts: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let found = hosts.as_array().unwrap().iter().find(|view| view["hostname"] == host);
        found.unwrap_or_else(|| panic!("{hosts}"))["memory"]["offered"].as_u64().unwrap()
    };
    let wanted = offered("n1") / 1024 / 1024 * 6 / 10;
    for unit in ["a", "b", "c", "d"] {
        lab.file(&format!("{unit}.service"), &format!("{each}Memory={wanted}M\n"));
    }
    lab.fleetctl(&["start", "--no-block", "a.service", "b.service", "c.service", "d.service"]).ok();
    let on = ["a", "b", "c"].map(|unit| lab.until_active(&format!("{unit}.service"), SOON));
    let mut hosts = on.to_vec();
    hosts.sort();
    assert_eq!(hosts, ["n1", "n2", "n3"]);
    let said = lab.fleetctl(&["list-unit-files", "--fields=waiting", "--no-legend", "d.service"]).ok();
    assert!(said.contains("3 of 3 hosts: too little memory or CPU"), "{said}");
    // The host of one of them has less than that unit takes: it stays, and isn't restarted.
    let pid = lab.main_pid(&on[1], "b.service");
    let reserve = format!("echo reserve_memory={wanted}M >> /etc/fleet/fleet.conf; systemctl reload fleetd");
    lab.sh(&on[1], &reserve).ok();
    eventually(SOON, "the host offers less", || {
        let left = offered(&on[1]) / 1024 / 1024;
        if left < wanted { Ok(()) } else { Err(left.to_string()) }
    });
    lab.fleetctl(&["unload", "a.service"]).ok();
    assert_eq!(lab.until_active("d.service", SOON), on[0]);
    assert_eq!(lab.main_pid(&on[1], "b.service"), pid);
}
