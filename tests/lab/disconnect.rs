//! A unit that must never run twice (`OnDisconnect=stop`): its host is cut off, its daemon is killed, gone or frozen,
//! and the store is away for all. The unit itself writes when it runs, on every host by the same clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Lab, eventually};

/// `agent_ttl`'s default.
const TTL: Duration = Duration::from_secs(10);
const HOSTS: [&str; 3] = ["n1", "n2", "n3"];
const UNIT: &str = "sole.service";

/// It uses something that only one process may use at a time, doesn't stop when it is told to, and has a command after
/// its end. `/proc/uptime` is the same for all hosts of a lab.
const SOLE: &str = "[Service]
ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do read now rest < /proc/uptime; echo $$now >> /var/lib/sole; \\
          sleep 0.05; done'
ExecStopPost=/bin/sh -c 'while :; do read now rest < /proc/uptime; echo $$now >> /var/lib/sole; sleep 0.05; done'
Restart=always
TimeoutStopSec=90
[X-Fleet]
OnDisconnect=stop";

/// The daemon is killed and not started again. systemd reloads its files meanwhile.
const GONE: &str = "mkdir /run/systemd/system/fleetd.service.d
printf '[Service]\\nRestart=no\\n' > /run/systemd/system/fleetd.service.d/gone.conf
systemctl daemon-reload; systemctl kill -s KILL fleetd";
const BACK: &str = "rm -r /run/systemd/system/fleetd.service.d; systemctl daemon-reload; systemctl start fleetd";

/// When the unit ran, on which host: in s, in order.
fn history(lab: &Lab) -> Vec<(f64, &'static str)> {
    let mut all = Vec::new();
    for host in HOSTS {
        let written = lab.sh(host, "cat /var/lib/sole 2> /dev/null").stdout;
        all.extend(written.lines().filter_map(|line| Some((line.parse().ok()?, host))));
    }
    all.sort_by(|(one, _), (other, _)| f64::total_cmp(one, other));
    all
}

/// The time that the unit writes.
fn uptime(lab: &Lab) -> f64 {
    let read = lab.run("n1", &["cat", "/proc/uptime"]).ok();
    read.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap()
}

/// How long after a time the daemon of a host was registered again, in s.
fn back_after(lab: &Lab, host: &str, struck: f64) -> f64 {
    let log = lab.run(host, &["journalctl", "-b", "-u", "fleetd", "-o", "short-monotonic", "-g", "registered"]).ok();
    let at = |line: &str| line.trim_start_matches('[').trim_start().split(']').next()?.parse::<f64>().ok();
    log.lines().filter_map(at).next_back().unwrap() - struck
}

/// How often each host's daemon has set deadlines.
fn deadlines(lab: &Lab) -> BTreeMap<&'static str, u64> {
    let count = |host: &'static str| {
        let url = "http://fleet/metrics";
        let text = lab.run(host, &["curl", "-sS", "--unix-socket", "/run/fleet.sock", url]).ok();
        let calls = "fleet_systemd_calls_total{call=\"set_deadlines\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(calls));
        (host, line.map_or(0, |count| count.parse().unwrap()))
    };
    HOSTS.into_iter().map(count).collect()
}

