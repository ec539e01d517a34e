//! Units with probes: ready is what their own port or a command says, and announcements follow it.

use std::time::Duration;

use crate::harness::{Lab, eventually};

/// It answers 502 while nobody listens on port 8081.
const WEB: &str = "[Service]\nType=notify\nExecStart=/usr/local/bin/answer --port 8080 --ask 127.0.0.1:8081\n\
                   [X-Health]\nReady=http://:8080/\nIntervalSec=1\nFall=2\n";
const BACK: &str = "[Service]\nType=notify\nExecStart=/usr/local/bin/answer --port 8081\n";
const SIDEKICK: &str = "[Unit]\nRequires=web.service\nAfter=web.service\n[Service]\nType=notify\n\
                        TimeoutStartSec=infinity\n\
                        ExecStart=/usr/bin/fleet-sidecar announce web --unit web.service --port 8080\n\
                        [X-Fleet]\nMachineOf=web.service\n";

/// Its probe passes if it runs with the unit's environment, and the file in it belongs to the unit's user.
const COMMAND: &str = "[Service]\nUser=nobody\nEnvironment=FLAG=/run/flag\nExecStart=/usr/bin/sleep infinity\n\
                       [X-Health]\nReady=exec:/usr/bin/test -O ${FLAG}\nIntervalSec=1\nFall=2\n";

/// It hangs as long as the file exists.
const LIVE: &str = "[Service]\nEnvironment=HANGS=/run/hangs\nExecStart=/usr/bin/sleep infinity\nRestart=on-failure\n\
                    RestartSec=1\n[X-Health]\nLive=exec:/usr/bin/test ! -e ${HANGS}\nIntervalSec=1\nFall=2\n";

/// What is reported of the readiness of a unit.
fn health(lab: &Lab, unit: &str) -> Result<(Option<bool>, Option<String>), String> {
    let units = lab.units()?;
    let view = units.iter().find(|view| view.name.as_str() == unit).ok_or(format!("no {unit}"))?;
    let state = view.states.first().ok_or("no report")?;
    Ok((state.report.ready, state.report.health.clone()))
}

fn until_ready(lab: &Lab, unit: &str, ready: bool) -> Option<String> {
    eventually(Duration::from_secs(10), &format!("{unit} ready: {ready}"), || {
        let (said, why) = health(lab, unit)?;
        if said == Some(ready) && (ready || why.is_some()) { Ok(why) } else { Err(format!("{said:?} {why:?}")) }
    })
}

fn announced(lab: &Lab) -> usize {
    lab.fleetctl(&["list-services", "--no-legend"]).ok().lines().count()
}

