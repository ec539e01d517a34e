//! The reason of a failure is reported with it, once; a unit that restarts again and again is reported in a bounded
//! number of writes.

use std::time::Duration;

use super::super::*;
use super::world::*;
use crate::model::systemd::ActiveState;
use crate::model::unit::Target;

const A: &str = "a.service";

fn launched(text: &str) -> World {
    let mut world = World::new();
    world.assign(A, assignment(text, Target::Launched, 1));
    world.settle();
    world
}

impl World {
    /// The unit comes into this state by itself.
    fn turns(&mut self, active: ActiveState, sub: &'static str, result: &str, restarts: u32) {
        let invocation = format!("{restarts}");
        let exit = (result != "success").then(|| "exited 203/EXEC".into());
        let details = Details { result: result.into(), exit, restarts, invocation, ..Details::default() };
        self.details.insert(unit(A), details);
        self.troubled.insert(unit(A), (active, sub));
        self.input(Input::Event(Event::Changed(unit(A))));
    }

    fn report(&self) -> &UnitReport {
        &self.reports[&unit(A)]
    }
}

#[test]
fn a_failure_is_reported_once_with_its_reason_and_its_journal() {
    let mut world = launched(PLAIN);
    world.journal = Some(vec!["a: no such program".into()]);
    let before = world.written;
    world.turns(ActiveState::Failed, "failed", "exit-code", 0);
    assert_eq!(world.settle(), ["read a.service"]);
    let failure = world.report().failure.as_ref().unwrap();
    assert_eq!((failure.result.as_str(), failure.exit.as_deref()), ("exit-code", Some("exited 203/EXEC")));
    assert_eq!((failure.lines.as_slice(), world.written), (&["a: no such program".to_owned()][..], before + 1));
    // Neither a signal nor a full check writes or reads anything again.
    for input in [Input::Event(Event::Changed(unit(A))), Input::CheckAll] {
        world.input(input);
        assert!(world.settle().is_empty());
    }
    assert_eq!(world.written, before + 1);
    world.assign(A, assignment(PLAIN, Target::Launched, 2));
    world.details.clear();
    world.settle();
    assert_eq!((world.report().active.as_str(), &world.report().failure), ("active", &None));
}

#[test]
fn a_journal_that_cannot_be_read_delays_a_report_by_half_a_second() {
    let mut world = launched(PLAIN);
    world.journal = None;
    world.turns(ActiveState::Failed, "failed", "signal", 0);
    let begun = world.now;
    let until = world.pass().unwrap();
    assert_eq!((until - begun, world.report().active.as_str()), (Duration::from_millis(500), "active"));
    world.now = until;
    world.pass();
    assert_eq!((world.report().active.as_str(), world.report().failure.as_ref().unwrap().lines.len()), ("failed", 0));
    // The lines come late.
    let lines = vec!["late".to_owned()];
    world.input(Input::JournalRead { unit: unit(A), invocation: "0".into(), lines: lines.clone() });
    world.pass();
    assert_eq!(world.report().failure.as_ref().unwrap().lines, lines);
    // Those of another invocation are nobody's.
    world.input(Input::JournalRead { unit: unit(A), invocation: "7".into(), lines: vec!["other".into()] });
    world.pass();
    assert_eq!(world.report().failure.as_ref().unwrap().lines, lines);
}

#[test]
fn a_crash_loop_writes_at_a_bounded_rate_and_its_end_at_once() {
    let mut world = launched(RESTARTS);
    let before = world.written;
    for restarts in 0..300 {
        world.turns(ActiveState::Activating, "auto-restart", "exit-code", restarts);
        world.pass();
        world.now += Duration::from_millis(100);
        world.turns(ActiveState::Active, "running", "success", restarts + 1);
        world.pass();
        world.now += Duration::from_millis(100);
    }
    // A minute: at most one report of more restarts in ten seconds, and one of the crash that follows it.
    let written = world.written - before;
    assert!((6..=14).contains(&written), "{written} writes");
    world.turns(ActiveState::Failed, "failed", "start-limit-hit", 300);
    world.pass();
    let report = world.report();
    assert_eq!((report.active.as_str(), report.restarts), ("failed", 300));
    // What was asked for is reported at once, however many restarts there were.
    world.assign(A, assignment(RESTARTS, Target::Launched, 2));
    world.details.clear();
    world.pass();
    assert_eq!((world.report().generation, world.report().restarts), (Revision(2), 0));
}

#[test]
fn the_last_restart_of_many_is_reported_in_the_end() {
    let mut world = launched(RESTARTS);
    for restarts in 1..5 {
        world.turns(ActiveState::Active, "running", "success", restarts);
        world.pass();
        world.now += Duration::from_secs(1);
    }
    assert_eq!(world.report().restarts, 1);
    assert!(world.settle().is_empty());
    assert_eq!(world.report().restarts, 4);
    assert!(world.now <= Duration::from_secs(12), "{:?}", world.now);
}

/// It says something else ten times in a second for a minute while it starts.
#[test]
fn a_status_text_is_reported_while_it_starts_at_a_bounded_rate_and_never_afterwards() {
    let mut world = launched(NOTIFIES);
    let before = world.written;
    for number in 0..600 {
        let status = format!("loading {number} of 600\n\u{1b}[2J");
        world.details.insert(unit(A), Details { result: "success".into(), status, ..Details::default() });
        world.troubled.insert(unit(A), (ActiveState::Activating, "start"));
        world.input(Input::Event(Event::Changed(unit(A))));
        world.pass();
        if number == 0 {
            assert_eq!(world.report().status.as_deref(), Some("loading 0 of 600\\x0a\\x1b[2J"), "at once");
        }
        world.now += Duration::from_millis(100);
    }
    let written = world.written - before;
    assert!((6..=7).contains(&written), "{written} writes in a minute");
    assert!(world.settle().is_empty());
    assert!(world.report().status.as_ref().unwrap().starts_with("loading 599"), "the last one in the end");

    let before = world.written;
    world.troubled.insert(unit(A), (ActiveState::Active, "running"));
    for number in 0..100 {
        let status = format!("{number} requests");
        world.details.insert(unit(A), Details { result: "success".into(), status, ..Details::default() });
        world.input(Input::Event(Event::Changed(unit(A))));
        world.pass();
        world.now += Duration::from_secs(1);
    }
    assert_eq!((world.report().active.as_str(), &world.report().status), ("active", &None));
    assert_eq!(world.written - before, 1, "a unit that runs may say what it likes");
}

/// A unit without `Restart=` is never restarted by systemd: a thousand of them cost no question.
#[test]
fn a_unit_that_runs_is_only_asked_about_if_it_may_restart() {
    for (text, asked) in [(PLAIN, false), (RESTARTS, true)] {
        let mut world = launched(text);
        world.input(Input::Event(Event::Changed(unit(A))));
        world.input(Input::PassBegins);
        let mut inspects = false;
        loop {
            let action = world.state.next(world.at(), true);
            inspects |= matches!(action, Action::Inspect(_));
            if matches!(action, Action::Wait(_)) {
                break;
            }
            let outcome = world.carry_out(action);
            world.input(outcome);
        }
        assert_eq!(inspects, asked, "{text}");
    }
}
