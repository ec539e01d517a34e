//! A store that was restored from a backup, or replaced: what it has lost keeps running, and its numbers count again.

use super::super::*;
use super::world::{ONCE, PLAIN, World, assignment, hash, unit};
use crate::model::unit::Target;

#[test]
fn a_store_that_was_rolled_back_stops_nothing_and_decides_about_whatever_comes_later() {
    let mut world = World::new();
    for name in ["a.service", "x.service"] {
        world.assign(name, assignment(PLAIN, Target::Launched, 1));
    }
    world.settle();
    world.assigned.clear();
    world.revision = 2;
    world.list();
    assert!(world.settle().is_empty());
    assert_eq!(world.saved.1.orphans, [unit("a.service"), unit("x.service")].into());
    assert!(world.state.take_log().contains(&Log::StoreRolledBack { seen: Revision(102), now: Revision(2) }));
    world.begin();
    assert!(world.settle().is_empty());
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    assert!(world.settle().is_empty(), "adopted");
    world.unassign("a.service");
    world.settle();
    assert_eq!(world.runs(), ["x.service"]);
}

/// Its revision may be as high as before, or higher.
#[test]
fn a_store_with_another_id_has_lost_data_too() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Launched, 1));
    world.settle();
    world.assigned.clear();
    (world.revision, world.cluster) = (200, 8);
    world.list();
    assert!(world.settle().is_empty());
    assert_eq!(world.runs(), ["a.service"]);
    // The next daemon knows the id, and that it is to keep the unit.
    world.begin();
    assert!(world.settle().is_empty());
    assert_eq!((world.saved.1.cluster, world.saved.1.orphans.len()), (8, 1));
    // An earlier version has saved no id.
    world.saved.1 = serde_json::from_str(r#"{"revision":200}"#).unwrap();
    world.begin();
    world.settle();
    assert!(world.running.is_empty());
}

#[test]
fn what_a_store_has_lost_is_not_repeated_and_its_revisions_count_again() {
    let told = |restart: u64, generation: u64| Assignment {
        restart: Some(Revision(restart)),
        ..assignment(PLAIN, Target::Launched, generation)
    };
    let mut world = World::new();
    world.assign("a.service", told(101, 101));
    world.assign("o.service", assignment(ONCE, Target::Launched, 102));
    world.settle();
    world.assign("a.service", told(103, 103));
    world.assign("o.service", assignment(ONCE, Target::Loaded, 104));
    world.assign("o.service", assignment(ONCE, Target::Launched, 105));
    world.settle();
    world.assign("b.service", assignment(PLAIN, Target::Launched, 106));
    world.settle();

    world.reports.clear();
    world.assigned.insert(unit("a.service"), told(101, 101));
    world.assigned.insert(unit("o.service"), assignment(ONCE, Target::Launched, 102));
    world.assigned.remove(&unit("b.service"));
    (world.revision, world.cluster) = (102, 8);
    world.list();
    assert!(world.settle().is_empty());
    for (name, generation) in [("a.service", 101), ("o.service", 102), ("b.service", 101)] {
        assert_eq!(world.reports[&unit(name)].generation, Revision(generation), "{name}");
    }
    // As with the numbers that were used before. The restart that it has had counts as the one that the store knows.
    world.running.insert(unit("a.service"), (hash(PLAIN), Some(Revision(101))));
    world.assign("a.service", told(103, 103));
    assert_eq!(world.settle(), ["stop a.service", "start a.service"]);
    world.assign("b.service", assignment(PLAIN, Target::Loaded, 104));
    assert_eq!(world.settle(), ["stop b.service"]);
}

/// The backup had the request, and the leader had yet to tell the host of it.
#[test]
fn a_request_of_before_that_the_leader_repeats_later_is_not_carried_out_again() {
    let once = |generation| assignment(ONCE, Target::Launched, generation);
    let told = |restart: Option<u64>, generation| Assignment {
        restart: restart.map(Revision),
        ..assignment(PLAIN, Target::Launched, generation)
    };
    for restarted in [false, true] {
        let mut world = World::new();
        world.assign("a.service", told(None, 101));
        world.settle();
        world.assign("a.service", told(Some(102), 102));
        world.assign("o.service", once(103));
        world.settle();
        world.running.remove(&unit("o.service"));
        world.input(Input::CheckAll);
        world.settle();

        world.reports.clear();
        world.assigned = [(unit("a.service"), told(None, 101))].into();
        (world.revision, world.cluster) = (105, 8);
        world.list();
        assert!(world.settle().is_empty());
        if restarted {
            // As somebody does who makes the host accept what the store contains.
            world.saved.1 = StoreHistory::default();
            world.begin();
            world.settle();
        }
        world.running.insert(unit("a.service"), (hash(PLAIN), Some(Revision(102))));
        world.assign("a.service", told(Some(102), 102));
        if !restarted {
            world.assign("o.service", once(103));
        }
        assert!(world.settle().is_empty(), "restarted: {restarted}");
        // What is requested now has the revision that the store has.
        world.assign("a.service", told(Some(105), 105));
        assert_eq!(world.settle(), ["stop a.service", "start a.service"]);
        world.assign("o.service", once(105));
        assert_eq!(world.settle().last().map(String::as_str), Some("start o.service"));
    }
}

/// A request that is made when the host has just noticed has the same number as one that the store has lost.
#[test]
fn a_request_with_the_number_of_one_that_was_lost_is_carried_out() {
    let mut world = World::new();
    world.assign("o.service", assignment(ONCE, Target::Launched, 101));
    world.settle();
    world.running.remove(&unit("o.service"));
    world.input(Input::CheckAll);
    world.settle();
    world.assigned.clear();
    (world.revision, world.cluster) = (101, 8);
    world.list();
    assert!(world.settle().is_empty());
    world.assign("o.service", assignment(ONCE, Target::Launched, 101));
    assert_eq!(world.settle(), ["start o.service"]);
}
