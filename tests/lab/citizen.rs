//! fleetd on its host: inherited sockets, reloads, notifications to systemd, shutdown, running without root.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Lab, eventually, within};

/// `agent_ttl`'s default.
const TTL: Duration = Duration::from_secs(10);

const SLEEP: &str = "[Service]\nExecStart=/bin/sleep 10000";

/// A file in a host.
fn put(lab: &Lab, host: &str, path: &str, text: &str) {
    lab.sh(host, &format!("mkdir -p \"$(dirname '{path}')\" && cat > '{path}' <<'END'\n{text}\nEND")).ok();
}

/// A file of this checkout, in a host.
fn put_ours(lab: &Lab, host: &str, ours: &str, path: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(ours);
    put(lab, host, path, &std::fs::read_to_string(file).unwrap());
}

fn log(lab: &Lab, host: &str) -> String {
    lab.run(host, &["journalctl", "-b", "-u", "fleetd", "-o", "cat", "--no-pager"]).ok()
}

fn until_logged(lab: &Lab, host: &str, wanted: &str) {
    eventually(Duration::from_secs(15), &format!("the log of {host} to say `{wanted}`"), || {
        let log = log(lab, host);
        if log.contains(wanted) { Ok(()) } else { Err(log) }
    });
}

fn until_status(lab: &Lab, host: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
    eventually(limit, "the status line", || {
        let line =
            lab.run(host, &["systemctl", "show", "--value", "-p", "StatusText", "fleetd"]).ok().trim().to_owned();
        if wanted(&line) { Ok(line) } else { Err(line) }
    })
}

/// Sends requests from within a host, one after the other, until [`Asking::end`].
struct Asking<'a> {
    lab: &'a Lab,
    host: &'a str,
}

impl<'a> Asking<'a> {
    /// Each of `asks` has the arguments of one call of curl.
    fn begin(lab: &'a Lab, host: &'a str, asks: &[&str]) -> Self {
        let curls: Vec<String> = asks
            .iter()
            .map(|ask| {
                format!("curl -sS -o /dev/null -w '%{{http_code}}\\n' --max-time 10 {ask} >> /run/asked 2>> /run/asked")
            })
            .collect();
        let script =
            format!("rm -f /run/asked /run/asked.end; while [ ! -e /run/asked.end ]; do {}; done", curls.join("; "));
        put(lab, host, "/run/asking.sh", &script);
        lab.sh(host, "systemd-run --quiet --unit=asking sh /run/asking.sh").ok();
        eventually(Duration::from_secs(5), "the first answers", || {
            let asked = lab.sh(host, "cat /run/asked").stdout;
            if asked.lines().count() > 3 { Ok(()) } else { Err(asked) }
        });
        Self { lab, host }
    }

    /// The number of answers.
    ///
    /// # Panics
    /// If one of them was an error.
    fn end(self) -> usize {
        self.lab.sh(self.host, "touch /run/asked.end").ok();
        eventually(Duration::from_secs(15), "the asking to end", || {
            let state = self.lab.run(self.host, &["systemctl", "is-active", "asking"]).stdout;
            if state.trim() == "active" { Err(state) } else { Ok(()) }
        });
        let asked = self.lab.sh(self.host, "cat /run/asked").ok();
        let bad: Vec<&str> = asked.lines().filter(|line| *line != "200").collect();
        assert!(bad.is_empty(), "{} of {} requests failed: {bad:?}", bad.len(), asked.lines().count());
        asked.lines().count()
    }
}

const UNIX: &str = "--unix-socket /run/fleet.sock http://fleet/fleet/v1/machines";
const TCP: &str = "http://127.0.0.1:49153/fleet/v1/units";

