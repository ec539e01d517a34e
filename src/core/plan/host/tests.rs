//! The actions of a host one by one; and that any order of inputs converges.

mod bodies;
mod diagnosis;
mod forecast;
mod health;
mod interrupted;
mod lease;
mod order;
mod restored;
mod texts;
mod world;

use super::*;
use crate::model::systemd::ActiveState;
use crate::model::unit::Target;
use world::{GLOBAL, ID, NEEDY, ONCE, OTHER, PLAIN, World, assignment, hash, unit};

#[test]
fn files_come_first_then_jobs_and_what_leaves_is_stopped_before_it_is_removed() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    world.assign("b.service", assignment(PLAIN, Target::Loaded, 2));
    assert_eq!(world.settle(), ["install a.service b.service", "start a.service"]);
    assert_eq!(world.reports[&unit("b.service")].target, Target::Loaded);
    world.assign("a.service", assignment(PLAIN, Target::Removed, 3));
    world.unassign("b.service");
    // b waits for the removals of the next pass, together with a.
    assert_eq!(world.settle(), ["stop a.service", "remove b.service", "remove a.service"]);
    assert_eq!(world.reports[&unit("a.service")].target, Target::Removed);
    assert!(!world.reports.contains_key(&unit("b.service")));
}

#[test]
fn nothing_is_begun_before_the_assignments_are_known_or_while_the_lease_may_be_over() {
    let mut world = World::new();
    world.input(Input::Registered);
    world.assigned.insert(unit("a.service"), assignment(PLAIN, Target::Launched, 1));
    assert_eq!(world.pass(), None);
    assert!(world.done.is_empty() && world.reports.is_empty());
    world.list();
    assert_eq!(world.pass_while(false), Some(LEASE_RETRY));
    assert!(world.done.is_empty() && world.reports.is_empty());
    assert_eq!(world.settle(), ["install a.service", "start a.service"]);
}

#[test]
fn a_start_waits_for_a_unit_that_it_would_pull_back_in() {
    let mut world = World::new();
    world.assign("base.service", assignment(PLAIN, Target::Launched, 1));
    world.settle();
    world.assign("base.service", assignment(PLAIN, Target::Removed, 2));
    world.assign("top.service", assignment(NEEDY, Target::Launched, 2));
    world.pass();
    assert_eq!(world.done, ["install top.service", "stop base.service"]);
    world.pass();
    assert!(world.done.is_empty(), "{:?}", world.done);
    world.jobs_end();
    let wakes = world.pass();
    assert_eq!(world.done, ["remove base.service"], "systemd may still have it in memory");
    world.now = wakes.unwrap();
    world.pass();
    assert_eq!(world.done, ["start top.service"]);
}

#[test]
fn units_stopped_with_a_replaced_one_come_back_and_units_that_were_down_do_not() {
    for kill in [false, true] {
        let mut world = World::new();
        for (name, text) in [("base.service", PLAIN), ("down.service", NEEDY), ("top.service", NEEDY)] {
            world.assign(name, assignment(text, Target::Launched, 1));
        }
        world.settle();
        world.running.remove(&unit("down.service"));
        world.input(Input::Event(Event::Changed(unit("down.service"))));
        world.settle();
        world.assign("base.service", assignment(OTHER, Target::Launched, 2));
        world.pass();
        assert_eq!(world.done, ["stop base.service"]);
        world.jobs_end();
        if kill {
            world.begin();
        }
        assert_eq!(world.settle(), ["install base.service", "start base.service top.service"], "killed: {kill}");
    }
}

#[test]
fn a_unit_that_goes_with_one_that_stays_down_does_not_come_back_because_another_is_replaced_meanwhile() {
    let mut world = World::new();
    for (name, text) in [("base.service", PLAIN), ("other.service", PLAIN), ("top.service", NEEDY)] {
        world.assign(name, assignment(text, Target::Launched, 1));
    }
    world.settle();
    world.assign("other.service", assignment(OTHER, Target::Launched, 2));
    world.assign("base.service", assignment(PLAIN, Target::Loaded, 2));
    world.pass();
    assert_eq!(world.done, ["stop base.service other.service"]);
    world.input(Input::Event(Event::Changed(unit("top.service"))));
    world.pass();
    assert!(world.done.is_empty(), "{:?}", world.done);
    world.jobs_end();
    assert_eq!(world.settle(), ["install other.service", "start other.service"]);
    assert_eq!(world.runs(), ["other.service"]);
}

#[test]
fn a_restart_is_done_once_however_often_the_daemon_begins() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    world.settle();
    let restart = Assignment { restart: Some(Revision(5)), ..assignment(PLAIN, Target::Launched, 5) };
    world.assign("a.service", restart);
    assert_eq!(world.settle(), ["stop a.service", "start a.service"]);
    for _ in 0..3 {
        world.begin();
        assert!(world.settle().is_empty());
    }
}

