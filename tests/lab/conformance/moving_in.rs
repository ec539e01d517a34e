//! Replacing CoreOS fleet: the units that its daemon leaves running on a host are taken over, by the steps of
//! `docs/from-fleet.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use flotilla::model::systemd::ActiveState;

use crate::harness::{Lab, eventually};
use crate::old_fleet::{OldFleet, Unit};

const SOON: Duration = Duration::from_secs(15);

/// Do what fleet's agent does with a unit: write its canonical text into the folder, link it, start it.
fn as_fleet_left_it(lab: &Lab, host: &str, unit: &str, text: &str) {
    let line = format!(
        "mkdir -p /run/fleet/units && printf '%s' '{text}' > /run/fleet/units/{unit} && systemctl link --runtime \
         /run/fleet/units/{unit} && systemctl start {unit}"
    );
    lab.sh(host, &line).ok();
}

/// A daemon that behaves like fleet's: it stops all its units when it is asked to terminate, and systemd restarts it
/// when it dies.
fn old_daemon(lab: &Lab, host: &str) {
    let unit = "[Service]\nExecStart=/bin/sh -c \"trap 'systemctl stop $(ls /run/fleet/units | tr \\\\\\\\n \\\\ )' \
        TERM; while :; do sleep 0.2; done\"\nRestart=always\nRestartSec=1";
    lab.sh(
        host,
        &format!(
            "cat > /etc/systemd/system/fleet.service <<'END'\n{unit}\nEND\n\
             systemctl daemon-reload; systemctl start fleet.service"
        ),
    )
    .ok();
}

fn start_fleetd(lab: &Lab, host: &str) {
    lab.lab(&["fleet", "start", host]).ok();
    eventually(SOON, &format!("{host} in its own list"), || {
        let listed = lab.fleetctl_on(host, &["list-machines", "--no-legend", "--fields=hostname"]);
        if listed.stdout.lines().any(|line| line == host) { Ok(()) } else { Err(format!("{listed:?}")) }
    });
}

#[test]
fn what_fleet_left_runs_on_and_is_taken_over_without_a_restart() {
    let lab = Lab::boot(1, &[]);
    let sleeps =
        |seconds: u32| format!("[Unit]\nDescription=Left by fleet\n\n[Service]\nExecStart=/bin/sleep {seconds}\n");
    as_fleet_left_it(&lab, "n1", "same.service", &sleeps(1001));
    as_fleet_left_it(&lab, "n1", "continued.service", "[Service]\nExecStart=/bin/sleep \\\n  1002\n");
    as_fleet_left_it(&lab, "n1", "other.service", &sleeps(1003));
    as_fleet_left_it(&lab, "n1", "kept.service", &sleeps(1004));
    let all = ["same.service", "continued.service", "other.service", "kept.service"];
    let pids = |lab: &Lab| all.map(|unit| lab.main_pid("n1", unit));
    let before = pids(&lab);
    assert!(before.iter().all(|pid| pid != "0"), "{before:?}");

    start_fleetd(&lab, "n1");
    lab.lab(&["fleet", "restart"]).ok();
    start_fleetd(&lab, "n1");
    // Long enough for anything that the daemon might do by itself.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(pids(&lab), before, "a daemon that knows nothing of them leaves them alone");
    let log = lab.run("n1", &["journalctl", "-b", "-u", "fleetd", "-o", "cat"]).ok();
    assert!(log.contains("this cluster didn't write") && log.contains("kept.service"), "{log}");

    // The same unit with comments is adopted; one with another command isn't.
    lab.file("same.service", &format!("# Mine\n{}", sleeps(1001)));
    lab.file("continued.service", "[Service]\nExecStart=/bin/sleep \\\n  1002");
    lab.file("other.service", &sleeps(2003));
    lab.fleetctl(&["start", "same.service", "continued.service", "other.service"]).ok();
    let after = pids(&lab);
    assert_eq!((&after[0], &after[1], &after[3]), (&before[0], &before[1], &before[3]), "not restarted");
    assert_ne!(after[2], before[2], "its file is another");

    // Adopted units belong to the cluster, and the others don't.
    lab.fleetctl(&["destroy", "same.service", "continued.service", "other.service"]).ok();
    assert_eq!(lab.sh("n1", "ls /run/fleet/units").ok(), "kept.service\n");
    assert_eq!(lab.main_pid("n1", "kept.service"), before[3]);
}