#[test]
fn clients_of_an_inherited_socket_wait_while_fleetd_starts_and_restarts() {
    let lab = Lab::boot(1, &["--standalone"]);
    put(&lab, "n1", "/etc/systemd/system/fleetd.socket.d/tcp.conf", "[Socket]\nListenStream=127.0.0.1:49153");
    lab.sh("n1", "systemctl daemon-reload && systemctl start fleetd.socket").ok();
    assert_eq!(lab.run("n1", &["systemctl", "is-active", "fleetd"]).stdout.trim(), "inactive");
    // The first request starts it, and is answered when the host is registered.
    let first = lab.fleetctl(&["list-machines", "--no-legend"]).ok();
    assert_eq!(first.lines().count(), 1, "{first}");
    let group = lab.sh("n1", "stat -c '%a %G' /run/fleet.sock").ok();
    assert_eq!(group.trim(), "660 fleet");

    lab.file("a.service", SLEEP);
    lab.fleetctl(&["start", "a.service"]).ok();
    let pid = lab.main_pid("n1", "a.service");
    let asking = Asking::begin(&lab, "n1", &[UNIX, TCP]);
    for _ in 0..4 {
        let daemon = lab.main_pid("n1", "fleetd.service");
        lab.run("n1", &["systemctl", "restart", "fleetd"]).ok();
        assert_ne!(lab.main_pid("n1", "fleetd.service"), daemon);
        std::thread::sleep(Duration::from_millis(500));
    }
    let answers = asking.end();
    eprintln!("{answers} requests over four restarts, none failed");
    assert_eq!(lab.main_pid("n1", "a.service"), pid);

    // A socket that is not a stream socket is named.
    put(&lab, "n1", "/etc/systemd/system/fleetd.socket.d/tcp.conf", "[Socket]\nListenDatagram=/run/datagram.sock");
    lab.sh("n1", "systemctl stop fleetd fleetd.socket; systemctl daemon-reload; systemctl start fleetd.socket").ok();
    lab.sh("n1", "systemctl start --no-block fleetd").ok();
    until_logged(&lab, "n1", " (api): it is no stream socket");
}

#[test]
fn an_own_socket_is_there_and_goes_with_the_daemon() {
    let lab = Lab::boot(1, &["--standalone"]);
    // A group that isn't in the file: getent looks it up where the host has it.
    lab.sh("n1", "groupdel fleet 2>/dev/null; mv /usr/bin/getent /usr/bin/getent.real").ok();
    put(&lab, "n1", "/usr/bin/getent", "#!/bin/sh\n[ \"$*\" = 'group fleet' ] && echo fleet:x:4321: || exit 2");
    lab.sh("n1", "chmod 755 /usr/bin/getent").ok();
    lab.start_fleet(1);
    assert_eq!(lab.sh("n1", "stat -c '%a %g' /run/fleet.sock").ok().trim(), "660 4321");
    lab.run("n1", &["systemctl", "stop", "fleetd"]).ok();
    assert_ne!(lab.sh("n1", "test -e /run/fleet.sock").code, 0);
}

#[test]
fn the_status_line_is_true_while_etcd_is_away() {
    let lab = Lab::cluster(1);
    lab.file("a.service", SLEEP);
    lab.fleetctl(&["start", "a.service"]).ok();
    let settled = |line: &str| line.ends_with("; 1 host, 1 unit, 0 waiting; agent: 1 unit, settled");
    until_status(&lab, "n1", Duration::from_secs(10), settled);
    lab.lab(&["etcd", "stop"]).ok();
    let away = until_status(&lab, "n1", TTL, |line| line.starts_with("etcd unreachable since "));
    assert!(away.ends_with(" UTC; 1 unit keeps running"), "{away}");
    lab.lab(&["etcd", "start"]).ok();
    // Nothing changes in the cluster, but the status line shows that etcd is back.
    until_status(&lab, "n1", TTL, settled);
}