/// The boot state can't be written; the report in the store shows what was done.
#[test]
fn what_was_reported_and_not_saved_is_not_done_again() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    world.settle();
    world.writable = false;
    let restart = Assignment { restart: Some(Revision(5)), ..assignment(PLAIN, Target::Launched, 5) };
    world.assign("a.service", restart);
    assert_eq!(world.settle(), ["stop a.service", "start a.service"]);
    for _ in 0..3 {
        world.begin();
        assert!(world.settle().is_empty());
    }
    // The unit is stopped and started again while there is no daemon, by the next of which only the last is seen.
    world.assign("a.service", Assignment { restart: Some(Revision(5)), ..assignment(PLAIN, Target::Launched, 7) });
    world.begin();
    assert_eq!(world.settle(), ["start a.service"], "the restart was done");
    world.assign("a.service", Assignment { restart: Some(Revision(8)), ..assignment(PLAIN, Target::Launched, 8) });
    world.begin();
    assert_eq!(world.settle(), ["stop a.service", "start a.service"], "another one");
}

#[test]
fn a_template_comes_with_a_unit_that_needs_it_and_goes_with_the_last_one() {
    let bringing = |text: &str, target, generation| Assignment {
        templates: [(unit("echo@.service"), hash(text))].into(),
        ..assignment(OTHER, target, generation)
    };
    let mut world = World::new();
    world.assign("echo.socket", bringing(PLAIN, Target::Launched, 1));
    assert_eq!(world.settle(), ["install echo.socket echo@.service", "start echo.socket"]);
    world.assign("other.socket", bringing(PLAIN, Target::Launched, 2));
    assert_eq!(world.settle(), ["install other.socket", "start other.socket"]);
    let reported: Vec<&str> = world.reports.keys().map(UnitName::as_str).collect();
    assert_eq!((reported, world.state.count()), (vec!["echo.socket", "other.socket"], 2));
    for _ in 0..2 {
        world.begin();
        assert!(world.settle().is_empty());
    }
    // Another file of the template: neither socket is touched. While that arrives, the newer assignment counts.
    world.assign("other.socket", bringing(NEEDY, Target::Launched, 2));
    world.assign("echo.socket", bringing(NEEDY, Target::Launched, 1));
    assert_eq!(world.settle(), ["install echo@.service"]);
    for (name, generation) in [("other.socket", 3), ("echo.socket", 4)] {
        world.assign(name, bringing(NEEDY, Target::Removed, generation));
        assert_eq!(world.settle(), [format!("stop {name}"), format!("remove {name}")]);
        world.unassign(name);
    }
    assert_eq!(world.settle(), ["remove echo@.service"]);
    assert!(world.disk.is_empty() && world.reports.is_empty() && world.state.is_settled());
}

#[test]
fn a_template_stays_with_a_unit_that_keeps_running_without_an_assignment() {
    let mut world = World::new();
    let templates = [(unit("echo@.service"), hash(PLAIN))].into();
    world.assign("g.socket", Assignment { templates, ..assignment(GLOBAL, Target::Launched, 1) });
    world.settle();
    world.wanted = [(unit("g.socket"), hash(GLOBAL))].into();
    // The leader has taken the host for dead, and has not assigned the unit again yet.
    world.assigned.clear();
    world.begin();
    world.pass();
    assert!(world.done.is_empty() && world.disk.contains_key(&unit("echo@.service")), "{:?}", world.done);
    // It has decided against it.
    world.wanted.clear();
    assert_eq!(world.settle(), ["stop g.socket", "remove echo@.service", "remove g.socket"]);
}

#[test]
fn files_that_were_here_before_are_left_alone_until_they_are_assigned() {
    let mut world = World::new();
    for name in ["kept.service", "taken.service"] {
        world.disk.insert(unit(name), PLAIN.into());
        world.running.insert(unit(name), (hash(PLAIN), None));
    }
    world.begin();
    assert!(world.settle().is_empty());
    assert_eq!(world.saved.2, Some([unit("kept.service"), unit("taken.service")].into()));
    world.assign("taken.service", assignment(PLAIN, Target::Launched, 1));
    assert_eq!(world.settle(), ["start taken.service"], "adopted as it runs");
    world.unassign("taken.service");
    world.begin();
    world.settle();
    assert_eq!(world.runs(), ["kept.service"]);
    assert_eq!(world.saved.2, Some([unit("kept.service")].into()));
}

