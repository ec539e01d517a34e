//! Tables of members of several units, of which some have the new files and others haven't, or some have no host.

use super::*;

#[test]
fn a_member_that_lacks_a_unit_is_waited_for_and_then_is_as_its_others_are() {
    let mut world = web(3, "HealthySec=5");
    world.members[2].lacks = true;
    assert_eq!(world.look().0, [] as [u32; 0], "no other may be away beside it");
    assert_eq!(world.wake(), Some(5));
    world.now = 4;
    assert_eq!(world.look().0, [] as [u32; 0]);
    world.now = 5;
    assert_eq!((world.look().0, world.rollout.phase), (vec![3], Phase::Rolling));
    // With the new file, its time begins when its others are healthy.
    world.members[2].state = Healthy;
    world.now = 6;
    assert_eq!((world.look().0, world.wake()), (vec![], Some(11)));
    world.now = 11;
    assert_eq!(world.look().0, [2]);
    // One that is bad is a failure, whatever else it lacks.
    world.members[1].lacks = true;
    world.members[1].state = Failed("log@2.service failed on n2: exited 1".into());
    world.look();
    assert_eq!(world.rollout.why.as_deref(), Some("log@2.service failed on n2: exited 1"));
}

/// A unit that lacked a host gets one, and is lost again: it is waited for anew.
#[test]
fn what_a_member_lacked_before_says_nothing() {
    let mut world = web(2, "HealthySec=5");
    world.members[1].lacks = true;
    world.look();
    world.now = 3;
    world.members[1].lacks = false;
    assert_eq!(world.look().0, [2]);
    world.members[1].state = Healthy;
    world.members[0].lacks = true;
    world.look();
    world.now = 8;
    assert_eq!(world.look().0, [1]);
}

/// Their other units serve with the new file. A leader that has just begun doesn't know for how long they have had no
/// more than these, and must not stop all of them at once because of that.
#[test]
fn those_that_lack_a_unit_go_back_one_after_the_other_under_a_new_leader_too() {
    let mut world = web(4, "HealthySec=5");
    world.rollout.phase = Phase::Reverting;
    for at in [1, 3] {
        (world.members[at].gated, world.members[at].lacks) = (false, true);
    }
    assert_eq!((world.look().1, world.wake()), (vec![], Some(5)));
    world.now = 5;
    assert_eq!(world.look().1, [4]);
    world.timers = Timers::default();
    assert_eq!(world.look().1, [] as [u32; 0]);
    world.members[3].state = Healthy;
    world.now = 10;
    assert_eq!(world.look().1, [] as [u32; 0], "the first one has yet to be healthy for long enough");
    world.now = 15;
    assert_eq!(world.look().1, [2]);
    (world.members[1].state, world.now) = (Healthy, 16);
    world.look();
    world.now = 21;
    world.look();
    assert_eq!(world.rollout.phase, Phase::Reverted);
}

#[test]
fn what_has_new_files_in_part_goes_back_and_isn_t_back_before_that() {
    let mut world = web(3, "HealthySec=5");
    world.rollout.phase = Phase::Reverting;
    let look = |world: &World, timers: &mut Timers| {
        let (rollout, policy) = (&world.rollout, &world.policy);
        let fits = |_: &Member| Ok(());
        let look = Look { rollout, policy, ask: None, fits: &fits, hook: None, can_run: &|_: &UnitName| Ok(()) };
        timers.tell_all(world.members.clone());
        advance(&look, timers, world.now * 1000)
    };
    let numbers = |names: &[MemberName]| names.iter().filter_map(MemberName::number).collect::<Vec<_>>();
    // Member 3 is healthy, and 2 isn't: that goes back at once, and the other one when it is well again.
    world.members[2].partly = true;
    (world.members[1].partly, world.members[1].state) = (true, Pending(None));
    let mut timers = Timers::default();
    let step = look(&world, &mut timers);
    assert_eq!((numbers(&step.revert), step.rollout.phase), (vec![2], Phase::Reverting));
    (world.members[1].partly, world.members[1].state) = (false, Healthy);
    assert_eq!(numbers(&look(&world, &mut timers).revert), [] as [u32; 0]);
    world.now = 5;
    assert_eq!(numbers(&look(&world, &mut timers).revert), [3]);
    world.members[2].partly = false;
    assert_eq!(look(&world, &mut timers).rollout.phase, Phase::Reverting, "it has yet to be healthy with it");
    world.now = 10;
    assert_eq!(look(&world, &mut timers).rollout.phase, Phase::Reverted);
    // One that fails with the files before is stuck only if it has all of them.
    world.now = 20;
    (world.members[0].partly, world.members[0].state) = (true, Failed("a".into()));
    assert_eq!(numbers(&look(&world, &mut timers).revert), [1]);
    world.members[0].partly = false;
    assert_eq!(look(&world, &mut timers).rollout.phase, Phase::Stuck);
}

#[test]
fn the_unit_that_has_failed_is_named() {
    let mut world = web(2, "HealthySec=5\nDeadlineSec=20\nOnFailure=pause");
    world.look();
    world.members[1].about = "log@2.service".parse().unwrap();
    world.members[1].state = Pending(Some("tcp:80: refused".into()));
    world.look();
    world.now = 20;
    world.look();
    let why = "log@2.service isn't ready after 20 s: tcp:80: refused";
    assert_eq!((world.rollout.phase, world.rollout.why.as_deref()), (Phase::Paused, Some(why)));
    assert_eq!(world.rollout.failed, Some("log@2.service".parse().unwrap()));
}