#[test]
fn a_fleet_is_taken_over_host_by_host_without_a_restart() {
    let lab = Lab::boot(3, &[]);
    let hosts = ["n1", "n2", "n3"];
    let ids: BTreeMap<&str, String> =
        hosts.iter().map(|host| (*host, lab.run(host, &["cat", "/etc/machine-id"]).ok().trim().to_owned())).collect();
    let id = |host: &str| -> &'static str { ids[host].clone().leak() };

    // The state in fleet: one unit on n1, three on n2, two on n3, a global one, and one that is only submitted.
    let start = "/bin/sleep 10000";
    let plain = vec![("Service", "ExecStart", start)];
    let everywhere = vec![("Service", "ExecStart", start), ("X-Fleet", "Global", "true")];
    let web = vec![("Service", "ExecStart", start), ("X-Fleet", "Conflicts", "web@*.service")];
    let unit = |name: &'static str, host: &str, options: &Vec<_>| Unit {
        name,
        desired: "launched",
        machine: if host.is_empty() { "" } else { id(host) },
        options: options.clone(),
        states: vec![],
    };
    let units = vec![
        unit("all.service", "", &everywhere),
        unit("a.service", "n2", &plain),
        unit("b.service", "n2", &plain),
        unit("c.service", "n3", &plain),
        Unit { desired: "inactive", ..unit("idle.service", "", &plain) },
        unit("web@1.service", "n1", &web),
        unit("web@2.service", "n2", &web),
        unit("web@3.service", "n3", &web),
    ];
    let text = |unit: &Unit| {
        let mut text = String::new();
        let mut section = "";
        for (in_section, name, value) in &unit.options {
            if *in_section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                text += &format!("{gap}[{in_section}]\n");
                section = in_section;
            }
            text += &format!("{name}={value}\n");
        }
        text
    };
    let mut running: Vec<(&str, &str)> = Vec::new();
    for unit in units.iter().filter(|unit| unit.desired == "launched") {
        for host in hosts.iter().filter(|host| unit.machine.is_empty() || unit.machine == ids[**host]) {
            as_fleet_left_it(&lab, host, unit.name, &text(unit));
            running.push((host, unit.name));
        }
    }
    let pids = |lab: &Lab| -> Vec<(&str, &str, String)> {
        running.iter().map(|(host, unit)| (*host, *unit, lab.main_pid(host, unit))).collect()
    };
    let before = pids(&lab);
    hosts.iter().for_each(|host| old_daemon(&lab, host));
    let machines: Vec<_> = hosts.iter().map(|host| json!({ "id": ids[host] })).collect();
    let fleet = OldFleet::on_tcp(units, json!(machines), 3);
    let net = lab.run("n1", &["sh", "-c", "ip route show default | cut -d' ' -f3"]).ok();
    let from = format!("http://{}:{}", net.trim(), fleet.port());

    // 1. One host, while fleet still runs; plan and submit.
    start_fleetd(&lab, "n2");
    let import = |more: &[&str]| lab.fleetctl_on("n2", &[&["import", "--from", &from], more].concat());
    let planned = import(&[]).ok();
    assert_eq!(import(&["--apply"]).ok(), planned);
    assert_eq!(pids(&lab), before);

    // 2. fleet is killed everywhere, so that it can't stop its units.
    for host in hosts {
        let stop = "mkdir -p /run/systemd/system/fleet.service.d; printf '[Service]\\nKillSignal=SIGKILL\\n' > \
            /run/systemd/system/fleet.service.d/kill.conf; systemctl daemon-reload; systemctl stop fleet.service; \
            systemctl disable fleet.service 2>/dev/null; ! systemctl -q is-active fleet.service";
        lab.sh(host, stop).ok();
    }
    assert_eq!(pids(&lab), before, "units outlive the daemon");

    // 3. Follow the plan, line by line.
    let steps: Vec<&str> = planned.lines().skip_while(|line| !line.starts_with("# To hand over")).skip(3).collect();
    let mut joined = vec![];
    for line in steps {
        if let Some(command) = line.strip_prefix("fleetctl ") {
            lab.fleetctl_on("n2", &command.split(' ').collect::<Vec<_>>()).ok();
        } else if let Some(host) = hosts.iter().find(|host| line.contains(&ids[**host][..8])) {
            start_fleetd(&lab, host);
            joined.push(*host);
        }
    }
    assert_eq!(joined, ["n2", "n3", "n1"], "the busiest first: {planned}");
    assert_eq!(pids(&lab), before, "nothing was restarted, nothing runs elsewhere: {planned}");
    let listed = lab.units_on("n2").unwrap();
    for unit in &listed {
        let active = unit.states.iter().filter(|state| state.report.active == ActiveState::Active).count();
        let wanted = running.iter().filter(|(_, name)| *name == unit.name.as_str()).count();
        assert_eq!(active, wanted, "{unit:?}");
    }
    for (host, unit) in &running {
        let where_it_is = lab.sh(host, &format!("systemctl is-active {unit}")).stdout;
        assert_eq!(where_it_is.trim(), "active", "{unit} on {host}");
    }
    for host in hosts {
        let log = lab.run(host, &["journalctl", "-b", "-u", "fleetd", "-o", "cat"]).ok();
        assert!(!log.contains("stopping"), "{host}: {log}");
    }
}