#[test]
fn a_daemon_that_hangs_is_replaced_and_no_unit_notices() {
    let lab = Lab::boot(1, &["--standalone"]);
    put(&lab, "n1", "/etc/systemd/system/fleetd.service.d/dog.conf", "[Service]\nWatchdogSec=4");
    lab.run("n1", &["systemctl", "daemon-reload"]).ok();
    lab.start_fleet(1);
    lab.file("a.service", SLEEP);
    lab.fleetctl(&["start", "a.service"]).ok();
    let (unit, daemon) = (lab.main_pid("n1", "a.service"), lab.main_pid("n1", "fleetd.service"));
    // The watchdog is notified while the daemon is idle for longer than the watchdog's time.
    std::thread::sleep(Duration::from_secs(9));
    assert_eq!(lab.main_pid("n1", "fleetd.service"), daemon);
    lab.run("n1", &["kill", "-STOP", &daemon]).ok();
    eventually(Duration::from_secs(20), "another fleetd", || {
        let now = lab.main_pid("n1", "fleetd.service");
        if now != daemon && now != "0" { Ok(()) } else { Err(now) }
    });
    lab.until_active("a.service", Duration::from_secs(10));
    assert_eq!(lab.main_pid("n1", "a.service"), unit);
}

/// `mod_revision` and lease of the only machine key whose value has `host`.
fn presence(lab: &Lab, host: &str) -> (i64, i64) {
    let got = lab.etcdctl(&["get", "--prefix", "/flotilla/machine/", "-w", "json"]);
    let got: Value = serde_json::from_str(&got).unwrap();
    let id = lab.run(host, &["cat", "/etc/machine-id"]).ok();
    // Keys are in base64. How the end of ours is encoded depends on the length of the prefix, so they are decoded.
    for kv in got["kvs"].as_array().unwrap() {
        let key = kv["key"].as_str().unwrap();
        let plain = lab.sh(host, &format!("echo {key} | base64 -d")).ok();
        if plain.ends_with(id.trim()) {
            return (kv["mod_revision"].as_i64().unwrap(), kv["lease"].as_i64().unwrap());
        }
    }
    panic!("{host} has no machine key: {got}")
}

