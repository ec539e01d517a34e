//! Any order of inputs, and any lost outcome.

use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::world::*;
use crate::model::unit::Target;

/// What happens to a host, in any order.
#[derive(Debug, Clone)]
enum Op {
    Assign(usize, usize, Target, bool),
    Unassign(usize),
    /// Some actions of a pass. The last one is carried out or not, and its outcome is lost.
    LosesOutcome(u8, bool),
    Pass,
    JobsEnd,
    Signal(usize),
    Resync,
    CheckAll,
    List,
    /// The daemon is killed and restarted.
    Restart,
    TimePasses,
}

const NAMES: [&str; 3] = ["a.service", "base.service", "c.service"];

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let target = prop_oneof![4 => Just(Target::Launched), 1 => Just(Target::Loaded), 1 => Just(Target::Removed)];
    let op = prop_oneof![
        4 => (0..3usize, 0..2usize, target, any::<bool>())
            .prop_map(|(name, text, target, again)| Op::Assign(name, text, target, again)),
        1 => (0..3usize).prop_map(Op::Unassign),
        4 => (0..12u8, any::<bool>()).prop_map(|(actions, done)| Op::LosesOutcome(actions, done)),
        4 => Just(Op::Pass),
        3 => Just(Op::JobsEnd),
        1 => (0..3usize).prop_map(Op::Signal),
        1 => Just(Op::Resync),
        1 => Just(Op::CheckAll),
        1 => Just(Op::List),
        2 => Just(Op::Restart),
        1 => Just(Op::TimePasses),
    ];
    proptest::collection::vec(op, 0..40)
}

impl World {
    fn happens(&mut self, op: &Op) {
        match op {
            Op::Assign(name, text, target, again) => {
                self.revision += 1;
                let new = assignment([PLAIN, OTHER][*text], *target, self.revision);
                let before = self.assigned.get(&unit(NAMES[*name])).and_then(|assignment| assignment.restart);
                let restart = if *again { Some(new.generation) } else { before };
                self.assign(NAMES[*name], Assignment { restart, ..new });
            }
            Op::Unassign(name) => self.unassign(NAMES[*name]),
            Op::LosesOutcome(actions, done) => {
                self.input(Input::PassBegins);
                for left in (0..=*actions).rev() {
                    let action = match self.state.next(self.at(), true) {
                        Action::Wait(_) => return,
                        action => action,
                    };
                    if left > 0 {
                        let outcome = self.carry_out(action);
                        self.input(outcome);
                    } else if *done {
                        drop(self.carry_out(action));
                    }
                }
            }
            Op::Pass => drop(self.pass()),
            Op::JobsEnd => self.jobs_end(),
            Op::Signal(name) => self.input(Input::Event(Event::Changed(unit(NAMES[*name])))),
            Op::Resync => self.input(Input::Event(Event::Resync)),
            Op::CheckAll => self.input(Input::CheckAll),
            Op::List => self.list(),
            Op::Restart => self.begin(),
            Op::TimePasses => self.now += Duration::from_secs(10),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, and whichever outcomes are lost: a unit that runs as assigned is never
    /// stopped ([`World::check_stop`]), nothing is removed while it runs, and in the end the host matches its
    /// assignments.
    #[test]
    fn any_order_of_inputs_and_any_lost_outcome_converges(ops in ops()) {
        let mut world = World::new();
        for op in &ops {
            world.happens(op);
        }
        // Lost outcomes may have been writes, which only a full check detects.
        world.input(Input::CheckAll);
        world.settle();
        for name in NAMES.map(unit) {
            let assigned = world.assigned.get(&name);
            let live = assigned.filter(|assignment| assignment.target != Target::Removed);
            let file = world.disk.get(&name).map(|text| hash(text));
            prop_assert_eq!(file.as_ref(), live.map(|assignment| &assignment.hash), "{} on disk", name);
            let reported = world.reports.get(&name).map(|report| (report.generation, report.target));
            let expected = assigned.map(|assignment| (assignment.generation, assignment.target));
            prop_assert_eq!(reported, expected, "the report of {}", name);
            match live.map(|assignment| (assignment.target, assignment.hash.clone(), assignment.restart)) {
                Some((Target::Launched, file, restart)) => {
                    let as_asked = |running: &Reason| running.0 == file && running.1 >= restart;
                    prop_assert!(world.running.get(&name).is_some_and(as_asked), "{} doesn't run as asked", name);
                }
                Some((Target::Loaded, file, _)) => {
                    let running = world.running.get(&name).map(|(running, _)| running);
                    prop_assert!(running.is_none_or(|running| *running == file), "{} runs with another file", name);
                }
                _ => prop_assert!(!world.running.contains_key(&name), "{} still runs", name),
            }
        }
    }
}
