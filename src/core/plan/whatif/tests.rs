//! What is told of losses, hosts that join and units that start, in small clusters.

use std::time::Duration;

use super::super::drain::tests::{Bench, drain, id, name};
use super::super::schedule::Brake;
use super::*;
use crate::model::cluster::Versioned;
use crate::model::file::UnitFile;
use crate::model::machine::Machine;
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::unit::{Desired, Unit};

/// A host by its number, or as a new one.
fn host(id: &MachineId) -> String {
    match u64::from_str_radix(id.short(), 16).unwrap() {
        at @ 0..=999 => format!("n{at}"),
        _ => "new".into(),
    }
}

fn lost(hosts: &[u64]) -> BTreeSet<MachineId> {
    hosts.iter().map(|at| id(*at)).collect()
}

fn lose(hosts: &[u64]) -> Supposed {
    Supposed { lost: lost(hosts), ..Supposed::default() }
}

fn started(unit: &str, section: &str) -> Vec<Change> {
    let text = format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n");
    let file = UnitFile::parse(text.as_bytes()).unwrap();
    let value = Versioned { value: Constraints::parse(&file).unwrap().into(), revision: Revision(9) };
    let unit_ = Unit::new(Desired::Launched, file.hash(), Revision(9));
    vec![Change::File(file.hash(), Some(value)), Change::Unit(name(unit), Some(unit_))]
}

impl WhatIf {
    /// A line for each unit.
    fn lines(&self) -> Vec<String> {
        let from = |from: &Option<MachineId>| from.as_ref().map_or("-".into(), host);
        let after = |ms: u64| if ms == 0 { String::new() } else { format!(" after {} s", ms / 1000) };
        let moves = self.moves.iter();
        let moves = moves.map(|it| format!("{} {} -> {}{}", it.unit, from(&it.from), host(&it.to), after(it.after)));
        let waits = |kind: &'static str, all: &[Wait]| {
            let all = all.iter().map(|it| format!("{kind} {} {}", it.unit, from(&it.from)));
            all.collect::<Vec<_>>()
        };
        let globals = |kind: &'static str, all: &BTreeSet<(MachineId, UnitName)>| {
            all.iter().map(|(on, unit)| format!("{kind} {unit} {}", host(on))).collect::<Vec<_>>()
        };
        let mut all: Vec<String> = moves.collect();
        all.extend(waits("waits", &self.waits));
        all.extend(waits("bound", &self.bound).iter().zip(&self.bound).map(|(line, it)| format!("{line}: {}", it.why)));
        all.extend(waits("waited", &self.waited));
        all.extend(globals("lost", &self.globals_lost));
        all.extend(globals("gained", &self.globals_gained));
        all
    }
}

impl Bench {
    fn what_if(&mut self, supposed: &Supposed) -> WhatIf {
        self.each(supposed, &[]).0
    }

    /// Afterwards, everything is as it was.
    fn each(&mut self, supposed: &Supposed, losses: &[BTreeSet<MachineId>]) -> (WhatIf, Vec<WhatIf>) {
        let before = self.scheduler.cluster().clone();
        let found = what_if(&mut self.scheduler, supposed, losses, self.now, &|| false);
        let after = Cluster { revision: before.revision, ..self.scheduler.cluster().clone() };
        assert!(after == before, "it is as it was");
        assert!(self.scheduler.check_itself(self.now, &BTreeSet::new()).is_empty());
        assert!(found.0.is_complete && found.1.iter().all(|one| one.is_complete));
        found
    }
}

/// Everything is on n1, in zone a; then n2 and n3 have joined, in zone b.
fn one_full_host(units: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new(1);
    // Hours pass before the epoch, otherwise.
    bench.now = 1_764_000_000_000;
    bench.start(units);
    for at in [2, 3] {
        let metadata = [("zone".to_owned(), "b".to_owned())].into();
        let machine = Machine { metadata, ..Machine::new(id(at), format!("n{at}")) };
        bench.scheduler.apply(Change::Machine(id(at), Some(machine)));
    }
    bench.settle();
    bench
}