/// A host that was dead to the cluster has no assignments until the leader writes them again.
#[test]
fn a_returned_host_stops_what_can_run_nowhere_else_only_when_the_leader_has_decided() {
    let pinned = format!("{PLAIN}[X-Fleet]\nMachineID={ID}\n");
    let begin = || {
        let mut world = World::new();
        world.texts.insert(hash(&pinned), pinned.clone());
        world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
        world.assign("g.service", assignment(GLOBAL, Target::Launched, 1));
        world.assign("p.service", assignment(&pinned, Target::Launched, 1));
        world.settle();
        world.wanted =
            world.assigned.iter().map(|(name, assignment)| (name.clone(), assignment.hash.clone())).collect();
        let before = std::mem::take(&mut world.assigned);
        world.input(Input::Registered);
        world.list();
        (world, before)
    };
    // A unit that can run elsewhere is stopped at once; the leader assigns the others as before.
    let (mut world, before) = begin();
    let looks_again = world.pass().unwrap();
    assert_eq!(world.done, ["stop a.service"]);
    world.jobs_end();
    for name in ["g.service", "p.service"] {
        world.assign(name, before[&unit(name)].clone());
    }
    assert_eq!(world.settle(), ["remove a.service"]);
    assert!(looks_again <= world.now + Duration::from_secs(1));
    // One of them was destroyed meanwhile, the other one got another file.
    let (mut world, _) = begin();
    world.wanted.remove(&unit("g.service"));
    world.wanted.insert(unit("p.service"), hash(PLAIN));
    world.pass();
    assert_eq!(world.done, ["stop a.service g.service p.service"]);
    // There is no leader for a long time; then there is one that hasn't seen for as long that the host is back, because
    // its plans take long or it is suspended; then it decides, after some time, that the host doesn't fit.
    let (mut world, _) = begin();
    for (leader, seen) in [(None, true), (Some(Revision(7)), false), (Some(Revision(7)), true)] {
        // A daemon that adopts the lease of the previous one waits as that one did.
        world.begin();
        (world.leader, world.seen) = (leader, seen);
        for _ in 0..60 {
            world.jobs_end();
            world.pass();
            world.now += Duration::from_secs(1);
            assert!(world.running.contains_key(&unit("g.service")), "{:?} after {:?}", world.done, world.now);
        }
    }
    world.now += Duration::from_secs(1);
    world.settle();
    assert!(world.running.is_empty());
}

/// The store may end a lease before it expires. The host then sees that its assignments are gone before it knows that
/// it was treated as dead.
#[test]
fn a_host_that_loses_its_assignments_before_its_lease_stops_only_what_can_run_elsewhere() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    world.assign("g.service", assignment(GLOBAL, Target::Launched, 1));
    world.settle();
    world.wanted = world.assigned.iter().map(|(name, assignment)| (name.clone(), assignment.hash.clone())).collect();
    let before = world.assigned.clone();
    for name in ["a.service", "g.service"] {
        world.unassign(name);
    }
    world.pass();
    assert_eq!(world.done, ["stop a.service"]);
    world.jobs_end();
    world.input(Input::Registered);
    world.list();
    world.assign("g.service", before[&unit("g.service")].clone());
    assert_eq!(world.settle(), ["remove a.service"]);
    // What the leader has asked to be removed is removed.
    let mut gone = before[&unit("g.service")].clone();
    gone.target = Target::Removed;
    world.assign("g.service", gone);
    world.settle();
    world.unassign("g.service");
    assert!(world.settle().is_empty() && world.running.is_empty());
}

#[test]
fn a_step_that_achieves_nothing_is_not_taken_for_ever() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    world.assign("b.service", assignment(PLAIN, Target::Launched, 1));
    world.settle();
    world.unassign("a.service");
    world.input(Input::PassBegins);
    let mut stops = 0;
    let until = loop {
        match world.state.next(world.at(), true) {
            Action::Wait(until) => break until.unwrap(),
            // systemd accepts each stop, and the unit keeps running.
            Action::Stop(names) => {
                stops += 1;
                world.input(Input::Stopped(names.into_iter().map(|name| (name, Ok(()))).collect()));
            }
            action => {
                let outcome = world.carry_out(action);
                world.input(outcome);
            }
        }
    };
    assert_eq!((stops, until), (8, world.now + BACK_OFF));
    assert!(
        world.state.take_log().iter().any(|log| matches!(log, Log::BacksOff(name, _) if *name == unit("a.service")))
    );
    world.now = until;
    assert_eq!(world.settle(), ["stop a.service", "remove a.service"]);
    assert_eq!(world.runs(), ["b.service"]);
}

