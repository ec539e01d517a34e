//! The life of a unit from submit to destroy, on real hosts, as shown by the command line and by systemd.

use std::time::{Duration, Instant};

use flotilla::model::systemd::ActiveState;

use crate::harness::{Lab, eventually};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn submit_load_start_stop_unload_destroy() {
    let lab = Lab::cluster(3);
    lab.file("hello.service", "[Unit]\nDescription=Says hello\n[Service]\nExecStart=/bin/sleep 1000");
    let row = |lab: &Lab| {
        let list = lab.fleetctl(&["list-unit-files", "--no-legend", "--fields=unit,dstate,state"]).ok();
        list.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };

    assert_eq!(lab.fleetctl(&["submit", "hello.service"]).ok(), "Unit hello.service inactive\n");
    assert_eq!(row(&lab), "hello.service inactive inactive");

    let loaded = lab.fleetctl(&["load", "hello.service"]).ok();
    assert!(loaded.starts_with("Unit hello.service loaded on ") && loaded.contains(".../10."), "{loaded}");
    assert_eq!(row(&lab), "hello.service loaded loaded");
    let units = lab.fleetctl(&["list-units", "--no-legend", "--fields=unit,load,active,sub"]).ok();
    assert_eq!(units.split_whitespace().collect::<Vec<_>>(), ["hello.service", "loaded", "inactive", "dead"]);

    let started = lab.fleetctl(&["start", "hello.service"]).ok();
    assert!(started.starts_with("Unit hello.service launched on "), "{started}");
    let host = lab.active_on("n1", "hello.service").unwrap();
    let elsewhere = ["n1", "n2", "n3"].into_iter().filter(|other| *other != host);
    for other in elsewhere {
        assert_ne!(lab.run(other, &["systemctl", "is-active", "hello.service"]).code, 0, "on {other} as well");
    }
    assert_eq!(row(&lab), "hello.service launched launched");
    // The same request again changes nothing.
    let pid = lab.main_pid(&host, "hello.service");
    lab.fleetctl(&["start", "hello.service"]).ok();
    assert_eq!(lab.main_pid(&host, "hello.service"), pid);

    let stopped = lab.fleetctl(&["stop", "hello.service"]);
    assert_eq!((stopped.code, stopped.stderr.trim()), (0, "Successfully stopped units [hello.service]."));
    assert_eq!(lab.run(&host, &["systemctl", "is-active", "hello.service"]).stdout.trim(), "inactive");
    assert_eq!(row(&lab), "hello.service loaded loaded");

    let unloaded = lab.fleetctl(&["unload", "hello.service"]);
    assert_eq!((unloaded.code, unloaded.stderr.trim()), (0, "Successfully unloaded units [hello.service]."));
    assert_eq!(row(&lab), "hello.service inactive inactive");
    assert!(!lab.sh(&host, "ls /run/fleet/units").ok().contains("hello"));

    assert_eq!(lab.fleetctl(&["destroy", "hello.service"]).ok(), "Destroyed hello.service\n");
    assert_eq!(row(&lab), "");
}

#[test]
fn a_slow_stop_runs_to_its_end_before_the_file_goes() {
    let lab = Lab::cluster(1);
    let text =
        "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sh -c 'sleep 3; ls /run/fleet/units > /run/at-the-end'";
    lab.file("slow.service", text);
    lab.fleetctl(&["start", "slow.service"]).ok();
    let began = Instant::now();
    assert_eq!(lab.fleetctl(&["destroy", "slow.service"]).ok(), "Destroyed slow.service\n");
    assert!(began.elapsed() >= Duration::from_secs(3), "destroy answered after {:?}", began.elapsed());
    // The last line of ExecStop= saw its own unit's file.
    assert_eq!(lab.run("n1", &["cat", "/run/at-the-end"]).ok().trim(), "slow.service");
    assert_eq!(lab.sh("n1", "ls /run/fleet/units").ok(), "");
}

