//! Failures of hosts, daemons, stores and networks: units that must not be affected aren't, and units that must move do
//! so in time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flotilla::model::systemd::ActiveState;

use crate::harness::{Lab, Ran, eventually, within};

/// `agent_ttl`'s default.
const TTL: Duration = Duration::from_secs(10);
const HOSTS: [&str; 3] = ["n1", "n2", "n3"];
const FOUR: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// Start nine units; returns the host and the main pid of each by its name.
fn nine_units(lab: &Lab) -> BTreeMap<String, (String, String)> {
    lab.file("u@.service", "[Service]\nExecStart=/bin/sleep 10000");
    let names: Vec<String> = (1..=9).map(|i| format!("u@{i}.service")).collect();
    let start: Vec<&str> = ["start"].into_iter().chain(names.iter().map(String::as_str)).collect();
    lab.fleetctl(&start).ok();
    let places = places(lab);
    assert_eq!(places.len(), 9, "{places:?}");
    for host in HOSTS {
        assert_eq!(places.values().filter(|(on, _)| on == host).count(), 3, "spread evenly: {places:?}");
    }
    places
}

/// The host on which each unit is active, according to systemd on each host that answers, and its main pid.
fn places(lab: &Lab) -> BTreeMap<String, (String, String)> {
    places_on(lab, &HOSTS)
}

fn places_on(lab: &Lab, hosts: &[&str]) -> BTreeMap<String, (String, String)> {
    let mut places = BTreeMap::new();
    for host in hosts {
        let listed = lab.sh(host, "systemctl list-units --no-legend --plain --state=active 'u@*' | cut -d' ' -f1");
        for unit in listed.stdout.lines() {
            places.insert(unit.to_owned(), ((*host).to_owned(), lab.main_pid(host, unit)));
        }
    }
    places
}

#[test]
fn a_dead_hosts_units_run_elsewhere_within_its_ttl_and_nobody_else_moves() {
    let lab = Lab::cluster(3);
    let before = nine_units(&lab);
    lab.lab(&["kill", "n3"]).ok();
    let killed = Instant::now();
    // Two leases could not end in this time.
    within(TTL + Duration::from_secs(6), "all nine active on n1 and n2", || {
        let now = places(&lab);
        if now.len() == 9 { Ok(()) } else { Err(format!("{:?} after the kill: {now:?}", killed.elapsed())) }
    });
    let after = places(&lab);
    for (unit, (host, pid)) in &before {
        if host != "n3" {
            assert_eq!(after[unit], (host.clone(), pid.clone()), "{unit} was not on the dead host");
        }
    }
    // It returns without units, and the units that run elsewhere stay there.
    lab.lab(&["boot", "n3"]).ok();
    eventually(Duration::from_secs(15), "n3 registered again", || {
        let listed = lab.fleetctl(&["list-machines", "--no-legend"]).stdout;
        if listed.lines().count() == 3 { Ok(()) } else { Err(listed) }
    });
    assert_eq!(places(&lab), after);
}

