//! `fleetd` as administrators and monitoring see it: signals, restarts, leadership, and its requests to etcd and
//! systemd.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::ground::{Ground, RUNS, SOON};
use crate::harness::eventually;

super::cases![
    hup_takes_up_new_metadata_and_touches_no_unit,
    hup_with_a_broken_file_changes_nothing,
    usr1_tells_what_the_daemon_knows,
    a_restart_of_the_daemon_is_no_migration,
    a_killed_daemon_has_its_units_when_it_is_back,
    a_daemon_that_isnt_registered_answers_503_to_all,
    tcp_on_loopback_reads_and_changes_nothing,
    fleetd_takes_no_arguments_and_tells_its_version,
    a_host_that_joins_gets_globals_and_what_waits_and_nothing_moves_back,
    another_leads_when_the_leader_stops,
    another_leads_when_the_leader_dies,
    what_is_destroyed_leaves_only_its_texts_in_etcd,
    an_idle_cluster_asks_nothing,
];

/// The pids of unit and daemon on the host of this rank.
fn pids(g: &Ground, rank: usize, unit: &str) -> (String, String) {
    (g.lab.main_pid(g.host(rank), unit), g.lab.main_pid(g.host(rank), "fleetd.service"))
}

fn log(g: &Ground, rank: usize) -> String {
    g.lab.run(g.host(rank), &["journalctl", "-b", "-u", "fleetd", "-o", "cat", "--no-pager"]).ok()
}

/// `sed SCRIPT` on the configuration of a host, and SIGHUP to its daemon.
fn reconfigure(g: &Ground, rank: usize, script: &str) {
    g.lab.sh(g.host(rank), &format!("sed -i '{script}' /etc/fleet/fleet.conf && systemctl kill -s HUP fleetd")).ok();
}

/// In fleet, the old server continued, the new one couldn't register, and later signals were ignored.
fn hup_takes_up_new_metadata_and_touches_no_unit(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank=2"));
    g.file("ssd.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=disk=ssd"));
    g.fleetctl("start a.service").ok();
    assert_eq!(g.fleetctl("start ssd.service").code, 1, "no host has that");
    let before = pids(g, 2, "a.service");
    reconfigure(g, 2, "s/^metadata=.*/&,disk=ssd/");
    g.until_ranks("ssd.service", &[2]);
    assert!(g.fleetctl("list-machines --no-legend --fields=metadata").ok().contains("disk=ssd,rank=2,zone=a\n"));
    // A key that was removed from the file has no value any more, unlike in fleet; and a second signal is handled.
    reconfigure(g, 2, "s/,disk=ssd//");
    g.until_ranks("ssd.service", &[]);
    assert_eq!(pids(g, 2, "a.service"), before);
}

fn hup_with_a_broken_file_changes_nothing(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank=2"));
    g.fleetctl("start a.service").ok();
    let before = pids(g, 2, "a.service");
    reconfigure(g, 2, "$ a metadta=x=y");
    eventually(SOON, "the log naming the line", || {
        let log = log(g, 2);
        let said = log.lines().any(|line| line.contains("not reloaded") && line.contains("unknown key `metadta`"));
        if said { Ok(()) } else { Err(log) }
    });
    reconfigure(g, 2, "$ d");
    assert_eq!(pids(g, 2, "a.service"), before);
    assert_eq!(g.ranks("a.service"), [2]);
}

fn usr1_tells_what_the_daemon_knows(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank=2"));
    g.fleetctl("start a.service").ok();
    g.lab.run(g.host(2), &["systemctl", "kill", "-s", "USR1", "fleetd"]).ok();
    let dump = eventually(SOON, "the dump", || {
        let log = log(g, 2);
        log.lines().rfind(|line| line.starts_with("{\"agent\"")).map(str::to_owned).ok_or(log)
    });
    let dump: Value = serde_json::from_str(&dump).unwrap();
    assert_eq!(dump["agent"]["inside"]["units"][0]["unit"], "a.service", "{dump}");
}

/// fleet stopped every unit of the host, and the cluster started them elsewhere.
fn a_restart_of_the_daemon_is_no_migration(g: &Ground) {
    g.file("a.service", RUNS).file("all.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true"));
    g.fleetctl("start a.service all.service").ok();
    let all = |g: &Ground| [1, 2, 3].map(|rank| g.lab.main_pid(g.host(rank), "all.service"));
    let (before, everywhere) = (pids(g, 1, "a.service"), all(g));
    g.lab.run(g.host(1), &["systemctl", "restart", "fleetd"]).ok();
    g.until_all_are_there(g.host(1));
    let after = pids(g, 1, "a.service");
    assert!(after.0 == before.0 && after.1 != before.1, "{before:?} {after:?}");
    assert_eq!((all(g), g.ranks("a.service")), (everywhere, vec![1]));
}

