//! `Memory=` and `CPU=`: units arrive where enough is left, and what is on a host stays there.

use super::*;
use crate::model::resources::Resources;
use crate::model::settings::{Order, Settings};

/// A host with so many MiB and CPUs, of which some MiB are reserved.
fn hardware(at: u64, memory: u64, cpus: u64, reserved: u64) -> Change {
    let builtin = [("@memory".to_owned(), memory.to_string()), ("@cpus".to_owned(), cpus.to_string())].into();
    let reserved = Resources { memory: reserved << 20, cpu: 0 };
    Change::Machine(id(at), Some(Machine { builtin, reserved, ..Machine::new(id(at), format!("n{at}")) }))
}

fn settings(value: Settings) -> Change {
    Change::Settings(Some(Versioned { value, revision: Revision(1) }))
}

fn bench(memory: &[u64]) -> Bench {
    let mut bench = Bench::new(0);
    bench.then((1..).zip(memory).map(|(at, memory)| hardware(at, *memory, 4, 0)));
    bench
}

/// Where each of these is, by the number of its host; 0 for one that waits.
fn places(bench: &Bench, names: &[&str]) -> Vec<u64> {
    let at = |name: &&str| {
        let host = bench.scheduler.cluster().placed_on(&format!("{name}.service").parse().unwrap())?;
        (1..20).find(|at| id(*at) == *host)
    };
    names.iter().map(|name| at(name).unwrap_or_default()).collect()
}

fn explained(bench: &Bench, name: &str) -> String {
    explain(bench.scheduler.cluster(), &name.parse().unwrap()).to_string()
}

#[test]
fn units_that_arrive_together_must_not_take_the_same() {
    let mut bench = bench(&[1000, 600]);
    let said = bench.submit(&[
        ("a.service", "Memory=600M"),
        ("b.service", "Memory=600M"),
        ("c.service", "Memory=300M\nCPU=150%"),
        ("d.service", "Memory=300M\nCPU=300%"),
        ("e.service", ""),
    ]);
    assert_eq!(places(&bench, &["a", "b", "c", "d", "e"]), [1, 2, 1, 0, 1]);
    assert!(said.contains(&"d.service waits: 2 of 2 hosts: too little memory or CPU".to_owned()), "{said:?}");
    let waits = explained(&bench, "d.service");
    let n1 = "n1  300 MiB of memory wanted, 100 MiB free (1000 MiB, 900 MiB taken by 2 units)";
    let cpu = "n1  300% of CPU wanted, 250% free (400%, 150% taken by 2 units)";
    let n2 = "n2  300 MiB of memory wanted, 0 bytes free (600 MiB, 600 MiB taken by 1 unit)";
    for line in [n1, cpu, n2] {
        assert!(waits.contains(line), "{line}\n{waits}");
    }
    bench.answer();
    bench.desire("a.service", Desired::Inactive);
    assert_eq!(places(&bench, &["d"]), [0], "it has yet to stop");
    bench.answer();
    assert_eq!(places(&bench, &["d"]), [0], "there is memory now, but no CPU");
    bench.submit(&[("c.service", "Memory=300M\nCPU=100%")]);
    assert_eq!(places(&bench, &["c", "d"]), [1, 1], "a unit that takes less makes room too");
    bench.settled();
}

#[test]
fn what_is_on_a_host_stays_there_although_it_is_overfull() {
    let mut bench = bench(&[1000, 1000]);
    bench.submit(&[("a.service", "Memory=900M"), ("b.service", "Memory=500M")]);
    bench.answer();
    assert_eq!(bench.then([hardware(1, 500, 4, 400), hardware(2, 400, 4, 0)]), [""; 0]);
    assert_eq!(bench.submit(&[("a.service", "Memory=2G")]), ["a.service updated on n1 (00000001)"]);
    bench.answer();
    assert_eq!(places(&bench, &["a", "b"]), [1, 2]);
    bench.submit(&[("c.service", "Memory=1M")]);
    let waits = explained(&bench, "c.service");
    let n1 = "n1  1 MiB of memory wanted, 0 bytes free (500 MiB, 400 MiB reserved, 2 GiB taken by 1 unit)";
    assert!(waits.contains(n1), "{waits}");
    bench.then([settings(Settings { overcommit_memory: Some(150), ..Settings::default() })]);
    assert_eq!(places(&bench, &["c"]), [2], "600 MiB of 400");
    bench.submit(&[("d.service", "Memory=100M")]);
    let n2 = "n2  100 MiB of memory wanted, 99 MiB free (400 MiB, overcommitted to 150%, 501 MiB taken by 2 units)";
    assert!(explained(&bench, "d.service").contains(n2), "{}", explained(&bench, "d.service"));
    bench.settled();
}

