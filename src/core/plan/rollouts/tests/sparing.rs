//! Spares in the store and in the scheduler: where they come from, who takes their place, and that none is left over.

use super::*;
use crate::plan::gate::is_spare;

/// A file of the set with `Spare=1`.
fn spared(program: &str) -> UnitFile {
    file(program, "[X-Rollout]\nSpare=1\nHealthySec=1")
}

impl Bench {
    /// A set of one, launched and settled.
    fn of_one(mut self, file: &UnitFile) -> Self {
        self.ask_one(file);
        self.settle();
        self
    }

    fn ask_one(&mut self, file: &UnitFile) {
        self.ask(SET, file, |set| (set.desired, set.replicas) = (Desired::Inactive, Some(1)));
        self.ask("web@1.service", file, |_| {});
    }

    fn spares(&self) -> Vec<&str> {
        self.store.gates.keys().filter(|name| is_spare(&self.store, name)).map(UnitName::as_str).collect()
    }

    /// How many instances of the set are healthy with what their hosts are told.
    fn serving(&self) -> usize {
        let serves = |(host, assignments): (&MachineId, &BTreeMap<UnitName, Versioned<Assignment>>)| {
            let members = assignments.iter().filter(|(name, _)| name.number_in(&name_of_set()).is_some());
            let serves = |(name, assignment): &(&UnitName, &Versioned<Assignment>)| {
                let (assignment, report) = (&assignment.value, self.store.report(name, host));
                // A new generation of the same file stops nothing.
                let is_well = |report: &UnitReport| report.hash == assignment.hash && report.is_healthy(false);
                assignment.target == Target::Launched && report.is_some_and(is_well)
            };
            members.filter(serves).count()
        };
        self.store.schedule.iter().map(serves).sum()
    }

    /// Everybody does what there is to do, for so long; at no time do fewer than `least` instances serve.
    fn serve(&mut self, seconds: u64, least: usize) {
        for _ in 0..seconds * 4 {
            self.decide();
            assert!(self.serving() >= least, "{} serve, {:#?}", self.serving(), self.log);
            self.answer();
            self.now += 250;
        }
        self.decide();
    }
}

fn name_of_set() -> UnitName {
    name(SET)
}

#[test]
fn a_set_of_one_is_never_away() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(2) }.of_one(&spared("old"));
        bench.ask_one(&spared("new"));
        bench.decide();
        assert_eq!((bench.spares(), bench.gated()), (vec!["web@2.service"], vec!["web@1.service", "web@2.service"]));
        let assignment = launched(&bench.store, &name("web@2.service")).map(|(_, assignment)| assignment.hash.clone());
        assert_eq!(assignment, Some(spared("new").hash()));
        bench.serve(10, 1);
        assert_eq!((bench.rollout().phase, bench.gated()), (Phase::Done, vec![]), "{:#?}", bench.log);
        bench.settle();
        assert_eq!(launched(&bench.store, &name("web@1.service")).unwrap().1.hash, spared("new").hash());
        let left =
            bench.store.schedule.values().flat_map(BTreeMap::keys).filter(|unit| unit.as_str() != "web@1.service");
        assert_eq!(left.count(), 0);
    }
}

#[test]
fn a_bad_file_stops_nobody() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) };
        bench.ask_set(&spared("old"));
        bench.settle();
        let generations = |bench: &Bench| -> Vec<Revision> {
            (1..=3)
                .map(|at| launched(&bench.store, &name(&format!("web@{at}.service"))).unwrap().1.generation)
                .collect()
        };
        let before = generations(&bench);
        bench.bad.push(spared("bad").hash());
        bench.ask_set(&spared("bad"));
        bench.serve(10, 3);
        assert_eq!((bench.rollout().phase, bench.spares().len()), (Phase::Reverted, 0), "{:#?}", bench.log);
        assert!(bench.rollout().why.as_ref().unwrap().starts_with("web@4.service failed on"));
        assert_eq!((generations(&bench), bench.runs()), (before, three(&spared("old"))));
        bench.settle();
        // The next file has a spare again, under the same name.
        bench.ask_set(&spared("new"));
        bench.serve(20, 3);
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.runs()), (Phase::Done, three(&spared("new"))));
    }
}

#[test]
fn a_spare_that_no_host_fits_is_left_out() {
    let alone = |program| file(program, "[X-Fleet]\nConflicts=web@*\n[X-Rollout]\nSpare=1\nHealthySec=1");
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) };
        bench.ask_set(&alone("old"));
        bench.settle();
        bench.ask_set(&alone("new"));
        bench.serve(20, 2);
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.runs()), (Phase::Done, three(&alone("new"))), "{:#?}", bench.log);
        assert!(bench.spares().is_empty());
    }
}

