//! Units that wait for a host that is gone (`MoveAfterSec=`).

use super::*;
use crate::model::machine::{Gone, KnownHost};

const AWAY: &str = "a.service moves from n1 (00000001) to n2 (00000002): the host is gone; the least loaded host";

/// Host 1 has `units`, and goes at 1,000 ms. What is decided then.
fn gone(units: &[(&str, &str)]) -> (Bench, Vec<String>) {
    let mut bench = Bench::new(1);
    bench.now = 1_000;
    bench.submit(units);
    bench.host(2);
    let decided = bench.then([Change::Machine(id(1), None)]);
    (bench, decided)
}

/// What is decided as soon as it is `now`.
fn at(bench: &mut Bench, now: u64) -> Vec<String> {
    bench.now = now;
    bench.then([])
}

#[test]
fn it_is_moved_when_the_time_is_over_and_not_before() {
    let (mut bench, decided) = gone(&[("a.service", "MoveAfterSec=1min"), ("b.service", "MoveAfterSec=infinity")]);
    assert_eq!((decided, bench.scheduler.due()), (vec![], Some(61_000)));
    assert!(bench.scheduler.is_timing(1_000));
    assert_eq!(bench.scheduler.cluster().roster[&id(1)].value.gone.unwrap().kept, 2);
    assert_eq!(check(bench.scheduler.cluster()), [], "nothing is wrong with them");
    assert_eq!(at(&mut bench, 60_999), [""; 0]);
    assert_eq!(bench.scheduler.check_itself(60_999, &Default::default()), [""; 0]);
    assert_eq!(at(&mut bench, 61_000), [AWAY]);
    assert_eq!(bench.scheduler.due(), None, "nobody waits for a moment any longer");
    // A person says that the host won't be back.
    let forgotten = bench.then([Change::Roster(id(1), None)]);
    assert_eq!(forgotten, ["b.service moves from 00000001 to n2 (00000002): the host is gone; the least loaded host"]);
    bench.settled();
}

#[test]
fn the_time_that_the_file_says_now_counts() {
    let (mut bench, _) = gone(&[("a.service", "MoveAfterSec=1h")]);
    bench.now = 20_000;
    assert_eq!(bench.submit(&[("a.service", "MoveAfterSec=30")]), [""; 0]);
    assert_eq!(bench.scheduler.due(), Some(31_000));
    assert_eq!(bench.submit(&[("a.service", "MoveAfterSec=5")]), [AWAY]);
    bench.settled();
}

#[test]
fn what_isnt_to_run_leaves_at_once() {
    let (mut bench, _) = gone(&[("a.service", "MoveAfterSec=infinity")]);
    let left = "a.service left n1 (00000001): the host is gone";
    assert_eq!(bench.desire("a.service", Desired::Inactive), [left]);
    bench.settled();
}

/// The host had yet to stop it.
#[test]
fn what_was_told_to_leave_doesnt_wait() {
    let mut bench = Bench::new(1);
    bench.submit(&[("a.service", "MoveAfterSec=infinity")]);
    bench.then([Change::Unit("a.service".parse().unwrap(), None)]);
    bench.host(2);
    bench.submit(&[("a.service", "MoveAfterSec=infinity")]);
    assert_eq!(bench.then([Change::Machine(id(1), None)]), [AWAY]);
    bench.settled();
}

#[test]
fn who_follows_waits_as_long_and_a_circle_ends() {
    let follows = |name: &str, more: &str| format!("MachineOf={name}.service\n{more}");
    let (b, c, d) = (follows("c", ""), follows("d", ""), follows("b", "MoveAfterSec=50"));
    let units = [("a.service", "MachineOf=b.service"), ("b.service", &b), ("c.service", &c), ("d.service", &d)];
    let (mut bench, decided) = gone(&units);
    assert_eq!((decided, bench.scheduler.due()), (vec![], Some(51_000)));
    assert_eq!(at(&mut bench, 51_000).len(), 4);
    bench.settled();
}

#[test]
fn a_moment_that_is_yet_to_come_counts_from_now() {
    let (mut bench, _) = gone(&[("a.service", "MoveAfterSec=1min")]);
    let known = bench.scheduler.cluster().roster[&id(1)].value.clone();
    let ahead = KnownHost { gone: Some(Gone { since: 9_000_000, kept: 1, ..Gone::default() }), ..known };
    let ahead = Versioned { value: ahead, revision: bench.revision };
    bench.then([Change::Roster(id(1), Some(ahead))]);
    // Another leader begins.
    bench.scheduler = Scheduler::new(bench.scheduler.cluster().clone());
    assert_eq!(at(&mut bench, 5_000), [""; 0]);
    assert_eq!(at(&mut bench, 5_000), [""; 0]);
    let gone = bench.scheduler.cluster().roster[&id(1)].value.gone.unwrap();
    assert_eq!((gone.since, gone.kept, bench.scheduler.due()), (5_000, 1, Some(65_000)));
    bench.settled();
}

#[test]
fn a_host_for_which_units_wait_is_never_dropped() {
    let (mut bench, _) = gone(&[("a.service", "MoveAfterSec=infinity")]);
    let old = |at: u64| {
        let gone = Some(Gone { since: 2_000, ..Gone::default() });
        let value = KnownHost { gone, ..KnownHost::present(&Machine::new(id(at), "x")) };
        Change::Roster(id(at), Some(Versioned { value, revision: Revision(1) }))
    };
    bench.now = 9_000;
    bench.then((100..400).map(old));
    let roster = &bench.scheduler.cluster().roster;
    assert!(roster.contains_key(&id(1)) && roster.len() < 300, "others are: {}", roster.len());
    assert_eq!(bench.scheduler.cluster().placed_on(&"a.service".parse().unwrap()), Some(&id(1)));
}

#[test]
fn a_unit_that_belongs_to_its_host_stays_whatever_its_metadata_is() {
    let mut bench = Bench::new(2);
    bench.submit(&[("a.service", "MoveAfterSec=infinity\nMachineMetadata=zone=a")]);
    assert_eq!(bench.then([Change::Metadata(id(1), "zone".into(), Some("b".into()))]), [""; 0]);
    let said = explain(bench.scheduler.cluster(), &"a.service".parse().unwrap()).to_string();
    assert_eq!(said, "a.service: placed on 00000001\n  n1  metadata zone is b, wanted a");
    // Another file that doesn't fit there changes nothing either; one that conflicts moves it.
    bench.submit(&[("a.service", "MoveAfterSec=infinity\nMachineMetadata=zone=c")]);
    assert_eq!(bench.scheduler.cluster().placed_on(&"a.service".parse().unwrap()), Some(&id(1)));
    bench.settled();
}