/// fleet's daemon couldn't register for 30 s; its units were started elsewhere, and ran twice.
fn a_killed_daemon_has_its_units_when_it_is_back(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("start a.service").ok();
    let before = pids(g, 1, "a.service");
    g.lab.run(g.host(1), &["systemctl", "kill", "-s", "KILL", "fleetd"]).ok();
    eventually(SOON, "another daemon that answers", || {
        let (answered, now) = (g.lab.fleetctl_on(g.host(1), &["list-machines"]).code, pids(g, 1, "a.service").1);
        if answered == 0 && now != before.1 && now != "0" { Ok(()) } else { Err(format!("{answered} {now}")) }
    });
    assert_eq!(pids(g, 1, "a.service").0, before.0);
    assert_eq!(g.ranks("a.service"), [1]);
    // It also controls its unit.
    g.fleetctl("stop a.service").ok();
    assert!(g.ranks("a.service").is_empty());
}

fn tcp_on_loopback_reads_and_changes_nothing(g: &Ground) {
    g.file("a.service", RUNS);
    let tcp = "fleetctl --endpoint http://127.0.0.1:49153";
    let refused = g.sh(&format!("{tcp} start a.service"));
    assert!(
        refused.code == 1
            && refused
                .stderr
                .contains("127.0.0.1:49153 has the role reader; on this host, /run/fleet.sock has the role admin"),
        "{refused:?}"
    );
    g.fleetctl("start a.service").ok();
    assert_eq!(g.sh(&format!("{tcp} list-units --no-legend")).ok().lines().count(), 1);
    assert_eq!(g.sh(&format!("{tcp} destroy a.service")).code, 1);
    assert_eq!(g.fleetctl("list-unit-files --no-legend").ok().lines().count(), 1);
}

fn a_daemon_that_isnt_registered_answers_503_to_all(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank=2"));
    g.fleetctl("start a.service").ok();
    let pid = g.lab.main_pid(g.host(2), "a.service");
    g.lab.lab(&["etcd", "stop"]).ok();
    // `restart` itself would wait until the daemon is ready.
    g.lab.run(g.host(2), &["systemctl", "restart", "--no-block", "fleetd"]).ok();
    let ask = |path: &str| {
        let url = format!("http://fleet{path}");
        let args = ["curl", "-sS", "-w", "%{http_code}", "--max-time", "10", "--unix-socket", "/run/fleet.sock", &url];
        g.lab.run(g.host(2), &args)
    };
    let refused = |path: &str| {
        eventually(SOON, &format!("503 from {path}"), || {
            let ran = ask(path);
            if ran.stdout.ends_with("503") { Ok(ran.stdout) } else { Err(format!("{ran:?}")) }
        })
    };
    let said: Vec<String> = ["/fleet/v1/machines", "/fleet/v1/units", "/v1-alpha/state"].map(refused).into();
    g.lab.lab(&["etcd", "start"]).ok();
    for body in said {
        let body: Value = serde_json::from_str(body.trim_end_matches("503")).unwrap();
        assert_eq!(body["error"]["code"], 503);
        assert!(body["error"]["message"].as_str().unwrap().contains("etcd"), "the reason: {body}");
    }
    g.until_all_are_there(g.host(2));
    assert_eq!(g.lab.main_pid(g.host(2), "a.service"), pid, "the unit keeps running");
}

fn fleetd_takes_no_arguments_and_tells_its_version(g: &Ground) {
    let version = g.sh("fleetd --version").ok();
    assert!(version.starts_with("fleetd version ") && version.lines().count() == 1, "{version}");
    assert_eq!(g.sh("fleetd version").ok(), version);
    let ran = g.sh("fleetd start a.service");
    let said = "fleetd takes no arguments. Did you mean to invoke fleetctl instead?";
    assert!(ran.code != 0 && ran.stdout.is_empty() && ran.stderr.contains(said), "{ran:?}");
}

/// fleet's engine did the same, and units that had moved stayed on their new hosts.
fn a_host_that_joins_gets_globals_and_what_waits_and_nothing_moves_back(g: &Ground) {
    let (here, there) = g.here_and_there();
    g.file("all.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true")).file("u@.service", RUNS);
    g.file("waits.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank={there}"));
    g.fleetctl("start u@1 u@2 u@3").ok();
    g.lab.lab(&["poweroff", g.host(there)]).ok();
    eventually(SOON, "its unit elsewhere", || {
        let active: usize = (1..=3).map(|i| g.running(&format!("u@{i}.service"), there).len()).sum();
        if active == 3 { Ok(()) } else { Err(active.to_string()) }
    });
    g.fleetctl("start --no-block all.service waits.service").ok();
    g.lab.lab(&["boot", g.host(there)]).ok();
    g.until_all_are_there("n1");
    g.until_ranks("all.service", &[1, 2, 3]);
    g.until_ranks("waits.service", &[there]);
    for i in 1..=3 {
        assert_ne!(g.ranks(&format!("u@{i}.service")), [there], "nothing comes back, and rank {here} has its own");
    }
}