#[test]
fn nothing_follows_from_nothing() {
    let mut bench = Bench::new(2);
    bench.start(&[("a.service", ""), ("b.service", "Global=true"), ("c.service", "MachineMetadata=gpu")]);
    let found = bench.what_if(&Supposed::default());
    assert_eq!(found.lines(), ["waited c.service -"]);
    assert_eq!((found.decisions, found.held), (0, None));
}

#[test]
fn units_of_a_lost_host_move_wait_or_stay_with_it() {
    let mut bench = one_full_host(&[
        ("data.service", "MachineOf=pin.service\nMoveAfterSec=infinity"),
        ("free.service", ""),
        ("late.service", "MoveAfterSec=10min"),
        ("later.service", "MoveAfterSec=1h"),
        ("log.service", "Global=true"),
        ("old.service", "MachineMetadata=gpu"),
        ("only.service", "MachineMetadata=zone=a"),
        ("pin.service", "MachineID=00000001"),
        ("tied.service", "MachineOf=pin.service"),
    ]);
    let found = bench.what_if(&lose(&[1]));
    let expected = [
        "free.service n1 -> n2",
        "late.service n1 -> n3 after 600 s",
        "later.service n1 -> n2 after 3600 s",
        "waits only.service n1",
        "bound data.service n1: it belongs to its host (MoveAfterSec=infinity)",
        "bound pin.service n1: it runs on that host only (MachineID=)",
        "bound tied.service n1: it must be with pin.service (MachineOf=)",
        "waited old.service -",
        "lost log.service n1",
    ];
    assert_eq!(found.lines(), expected);
    assert_eq!((found.units_of(&lost(&[1])), found.held), (7, None));
    assert!(found.waits.iter().chain(&found.waited).all(|wait| wait.why.contains("metadata")), "{found:?}");
}

#[test]
fn units_that_wait_because_of_a_loss_are_told_apart_from_those_that_wait_anyway() {
    let mut bench = one_full_host(&[("web@1.service", "Conflicts=web@*"), ("web@2.service", "Conflicts=web@*")]);
    bench.start(&[("web@3.service", "Conflicts=web@*"), ("web@4.service", "Conflicts=web@*\nMachineMetadata=zone=b")]);
    let before = bench.what_if(&lose(&[])).lines();
    assert_eq!(before, ["waited web@4.service -"]);
    assert_eq!(bench.what_if(&lose(&[1])).lines(), ["waits web@1.service n1", "waited web@4.service -"]);
    assert_eq!(bench.what_if(&lose(&[2])).lines(), ["waits web@2.service n2", "waited web@4.service -"]);
}

#[test]
fn hosts_join_and_units_start() {
    let mut bench = one_full_host(&[("old.service", "MachineMetadata=zone=c"), ("log.service", "Global=true")]);
    let zone = |zone: &str| Metadata::from([("zone".to_owned(), zone.to_owned())]);
    let added = vec![zone("c"), zone("d")];
    let found = bench.what_if(&Supposed { added: added.clone(), ..Supposed::default() });
    let expected = ["old.service - -> new", "gained log.service new", "gained log.service new"];
    assert_eq!(found.lines(), expected);
    assert_eq!(found.joined.values().collect::<Vec<_>>(), ["new-2", "new-1"]);
    let submitted = started("new.service", "MachineMetadata=zone=d");
    let found = bench.what_if(&Supposed { submitted: submitted.clone(), ..Supposed::default() });
    assert_eq!(found.lines(), ["waits new.service -", "waited old.service -"]);
    let found = bench.what_if(&Supposed { added, submitted, lost: lost(&[1, 2, 3]) });
    assert_eq!(found.moves.len(), 2, "{found:?}");
    assert_eq!(found.globals_lost.len(), 3);
}

