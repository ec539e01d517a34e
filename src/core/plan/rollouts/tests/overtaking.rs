//! Newer files, members that come and go, and counts that change: in every phase of a rollout.

use super::*;
use crate::model::rollout::{Ask, Overtaken, Request};

impl Bench {
    /// A set of three, whose rollout to the returned file has got to `phase`, and a hook.
    fn in_phase(phase: Phase, restless: bool) -> (Self, UnitFile) {
        let mut bench = Self { restless, ..Self::new(3) };
        let hook = file("hook", "Type=oneshot");
        bench.ask("hook.service", &hook, |unit| unit.desired = Desired::Inactive);
        bench.ask_set(&web("old"));
        bench.settle();
        let policy = match phase {
            Phase::Before => "Before=hook.service",
            Phase::After => "After=hook.service",
            Phase::Canary | Phase::Waiting => "Canary=1",
            _ => "",
        };
        let new = file("new", &format!("[X-Rollout]\nHealthySec=1\n{policy}"));
        match phase {
            Phase::Before | Phase::After => bench.busy.push(hook.hash()),
            Phase::Reverting | Phase::Reverted => bench.bad.push(new.hash()),
            Phase::Stuck => bench.bad = vec![web("old").hash(), new.hash()],
            _ => {}
        }
        bench.ask_set(&new);
        bench.decide();
        if phase == Phase::Paused {
            bench.ask_rollout(Request::Pause);
        }
        for _ in 0..200 {
            bench.decide();
            if bench.rollout().phase == phase {
                return (bench, new);
            }
            bench.answer();
            bench.now += 250;
        }
        panic!("{phase:?} isn't reached: {:#?}", bench.log);
    }

    fn ask_rollout(&mut self, what: Request) {
        let generation = self.store.revision.next();
        let record = self.store.units[&name(SET)].clone();
        let ask = Some(Box::new(Ask { what, generation, by: None }));
        self.tell(Change::Unit(name(SET), Some(Unit { ask, ..record })));
    }

    /// The set has so many members from now on.
    fn scale(&mut self, file: &UnitFile, count: u32) {
        self.ask(SET, file, |set| set.replicas = Some(count));
        for number in 1..=9 {
            let member = name(&format!("web@{number}.service"));
            match self.store.units.contains_key(&member) {
                true if number > count => self.tell(Change::Unit(member, None)),
                false if number <= count => self.ask(member.as_str(), file, |_| {}),
                _ => {}
            }
        }
    }

    /// Whatever it waits for happens.
    fn let_it_end(&mut self) {
        self.busy.clear();
        self.pass(20);
        match self.rollout().phase {
            Phase::Waiting => self.ask_rollout(Request::Promote),
            Phase::Paused => self.ask_rollout(Request::Resume),
            _ => {}
        }
        self.settle();
    }
}

#[test]
fn a_newer_file_overtakes_in_every_phase() {
    for (phase, restless) in Phase::ALL.into_iter().flat_map(|phase| [(phase, false), (phase, true)]) {
        let (mut bench, new) = Bench::in_phase(phase, restless);
        let fix = web("fix");
        bench.ask_set(&fix);
        bench.decide();
        let reached = match phase {
            Phase::Before | Phase::Reverting => 0,
            Phase::After => 3,
            _ => 1,
        };
        let overtaken = Overtaken { target: new.hash(), reached, members: 3 };
        let expected = (!phase.is_over()).then_some(overtaken);
        assert_eq!(bench.rollout().overtook.as_deref(), expected.as_ref(), "{phase:?} {:#?}", bench.log);
        let stable = if phase == Phase::Done { new.hash() } else { web("old").hash() };
        assert_eq!(bench.rollout().from.hash, stable, "{phase:?}");
        bench.settle();
        let ended = (bench.runs(), bench.rollout().phase, bench.gated().len());
        assert_eq!(ended, (three(&fix), Phase::Done, 0), "{phase:?} {:#?}", bench.log);
        assert!(bench.rollout().why.is_none() && bench.rollout().failed.is_none(), "{:?}", bench.rollout());
    }
}

#[test]
fn members_are_added_and_destroyed_in_every_phase() {
    for (phase, restless) in Phase::ALL.into_iter().flat_map(|phase| [(phase, false), (phase, true)]) {
        let (mut bench, new) = Bench::in_phase(phase, restless);
        let members = |bench: &Bench| -> Vec<UnitHash> {
            let all = bench.store.units.keys().filter(|unit| unit.number_in(&name(SET)).is_some());
            all.map(|unit| launched(&bench.store, unit).unwrap().1.hash.clone()).collect()
        };
        bench.scale(&new, 5);
        bench.pass(2);
        let added = &members(&bench)[3..];
        let has_new = matches!(phase, Phase::Rolling | Phase::After | Phase::Done);
        let expected = if has_new { new.hash() } else { web("old").hash() };
        assert_eq!(added, [expected.clone(), expected], "{phase:?} {:#?}", bench.log);
        bench.scale(&new, 2);
        bench.let_it_end();
        let fails = matches!(phase, Phase::Reverting | Phase::Reverted | Phase::Stuck);
        let file = if fails { web("old").hash() } else { new.hash() };
        assert_eq!(members(&bench), [file.clone(), file], "{phase:?} {:#?}", bench.log);
        let ended = bench.rollout().phase;
        assert_eq!(ended == Phase::Done, !fails, "{phase:?} {ended:?} {:#?}", bench.log);
        assert_eq!(bench.gated().len(), if fails { 2 } else { 0 }, "{phase:?}");
    }
}

#[test]
fn a_member_that_is_destroyed_on_its_way_holds_nobody_up() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) };
        bench.ask_set(&web("old"));
        bench.settle();
        bench.ask_set(&web("new"));
        bench.decide();
        assert_eq!(bench.gated(), ["web@1.service", "web@2.service"]);
        bench.scale(&web("new"), 2);
        bench.decide();
        assert_eq!(bench.gated(), ["web@1.service"], "{:#?}", bench.log);
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.gated().len(), bench.store.placements.len()), (Phase::Done, 0, 2));
    }
}

#[test]
fn a_member_that_waits_for_a_host_may_be_destroyed() {
    let alone = |program| file(program, "[X-Fleet]\nConflicts=web@*\n[X-Rollout]\nHealthySec=1");
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(2) };
        bench.ask_set(&alone("old"));
        bench.settle();
        assert!(launched(&bench.store, &name("web@3.service")).is_none());
        bench.ask_set(&alone("new"));
        bench.pass(2);
        bench.scale(&alone("new"), 2);
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.gated().len(), bench.store.placements.len()), (Phase::Done, 0, 2));
    }
}
