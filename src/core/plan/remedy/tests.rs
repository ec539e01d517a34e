//! Each kind of fix, in small clusters where nothing cheaper helps.

use super::super::drain::tests::{Bench, drain, id, name};
use super::*;
use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::machine::Machine;
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::unit::{Desired, Unit};

fn file(section: &str) -> UnitFile {
    UnitFile::parse(format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n").as_bytes()).unwrap()
}

/// A host by its number.
fn host(id: &MachineId) -> String {
    format!("n{}", u64::from_str_radix(id.short(), 16).unwrap())
}

fn told(remedy: &Remedy) -> String {
    let step = |step: &Step| match step {
        Step::Start(unit) => format!("start {unit}"),
        Step::Open { host: on, cordoned, drained } => format!("open {} {cordoned} {drained}", host(on)),
        Step::Metadata { host: on, set, unset } => {
            let set = set.iter().map(|(key, value)| format!(" {key}={value}"));
            let unset = unset.iter().map(|key| format!(" !{key}"));
            format!("metadata {}{}", host(on), set.chain(unset).collect::<String>())
        }
        Step::Move { unit, to } => format!("move {unit} {}", host(to)),
        Step::Drop { line, option, .. } => format!("drop {line} {option}"),
        Step::Join { like } => format!("join {}", host(like)),
    };
    let steps: Vec<String> = remedy.steps.iter().map(step).collect();
    format!("{} -> {}", steps.join(", "), remedy.host.as_ref().map_or("new".into(), host))
}

impl Bench {
    fn remedies(&mut self, unit: &str, section: &str) -> Vec<String> {
        let before = self.scheduler.cluster().clone();
        let found = remedies(&mut self.scheduler, &name(unit), Some(&file(section)), self.now);
        let after = Cluster { revision: before.revision, ..self.scheduler.cluster().clone() };
        assert!(after == before, "it is as it was");
        assert!(found.attempts <= ATTEMPTS && found.by_itself.is_none());
        found.found.iter().map(told).collect()
    }

    fn metadata(&mut self, at: u64, key: &str, value: &str) {
        self.scheduler.apply(Change::Metadata(id(at), key.into(), Some(value.into())));
    }

    fn memory(&mut self, at: u64, megabytes: u64) {
        let builtin = [("@memory".to_owned(), megabytes.to_string())].into();
        let machine = Machine { builtin, ..self.scheduler.cluster().machines[&id(at)].clone() };
        self.scheduler.apply(Change::Machine(id(at), Some(machine)));
    }
}

#[test]
fn a_host_that_is_closed_is_opened() {
    let mut bench = Bench::new(2);
    let zone = "MachineMetadata=zone=b";
    bench.drain(2, drain(|_| {}));
    bench.start(&[("a.service", zone)]);
    let found = bench.remedies("a.service", zone);
    assert_eq!(found, ["open n2 false true -> n2", "metadata n1 zone=b -> n1", "drop 4 MachineMetadata=zone=b -> n1"]);
}

#[test]
fn metadata_is_set_and_taken() {
    let mut bench = Bench::new(1);
    bench.metadata(1, "gpu", "old");
    let section = "MachineMetadata=zone=b zone=c !gpu disk rack>=7";
    bench.start(&[("a.service", section)]);
    let found = bench.remedies("a.service", section);
    assert_eq!(found[0], "metadata n1 disk=yes rack=7 zone=b !gpu -> n1");
    let mut bench = Bench::new(1);
    bench.start(&[("here.service", "MachineMetadata=zone=a"), ("a.service", "MachineMetadata=zone=b")]);
    let found = bench.remedies("a.service", "MachineMetadata=zone=b");
    assert_eq!(found, ["drop 4 MachineMetadata=zone=b -> n1"], "another unit would have to leave");
    let section = "MachineMetadata=@arch=riscv64";
    bench.start(&[("arch.service", section)]);
    assert_eq!(bench.remedies("arch.service", section), ["drop 4 MachineMetadata=@arch=riscv64 -> n1"]);
}

#[test]
fn another_unit_moves_that_could_run_elsewhere() {
    let mut bench = Bench::new(2);
    let section = "Conflicts=b.service\nMachineMetadata=zone=a";
    bench.start(&[("b.service", "MachinePrefers=zone=a")]);
    bench.start(&[("a.service", section)]);
    let found = bench.remedies("a.service", section);
    assert_eq!(
        found,
        ["metadata n2 zone=a -> n2", "move b.service n2 -> n1", "drop 4 Conflicts=b.service -> n1"],
        "{found:?}"
    );
    let section = "Port=80\nMachineID=00000001";
    bench.start(&[("c.service", "Port=80\nMachinePrefers=zone=a")]);
    bench.start(&[("d.service", section)]);
    assert_eq!(bench.remedies("d.service", section)[0], "move c.service n2 -> n1");
}

#[test]
fn room_is_made_by_the_smallest_unit_that_makes_enough() {
    let mut bench = Bench::new(2);
    bench.memory(1, 1000);
    bench.start(&[("big.service", "Memory=500M"), ("mid.service", "Memory=300M"), ("small.service", "Memory=150M")]);
    bench.memory(2, 600);
    let section = "Memory=250M\nMachineMetadata=zone=a";
    bench.start(&[("a.service", section)]);
    let found = bench.remedies("a.service", section);
    assert_eq!(found[..2], ["metadata n2 zone=a -> n2", "move mid.service n2 -> n1"], "{found:?}");
    let section = "Memory=5G";
    bench.start(&[("huge.service", section)]);
    assert_eq!(bench.remedies("huge.service", section), ["drop 4 Memory=5G -> n2"], "no such host helps");
}

#[test]
fn what_it_needs_is_started() {
    let mut bench = Bench::new(1);
    let section = "MachineOf=b.service";
    bench.start(&[("b.service", ""), ("a.service", section)]);
    let unit = Unit { desired: Desired::Inactive, ..bench.scheduler.cluster().units[&name("b.service")].clone() };
    bench.scheduler.apply(Change::Unit(name("b.service"), Some(unit)));
    bench.settle();
    assert_eq!(bench.remedies("a.service", section), ["start b.service -> n1", "drop 4 MachineOf=b.service -> n1"]);
    let section = "MachineOf=never.service";
    bench.start(&[("c.service", section)]);
    assert_eq!(bench.remedies("c.service", section), ["drop 4 MachineOf=never.service -> n1"]);
}

#[test]
fn another_host_is_added_where_all_are_full() {
    let mut bench = Bench::new(2);
    let section = "Conflicts=w@*";
    bench.start(&[("w@1.service", section), ("w@2.service", section), ("w@3.service", section)]);
    let found = bench.remedies("w@3.service", section);
    assert_eq!(found, ["join n1 -> new"], "w@1 and w@2 have the option too");
}

#[test]
fn two_steps_on_one_host_count_together() {
    let mut bench = Bench::new(1);
    bench.drain(1, drain(|_| {}));
    let section = "MachineMetadata=gpu=yes";
    bench.start(&[("a.service", section)]);
    assert_eq!(bench.remedies("a.service", section), ["open n1 false true, metadata n1 gpu=yes -> n1"]);
}

#[test]
fn a_set_gets_another_file_as_a_whole() {
    let mut bench = Bench::new(1);
    let section = "MachineMetadata=gpu=yes";
    bench.start(&[("w@.service", section), ("w@1.service", section), ("w@2.service", section)]);
    let found = remedies(&mut bench.scheduler, &name("w@1.service"), Some(&file(section)), 0);
    let Step::Drop { units, .. } = &found.found[1].steps[0] else { panic!("{:?}", found.found) };
    assert_eq!(units, &["w@.service", "w@1.service", "w@2.service"].map(name));
}

#[test]
fn a_unit_that_runs_or_will_needs_nothing() {
    let mut bench = Bench::new(1);
    bench.start(&[("a.service", "Conflicts=b.service")]);
    assert_eq!(bench.remedies("a.service", "Conflicts=b.service"), [""; 0]);
    let value = Versioned { value: Constraints::parse(&file("")).unwrap().into(), revision: Revision(1) };
    bench.scheduler.apply(Change::File(file("").hash(), Some(value)));
    let unit = Unit::new(Desired::Launched, file("").hash(), Revision(9));
    bench.scheduler.apply(Change::Unit(name("b.service"), Some(unit)));
    bench.step();
    let unit = Unit { desired: Desired::Inactive, ..bench.scheduler.cluster().units[&name("a.service")].clone() };
    bench.scheduler.apply(Change::Unit(name("a.service"), Some(unit)));
    bench.step();
    let found = remedies(&mut bench.scheduler, &name("b.service"), Some(&file("")), 0);
    assert_eq!((found.by_itself, found.attempts), (Some(id(1)), 0), "as soon as n1 has stopped the other one");
}