#[test]
fn a_dead_host_is_in_sight_until_it_is_forgotten() {
    let lab = Lab::cluster(3);
    nine_units(&lab);
    eventually(Duration::from_secs(5), "nothing needs a person", || {
        let status = lab.fleetctl(&["status"]);
        if status.code == 0 { Ok(()) } else { Err(status.stdout) }
    });
    lab.fleetctl(&["set-metadata", "n3", "disk=ssd"]).ok();
    lab.file(
        "db.service",
        "[Service]\nExecStart=/bin/sleep 10000\n[X-Fleet]\nMachineMetadata=disk=ssd\nMoveAfterSec=infinity",
    );
    lab.fleetctl(&["start", "db.service"]).ok();
    lab.lab(&["kill", "n3"]).ok();
    eventually(TTL + Duration::from_secs(2), "n3 is shown as gone, and its units have moved but for one", || {
        let status = lab.fleetctl(&["status"]);
        let shown = status.stdout.lines().find(|line| line.starts_with("problem\tgone\tn3\t"));
        let is_shown = shown.is_some_and(|line| line.ends_with("; of its units 3 moved, 1 wait for it"));
        if status.code == 3 && is_shown { Ok(()) } else { Err(format!("{status:?}")) }
    });
    let listed = || lab.fleetctl(&["list-machines", "--no-legend"]).ok().lines().count();
    let all = || lab.fleetctl(&["list-machines", "--no-legend", "--all"]).ok().lines().count();
    assert_eq!((listed(), all()), (2, 3), "scripts see hosts that are alive");
    let warnings = eventually(Duration::from_secs(5), "one warning in the journals", || {
        let gone = "journalctl -u fleetd -p warning -o cat | grep ' is gone: '";
        let warnings = ["n1", "n2"].map(|host| lab.sh(host, gone).stdout).concat();
        if warnings.lines().count() == 1 { Ok(warnings) } else { Err(warnings) }
    });
    assert!(warnings.contains("n3 (10.") && warnings.contains("of its 4 units 3 were moved (u@"), "{warnings}");
    assert!(warnings.contains("1 waits for it (db.service)"), "{warnings}");
    let status = lab.fleetctl(&["status", "db.service"]);
    let waits = "db.service: waits for n3, which is gone and to which it belongs (MoveAfterSec=infinity)";
    assert!(status.code != 0 && status.stderr.contains(waits), "{status:?}");

    let refused = lab.fleetctl(&["forget", "n1"]);
    assert!(refused.code == 1 && refused.stderr.contains("n1 ("), "{refused:?}");
    let forgotten = lab.fleetctl(&["forget", "n3"]).ok();
    assert!(forgotten.starts_with("Forgot n3 (10."), "{forgotten}");
    assert_eq!(all(), 2);
    // What belonged to it may go elsewhere now.
    lab.fleetctl(&["set-metadata", "n1", "disk=ssd"]).ok();
    eventually(Duration::from_secs(5), "all units run, and nothing needs a person", || {
        let status = lab.fleetctl(&["status"]);
        let runs = lab.sh("n1", "systemctl is-active --quiet db.service").code == 0;
        if status.code == 0 && runs { Ok(()) } else { Err(format!("{status:?}, db.service runs: {runs}")) }
    });
    lab.lab(&["boot", "n3"]).ok();
    eventually(Duration::from_secs(15), "n3 is a host as any other", || {
        if listed() == 3 { Ok(()) } else { Err(listed().to_string()) }
    });
}

/// Three of four hosts are cut off from the store: their units are held, and nothing has happened to them when they are
/// back. When the period ends for hosts that are really dead, their units run on the host that is left.
#[test]
fn units_of_hosts_that_vanish_together_are_held() {
    const GRACE: Duration = Duration::from_secs(40);
    let lab = Lab::boot(4, &["--conf", &format!("mass_loss_grace={}s", GRACE.as_secs())]);
    lab.start_fleet(4);
    lab.file("u@.service", "[Service]\nExecStart=/bin/sleep 10000");
    lab.fleetctl(&["start", "u@1.service", "u@2.service", "u@3.service", "u@4.service"]).ok();
    let before = places_on(&lab, &FOUR);
    assert_eq!(before.len(), 4, "{before:?}");
    let status = |wanted: bool| {
        let status = lab.fleetctl_on("n1", &["status"]).stdout;
        let said = status.lines().any(|line| line.starts_with("problem\tmass-loss\t") && line.contains("3 of 4 hosts"));
        if said == wanted { Ok(()) } else { Err(status) }
    };
    for host in ["n2", "n3", "n4"] {
        lab.lab(&["cut", host]).ok();
    }
    let vanished = Instant::now();
    eventually(TTL + Duration::from_secs(8), "the mass loss is shown", || status(true));
    for host in ["n2", "n3", "n4"] {
        lab.lab(&["join", host]).ok();
    }
    eventually(Duration::from_secs(20), "it is over", || status(false));
    assert_eq!(places_on(&lab, &FOUR), before, "no unit was touched");
    assert!(vanished.elapsed() < TTL + GRACE, "within the grace period: {:?}", vanished.elapsed());

    for host in ["n2", "n3", "n4"] {
        lab.lab(&["kill", host]).ok();
    }
    eventually(TTL + Duration::from_secs(8), "the mass loss is shown", || status(true));
    std::thread::sleep(GRACE / 2);
    assert_eq!(places_on(&lab, &["n1"]).len(), 1, "held");
    eventually(GRACE, "all four on n1", || {
        let now = places_on(&lab, &["n1"]);
        if now.len() == 4 { Ok(()) } else { Err(format!("{now:?}")) }
    });
    eventually(Duration::from_secs(5), "the mass loss is over", || status(false));
    // n1 may have begun to lead only after the first loss.
    eventually(Duration::from_secs(5), "one or two warnings in the journal of n1", || {
        let said = lab.sh("n1", "journalctl -u fleetd -p warning -o cat | grep 'have vanished together'").stdout;
        if (1..=2).contains(&said.lines().count()) { Ok(()) } else { Err(said) }
    });
}

