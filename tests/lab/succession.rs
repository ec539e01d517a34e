//! The leader is killed again and again while 500 units are being placed. Each unit writes when it starts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Lab, eventually};

const HOSTS: [&str; 3] = ["n1", "n2", "n3"];
const UNITS: usize = 500;
/// How many units each request starts.
const BATCH: usize = 20;

/// How many units have been placed.
fn placed(lab: &Lab) -> usize {
    let listed = lab.etcdctl(&["get", "--prefix", "--keys-only", "/flotilla/placement/"]);
    listed.lines().filter(|line| line.contains("w@")).count()
}

/// How often each unit was started, on all hosts together.
fn starts(lab: &Lab) -> BTreeMap<String, usize> {
    let mut starts = BTreeMap::new();
    for host in HOSTS {
        let written = lab.sh(host, "cat /var/lib/starts 2> /dev/null").stdout;
        written.lines().for_each(|unit| *starts.entry(unit.to_owned()).or_default() += 1);
    }
    starts
}

#[test]
fn the_leader_is_killed_while_500_units_are_placed() {
    let lab = Lab::cluster(3);
    lab.file("w@.service", "[Service]\nExecStart=/bin/sh -c 'echo %n >> /var/lib/starts; exec sleep 10000'");
    lab.fleetctl(&["submit", "w@.service"]).ok();
    let mut killed = Vec::new();
    std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            for batch in (0..UNITS).step_by(BATCH) {
                let names = (batch..batch + BATCH).map(|unit| format!("w@{unit}.service"));
                let line = ["start".into(), "--no-block".into()].into_iter().chain(names).collect::<Vec<String>>();
                let line: Vec<&str> = line.iter().map(String::as_str).collect();
                // A daemon that is killed leaves its clients without an answer: they ask again, elsewhere.
                let mut hosts = HOSTS.into_iter().cycle();
                eventually(Duration::from_secs(60), "units to be accepted", || {
                    let asked = lab.fleetctl_on(hosts.next().unwrap_or("n1"), &line);
                    if asked.code == 0 { Ok(()) } else { Err(format!("{asked:?}")) }
                });
            }
        });
        for at_least in [40, 120, 200, 280] {
            eventually(Duration::from_secs(60), &format!("{at_least} units to be placed"), || {
                let count = placed(&lab);
                if count >= at_least { Ok(()) } else { Err(format!("{count} are")) }
            });
            let leads = eventually(Duration::from_secs(30), "a leader to kill", || {
                let leads = lab.leader();
                let kill = lab.run(&leads, &["systemctl", "kill", "-s", "KILL", "fleetd"]);
                if kill.code == 0 { Ok(leads) } else { Err(format!("{kill:?}")) }
            });
            killed.push((leads, placed(&lab)));
        }
        requests.join().unwrap();
    });
    assert!(killed.iter().all(|(_, placed)| *placed < UNITS), "each time while units were being placed: {killed:?}");
    lab.fleetctl(&["wait", "--for=settled", "--timeout=120s"]).ok();
    assert_eq!(placed(&lab), UNITS, "all of them");
    let started = eventually(Duration::from_secs(30), "each unit to have started", || {
        let starts = starts(&lab);
        if starts.len() == UNITS { Ok(starts) } else { Err(format!("{} of {UNITS}", starts.len())) }
    });
    let twice: Vec<_> = started.iter().filter(|(_, count)| **count != 1).collect();
    assert_eq!(twice, [], "none twice; killed: {killed:?}");
    eprintln!("killed, with so many units placed: {killed:?}");
}