#[test]
fn an_added_host_is_like_most_others() {
    let mut bench = Bench::new(5);
    for (at, memory) in [(1, 1000), (2, 1000), (3, 2000), (4, 2000), (5, 8000)] {
        let known = bench.scheduler.cluster().machines[&id(at)].clone();
        let mut metadata = known.metadata.clone();
        metadata.insert("site".into(), "x".into());
        let builtin = [("@memory".to_owned(), memory.to_string())].into();
        bench.scheduler.apply(Change::Machine(id(at), Some(Machine { metadata, builtin, ..known })));
    }
    bench.settle();
    let new = joining::machines(bench.scheduler.cluster(), &[[("zone".to_owned(), "z".to_owned())].into()]);
    assert_eq!(new[0].builtin["@memory"], "2000", "of two kinds that are equally usual, the larger one");
    let metadata: Vec<String> = new[0].metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(metadata, ["site=x", "zone=z"]);
}

#[test]
fn units_of_many_hosts_are_held_first() {
    let mut bench = Bench::new(5);
    bench.start(&[("a.service", ""), ("b.service", ""), ("c.service", ""), ("d.service", ""), ("e.service", "")]);
    let brake = Brake::new(33, Duration::from_secs(300), Duration::from_secs(9));
    let scheduler = std::mem::replace(&mut bench.scheduler, Scheduler::new(Cluster::default()));
    bench.scheduler = scheduler.with_brake(brake);
    let found = bench.what_if(&lose(&[1, 2, 3]));
    assert_eq!((found.moves.len(), found.held), (3, Some(300_000)), "{found:?}");
    let found = bench.what_if(&lose(&[1, 2]));
    assert_eq!((found.moves.len(), found.held), (2, None), "that others may follow is soon known");
}

#[test]
fn a_host_that_is_gone_already_may_be_lost_for_good() {
    let mut bench = one_full_host(&[("late.service", "MoveAfterSec=1h"), ("data.service", "MoveAfterSec=infinity")]);
    bench.scheduler.apply(Change::Machine(id(1), None));
    bench.settle();
    assert_eq!(bench.what_if(&lose(&[2])).lines(), [""; 0], "the time of another host doesn't pass");
    let expected =
        ["late.service n1 -> n2 after 3600 s", "bound data.service n1: it belongs to its host (MoveAfterSec=infinity)"];
    assert_eq!(bench.what_if(&lose(&[1])).lines(), expected);
}

#[test]
fn units_on_drained_hosts_are_lost_with_them() {
    let mut bench = Bench::new(2);
    bench.start(&[("a.service", "MachineMetadata=zone=b")]);
    bench.drain(2, drain(|_| ()));
    bench.settle();
    assert_eq!(bench.what_if(&lose(&[2])).lines(), ["waits a.service n2"]);
}

#[test]
fn each_loss_is_looked_at_alone_and_it_ends_when_it_is_enough() {
    let mut bench = one_full_host(&[("a.service", "MachineMetadata=zone=a"), ("b.service", "")]);
    let losses = [lost(&[1]), lost(&[2]), lost(&[1, 2, 3])];
    let (_, each) = bench.each(&Supposed::default(), &losses);
    let alone: Vec<WhatIf> =
        losses.iter().map(|lost| bench.what_if(&Supposed { lost: lost.clone(), ..lose(&[]) })).collect();
    assert_eq!(each, alone);
    let zone = vec![Metadata::from([("zone".to_owned(), "a".to_owned())])];
    let (first, each) = bench.each(&Supposed { added: zone, ..Supposed::default() }, &losses);
    assert_eq!((first.joined.len(), first.moves.len()), (1, 0));
    assert_eq!(each.iter().map(|one| one.waits.len()).collect::<Vec<_>>(), [0, 0, 0], "they come on top");
    let (_, some) = what_if(&mut bench.scheduler, &Supposed::default(), &losses, bench.now, &|| true);
    assert_eq!(some.len(), 1);
}