#[test]
fn a_reload_takes_up_what_changed_and_nothing_blinks() {
    let lab = Lab::cluster(2);
    lab.file("a.service", &format!("{SLEEP}\n[X-Fleet]\nMachineMetadata=host=n2"));
    lab.file("mover.service", &format!("{SLEEP}\n[X-Fleet]\nMachineMetadata=color=red"));
    lab.sh("n2", "echo >> /etc/fleet/fleet.conf; sed -i 's/^metadata=.*/&,color=red/' /etc/fleet/fleet.conf").ok();
    let before = presence(&lab, "n2");
    let asking = Asking::begin(&lab, "n2", &[UNIX]);

    // Metadata: the host's key is written again, bound to the same lease.
    lab.run("n2", &["systemctl", "reload", "fleetd"]).ok();
    until_logged(&lab, "n2", "configuration reloaded changed=\"metadata\"");
    let with_color = eventually(Duration::from_secs(5), "n2's new metadata", || {
        let now = presence(&lab, "n2");
        if now.0 > before.0 { Ok(now) } else { Err(format!("{now:?}")) }
    });
    assert_eq!(with_color.1, before.1, "the same lease");
    lab.fleetctl(&["start", "a.service", "mover.service"]).ok();
    let pids = |lab: &Lab| (lab.main_pid("n2", "a.service"), lab.main_pid("n2", "fleetd.service"));
    let processes = pids(&lab);

    // Settings that aren't in the host's key don't change it.
    lab.sh("n2", "printf 'verbosity=1\\ntoken_limit=1\\ndisable_engine=true\\n' >> /etc/fleet/fleet.conf").ok();
    lab.run("n2", &["systemctl", "reload", "fleetd"]).ok();
    until_logged(&lab, "n2", "changed=\"verbosity, disable_engine, token_limit\"");
    assert_eq!(presence(&lab, "n2"), with_color);
    let page =
        lab.run("n2", &["sh", "-c", "curl -sS --unix-socket /run/fleet.sock http://fleet/fleet/v1/machines"]).ok();
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["machines"].as_array().unwrap().len(), 1, "token_limit counts at once: {page}");

    let check = lab.run("n2", &["fleetd", "--check"]).ok();
    assert!(check.contains(" answers (version 3."), "{check}");

    // A file with errors changes nothing, and the errors are logged.
    lab.sh("n2", "cp /etc/fleet/fleet.conf /root/good; printf 'metadta=x=y\\nnonsense\\n' >> /etc/fleet/fleet.conf")
        .ok();
    assert_ne!(lab.run("n2", &["systemctl", "reload", "fleetd"]).code, 0, "a file with mistakes fails a reload");
    let check = lab.run("n2", &["fleetd", "--check"]);
    assert!(check.code == 1 && check.stdout.contains("fleet.conf:8: unknown key `metadta`"), "{check:?}");
    let status = || lab.run("n2", &["systemctl", "show", "--value", "--property=StatusText", "fleetd"]).stdout;
    let is_refused = |status: &str| {
        status.starts_with("configuration refused at ") && status.contains("(fleet.conf:9), the old one is in force; ")
    };
    eventually(Duration::from_secs(5), "the status line that says so", || {
        let now = status();
        if is_refused(&now) { Ok(()) } else { Err(now) }
    });
    until_logged(
        &lab,
        "n2",
        "not reloaded, the old configuration remains in force: /etc/fleet/fleet.conf:8: unknown key `metadta`",
    );
    until_logged(
        &lab,
        "n2",
        "not reloaded, the old configuration remains in force: /etc/fleet/fleet.conf:9: `nonsense` isn't key=value",
    );
    assert_eq!(lab.run("n2", &["systemctl", "is-active", "fleetd"]).stdout.trim(), "active");
    assert_eq!(presence(&lab, "n2"), with_color);

    // Removed keys return to their defaults; a key that needs a restart is logged.
    lab.sh("n2", "grep -v 'verbosity\\|token_limit\\|disable_engine' /root/good > /etc/fleet/fleet.conf").ok();
    lab.sh("n2", "echo units_directory=/run/elsewhere >> /etc/fleet/fleet.conf").ok();
    lab.run("n2", &["systemctl", "reload", "fleetd"]).ok();
    until_logged(
        &lab,
        "n2",
        "units_directory: changed in the configuration, and takes effect with `systemctl restart fleetd`",
    );
    lab.sh("n2", "sed -i '/units_directory/d' /etc/fleet/fleet.conf").ok();

    eventually(Duration::from_secs(5), "the usual status line", || {
        let now = status();
        if now.contains("configuration refused") { Err(now) } else { Ok(()) }
    });

    // Another TTL needs another lease: the key is bound to it, and exists all the time.
    lab.sh("n2", "echo agent_ttl=30s >> /etc/fleet/fleet.conf").ok();
    lab.run("n2", &["systemctl", "kill", "-s", "HUP", "fleetd"]).ok();
    eventually(Duration::from_secs(5), "a new lease for n2", || {
        let now = presence(&lab, "n2");
        if now.1 != before.1 { Ok(()) } else { Err(format!("{now:?}")) }
    });

    // A unit that no longer fits moves, and one that fits stays.
    lab.sh("n1", "sed -i 's/^metadata=.*/&,color=red/' /etc/fleet/fleet.conf; systemctl reload fleetd").ok();
    lab.sh("n2", "sed -i 's/,color=red//' /etc/fleet/fleet.conf; systemctl reload fleetd").ok();
    eventually(Duration::from_secs(10), "mover.service on n1", || {
        let on = lab.active_on("n1", "mover.service")?;
        if on == "n1" { Ok(()) } else { Err(on) }
    });
    let end = |host: &str, what: &str| {
        lab.history(host).into_iter().rfind(|(_, w, unit)| *w == what && unit == "mover.service")
    };
    let (stopped, started) = (end("n2", "Stopped").unwrap().0, end("n1", "Started").unwrap().0);
    assert!(stopped < started, "stopped at {stopped}, started elsewhere at {started}");
    let answers = asking.end();
    eprintln!("{answers} requests over the reloads, none failed");
    assert_eq!(pids(&lab), processes, "neither the unit nor the daemon was restarted");
    let history: Vec<_> = lab.history("n2").into_iter().filter(|(_, _, unit)| unit == "a.service").collect();
    assert_eq!(history.len(), 1, "{history:?}");

    // It prints its state on request.
    lab.run("n2", &["systemctl", "kill", "-s", "USR1", "fleetd"]).ok();
    let dump = eventually(Duration::from_secs(5), "the dump", || {
        let log = log(&lab, "n2");
        log.lines().rfind(|line| line.starts_with("{\"agent\"")).map(str::to_owned).ok_or(log)
    });
    let dump: Value = serde_json::from_str(&dump).unwrap();
    assert_eq!(dump["agent"]["inside"]["units"][0]["unit"], "a.service", "{dump}");
    assert_eq!(dump["configuration"]["agent_ttl"], 30.0);
}

