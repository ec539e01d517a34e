//! Sets on real hosts: members on different hosts, a hole that is filled, a file that is edited, and riders.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla::api::wire::UnitView;
use flotilla::model::systemd::ActiveState;

use crate::harness::{Lab, eventually};

const SOON: Duration = Duration::from_secs(30);

const WEB: &str = "[Service]
ExecStart=/bin/sleep infinity
[X-Fleet]
Replicas=3
";

const LOG: &str = "[Unit]
Requires=web@%i.service
After=web@%i.service
[Service]
ExecStart=/bin/sleep infinity
[X-Fleet]
Replicas=web@.service
MachineOf=web@%i.service
";

/// The hosts of all active units.
fn active(lab: &Lab) -> Result<BTreeMap<String, String>, String> {
    let up = |unit: UnitView| {
        let host =
            unit.states.iter().find(|state| state.report.active == ActiveState::Active)?.machine.hostname.clone();
        Some((unit.name.to_string(), host))
    };
    Ok(lab.units()?.into_iter().filter_map(up).collect())
}

/// Wait until exactly the members with these numbers run, each beside the one that rides with it; returns their hosts.
fn pairs(lab: &Lab, numbers: &[u32]) -> BTreeMap<u32, String> {
    eventually(SOON, &format!("the members {numbers:?}"), || {
        let active = active(lab)?;
        let pair = |number: &u32| {
            let host = active.get(&format!("web@{number}.service"))?;
            (active.get(&format!("log@{number}.service")) == Some(host)).then(|| (*number, host.clone()))
        };
        let pairs: BTreeMap<u32, String> = numbers.iter().filter_map(pair).collect();
        let all = pairs.len() == numbers.len() && active.len() == 2 * numbers.len();
        if all { Ok(pairs) } else { Err(format!("{active:?}")) }
    })
}

fn on(pairs: &BTreeMap<u32, String>, host: &str) -> usize {
    pairs.values().filter(|name| *name == host).count()
}

#[test]
fn a_set_is_spread_scaled_edited_and_destroyed_with_its_riders() {
    let lab = Lab::cluster(3);
    lab.file("web@.service", WEB);
    lab.file("log@.service", LOG);
    let started = lab.fleetctl(&["start", "web@.service", "log@.service"]).ok();
    assert!(started.contains("web@.service: 3 instances"), "{started}");
    let three = pairs(&lab, &[1, 2, 3]);
    assert_eq!(["n1", "n2", "n3"].map(|host| on(&three, host)), [1; 3], "{three:?}");

    let scaled = lab.fleetctl(&["scale", "web@", "5"]).ok();
    let said = "web@.service: 3 -> 5 instances (its file says Replicas=3), and log@.service with it";
    assert!(scaled.starts_with(said), "{scaled}");
    let five = pairs(&lab, &[1, 2, 3, 4, 5]);
    assert!(["n1", "n2", "n3"].iter().all(|host| (1..=2).contains(&on(&five, host))), "{five:?}");
    // None of those that were there has moved or restarted for it.
    assert!(three.iter().all(|(number, host)| five.get(number) == Some(host)), "{three:?} {five:?}");

    let destroyed = lab.fleetctl(&["destroy", "web@2"]).ok();
    assert!(
        destroyed.contains("Destroyed web@2.service") && destroyed.contains("Destroyed log@2.service"),
        "{destroyed}"
    );
    let four = pairs(&lab, &[1, 3, 4, 5]);
    lab.fleetctl(&["scale", "web@", "+1"]).ok();
    let filled = pairs(&lab, &[1, 2, 3, 4, 5]);
    assert_eq!(on(&four, &filled[&2]), 1, "the hole is filled where the fewest are: {four:?} {filled:?}");

    // A host dies while the set is scaled.
    let dead = filled.values().find(|host| *host != "n1").unwrap().clone();
    lab.lab(&["kill", &dead]).ok();
    lab.fleetctl(&["scale", "--no-block", "web@", "6"]).ok();
    eventually(SOON, &format!("{dead} to be gone"), || {
        let left = active(&lab)?.values().filter(|host| **host == dead).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} units on {dead}")) }
    });
    let six = pairs(&lab, &[1, 2, 3, 4, 5, 6]);
    assert!(["n1", "n2", "n3"].iter().filter(|host| on(&six, host) == 3).count() == 2, "{six:?}");
    lab.lab(&["boot", &dead]).ok();

    // An edited number counts, and the rider follows.
    lab.file("web@.service", &WEB.replace("Replicas=3", "Replicas=2"));
    lab.fleetctl(&["start", "--replace", "--at-once", "web@.service"]).ok();
    pairs(&lab, &[1, 2]);

    let refused = lab.fleetctl(&["destroy", "web@.service"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("log@.service has as many as web@.service: destroy both"), "{refused:?}");
    lab.fleetctl(&["destroy", "web@.service", "log@.service"]).ok();
    eventually(SOON, "nothing is left", || {
        let left = lab.fleetctl(&["list-unit-files", "--no-legend"]).ok();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}