#[test]
fn daemons_come_and_go_unnoticed() {
    let lab = Lab::cluster(3);
    let before = nine_units(&lab);
    lab.lab(&["fleet", "restart"]).ok();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(places(&lab), before, "after systemctl restart fleetd on all hosts");
    for host in HOSTS {
        lab.run(host, &["systemctl", "kill", "-s", "KILL", "fleetd"]).ok();
    }
    // Long enough for every lease to expire if no daemon had renewed it.
    std::thread::sleep(TTL + Duration::from_secs(3));
    assert_eq!(places(&lab), before, "after kill -9 of all daemons");
    // The daemons still work.
    lab.file("later.service", "[Service]\nExecStart=/bin/sleep 1000");
    lab.fleetctl(&["start", "later.service"]).ok();
}

#[test]
fn a_host_that_is_back_within_its_ttl_has_its_units_back() {
    // On a busy machine, a boot can take longer than the default.
    let lab = Lab::boot(3, &["--conf", "agent_ttl=40s"]);
    lab.start_fleet(3);
    let before = nine_units(&lab);
    // Not a clean reboot, after which its units would move immediately (`citizen`).
    lab.lab(&["kill", "n2"]).ok();
    lab.lab(&["boot", "n2"]).ok();
    eventually(Duration::from_secs(20), "n2's units active on n2 again", || {
        let now = places(&lab);
        let on = |places: &BTreeMap<String, (String, String)>| {
            places.iter().map(|(unit, (host, _))| (unit.clone(), host.clone())).collect::<Vec<_>>()
        };
        if on(&now) == on(&before) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let after = places(&lab);
    for (unit, place) in before.iter().filter(|(_, (host, _))| host != "n2") {
        assert_eq!(&after[unit], place, "{unit} was not on n2");
    }
}

/// How long hosts are without etcd: several TTLs, or `FLOTILLA_LAB_OUTAGE` in s.
fn outage() -> Duration {
    let asked = std::env::var("FLOTILLA_LAB_OUTAGE").ok();
    Duration::from_secs(asked.map_or(45, |seconds| seconds.parse().unwrap()))
}

/// Start units that can run on no other host than theirs: a global one, and one that names n3.
fn units_that_stay(lab: &Lab) {
    lab.file("everywhere.service", "[Service]\nExecStart=/bin/sleep 10000\n[X-Fleet]\nGlobal=true");
    let id = lab.run("n3", &["cat", "/etc/machine-id"]).ok();
    let pinned = format!("[Service]\nExecStart=/bin/sleep 10000\n[X-Fleet]\nMachineID={}", id.trim());
    lab.file("pinned.service", &pinned);
    lab.fleetctl(&["start", "everywhere.service", "pinned.service"]).ok();
}

/// The main process of each unit that runs, by host and unit.
fn processes(lab: &Lab) -> BTreeMap<(&'static str, String), String> {
    const LISTED: &str =
        "systemctl list-units --no-legend --plain --state=active 'u@*' everywhere.* pinned.* | cut -d' ' -f1";
    let on = |host: &'static str| {
        let listed = lab.sh(host, LISTED).ok();
        let unit = |name: &str| ((host, name.to_owned()), lab.main_pid(host, name));
        listed.lines().map(unit).collect::<Vec<_>>()
    };
    HOSTS.into_iter().flat_map(on).collect()
}

#[test]
fn an_outage_of_etcd_restarts_nothing() {
    let lab = Lab::cluster(3);
    nine_units(&lab);
    units_that_stay(&lab);
    let before = processes(&lab);
    assert_eq!(before.len(), 9 + 3 + 1, "{before:?}");
    let daemons: Vec<String> = HOSTS.iter().map(|host| lab.main_pid(host, "fleetd.service")).collect();
    lab.lab(&["etcd", "stop"]).ok();
    let stopped = Instant::now();
    lab.file("later.service", "[Service]\nExecStart=/bin/sleep 1000");
    std::thread::sleep(Duration::from_secs(1));
    for command in [&["list-units"][..], &["start", "later.service"], &["list-machines"]] {
        let asked = Instant::now();
        let ran = lab.fleetctl(command);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            ran.stderr.contains("etcd at ") && ran.stderr.contains("fleetd on n1"),
            "says what is unreachable: {ran:?}"
        );
        assert!(asked.elapsed() < Duration::from_secs(10), "{command:?} took {:?}", asked.elapsed());
    }
    std::thread::sleep(outage().saturating_sub(stopped.elapsed()));
    assert_eq!(processes(&lab), before, "while etcd was away");
    lab.lab(&["etcd", "start"]).ok();
    eventually(Duration::from_secs(30), "fleetctl working again", || {
        let ran = lab.fleetctl(&["start", "later.service"]);
        if ran.code == 0 { Ok(()) } else { Err(format!("{ran:?}")) }
    });
    // If a host were treated as dead, its units would move now.
    std::thread::sleep(TTL + Duration::from_secs(3));
    assert_eq!(processes(&lab), before, "after etcd came back");
    let now: Vec<String> = HOSTS.iter().map(|host| lab.main_pid(host, "fleetd.service")).collect();
    assert_eq!(now, daemons, "no daemon was restarted");
}