#[test]
fn a_unit_that_stops_on_disconnect_never_runs_twice() {
    let lab = Lab::cluster(3);
    lab.file(UNIT, SOLE);
    lab.file("keep.service", "[Service]\nExecStart=/bin/sleep 10000\n[X-Fleet]\nGlobal=true");
    lab.fleetctl(&["start", UNIT, "keep.service"]).ok();
    let mut on = lab.until_active(UNIT, Duration::from_secs(10));
    // One call for each renewal, and none where no unit needs it.
    let (before, began) = (deadlines(&lab), uptime(&lab));
    std::thread::sleep(2 * TTL);
    let (after, took) = (deadlines(&lab), uptime(&lab) - began);
    // One each third of a TTL, and one more or less at each end.
    let renewals = (took * 3.0 / TTL.as_secs_f64()) as u64;
    for (host, count) in after {
        let calls = count - before[host];
        let right = if host == on { calls > 0 && calls.abs_diff(renewals) <= 2 } else { count == 0 };
        assert!(right, "{host} of {on}: {calls} in {took} s");
    }
    let faults = [
        ("cut", None, None),
        ("killed", Some("systemctl kill -s KILL fleetd"), None),
        ("gone", Some(GONE), Some(BACK)),
        ("frozen", Some("systemctl kill -s STOP fleetd"), Some("systemctl kill -s CONT fleetd")),
    ];
    let mut moves = 0;
    for (fault, strike, mend) in faults {
        let keeps = HOSTS.map(|host| lab.main_pid(host, "keep.service"));
        let (pid, struck) = (lab.main_pid(&on, UNIT), uptime(&lab));
        match strike {
            Some(strike) => drop(lab.sh(&on, strike).ok()),
            None => drop(lab.lab(&["cut", &on]).ok()),
        }
        if fault == "killed" {
            std::thread::sleep(TTL + Duration::from_secs(3));
            // The next daemon has a third of the TTL, and is back in time unless the machine is busy.
            let took = back_after(&lab, &on, struck);
            let kept = (lab.main_pid(&on, UNIT), lab.active_on("n1", UNIT)) == (pid, Ok(on.clone()));
            assert!(kept || took > TTL.as_secs_f64() / 4.0, "stopped, although the daemon was back after {took} s");
            lab.until_active(UNIT, TTL);
            continue;
        }
        let from = HOSTS.into_iter().find(|host| *host != on).unwrap();
        let next = eventually(TTL * 2, &format!("{fault}: {UNIT} on another host than {on}"), || {
            let now = lab.active_on(from, UNIT)?;
            if now == on { Err(format!("still on {now}")) } else { Ok(now) }
        });
        moves += 1;
        let state = lab.run(&on, &["systemctl", "is-active", UNIT]).stdout;
        assert_eq!(state.trim(), "failed", "{fault}: it was killed on {on}");
        let refused = lab.run(&on, &["systemctl", "start", UNIT]);
        assert!(refused.code != 0, "{fault}: nobody can start it on {on}: {refused:?}");
        std::thread::sleep(Duration::from_secs(2));
        match (strike, mend) {
            (None, _) => drop(lab.lab(&["join", &on]).ok()),
            (_, Some(mend)) => drop(lab.sh(&on, mend).ok()),
            _ => {}
        }
        eventually(TTL * 2, &format!("{fault}: {on} is back"), || {
            let listed = lab.fleetctl_on(from, &["list-machines", "--no-legend"]).stdout;
            if listed.lines().count() == 3 { Ok(()) } else { Err(listed) }
        });
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(lab.active_on(from, UNIT), Ok(next.clone()), "{fault}: it stays where it is");
        assert_eq!(HOSTS.map(|host| lab.main_pid(host, "keep.service")), keeps, "{fault}: others keep running");
        on = next;
    }

    // The store is away for all: it stops, and is started again where it was.
    lab.lab(&["etcd", "stop"]).ok();
    let away = uptime(&lab);
    eventually(TTL, "it stops without the store", || {
        let state = lab.run(&on, &["systemctl", "is-active", UNIT]).stdout;
        if state.trim() == "failed" { Ok(()) } else { Err(state) }
    });
    let mended = uptime(&lab);
    lab.lab(&["etcd", "start"]).ok();
    let again = lab.until_active(UNIT, TTL * 2);
    assert_eq!(again, on, "after the outage of the store");

    let history = history(&lab);
    let late: Vec<_> = history.iter().filter(|(at, _)| (away + TTL.as_secs_f64()..mended).contains(at)).collect();
    assert!(late.is_empty(), "it had stopped a TTL after the store was gone, at {away}: {late:?}");
    let changes: Vec<_> = history.windows(2).filter(|two| two[0].1 != two[1].1).collect();
    let gaps: Vec<String> = changes.iter().map(|two| format!("{:.2} s", two[1].0 - two[0].0)).collect();
    eprintln!("{} lines; between hosts: {}", history.len(), gaps.join(", "));
    assert_eq!(changes.len(), moves, "it ran on one host after the other: {changes:?}");
    assert!(changes.iter().all(|two| two[1].0 - two[0].0 > 0.5), "{changes:?}");
}
