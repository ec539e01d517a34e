//! Units that end with the host's lease (`OnDisconnect=stop`): when systemd holds it, and what is started again.

use super::super::*;
use super::Target;
use super::world::{NEEDY, OTHER, PLAIN, STOPS, World, assignment, hash, unit};

fn world() -> World {
    let mut world = World::new();
    world.assign("base.service", assignment(STOPS, Target::Launched, 1));
    world
}

#[test]
fn systemd_holds_the_lease_before_such_a_unit_starts_and_not_after_the_last_one() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    assert_eq!(world.settle(), ["install a.service", "start a.service"], "nothing is asked for other units");
    world.assign("base.service", assignment(STOPS, Target::Launched, 2));
    assert_eq!(world.settle(), ["install base.service", "hold the lease", "start base.service"]);
    world.assign("base.service", assignment(STOPS, Target::Removed, 3));
    assert_eq!(world.settle(), ["stop base.service", "remove base.service", "let go of the lease"]);
}

#[test]
fn a_restarted_daemon_holds_the_lease_again_and_starts_nothing() {
    let mut world = world();
    world.settle();
    world.begin();
    assert_eq!(world.settle(), ["hold the lease"]);
    assert_eq!(world.runs(), ["base.service"]);
}

#[test]
fn what_systemd_has_stopped_is_started_once_the_lease_is_held_again() {
    // A daemon that was there all the time; one that was restarted after that; one that was dead meanwhile.
    for (sees_it, restarts) in [(true, false), (true, true), (false, true)] {
        let mut world = world();
        world.settle();
        world.lapse(&["base.service"]);
        if sees_it {
            world.signal(&["base.service"]);
            assert!(world.pass_while(false).is_some(), "it waits for the lease");
            assert_eq!(world.done, [""; 0]);
        }
        if restarts {
            world.begin();
        }
        assert_eq!(world.settle(), ["hold the lease", "start base.service"], "{sees_it} {restarts}");
    }
}

#[test]
fn a_unit_that_was_down_before_stays_down() {
    for restarts in [false, true] {
        let mut world = world();
        world.settle();
        // A person stops it, while the lease is held.
        world.running.clear();
        world.signal(&["base.service"]);
        assert_eq!(world.settle(), [""; 0]);
        world.lapse(&[]);
        if restarts {
            world.begin();
        } else {
            world.input(Input::CheckAll);
            world.input(Input::Registered);
            world.list();
        }
        assert_eq!(world.settle(), ["hold the lease"], "restarts: {restarts}");
        assert_eq!(world.runs(), [""; 0]);
    }
}

#[test]
fn a_unit_that_needs_it_comes_back_with_it() {
    let mut world = world();
    world.assign("needy.service", assignment(NEEDY, Target::Launched, 2));
    world.settle();
    world.lapse(&["base.service", "needy.service"]);
    world.signal(&["needy.service", "base.service"]);
    assert_eq!(world.settle(), ["hold the lease", "start base.service needy.service"]);
}

#[test]
fn a_start_that_came_too_late_for_the_lease_is_repeated() {
    let mut world = world();
    world.settle();
    world.lapse(&["base.service"]);
    world.signal(&["base.service"]);
    world.pass_while(false);
    world.settle();
    // systemd let go of the lease between the request and the job.
    world.lapse(&["base.service"]);
    let refused = Event::JobDone { unit: unit("base.service"), result: "dependency".into() };
    world.input(Input::Event(refused));
    assert_eq!(world.settle(), ["hold the lease", "start base.service"]);
}

/// A daemon that has requested the start of a unit, which waits for another one.
fn waiting() -> World {
    let mut world = world();
    world.starting.insert(unit("base.service"));
    assert_eq!(world.settle(), ["install base.service", "hold the lease", "start base.service"]);
    world.starting.clear();
    world
}

fn job_ends(result: &str) -> Input {
    Input::Event(Event::JobDone { unit: unit("base.service"), result: result.into() })
}

#[test]
fn a_unit_that_came_up_and_went_down_with_the_lease_unobserved_is_started_again() {
    // The signal that its start has ended is the only one that arrives, or the bus was away.
    for heard in [job_ends("done"), job_ends("canceled"), Input::Event(Event::Resync)] {
        let mut world = waiting();
        world.lapse(&["base.service"]);
        world.input(heard.clone());
        assert_eq!(world.settle(), ["hold the lease", "start base.service"], "{heard:?}");
    }
}

#[test]
fn the_next_daemon_knows_that_nobody_has_seen_a_unit_up() {
    let mut world = waiting();
    world.input(job_ends("done"));
    world.state.unsaved.first = true;
    let save = world.state.next(world.at(), true);
    assert!(matches!(save, Action::Save(_)), "{save:?}");
    world.carry_out(save);
    world.lapse(&["base.service"]);
    world.begin();
    assert_eq!(world.settle(), ["hold the lease", "start base.service"]);
}

#[test]
fn a_unit_whose_start_has_failed_or_that_has_ended_by_itself_stays_down_without_the_lease() {
    let once = "[Service]\nType=oneshot\nExecStart=/bin/o\n[X-Fleet]\nOnDisconnect=stop\n";
    for (text, result) in [(STOPS, "failed"), (STOPS, "timeout"), (once, "done")] {
        let mut world = World::new();
        world.texts.insert(hash(text), text.into());
        world.assign("base.service", assignment(text, Target::Launched, 1));
        world.starting.insert(unit("base.service"));
        world.settle();
        world.starting.clear();
        world.lapse(&["base.service"]);
        world.input(job_ends(result));
        world.input(Input::CheckAll);
        assert_eq!(world.settle(), [""; 0], "{result}");
        assert_eq!(world.runs(), [""; 0], "{result}");
    }
}

#[test]
fn a_lease_that_ended_while_no_such_unit_ran_is_held_before_the_next_one_starts() {
    let mut world = world();
    world.settle();
    world.assign("base.service", assignment(STOPS, Target::Loaded, 2));
    world.settle();
    world.lapse(&[]);
    world.assign("base.service", assignment(STOPS, Target::Launched, 3));
    assert_eq!(world.settle(), ["hold the lease", "start base.service"]);
}

#[test]
fn a_unit_that_leaves_while_it_is_down_is_removed_and_not_started() {
    let mut world = world();
    world.settle();
    world.lapse(&["base.service"]);
    world.signal(&["base.service"]);
    world.pass_while(false);
    world.unassign("base.service");
    world.input(Input::Registered);
    world.list();
    let done = world.settle();
    assert!(!done.contains(&"start base.service".into()) && world.disk.is_empty(), "{done:?}");
}

#[test]
fn a_systemd_that_cannot_hold_the_lease_holds_up_such_units_only() {
    let mut world = world();
    world.cant_hold = Some(Error::Refused("no transient units here".into()));
    world.assign("a.service", assignment(OTHER, Target::Launched, 2));
    world.pass();
    world.pass();
    assert_eq!(world.runs(), ["a.service"]);
    let error = world.reports[&unit("base.service")].error.clone();
    assert!(error.is_some_and(|error| error.contains("no transient units here")));
    world.cant_hold = None;
    world.now += BACK_OFF;
    world.settle();
    assert_eq!(world.runs(), ["a.service", "base.service"]);
}