#[test]
fn since_is_when_the_state_began_whichever_daemon_saw_it() {
    let mut world = World::new();
    world.now = Duration::from_secs(5);
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    world.settle();
    let since = |world: &World| world.reports[&unit("a.service")].since;
    assert_eq!(since(&world), 5000);
    world.now = Duration::from_secs(9);
    world.begin();
    world.settle();
    assert_eq!(since(&world), 5000, "the daemon was restarted, the unit wasn't");
    world.running.remove(&unit("a.service"));
    world.now = Duration::from_secs(12);
    world.begin();
    world.settle();
    assert_eq!(since(&world), 12_000, "it ended meanwhile, and this is when that was seen");
}

#[test]
fn a_chain_whose_base_is_stopped_again_before_it_has_stopped_stays_down() {
    let mut world = World::new();
    for (name, text) in [("base.service", PLAIN), ("top.service", NEEDY)] {
        world.assign(name, assignment(text, Target::Launched, 1));
    }
    world.settle();
    world.assign("base.service", assignment(PLAIN, Target::Loaded, 2));
    world.pass();
    assert_eq!(world.done, ["stop base.service"]);
    for (text, target, generation) in [(OTHER, Target::Launched, 3), (PLAIN, Target::Loaded, 4)] {
        world.assign("base.service", assignment(text, target, generation));
        world.pass();
        assert!(world.done.is_empty(), "{:?}", world.done);
    }
    world.jobs_end();
    assert_eq!(world.settle(), [""; 0]);
    world.assign("base.service", assignment(PLAIN, Target::Launched, 5));
    assert_eq!(world.settle(), ["start base.service top.service"]);
}

#[test]
fn a_chain_whose_base_was_stopped_comes_back_with_it_as_it_was() {
    for kill in [false, true] {
        let mut world = World::new();
        for (name, text) in [("base.service", PLAIN), ("down.service", NEEDY), ("top.service", NEEDY)] {
            world.assign(name, assignment(text, Target::Launched, 1));
        }
        world.settle();
        world.running.remove(&unit("down.service"));
        world.input(Input::Event(Event::Changed(unit("down.service"))));
        world.settle();
        world.assign("base.service", assignment(PLAIN, Target::Loaded, 2));
        assert_eq!(world.settle(), ["stop base.service"]);
        assert!(world.runs().is_empty());
        assert!(world.reports[&unit("top.service")].missing, "it should run, and its base is stopped");
        if kill {
            world.begin();
            assert!(world.settle().is_empty());
        }
        world.assign("base.service", assignment(PLAIN, Target::Launched, 3));
        assert_eq!(world.settle(), ["start base.service top.service"], "killed: {kill}");
        assert_eq!(world.runs(), ["base.service", "top.service"]);
        assert!(!world.reports[&unit("top.service")].missing);
        // Once is enough.
        world.running.remove(&unit("top.service"));
        world.input(Input::Event(Event::Changed(unit("top.service"))));
        assert!(world.settle().is_empty());
    }
}

#[test]
fn a_unit_that_was_stopped_itself_does_not_come_back_with_its_base() {
    let mut world = World::new();
    for (name, text) in [("base.service", PLAIN), ("top.service", NEEDY)] {
        world.assign(name, assignment(text, Target::Launched, 1));
    }
    world.settle();
    world.assign("base.service", assignment(PLAIN, Target::Loaded, 2));
    world.settle();
    world.assign("top.service", assignment(NEEDY, Target::Loaded, 3));
    world.settle();
    world.assign("base.service", assignment(PLAIN, Target::Launched, 4));
    assert_eq!(world.settle(), ["start base.service"]);
    // Nor with a base that left the host and came back: that is another unit of the same name.
    world.assign("top.service", assignment(NEEDY, Target::Launched, 5));
    world.settle();
    world.assign("base.service", assignment(PLAIN, Target::Removed, 6));
    world.settle();
    assert_eq!(world.runs(), [""; 0]);
}

#[test]
fn a_unit_that_should_run_and_does_not_is_marked_unless_it_has_ended_by_itself() {
    let mut world = World::new();
    for (name, text) in [("a.service", PLAIN), ("once.service", ONCE)] {
        world.assign(name, assignment(text, Target::Launched, 1));
    }
    world.settle();
    for name in ["a.service", "once.service"] {
        assert!(!world.reports[&unit(name)].missing, "{name}");
        world.running.remove(&unit(name));
        world.input(Input::Event(Event::Changed(unit(name))));
    }
    world.settle();
    assert_eq!(["a.service", "once.service"].map(|name| world.reports[&unit(name)].missing), [true, false]);
    assert_eq!(world.state.missing(), 1);
    world.assign("a.service", assignment(PLAIN, Target::Loaded, 2));
    world.settle();
    assert!(!world.reports[&unit("a.service")].missing, "it isn't to run any more");
}
