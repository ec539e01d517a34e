//! Hosts that are cordoned and no longer are.

use super::*;
use crate::model::maintenance::{Cordon, Maintenance};

fn cordon(at: u64, cordoned: bool) -> Change {
    let asked = cordoned.then(|| Maintenance { cordon: Some(Cordon::default()), ..Maintenance::default() });
    Change::Maintenance(id(at), asked.map(|value| Versioned { value, revision: Revision(1) }))
}

#[test]
fn a_unit_that_waits_for_a_cordoned_host_is_placed_when_it_is_uncordoned() {
    let mut bench = Bench::new(2);
    bench.submit(&[("a.service", "")]);
    assert_eq!(bench.then([cordon(1, true)]), [""; 0], "what runs there stays");
    assert_eq!(bench.submit(&[("b.service", "")]), ["b.service placed on n2 (00000002): the least loaded host"]);
    assert_eq!(
        bench.submit(&[("c.service", "MachineMetadata=zone=a")]),
        ["c.service waits: 1 of 2 hosts: cordoned; 1 of 2 hosts: metadata"]
    );
    assert_eq!(bench.then([cordon(2, true)]), ["c.service waits: 2 of 2 hosts: cordoned"]);
    assert_eq!(bench.submit(&[("d.service", "")]), ["d.service waits: 2 of 2 hosts: cordoned"]);
    let mut placed = bench.then([cordon(1, false)]);
    placed.sort();
    assert_eq!(
        placed,
        [
            "c.service placed on n1 (00000001): the least loaded host",
            "d.service placed on n1 (00000001): the least loaded host"
        ]
    );
    bench.settled();
}

/// Also when it becomes known only later that the other one isn't global.
#[test]
fn a_follower_joins_what_stays_on_a_cordoned_host() {
    let mut bench = Bench::new(2);
    bench.submit(&[("a.service", "")]);
    bench.then([cordon(1, true)]);
    assert_eq!(
        bench.submit(&[("b.service", "MachineOf=a.service")]),
        ["b.service placed on n1 (00000001): the least loaded host"]
    );
    // It depends on a unit that is on every host.
    bench.submit(&[("g.service", "Global=true"), ("f.service", "MachineOf=g.service")]);
    let name: UnitName = "f.service".parse().unwrap();
    assert_eq!(bench.scheduler.cluster().placed_on(&name), Some(&id(2)));
    bench.settled();
}

/// The store has lost the record of a unit that runs on a cordoned host: anywhere else it would run twice.
#[test]
fn what_runs_on_a_cordoned_host_is_taken_over_there() {
    let mut bench = Bench::new(2);
    bench.then([cordon(1, true), cordon(2, true)]);
    for name in ["a.service", "b.service"] {
        assert_eq!(bench.submit(&[(name, "")]), [format!("{name} waits: 2 of 2 hosts: cordoned")]);
    }
    let name: UnitName = "b.service".parse().unwrap();
    let assignment =
        Assignment::new(bench.scheduler.cluster().units[&name].hash.clone(), Target::Launched, Revision(1));
    assert_eq!(
        bench.then([report(&name, &id(2), &assignment)]),
        ["b.service placed on n2 (00000002): it already runs there"]
    );
    // Whatever is known of units with the same constraints.
    bench.submit(&[("c.service", ""), ("d.service", "")]);
    let name: UnitName = "d.service".parse().unwrap();
    bench.scheduler.apply(report(&name, &id(1), &assignment));
    let placed = bench.then([Change::Machine(id(3), Some(Machine::new(id(3), "n3"))), cordon(3, true)]);
    assert!(placed.contains(&"d.service placed on n1 (00000001): it already runs there".to_owned()), "{placed:?}");
    bench.settled();
}

/// It isn't cordoned for a moment when its daemon is restarted, nor when it is new.
#[test]
fn a_host_that_is_cordoned_while_it_is_away_comes_back_cordoned() {
    let mut bench = Bench::new(1);
    bench.then([Change::Machine(id(1), None), cordon(1, true)]);
    bench.submit(&[("a.service", "")]);
    assert_eq!(bench.host(1), ["a.service waits: 1 of 1 host: cordoned"]);
    assert_eq!(bench.host(2), ["a.service placed on n2 (00000002): the least loaded host"]);
    bench.settled();
}