#[test]
fn a_host_shows_what_it_runs_while_etcd_is_down() {
    let lab = Lab::cluster(2);
    for host in ["n1", "n2"] {
        let service = format!("[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineMetadata=host={host}\n");
        lab.file(&format!("on-{host}.service"), &service);
        lab.fleetctl(&["start", &format!("on-{host}.service")]).ok();
    }
    // A leader knows more.
    lead_from(&lab, "n2", "n1");
    lab.lab(&["etcd", "stop"]).ok();
    let list = || lab.fleetctl(&["list-units", "--no-legend", "--fields=unit,hostname,active"]);
    let is_own = |listed: &Ran| {
        let said = listed.stderr.contains("the store has been unreachable since ")
            && listed.stderr.contains("; this is the 1 unit of n1 as of ");
        (listed.code, listed.stdout.as_str(), said) == (1, "on-n1.service\tn1\tactive\n", true)
    };
    let check = |when: &str| {
        eventually(Duration::from_secs(20), when, || {
            let listed = list();
            if is_own(&listed) { Ok(()) } else { Err(format!("{listed:?}")) }
        });
        let status = lab.fleetctl(&["status", "on-n1"]);
        assert!(status.code == 0 && status.stdout.contains("Active: active (running)"), "{when}: {status:?}");
        let journal = lab.fleetctl(&["journal", "--lines=1", "on-n1"]);
        assert!(journal.code == 0 && !journal.stdout.is_empty(), "{when}: {journal:?}");
        let file = lab.fleetctl(&["cat", "on-n1"]);
        assert!(file.code == 1 && file.stdout.contains("MachineMetadata=host=n1"), "{when}: {file:?}");
        let other = lab.fleetctl(&["status", "on-n2"]);
        assert!(other.code == 1 && other.stderr.contains("Unit on-n2.service is not on n1."), "{when}: {other:?}");
    };
    check("the list of what n1 runs");
    lab.run("n1", &["systemctl", "restart", "fleetd"]).ok();
    check("the same list from a daemon that was started without its store");

    lab.run("n1", &["systemctl", "stop", "fleetd.socket", "fleetd"]);
    let status = lab.fleetctl(&["status", "on-n1"]);
    let journal = lab.fleetctl(&["journal", "--lines=1", "on-n1"]);
    for ran in [status, journal] {
        assert!(ran.code == 0 && !ran.stdout.is_empty(), "{ran:?}");
        assert!(ran.stderr.contains("what follows is what systemd on this host says"), "{ran:?}");
    }
}

/// Have `leader` lead, of two hosts.
fn lead_from(lab: &Lab, leader: &str, other: &str) {
    let leads = |host: &str| {
        lab.run(host, &["systemctl", "show", "-p", "StatusText", "fleetd"]).stdout.contains("leading since")
    };
    eventually(TTL + Duration::from_secs(5), &format!("{leader} leads"), || {
        if leads(leader) {
            return Ok(());
        }
        // It may take a moment to say so, or to lead.
        if leads(other) {
            lab.run(other, &["systemctl", "restart", "fleetd"]).ok();
        }
        Err("it doesn't".into())
    });
}

