//! What happens between two steps: a daemon that is killed, an answer that is lost, and a person who uses `systemctl`.

use super::super::*;
use super::world::{ONCE, OTHER, PLAIN, World, assignment, unit};
use super::{ActiveState, Target};
use crate::model::systemd::LoadState;

#[test]
fn a_unit_that_is_started_while_it_is_removed_is_stopped_before_the_removal_is_reported() {
    for (assigned, kill) in [(true, false), (true, true), (false, false)] {
        let mut world = World::new();
        world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
        world.settle();
        match assigned {
            true => world.assign("a.service", assignment(PLAIN, Target::Removed, 2)),
            false => world.unassign("a.service"),
        }
        world.pass();
        world.jobs_end();
        world.raced.insert(unit("a.service"));
        if kill {
            // The daemon is killed after the removal, before it has asked systemd again.
            let Action::Remove(names) = world.next_change() else { panic!("not a removal") };
            let _ = world.carry_out(Action::Remove(names));
            world.begin();
        }
        world.pass();
        assert!(world.stopping.contains(&unit("a.service")), "{:?}", world.done);
        let told = world.reports.get(&unit("a.service")).map(|report| report.target);
        assert_ne!(told, Some(Target::Removed), "killed: {kill}");
        world.settle();
        assert_eq!(world.runs(), [""; 0]);
        let told = world.reports.get(&unit("a.service")).map(|report| report.target);
        assert_eq!(told, assigned.then_some(Target::Removed));
    }
}

#[test]
fn a_restart_is_carried_out_also_if_the_answer_to_the_first_start_was_lost() {
    for kill in [false, true] {
        let mut world = World::new();
        world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
        loop {
            let change = world.next_change();
            let outcome = world.carry_out(change.clone());
            if matches!(change, Action::Start(_)) {
                break;
            }
            world.input(outcome);
        }
        assert!(!world.reports.contains_key(&unit("a.service")), "nothing was carried out yet");
        let restart = Some(Revision(2));
        world.assign("a.service", Assignment { restart, ..assignment(PLAIN, Target::Launched, 2) });
        if kill {
            world.begin();
        }
        assert_eq!(world.settle(), ["stop a.service", "start a.service"], "killed: {kill}");
        // The same for a stop.
        let mut world = World::new();
        world.assign("a.service", assignment(PLAIN, Target::Loaded, 1));
        world.settle();
        world.assign("a.service", assignment(PLAIN, Target::Launched, 2));
        let change = world.next_change();
        assert!(matches!(change, Action::Start(_)), "{change:?}");
        let _ = world.carry_out(change);
        world.assign("a.service", assignment(PLAIN, Target::Loaded, 3));
        if kill {
            world.begin();
        }
        assert_eq!(world.settle(), ["stop a.service"], "killed: {kill}");
    }
}

#[test]
fn a_daemon_that_is_killed_before_a_reload_leaves_it_to_the_next_one() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    world.settle();
    // A failed unit stays in systemd's memory.
    world.running.remove(&unit("a.service"));
    world.troubled.insert(unit("a.service"), (ActiveState::Failed, "failed"));
    world.input(Input::Event(Event::Changed(unit("a.service"))));
    world.settle();
    world.assign("a.service", assignment(OTHER, Target::Launched, 2));
    let change = world.next_change();
    assert!(matches!(change, Action::Install(_)), "{change:?}");
    let _ = world.carry_out(change);
    world.begin();
    assert_eq!(world.settle(), ["reset-failed a.service", "start a.service"]);
    let saved = world.saved.0.clone().unwrap();
    assert!(!saved[&unit("a.service")].reload, "once is enough");
}

#[test]
fn a_unit_that_a_person_stops_while_another_one_is_replaced_stays_down() {
    let mut world = World::new();
    for name in ["a.service", "b.service"] {
        world.assign(name, assignment(PLAIN, Target::Launched, 1));
    }
    world.settle();
    world.assign("a.service", assignment(OTHER, Target::Launched, 2));
    world.pass();
    assert_eq!(world.done, ["stop a.service"]);
    world.stopping.insert(unit("b.service"));
    world.input(Input::Event(Event::Changed(unit("b.service"))));
    assert_eq!(world.settle(), ["install a.service", "start a.service"]);
    assert_eq!(world.runs(), ["a.service"]);
}