#[test]
fn a_member_that_is_added_takes_the_place_of_a_spare_without_a_restart() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) }.of_one(&spared("old"));
        bench.ask_one(&spared("new"));
        bench.decide();
        bench.answer();
        let host = launched(&bench.store, &name("web@2.service")).unwrap().0.clone();
        bench.ask(SET, &spared("new"), |set| set.replicas = Some(2));
        bench.ask("web@2.service", &spared("new"), |_| {});
        bench.decide();
        let (now, assignment) = launched(&bench.store, &name("web@2.service")).unwrap();
        assert_eq!((now, &assignment.hash, assignment.restart), (&host, &spared("new").hash(), None));
        assert_eq!(bench.spares(), ["web@3.service"], "{:#?}", bench.log);
        bench.serve(20, 1);
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.serving()), (Phase::Done, 2));
    }
}

#[test]
fn a_spare_that_becomes_a_member_while_its_file_is_taken_back_serves_until_another_does() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(4) };
        bench.ask_set(&spared("old"));
        bench.settle();
        bench.bad_on = bench.store.placed_on(&name("web@3.service")).cloned();
        bench.bad.push(spared("new").hash());
        bench.ask_set(&spared("new"));
        bench.decide();
        while bench.rollout().phase != Phase::Reverting {
            bench.answer();
            bench.now += 250;
            bench.decide();
        }
        bench.ask(SET, &spared("new"), |set| set.replicas = Some(4));
        bench.ask("web@4.service", &spared("new"), |_| {});
        bench.serve(20, 3);
        assert_eq!((bench.rollout().phase, bench.spares().len()), (Phase::Reverted, 0), "{:#?}", bench.log);
        assert_eq!(launched(&bench.store, &name("web@4.service")).unwrap().1.hash, spared("old").hash());
    }
}

#[test]
fn the_end_of_a_set_is_the_end_of_its_spares() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) }.of_one(&spared("old"));
        bench.ask_one(&spared("new"));
        bench.decide();
        bench.answer();
        for unit in [SET, "web@1.service"] {
            bench.tell(Change::Unit(name(unit), None));
        }
        bench.settle();
        assert!(bench.store.gates.is_empty() && bench.store.rollouts.is_empty());
        assert_eq!(bench.store.schedule.values().map(BTreeMap::len).sum::<usize>(), 0);
        // One that is stopped by a person has none either.
        let mut bench = Bench { restless, ..Bench::new(3) }.of_one(&spared("old"));
        bench.ask_one(&spared("new"));
        bench.decide();
        bench.ask("web@1.service", &spared("new"), |unit| unit.desired = Desired::Loaded);
        bench.settle();
        assert_eq!((bench.spares().len(), bench.serving()), (0, 0));
    }
}

#[test]
fn a_newer_file_overtakes_while_the_spare_serves() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(2) }.of_one(&spared("old"));
        bench.ask_one(&spared("new"));
        bench.serve(1, 1);
        bench.ask_one(&spared("newer"));
        bench.serve(20, 1);
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.spares().len()), (Phase::Done, 0), "{:#?}", bench.log);
        assert_eq!(launched(&bench.store, &name("web@1.service")).unwrap().1.hash, spared("newer").hash());
        // The way back is such a file, too.
        bench.ask_one(&spared("bad"));
        bench.serve(1, 1);
        bench.ask_one(&spared("newer"));
        bench.serve(20, 1);
        bench.settle();
        assert_eq!((bench.spares().len(), bench.serving()), (0, 1));
    }
}

#[test]
fn riders_come_and_go_with_a_spare() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(2) };
        let log = file("log", "[X-Fleet]\nMachineOf=web@%i.service\nReplicas=web@.service");
        bench.ask("log@.service", &log, |rider| (rider.desired, rider.replicas) = (Desired::Inactive, Some(1)));
        bench.ask("log@1.service", &log, |_| {});
        bench.ask_one(&spared("old"));
        bench.ask(SET, &spared("old"), |set| set.riders = Some(Box::new([name("log@.service")].into())));
        bench.settle();
        bench.ask_one(&spared("new"));
        bench.decide();
        assert_eq!(bench.spares(), ["log@2.service", "web@2.service"]);
        let host = |unit: &str| bench.store.placed_on(&name(unit)).cloned();
        assert_eq!(host("log@2.service"), host("web@2.service"));
        bench.serve(10, 1);
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.spares().len()), (Phase::Done, 0));
        assert_eq!(bench.store.schedule.values().map(BTreeMap::len).sum::<usize>(), 2);
    }
}