/// The uptime of the machine, which all hosts of a lab share, as a unit wrote it when its stop had ended.
fn uptime(text: &str) -> Duration {
    Duration::from_secs_f64(text.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
fn a_clean_shutdown_hands_units_over_as_soon_as_they_have_stopped() {
    let lab = Lab::cluster(3);
    lab.file(
        "slow@.service",
        "[Service]\nExecStart=/bin/sleep 10000\nExecStop=/bin/sleep 1\n\
         ExecStopPost=/bin/sh -c 'cat /proc/uptime > /root/stopped-%i; sync'",
    );
    // Each host is shut down once; one of them is the leader.
    let names: Vec<String> = (1..=9).map(|i| format!("slow@{i}.service")).collect();
    lab.fleetctl(&[&["start"], names.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat()).ok();
    for (host, left) in [("n3", ["n1", "n2"]), ("n2", ["n1", "n3"]), ("n1", ["n2", "n3"])] {
        let running = |host: &str| {
            let listed =
                lab.sh(host, "systemctl list-units --no-legend --plain --state=active 'slow@*' | cut -d' ' -f1").stdout;
            listed.lines().map(str::to_owned).collect::<Vec<String>>()
        };
        let moving = running(host);
        assert!(!moving.is_empty(), "{host} has units to hand over");
        lab.sh(host, "rm -f /root/stopped-*").ok();
        let begun = Instant::now();
        lab.sh(host, "systemctl poweroff --no-block").ok();
        eventually(Duration::from_secs(15), "its units on the other hosts", || {
            let there: Vec<String> = left.iter().flat_map(|host| running(host)).collect();
            if moving.iter().all(|unit| there.contains(unit)) { Ok(()) } else { Err(format!("{there:?}")) }
        });
        eprintln!(
            "{host}: all elsewhere {:?} after `systemctl poweroff`, one second of which is ExecStop=",
            begun.elapsed()
        );
        lab.lab(&["poweroff", host]);
        let started: Vec<(String, u64)> = left
            .iter()
            .flat_map(|host| lab.history(host))
            .filter(|(_, what, unit)| *what == "Started" && moving.contains(unit))
            .map(|(at, _, unit)| (unit, at))
            .collect();
        lab.lab(&["boot", host]).ok();
        let stops: Vec<(String, Duration)> = moving
            .iter()
            .map(|unit| {
                let instance = unit.trim_start_matches("slow@").trim_end_matches(".service");
                (unit.clone(), uptime(&lab.sh(host, &format!("cat /root/stopped-{instance}")).ok()))
            })
            .collect();
        let last = stops.iter().map(|(_, at)| *at).max().unwrap();
        for (unit, stopped) in stops {
            let at = started.iter().filter(|(name, _)| *name == unit).map(|(_, at)| *at).max().unwrap();
            let at = Duration::from_micros(at);
            // /proc/uptime counts hundredths, and the clock of a sandbox may differ from it a little; what matters is
            // the order within a second.
            assert!(
                at + Duration::from_millis(10) > stopped,
                "{unit} ran twice: stopped at {stopped:?}, started at {at:?}"
            );
            eprintln!("{unit}: started {:?} after the last stop on {host}", at.saturating_sub(last));
            assert!(at < last + TTL / 2, "{unit} waited for the lease: {last:?} {at:?}");
        }
        eventually(Duration::from_secs(15), "the host back", || {
            let listed = lab.fleetctl_on(left[0], &["list-machines", "--no-legend"]).stdout;
            if listed.lines().count() == 3 { Ok(()) } else { Err(listed) }
        });
    }
}

/// A stop that takes longer than the lease and longer than the daemon's own timeout: the host stays registered until
/// the stop has ended.
#[test]
fn a_shutdown_waits_for_a_slow_stop_before_the_unit_runs_elsewhere() {
    let lab = Lab::cluster(2);
    let slow = "[Service]\nExecStart=/bin/sleep 10000\nTimeoutStopSec=60\nExecStop=/bin/sleep 20";
    lab.file("slow.service", slow);
    lab.file("n1.service", &format!("{SLEEP}\n[X-Fleet]\nMachineMetadata=host=n1"));
    lab.fleetctl(&["start", "n1.service"]).ok();
    lab.fleetctl(&["start", "slow.service"]).ok();
    assert_eq!(lab.active_on("n1", "slow.service").unwrap(), "n2", "the emptier host");
    lab.sh("n2", "systemctl poweroff --no-block").ok();
    let begun = Instant::now();
    let status =
        until_status(&lab, "n2", Duration::from_secs(5), |line| line.starts_with("the system is shutting down"));
    assert_eq!(status, "the system is shutting down; waiting for 1 unit to stop");
    // Longer than the lease would last, and longer than TimeoutStopSec= of fleetd.
    while begun.elapsed() < Duration::from_secs(18) {
        assert_eq!(lab.fleetctl(&["list-machines", "--no-legend"]).ok().lines().count(), 2, "{:?}", begun.elapsed());
        assert_eq!(lab.main_pid("n1", "slow.service"), "0", "{:?}: it still stops on n2", begun.elapsed());
        std::thread::sleep(Duration::from_millis(500));
    }
    within(Duration::from_secs(9), "slow.service on n1, without waiting for a lease", || {
        let on = lab.active_on("n1", "slow.service")?;
        if on == "n1" { Ok(()) } else { Err(on) }
    });
    eprintln!("on n1 {:?} after `systemctl poweroff`, 20 s of which are ExecStop=", begun.elapsed());
}

#[test]
fn stopping_fleetd_alone_leaves_its_presence() {
    let lab = Lab::cluster(2);
    lab.file("a.service", &format!("{SLEEP}\n[X-Fleet]\nMachineMetadata=host=n2"));
    lab.fleetctl(&["start", "a.service"]).ok();
    let before = presence(&lab, "n2");
    let pid = lab.main_pid("n2", "a.service");
    lab.run("n2", &["systemctl", "stop", "fleetd"]).ok();
    assert_eq!(presence(&lab, "n2"), before);
    lab.run("n2", &["systemctl", "start", "fleetd"]).ok();
    eventually(Duration::from_secs(5), "n2 registered with the lease it had", || {
        let now = presence(&lab, "n2");
        if now.1 == before.1 && now.0 > before.0 { Ok(()) } else { Err(format!("{now:?}")) }
    });
    assert_eq!(lab.main_pid("n2", "a.service"), pid);
}

/// The overall rating of `systemd-analyze security`.
fn exposure(lab: &Lab) -> String {
    let all = lab.run("n1", &["systemd-analyze", "security", "--no-pager", "fleetd.service"]);
    let line =
        all.stdout.lines().rfind(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{all:?}"));
    let mut words = line.rsplit(": ").next().unwrap_or_default().split_whitespace();
    format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// The life of a unit from submit to destroy, with every request that fleetd makes to systemd.
fn whole_life(lab: &Lab) {
    lab.file("a.service", &format!("{SLEEP}\n[Install]\nWantedBy=multi-user.target"));
    lab.fleetctl(&["start", "a.service"]).ok();
    let shown = lab.run("n1", &["systemctl", "show", "-p", "ActiveState,UnitFileState,FragmentPath", "a.service"]).ok();
    assert!(shown.contains("ActiveState=active"), "{shown}");
    assert!(
        shown.contains("UnitFileState=enabled-runtime") || shown.contains("UnitFileState=linked-runtime"),
        "{shown}"
    );
    lab.file("a.service", &format!("{SLEEP}\nEnvironment=NEW=1\n[Install]\nWantedBy=multi-user.target"));
    lab.fleetctl(&["start", "--replace", "a.service"]).ok();
    let environment = lab.run("n1", &["systemctl", "show", "-p", "Environment", "a.service"]).ok();
    assert!(environment.contains("NEW=1"), "{environment}");
    let pid = lab.main_pid("n1", "a.service");
    lab.run("n1", &["systemctl", "reload", "fleetd"]).ok();
    lab.run("n1", &["systemctl", "restart", "fleetd"]).ok();
    lab.until_active("a.service", Duration::from_secs(10));
    assert_eq!(lab.main_pid("n1", "a.service"), pid);
    lab.fleetctl(&["destroy", "a.service"]).ok();
    let left =
        lab.sh("n1", "ls /run/fleet/units /run/systemd/system/multi-user.target.wants 2>/dev/null | grep a.service");
    assert_eq!(left.stdout, "");
    assert_eq!(lab.run("n1", &["systemctl", "is-active", "a.service"]).stdout.trim(), "inactive");
}

#[test]
fn fleetd_needs_no_more_than_its_unit_lets_it() {
    let lab = Lab::boot(1, &["--standalone"]);
    lab.start_fleet(1);
    whole_life(&lab);
    let said = exposure(&lab);
    let unit = lab.run("n1", &["cat", "/usr/lib/systemd/system/fleetd.service"]).ok();
    assert!(unit.contains(&format!("`systemd-analyze security fleetd` (252) says {said}")), "systemd says {said}");
    assert!(!log(&lab, "n1").contains("WARN"), "{}", log(&lab, "n1"));
}

#[test]
fn fleetd_works_without_root() {
    let lab = Lab::boot(1, &["--standalone"]);
    // On this host, fleetd ran as root before; its files are still there.
    lab.start_fleet(1);
    lab.file("before.service", SLEEP);
    lab.fleetctl(&["start", "before.service"]).ok();
    let pid = lab.main_pid("n1", "before.service");
    put_ours(
        &lab,
        "n1",
        "units/fleetd.service.d/unprivileged.conf",
        "/etc/systemd/system/fleetd.service.d/unprivileged.conf",
    );
    put_ours(&lab, "n1", "contrib/polkit/50-flotilla.rules", "/etc/polkit-1/rules.d/50-flotilla.rules");
    lab.sh(
        "n1",
        "systemctl stop fleetd && systemctl daemon-reload && systemctl enable --now fleetd.socket && systemctl start \
         fleetd",
    )
    .ok();
    eventually(Duration::from_secs(15), "fleetd answering as `fleet`", || {
        let ran = lab.fleetctl(&["list-machines", "--no-legend"]);
        if ran.code == 0 { Ok(()) } else { Err(format!("{ran:?}\n{}", log(&lab, "n1"))) }
    });
    let daemon = lab.main_pid("n1", "fleetd.service");
    assert_eq!(lab.sh("n1", &format!("stat -c %U /proc/{daemon}")).ok().trim(), "fleet");
    lab.until_active("before.service", Duration::from_secs(10));
    assert_eq!(lab.main_pid("n1", "before.service"), pid);
    whole_life(&lab);
    eprintln!("exposure without root: {}", exposure(&lab));
    // Other users have no more permissions than before.
    let other = lab.sh(
        "n1",
        "setpriv --reuid=nobody --clear-groups busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
         org.freedesktop.systemd1.Manager StopUnit ss before.service replace",
    );
    assert_ne!(other.code, 0, "{other:?}");
    assert!(!log(&lab, "n1").contains("ERROR"), "{}", log(&lab, "n1"));
}