/// The store has lost an assignment, and a full host reports that the unit runs there.
#[test]
fn a_unit_that_runs_on_a_full_host_is_taken_over_there() {
    let mut bench = bench(&[500, 1000]);
    bench.submit(&[("a.service", "Memory=500M\nMachineID=00000001")]);
    bench.answer();
    let runs = Assignment::new(UnitHash::new("0"), Target::Launched, Revision(1));
    bench.then([report(&"b.service".parse().unwrap(), &id(1), &runs)]);
    assert_eq!(
        bench.submit(&[("b.service", "Memory=500M")]),
        ["b.service placed on n1 (00000001): it already runs there"]
    );
}

#[test]
fn a_group_needs_room_for_all_of_it() {
    let mut bench = bench(&[500, 700]);
    let cycle = [
        ("a.service", "Memory=300M\nMachineOf=b.service"),
        ("b.service", "Memory=300M\nMachineOf=a.service"),
        ("c.service", "Memory=200M"),
    ];
    bench.submit(&cycle);
    assert_eq!(places(&bench, &["a", "b", "c"]), [2, 2, 1]);
    bench.submit(&[("d.service", "Memory=200M"), ("e.service", "Memory=200M\nMachineOf=d.service")]);
    assert_eq!(places(&bench, &["d", "e"]), [1, 0], "one of them fits alone");
    let waits = explained(&bench, "e.service");
    assert!(waits.contains("n1  200 MiB of memory wanted, 100 MiB free"), "{waits}");
    bench.settled();
    let mut bench = self::bench(&[500]);
    bench.submit(&cycle);
    assert_eq!(places(&bench, &["a", "b"]), [0, 0]);
    assert!(explained(&bench, "a.service").contains("b.service isn't placed anywhere"));
    bench.then([hardware(2, 600, 1, 0)]);
    assert_eq!(places(&bench, &["a", "b"]), [2, 2]);
    bench.settled();
}

#[test]
fn a_global_unit_is_where_there_is_room_for_it() {
    let mut bench = bench(&[1000, 300, 1000]);
    bench.submit(&[("a.service", "Memory=900M\nMachineID=00000001")]);
    bench.submit(&[("every.service", "Global=true\nMemory=400M")]);
    let on = |bench: &Bench| -> Vec<bool> {
        let there =
            |at: u64| bench.scheduler.cluster().schedule.get(&id(at)).is_some_and(|t| t.contains_key("every.service"));
        (1..=3).map(there).collect()
    };
    assert_eq!(on(&bench), [false, false, true]);
    bench.answer();
    bench.desire("a.service", Desired::Inactive);
    bench.answer();
    bench.then([settings(Settings { overcommit_memory: Some(200), ..Settings::default() })]);
    assert_eq!(on(&bench), [true; 3]);
    bench.settled();
}

#[test]
fn the_share_that_is_taken_decides_before_the_number_of_units() {
    let mut bench = bench(&[1000, 1000, 4000]);
    bench.submit(&[("a.service", "Memory=500M\nMachineID=00000001")]);
    bench.submit(&[("b.service", ""), ("c.service", ""), ("d.service", "")]);
    assert_eq!(places(&bench, &["b", "c", "d"]), [2, 3, 2], "the others have less taken, and are equal in that");
    bench.submit(&[("e.service", "Memory=1000M\nMachineID=00000003")]);
    bench.submit(&[("f.service", "Memory=100M")]);
    assert_eq!(places(&bench, &["f"]), [2], "0% and two units, against 25% and two");
    let mut bench = self::bench(&[1000, 1000, 4000]);
    bench.then([settings(Settings { placement: Some(Order::Pack), ..Settings::default() })]);
    let said = bench.submit(&[
        ("a.service", "Memory=500M\nMachineID=00000001"),
        ("b.service", "Memory=400M"),
        ("c.service", "Memory=200M"),
        ("d.service", ""),
    ]);
    assert_eq!(places(&bench, &["a", "b", "c", "d"]), [1, 1, 3, 2], "what declares nothing isn't packed");
    assert_eq!(said[1], "b.service placed on n1 (00000001): the fullest host that fits");
    bench.settled();
}

/// It may be of an earlier version.
#[test]
fn a_host_that_does_not_report_what_it_has_takes_only_what_declares_nothing() {
    let mut bench = Bench::new(1);
    bench.submit(&[("a.service", "Memory=1M"), ("b.service", "")]);
    assert_eq!(places(&bench, &["a", "b"]), [0, 1]);
    let waits = explained(&bench, "a.service");
    assert!(waits.contains("n1  1 MiB of memory wanted, and the host doesn't report how much it has"), "{waits}");
    bench.then([hardware(1, 1, 1, 0)]);
    assert_eq!(places(&bench, &["a"]), [1]);
    bench.settled();
}