#[test]
fn a_unit_is_ready_and_announced_while_its_port_says_so() {
    let lab = Lab::cluster(1);
    for (name, text) in [("web.service", WEB), ("back.service", BACK), ("web-announce.service", SIDEKICK)] {
        lab.file(name, text);
    }
    let early = lab.fleetctl(&["start", "--timeout", "5s", "web"]);
    let why = "not ready on n1: http://:8080/: 502 Bad Gateway";
    assert!(early.code == 1 && early.stderr.contains(why), "{early:?}");
    lab.fleetctl(&["start", "--wait=active", "web"]).ok();
    lab.fleetctl(&["start", "--no-block", "web-announce"]).ok();
    let pid = lab.main_pid("n1", "web.service");
    let listed = lab.fleetctl(&["list-units", "--no-legend", "--fields=unit,active,ready,health", "web"]).ok();
    assert_eq!(listed.split_whitespace().take(3).collect::<Vec<_>>(), ["web.service", "active", "no"], "{listed}");
    assert_eq!(announced(&lab), 0);

    lab.fleetctl(&["start", "back"]).ok();
    until_ready(&lab, "web.service", true);
    lab.fleetctl(&["start", "web", "web-announce"]).ok();
    assert_eq!(announced(&lab), 1);
    // Neither a restart of the daemon nor another section of the file has a part in it.
    let written = || lab.etcdctl(&["get", "--prefix", "/flotilla/state/", "-w", "fields"]);
    lab.sh("n1", "systemctl kill -s KILL fleetd && sleep 3").ok();
    for _ in 0..20 {
        if let Ok((ready, why)) = health(&lab, "web.service") {
            assert_eq!(ready, Some(true), "{why:?}: {}", written());
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    lab.file("web.service", &WEB.replace("Fall=2", "Fall=3"));
    lab.fleetctl(&["start", "--replace", "web"]).ok();
    assert_eq!((health(&lab, "web.service").unwrap().0, announced(&lab)), (Some(true), 1));

    lab.fleetctl(&["stop", "back"]).ok();
    let why = until_ready(&lab, "web.service", false);
    assert_eq!(why.as_deref(), Some("http://:8080/: 502 Bad Gateway"));
    eventually(Duration::from_secs(5), "withdrawn", || match announced(&lab) {
        0 => Ok(()),
        count => Err(format!("{count} announced")),
    });
    lab.fleetctl(&["start", "back"]).ok();
    until_ready(&lab, "web.service", true);
    assert_eq!(lab.main_pid("n1", "web.service"), pid, "readiness restarts nothing");
}

#[test]
fn a_command_is_run_as_the_unit_that_it_probes() {
    let lab = Lab::cluster(1);
    lab.file("own.service", COMMAND);
    let why = "exec:/usr/bin/test -O ${FLAG}: exited 1/FAILURE";
    let early = lab.fleetctl(&["start", "--timeout", "5s", "own"]);
    assert!(early.code == 1 && early.stderr.contains(&format!("not ready on n1: {why}")), "{early:?}");
    lab.sh("n1", "touch /run/flag && sleep 3").ok();
    assert_eq!(until_ready(&lab, "own.service", false).as_deref(), Some(why), "the file is root's");
    let pid = lab.main_pid("n1", "own.service");
    lab.sh("n1", "chown nobody /run/flag").ok();
    until_ready(&lab, "own.service", true);
    lab.sh("n1", "rm /run/flag").ok();
    assert_eq!(until_ready(&lab, "own.service", false).as_deref(), Some(why));
    assert_eq!(lab.main_pid("n1", "own.service"), pid, "readiness restarts nothing");
    let failed = lab.sh("n1", "systemctl list-units --failed --no-legend").ok();
    assert!(!failed.contains("fleet-probe-"), "a probe that fails is no failed unit: {failed}");

    lab.fleetctl(&["destroy", "own"]).ok();
    eventually(Duration::from_secs(10), "no unit of a probe is left", || {
        let left = lab.sh("n1", "systemctl list-units --all --no-legend 'fleet-probe-*'").ok();
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn a_unit_that_no_longer_works_is_restarted_by_systemd() {
    let lab = Lab::cluster(1);
    lab.file("live.service", LIVE);
    lab.fleetctl(&["start", "live"]).ok();
    let restarts = || lab.sh("n1", "systemctl show --value -p NRestarts live.service").ok().trim().to_owned();
    std::thread::sleep(Duration::from_secs(5));
    let pid = lab.main_pid("n1", "live.service");
    assert_eq!(restarts(), "0");
    lab.sh("n1", "touch /run/hangs").ok();
    eventually(Duration::from_secs(10), "restarted", || match restarts().as_str() {
        "1" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_ne!(lab.main_pid("n1", "live.service"), pid);
    let said = lab.sh("n1", "journalctl -u fleetd --no-pager").ok();
    assert!(said.contains("no longer works"), "{said}");
    // It has begun anew, and hasn't passed since.
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(restarts(), "1", "it has time to start");
    lab.sh("n1", "rm /run/hangs").ok();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(restarts(), "1");

    lab.sh("n1", "touch /run/hangs").ok();
    lab.fleetctl(&["stop", "live"]).ok();
    std::thread::sleep(Duration::from_secs(5));
    let state = lab.sh("n1", "systemctl is-active live.service");
    assert_eq!(state.stdout.trim(), "inactive");
}