#[test]
fn the_leader_shows_the_whole_cluster_while_etcd_is_down() {
    let lab = Lab::cluster(2);
    for host in ["n1", "n2"] {
        let service = format!("[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineMetadata=host={host}\n");
        lab.file(&format!("on-{host}.service"), &service);
        lab.fleetctl(&["start", &format!("on-{host}.service")]).ok();
    }
    lead_from(&lab, "n1", "n2");
    lab.lab(&["etcd", "stop"]).ok();
    eventually(Duration::from_secs(20), "n1 has noticed", || {
        let listed = lab.fleetctl(&["list-units", "--no-legend"]);
        if listed.code == 1 && !listed.stdout.is_empty() { Ok(()) } else { Err(format!("{listed:?}")) }
    });
    // What happens now is known where it happens.
    for host in ["n1", "n2"] {
        lab.run(host, &["systemctl", "stop", &format!("on-{host}.service")]).ok();
    }
    // Longer than any lease.
    std::thread::sleep(TTL + Duration::from_secs(3));
    let listed = lab.fleetctl(&["list-units", "--no-legend", "--fields=unit,hostname,active"]);
    assert_eq!((listed.code, &*listed.stdout), (1, "on-n1.service\tn1\tinactive\non-n2.service\tn2\tactive\n"));
    assert!(listed.stderr.contains("; these are the 2 units of the cluster as of "), "{listed:?}");
    assert!(listed.stderr.contains(" UTC, and of n1 as of "), "{listed:?}");
    let hosts = lab.fleetctl(&["list-machines", "--no-legend", "--fields=hostname"]);
    let mut names: Vec<&str> = hosts.stdout.lines().collect();
    names.sort_unstable();
    assert_eq!((hosts.code, names), (1, vec!["n1", "n2"]), "{hosts:?}");
    let all = lab.fleetctl(&["status"]);
    assert!(all.code == 1 && all.stdout.contains("hosts\t2\n") && all.stdout.contains("units\t2\n"), "{all:?}");
    let other = lab.fleetctl_on("n2", &["list-units", "--no-legend", "--fields=unit,active"]);
    assert_eq!((other.code, &*other.stdout), (1, "on-n2.service\tinactive\n"), "{other:?}");
    assert!(other.stderr.contains("; this is the 1 unit of n2 as of "), "{other:?}");
    let json = lab.fleetctl_on("n2", &["list-units", "--output=json"]).stdout;
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mark = &rows[0]["offline"];
    assert_eq!((mark["leader"]["hostname"].as_str(), mark.get("seen")), (Some("n1"), None), "{json}");

    lab.lab(&["etcd", "start"]).ok();
    eventually(Duration::from_secs(20), "the cluster answers", || {
        let listed = lab.fleetctl(&["list-units", "--no-legend", "--fields=unit,active"]);
        let right = listed.code == 0 && listed.stdout == "on-n1.service\tinactive\non-n2.service\tinactive\n";
        if right { Ok(()) } else { Err(format!("{listed:?}")) }
    });
}

#[test]
fn one_of_three_etcd_members_dies_unnoticed() {
    let lab = Lab::boot_with_etcd(3, 3, &[]);
    lab.start_fleet(3);
    let before = nine_units(&lab);
    for member in ["1", "2", "3"] {
        lab.lab(&["etcd", "kill", member]).ok();
        let killed = Instant::now();
        let mut worst = Duration::ZERO;
        while killed.elapsed() < TTL + Duration::from_secs(2) {
            let asked = Instant::now();
            lab.fleetctl_on("n2", &["list-units", "--no-legend"]).ok();
            worst = worst.max(asked.elapsed());
            std::thread::sleep(Duration::from_millis(200));
        }
        lab.file("probe.service", "[Service]\nExecStart=/bin/sleep 1000");
        lab.fleetctl(&["start", "probe.service"]).ok();
        lab.fleetctl(&["destroy", "probe.service"]).ok();
        assert_eq!(places(&lab), before, "after member {member} was killed");
        assert!(worst < Duration::from_secs(8), "a list took {worst:?} after member {member} was killed");
        lab.lab(&["etcd", "start", member]).ok();
    }
}