#[test]
fn a_unit_that_a_drop_in_binds_to_a_replaced_one_comes_back_with_it() {
    let mut world = World::new();
    for name in ["a.service", "b.service"] {
        world.assign(name, assignment(PLAIN, Target::Launched, 1));
    }
    world.settle();
    world.drop_ins.insert(unit("b.service"), unit("a.service"));
    world.assign("a.service", assignment(OTHER, Target::Launched, 2));
    world.settle();
    assert_eq!(world.runs(), ["a.service", "b.service"]);
    // Also with one that is stopped and started again.
    world.assign("a.service", assignment(OTHER, Target::Loaded, 3));
    world.settle();
    assert_eq!(world.runs(), [""; 0]);
    world.assign("a.service", assignment(OTHER, Target::Launched, 4));
    world.settle();
    assert_eq!(world.runs(), ["a.service", "b.service"]);
}

#[test]
fn a_unit_that_was_installed_and_not_started_is_observed_in_the_next_pass() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    let change = world.next_change();
    assert!(matches!(change, Action::Install(_)), "{change:?}");
    let outcome = world.carry_out(change);
    world.input(outcome);
    // The pass is interrupted, and the unit isn't to be started any more.
    world.assign("a.service", assignment(PLAIN, Target::Loaded, 2));
    assert!(world.settle().is_empty());
    assert_eq!(world.reports[&unit("a.service")].load, LoadState::Loaded);
}

/// The daemon is suspended while it saves its boot state or waits for an answer, for longer than its lease.
#[test]
fn a_job_is_not_requested_if_the_lease_ends_after_it_was_decided_on() {
    for after_the_stop in [false, true] {
        let mut world = World::new();
        world.assign("down.service", assignment(PLAIN, Target::Launched, 1));
        world.assign("up.service", assignment(PLAIN, Target::Loaded, 1));
        world.settle();
        world.assign("down.service", assignment(PLAIN, Target::Loaded, 2));
        world.assign("up.service", assignment(PLAIN, Target::Launched, 2));
        let stop = world.next_change();
        assert!(matches!(stop, Action::Stop(_)), "{stop:?}");
        if after_the_stop {
            let outcome = world.carry_out(stop);
            world.input(outcome);
        }
        let at = world.at();
        assert_eq!(world.state.next(at, false), Action::Wait(Some(at.monotonic + LEASE_RETRY)));
        let rest: &[&str] =
            if after_the_stop { &["start up.service"] } else { &["stop down.service", "start up.service"] };
        assert_eq!(world.settle(), rest, "{after_the_stop}");
        assert_eq!(world.runs(), ["up.service"]);
    }
}

/// A step fails, which is saved. The retry succeeds, which is reported but can't be saved, and the daemon is killed. A
/// report of before the failure, on the other hand, says nothing about the retry.
#[test]
fn a_retry_that_was_reported_but_could_not_be_saved_is_not_repeated() {
    for reported in [true, false] {
        let mut world = World::new();
        world.now = Duration::from_secs(100);
        world.assign("o.service", assignment(ONCE, Target::Launched, 1));
        let Action::Install(files) = world.next_change() else { panic!("the file is written first") };
        let full = Error::Io("No space left on device".into());
        world.input(Input::Installed(files.into_iter().map(|(name, text)| (name, text, Err(full.clone()))).collect()));
        world.pass();
        assert!(world.reports[&unit("o.service")].error.is_some());
        world.writable = false;
        world.now += Duration::from_secs(60);
        assert_eq!(world.settle(), ["install o.service", "start o.service"]);
        // It has ended when the next daemon looks.
        world.running.clear();
        let report = world.reports.get_mut(&unit("o.service")).unwrap();
        assert_eq!((report.generation, report.error.as_ref()), (Revision(1), None));
        if !reported {
            report.since = 99_000;
        }
        world.begin();
        let again = if reported { vec![] } else { vec!["start o.service"] };
        assert_eq!(world.settle(), again);
    }
}