/// The ranks of the hosts that report that they lead.
fn leaders(g: &Ground) -> Vec<usize> {
    let leads = |rank: &usize| {
        let url = "http://fleet/metrics";
        let metrics = g.lab.run(g.host(*rank), &["curl", "-sS", "--unix-socket", "/run/fleet.sock", url]).stdout;
        let since = metrics.lines().find_map(|line| line.strip_prefix("fleet_engine_leader_start_time "));
        since.is_some_and(|since| since.parse::<f64>().is_ok_and(|since| since > 0.0))
    };
    (1..=3).filter(leads).collect()
}

/// Run `end` on the leader's host, and check that a unit is placed and started within this time.
fn another_leads_after(g: &Ground, end: &str, within: Duration) {
    let first = eventually(SOON, "a leader", || {
        let leaders = leaders(g);
        if leaders.len() == 1 { Ok(leaders[0]) } else { Err(format!("{leaders:?}")) }
    });
    let other = if first == 1 { 2 } else { 1 };
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank={other}"));
    g.fleetctl("submit a.service").ok();
    g.lab.sh(g.host(first), end).ok();
    let began = Instant::now();
    // Placed by the new leader.
    g.lab.fleetctl_on(g.host(other), &["start", "a.service"]).ok();
    let (took, second) = (began.elapsed(), leaders(g));
    g.lab.sh(g.host(first), "systemctl unmask --runtime fleetd; systemctl start fleetd").ok();
    g.until_all_are_there("n1");
    assert!(second.len() == 1 && second[0] != first, "{first} {second:?}");
    assert!(took < within, "another led after {took:?}");
}

/// Without waiting for its lease, which would expire after 10 s.
fn another_leads_when_the_leader_stops(g: &Ground) {
    another_leads_after(g, "systemctl stop fleetd", Duration::from_secs(9));
}

/// When its lease has expired, after 10 s.
fn another_leads_when_the_leader_dies(g: &Ground) {
    // A masked unit isn't restarted.
    let end = "systemctl mask --runtime --quiet fleetd; systemctl kill -s KILL fleetd";
    another_leads_after(g, end, Duration::from_secs(19));
}

/// In fleet, the texts of units were never deleted, and sometimes some of the other keys neither. Here the last texts
/// are kept for a week, so that they can be had back.
fn what_is_destroyed_leaves_only_its_texts_in_etcd(g: &Ground) {
    g.file("a.service", RUNS).file("all.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true"));
    g.file("t@.service", &format!("{RUNS}\nExecStop=/bin/sleep 1"));
    g.file("never.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank=9"));
    g.fleetctl("start a all t@1 t@2 never");
    let keys = || g.etcdctl(&["get", "--prefix", "--keys-only", "/flotilla/"]);
    for kind in ["unit/a.service", "file/", "placement/a.service", "schedule/", "state/"] {
        assert!(keys().contains(&format!("/flotilla/{kind}")), "{}", keys());
    }
    g.fleetctl("destroy --no-block '*'").ok();
    eventually(SOON, "only hosts, their leader and texts", || {
        let keys = keys();
        let stays = |key: &str| ["machine/", "roster/", "history/", "file/"].iter().any(|family| key.contains(family));
        let mut left = keys.lines().filter(|key| !key.is_empty() && !stays(key) && *key != "/flotilla/leader");
        left.next().map_or(Ok(()), |_| Err(keys.clone()))
    });
}

/// fleet polled systemd every second, and read everything from etcd every two and every five seconds.
fn an_idle_cluster_asks_nothing(g: &Ground) {
    g.file("all@.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true"));
    g.fleetctl("start all@1 all@2 all@3").ok();
    let asked = || ["Range", "Txn", "Put", "DeleteRange"].map(|method| g.asked_of_etcd(method));
    let before = eventually(SOON, "the last reports written", || {
        let before = asked();
        std::thread::sleep(Duration::from_secs(2));
        let now = asked();
        if now == before { Ok(now) } else { Err(format!("{before:?}, then {now:?}")) }
    });
    let calls = "timeout 6 busctl monitor --match=type=method_call,destination=org.freedesktop.systemd1 2>&1; true";
    let heard = g.sh(calls).ok();
    assert_eq!(asked(), before, "leases are kept, and nothing is read or written");
    assert!(heard.contains("Monitoring bus message stream") && !heard.contains("Member="), "{heard}");
}