/// The host without etcd keeps all its processes, however long that takes, and so do the others. When it is back, only
/// the units that run elsewhere by then are stopped there.
#[test]
fn a_host_cut_off_is_replaced_and_gives_way_when_it_returns() {
    let lab = Lab::cluster(3);
    nine_units(&lab);
    units_that_stay(&lab);
    let before = processes(&lab);
    lab.lab(&["cut", "n3"]).ok();
    let cut = Instant::now();
    eventually(TTL + Duration::from_secs(10), "n3's units elsewhere", || {
        let units = lab.units()?;
        let on = |view: &flotilla::api::wire::UnitView| view.machine.as_ref().map(|m| m.hostname.clone());
        let moved =
            units.iter().filter(|unit| unit.name.as_str().starts_with("u@") && !unit.name.is_template()).all(|unit| {
                matches!(on(unit).as_deref(), Some("n1" | "n2"))
                    && unit.states.iter().any(|s| s.report.active == ActiveState::Active)
            });
        if moved { Ok(()) } else { Err(format!("{units:?}")) }
    });
    let meanwhile = processes(&lab);
    let kept = |now: &BTreeMap<_, _>| before.iter().all(|(unit, pid)| now.get(unit) == Some(pid));
    assert!(kept(&meanwhile), "a host that is cut off keeps running its units: {before:?}, then {meanwhile:?}");
    assert_eq!(meanwhile.len(), before.len() + 3, "those that can run elsewhere do: {meanwhile:?}");
    std::thread::sleep(outage().saturating_sub(cut.elapsed()));
    assert_eq!(processes(&lab), meanwhile, "until the end of the outage");
    lab.lab(&["join", "n3"]).ok();
    let mut expected = meanwhile;
    expected.retain(|(host, unit), _| *host != "n3" || !unit.starts_with("u@"));
    eventually(Duration::from_secs(30), "n3's copies stopped, and no other process", || {
        let now = processes(&lab);
        if now == expected { Ok(()) } else { Err(format!("{now:?}")) }
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(processes(&lab), expected, "after its return");
}

/// Bring the store's revision to what it is after a while. A new etcd with the same id is recognized by its lower
/// revision, and the registrations of three hosts bring it as far as that of a store that is seconds old.
fn has_lived(lab: &Lab) {
    (0..50).for_each(|number| drop(lab.etcdctl(&["put", "/before", &number.to_string()])));
}

#[test]
fn an_etcd_made_anew_stops_nothing() {
    let lab = Lab::cluster(3);
    has_lived(&lab);
    let before = nine_units(&lab);
    let daemons: Vec<String> = HOSTS.iter().map(|host| lab.main_pid(host, "fleetd.service")).collect();
    lab.lab(&["etcd", "down"]).ok();
    lab.lab(&["etcd", "up"]).ok();
    eventually(Duration::from_secs(20), "three machines in the new store", || {
        let listed = lab.fleetctl(&["list-machines", "--no-legend"]);
        if listed.stdout.lines().count() == 3 { Ok(()) } else { Err(format!("{listed:?}")) }
    });
    std::thread::sleep(TTL + Duration::from_secs(3));
    assert_eq!(places(&lab), before, "no host stopped anything");
    let log = lab.run("n1", &["journalctl", "-b", "-u", "fleetd", "-o", "cat"]).ok();
    assert!(log.contains("the store has lost data"), "{log}");
    // The same daemons continue with the new store.
    lab.file("later.service", "[Service]\nExecStart=/bin/sleep 1000");
    lab.fleetctl(&["start", "later.service"]).ok();
    let now: Vec<String> = HOSTS.iter().map(|host| lab.main_pid(host, "fleetd.service")).collect();
    assert_eq!(now, daemons);
}

/// The export has each unit's file and desired state; the hosts have the units themselves, which go on running.
#[test]
fn all_units_are_back_from_an_export_after_the_loss_of_etcds_data_and_none_is_restarted() {
    let lab = Lab::cluster(3);
    has_lived(&lab);
    let before = nine_units(&lab);
    lab.file("loaded.service", "# only loaded\n[Service]\nExecStart=/bin/sleep 1000");
    lab.file("idle.service", "[Service]\nExecStart=/bin/true");
    lab.fleetctl(&["load", "loaded.service"]).ok();
    lab.fleetctl(&["submit", "idle.service"]).ok();
    let listed = || lab.fleetctl(&["list-unit-files", "--no-legend", "--full", "--fields=unit,hash,dstate,state"]).ok();
    let units = listed();
    lab.fleetctl(&["export", "/root/backup"]).ok();

    lab.lab(&["etcd", "down"]).ok();
    lab.lab(&["etcd", "up"]).ok();
    eventually(Duration::from_secs(20), "three machines in the new store", || {
        let listed = lab.fleetctl(&["list-machines", "--no-legend"]);
        if listed.stdout.lines().count() == 3 { Ok(()) } else { Err(format!("{listed:?}")) }
    });
    assert_eq!(listed(), "", "the store is empty");
    let refused = lab.fleetctl(&["export", "/root/backup"]);
    assert!(refused.code == 1 && refused.stderr.contains("doesn't have"), "the last copy stays: {refused:?}");

    lab.fleetctl(&["restore", "/root/backup"]).ok();
    lab.fleetctl(&["wait", "--for=settled", "--timeout=60s"]).ok();
    assert_eq!(listed(), units, "each file and each desired state");
    assert_eq!(places(&lab), before, "taken over where they run, by the same processes");
    let exported = lab.fleetctl(&["export", "/root/backup"]).ok();
    assert_eq!(exported, "/root/backup: 11 units; 0 files written, 0 deleted\n");

    // They are units like any other again.
    lab.fleetctl(&["destroy", "u@1.service"]).ok();
    let (host, _) = &before["u@1.service"];
    assert_ne!(lab.run(host, &["systemctl", "is-active", "u@1.service"]).stdout.trim(), "active");
}

/// A unit that works on one host only finds it by itself; the leader's journal says why it has moved. When it works
/// nowhere any more, it has failed on all hosts, and `reset-failed` starts it again, though systemd alone wouldn't.
#[test]
fn a_unit_that_fails_on_one_host_comes_up_on_another() {
    let lab = Lab::cluster(2);
    lab.sh("n2", "touch /run/only-here").ok();
    // n1 has fewer units.
    lab.file("there.service", "[Service]\nExecStart=/bin/sleep 10000\n[X-Fleet]\nMachineMetadata=disk=ssd");
    lab.fleetctl(&["set-metadata", "n2", "disk=ssd"]).ok();
    lab.fleetctl(&["start", "there.service"]).ok();
    lab.file(
        "picky.service",
        "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n[Service]\nExecStart=/bin/sh -c 'test -e \
         /run/only-here && exec /bin/sleep 10000'\n[X-Fleet]\nReschedule=on-failure\nRescheduleSec=5\n\
         RescheduleMaxDelaySec=1h",
    );
    let started = lab.fleetctl(&["start", "picky.service"]);
    assert!(started.code == 1 && started.stderr.contains("picky.service failed on n1: exit status 1"), "{started:?}");
    eventually(Duration::from_secs(15), "picky.service runs on n2", || {
        let runs = lab.sh("n2", "systemctl is-active --quiet picky.service");
        if runs.code == 0 { Ok(()) } else { Err(lab.fleetctl(&["list-units"]).stdout) }
    });
    assert_ne!(lab.sh("n1", "systemctl cat picky.service").code, 0, "n1 has nothing of it any more");
    let moved = "journalctl -u fleetd -o cat | grep -c 'leaves n1 .*it has failed there (Reschedule=on-failure)'";
    let lines: usize = ["n1", "n2"].iter().map(|host| lab.sh(host, moved).stdout.trim().parse().unwrap_or(0)).sum();
    assert_eq!(lines, 1);

    lab.sh("n2", "rm /run/only-here; systemctl kill -s KILL picky.service").ok();
    eventually(Duration::from_secs(5), "it has failed on n2 too, and n1 isn't tried again", || {
        let units = lab.units()?;
        let picky = units.iter().find(|unit| unit.name.as_str() == "picky.service");
        if picky.is_some_and(|unit| unit.retry.is_some()) { Ok(()) } else { Err(format!("{picky:?}")) }
    });
    lab.sh("n2", "touch /run/only-here").ok();
    let refused = "journalctl -u picky.service -o cat | grep -c 'Start request repeated too quickly'";
    let limited = lab.sh("n2", &format!("systemctl start picky.service || {refused}"));
    assert_eq!(limited.stdout, "1\n", "{limited:?}");
    lab.fleetctl(&["reset-failed", "picky.service"]).ok();
    assert_eq!(lab.sh("n2", "systemctl is-active --quiet picky.service").code, 0);
}