#[test]
fn conflicting_units_spread_wait_and_take_the_place_of_one_that_goes() {
    let lab = Lab::cluster(3);
    let names: Vec<String> = (1..=5).map(|i| format!("web@{i}.service")).collect();
    lab.file("web@.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nConflicts=web@*");
    let start: Vec<&str> = ["start"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let started = lab.fleetctl(&start);
    assert_eq!(started.code, 1, "{started:?}");
    assert_eq!(started.stdout.matches("launched on").count(), 3, "{started:?}");
    for host in ["n1", "n2", "n3"] {
        assert!(started.stderr.contains(host), "each host's reason is named: {started:?}");
    }
    assert!(started.stderr.contains("conflicts with"), "{started:?}");

    let active: Vec<String> = names.iter().filter_map(|name| lab.active_on("n1", name).ok()).collect();
    let mut hosts = active.clone();
    hosts.sort();
    assert_eq!(hosts, ["n1", "n2", "n3"]);

    // The list and the API show why the others wait.
    let units = lab.units().unwrap();
    let waiting: Vec<_> = units.iter().filter(|unit| unit.waiting.is_some()).collect();
    assert_eq!(waiting.len(), 2, "{units:?}");
    assert!(waiting[0].waiting.as_ref().unwrap().contains("conflict"), "{waiting:?}");
    let url = format!("http://fleet/fleet/v2/units/{}", waiting[0].name);
    let detail = lab.run("n1", &["curl", "-sS", "--unix-socket", "/run/fleet.sock", &url]).ok();
    for host in ["n1", "n2", "n3"] {
        assert!(detail.contains(&format!("\"hostname\":\"{host}\"")), "{detail}");
    }

    let gone = units.iter().find(|unit| unit.machine.is_some() && !unit.name.is_template()).unwrap();
    lab.fleetctl(&["destroy", gone.name.as_str()]).ok();
    let next = eventually(SOON, "a waiting unit in its place", || {
        let active = waiting.iter().find_map(|unit| lab.active_on("n1", unit.name.as_str()).ok());
        active.ok_or_else(|| format!("{:?}", lab.units().unwrap()))
    });
    assert_eq!(next, gone.machine.as_ref().unwrap().hostname);
    // It didn't wait for anything that happens only now and then. systemd's own times: this test is slower.
    let history = lab.history(&next);
    let at =
        |what: &str, name: &str| history.iter().rfind(|(_, w, unit)| *w == what && unit == name).map(|(at, ..)| *at);
    let freed = at("Stopped", gone.name.as_str()).unwrap();
    let taken = waiting.iter().find_map(|unit| at("Started", unit.name.as_str())).unwrap();
    let took = Duration::from_micros(taken - freed);
    assert!(took < Duration::from_secs(4), "the next was active {took:?} after its place was free");
}

#[test]
fn metadata_and_globals_decide_where() {
    let lab = Lab::cluster(3);
    lab.file("agent.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nGlobal=true\nMachineMetadata=zone=a");
    lab.file("pinned.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineMetadata=host=n2");
    lab.file("beside.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineOf=pinned.service");
    lab.fleetctl(&["start", "agent.service", "beside.service", "pinned.service"]).ok();
    assert_eq!(lab.until_active("pinned.service", SOON), "n2");
    assert_eq!(lab.until_active("beside.service", SOON), "n2");
    let zones = lab.fleetctl(&["list-machines", "--no-legend", "--fields=metadata"]).ok();
    let wanted = zones.matches("zone=a").count();
    eventually(SOON, "the global unit on every host of zone a", || {
        let units = lab.units().unwrap();
        let agent = units.iter().find(|unit| unit.name.as_str() == "agent.service").ok_or("none")?;
        let active = agent.states.iter().filter(|state| state.report.active == ActiveState::Active).count();
        if active == wanted { Ok(()) } else { Err(format!("{agent:?}")) }
    });
}

#[test]
fn a_change_of_comments_reaches_the_file_and_touches_no_process() {
    let lab = Lab::cluster(1);
    let text = |comment: &str| {
        format!("{comment}[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n")
    };
    lab.file("web.service", &text(""));
    lab.fleetctl(&["start", "web.service"]).ok();
    let show = |property: &str| lab.run("n1", &["systemctl", "show", "-P", property, "web.service"]).ok();
    let before = (lab.main_pid("n1", "web.service"), show("InvocationID"), show("UnitFileState"));
    let reloads = || lab.sh("n1", "journalctl -b _PID=1 | grep -c 'Reloading'").stdout;
    let reloaded = reloads();

    lab.file("web.service", &text("# as it was at three in the morning\n"));
    let stored = lab.fleetctl(&["start", "--replace", "web.service"]);
    assert_eq!(stored.stderr, "web.service: only comments changed; stored, nothing restarted\n", "{stored:?}");
    eventually(SOON, "the new comment in the file on n1", || {
        let file = lab.run("n1", &["cat", "/run/fleet/units/web.service"]).ok();
        file.starts_with("# as it was at three").then_some(()).ok_or(file)
    });
    assert_eq!((lab.main_pid("n1", "web.service"), show("InvocationID"), show("UnitFileState")), before);
    assert_eq!(show("NeedDaemonReload").trim(), "no");
    assert_eq!(reloads(), reloaded, "systemd has nothing to read");
    assert!(lab.run("n1", &["systemctl", "cat", "web.service"]).ok().contains("at three"));
    assert!(lab.fleetctl(&["cat", "web.service"]).ok().starts_with("# as it was at three"));

    // A restarted daemon, and one that asks its own host, find the same.
    lab.lab(&["fleet", "restart", "n1"]).ok();
    lab.until_active("web.service", SOON);
    assert_eq!((lab.main_pid("n1", "web.service"), show("InvocationID"), show("UnitFileState")), before);
    let own = "http://fleet/fleet/v2/units/web.service?offline=true";
    assert!(lab.run("n1", &["curl", "-sS", "--unix-socket", "/run/fleet.sock", own]).ok().contains("at three"));
}
