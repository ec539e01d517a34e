//! Spares: they come first, nobody healthy is stopped before they serve, and they go when the rollout has ended.

use super::*;

impl World {
    fn spares(&self) -> Vec<u32> {
        self.members.iter().filter(|member| member.spare).filter_map(|member| member.name.number()).collect()
    }
}

/// A set with so many healthy members and this policy, after the first look, at which its spares were added.
fn spared(members: u32, policy: &str) -> World {
    let mut web = web(members, policy);
    assert_eq!(web.look(), none(), "{policy}: nobody is stopped before there are spares");
    web
}

#[test]
fn a_set_of_one_always_has_a_member_that_serves() {
    let mut web = spared(1, "Spare=1");
    assert_eq!((web.phase(), web.spares()), (Phase::Rolling, vec![2]));
    assert_eq!(web.look(), none());
    assert_eq!(web.at(1, &[(2, Assigned(None))]), none());
    assert_eq!(web.at(2, &[(2, Pending(None))]), none());
    assert_eq!(web.at(3, &[(2, Healthy)]), none());
    assert_eq!(web.at(12, &[]), none(), "it isn't healthy for long enough");
    assert_eq!(web.at(13, &[]), through([1]));
    assert_eq!(web.at(14, &[(1, Healthy)]), none());
    assert_eq!((web.at(23, &[]), web.phase(), web.spares()), (none(), Phase::Rolling, vec![2]));
    assert_eq!((web.at(24, &[]), web.phase(), web.spares()), (none(), Phase::Done, vec![]));
    assert_eq!(web.verdict(), Some(Verdict::Stable));
}

#[test]
fn so_many_spares_as_the_policy_says_and_all_of_them_first() {
    for (members, policy, expected) in [
        (3, "Spare=1", 1),
        (3, "Spare=2", 2),
        (3, "Spare=9", 3),
        (3, "Spare=34%", 2),
        (4, "Spare=25%", 1),
        (3, "Spare=100%\nParallel=100%", 3),
        (1, "Spare=1%", 1),
    ] {
        let mut web = spared(members, policy);
        let spares = web.spares();
        assert_eq!(spares.len(), expected, "{members} {policy}");
        let all: Vec<(u32, MemberState)> = spares.iter().map(|number| (*number, Healthy)).collect();
        let started: Vec<(u32, MemberState)> = spares.iter().map(|number| (*number, Pending(None))).collect();
        web.at(1, &started);
        web.at(1, &all[..all.len() - 1]);
        assert_eq!(web.at(11, &[]), none(), "{members} {policy}");
        web.at(12, &all[all.len() - 1..]);
        let parallel = if policy.contains("Parallel") { 3 } else { 1 };
        assert_eq!(web.at(22, &[]).0.len(), parallel, "{members} {policy}");
    }
}

#[test]
fn with_spares_as_many_serve_as_before() {
    let mut web = spared(3, "Spare=1");
    web.at(1, &[(4, Healthy)]);
    assert_eq!(web.at(11, &[]), through([3]));
    web.at(12, &[(3, Healthy)]);
    // The spare isn't ready any more: that fails nothing, and nobody follows.
    assert_eq!(web.at(22, &[(4, Pending(None))]), none());
    assert_eq!((web.at(9_999, &[]), web.phase()), (none(), Phase::Rolling));
    assert_eq!(web.at(10_000, &[(4, Healthy)]), through([2]));
    // Members that don't serve needn't wait for spares.
    let mut web = self::web(2, "Spare=1");
    web.set(1, Failed("with the old file".into()));
    assert_eq!((web.look(), web.spares()), (through([1]), vec![3]));
}

#[test]
fn a_spare_that_fails_fails_the_rollout_before_anybody_was_stopped() {
    for bad in [Failed("it failed".into()), Pending(Some("503".into()))] {
        let mut web = spared(1, "Spare=1");
        web.at(1, &[(2, bad.clone())]);
        web.at(601, &[]);
        let expected = if bad == Failed("it failed".into()) { "it failed" } else { "isn't ready after" };
        assert!(web.why().contains(expected), "{}", web.why());
        web.at(611, &[]);
        assert_eq!((web.phase(), web.spares(), web.members[0].gated), (Phase::Reverted, vec![], true));
        // Another attempt has another spare.
        assert_eq!((web.ask(Request::Retry), web.spares()), (none(), vec![2]));
    }
    // It is paused instead, and nothing happens.
    let mut web = spared(1, "Spare=1\nOnFailure=pause");
    web.at(1, &[(2, Failed("it failed".into()))]);
    assert_eq!((web.phase(), web.spares(), web.look()), (Phase::Paused, vec![2], none()));
}

#[test]
fn while_it_goes_back_the_spare_serves_with_the_file_before() {
    let mut web = spared(1, "Spare=1");
    web.at(1, &[(2, Healthy)]);
    assert_eq!(web.at(11, &[]), through([1]));
    web.at(12, &[(1, Healthy)]);
    assert_eq!(web.at(15, &[(2, Failed("it failed".into()))]), back([2]), "the member serves until the spare does");
    assert_eq!(web.phase(), Phase::Reverting);
    assert_eq!(web.at(16, &[(2, Healthy)]), none());
    assert_eq!(web.at(26, &[]), back([1]));
    assert_eq!(web.at(27, &[(1, Healthy)]), none());
    assert_eq!((web.at(37, &[]), web.phase(), web.spares()), (none(), Phase::Reverted, vec![]));
}

#[test]
fn a_spare_that_fails_with_the_file_before_too_isnt_waited_for() {
    let mut web = spared(1, "Spare=1");
    web.at(1, &[(2, Healthy)]);
    web.at(11, &[]);
    web.at(12, &[(1, Healthy)]);
    web.at(15, &[(2, Failed("it failed".into()))]);
    web.at(16, &[(2, Failed("the file before failed".into()))]);
    assert_eq!((web.spares(), web.phase()), (vec![], Phase::Reverting));
    assert_eq!(web.look(), back([1]));
}

#[test]
fn one_that_fits_nowhere_is_left_out() {
    let mut web = spared(3, "Spare=2");
    web.at(1, &[(4, FitsNowhere)]);
    assert_eq!(web.look(), none(), "the other one is waited for");
    assert_eq!(web.at(2, &[(5, FitsNowhere)]), through([3]));
    // It finds a host after all, and is waited for.
    web.at(3, &[(3, Healthy), (5, Assigned(None))]);
    assert_eq!(web.at(13, &[]), none());
    web.at(14, &[(5, Healthy)]);
    assert_eq!(web.at(24, &[]), through([2]));
}

#[test]
fn one_whose_host_dies_is_waited_for_as_a_member_is() {
    let mut web = spared(2, "Spare=1");
    web.at(1, &[(3, Healthy)]);
    assert_eq!(web.at(11, &[(3, Away)]), none());
    assert_eq!(web.at(20, &[]), none());
    assert_eq!((web.phase(), web.at(21, &[])), (Phase::Rolling, through([2])));
}

#[test]
fn spares_are_the_canaries() {
    for (policy, members) in [("Spare=1\nCanary=1", 0), ("Spare=1\nCanary=2", 1), ("Spare=2\nCanary=1", 0)] {
        let mut web = spared(3, policy);
        let spares: Vec<(u32, MemberState)> = web.spares().iter().map(|number| (*number, Healthy)).collect();
        web.at(1, &spares);
        assert_eq!(web.at(11, &[]).0.len(), members, "{policy}");
        web.at(12, &[(3, Healthy)]);
        assert_eq!((web.at(22, &[]), web.phase()), (none(), Phase::Waiting), "{policy}");
        let next = 3 - members as u32;
        assert_eq!(web.ask(Request::Promote), through([next]), "{policy}");
    }
}

#[test]
fn a_spare_that_an_earlier_rollout_has_left_serves_until_all_members_do() {
    let mut web = web(2, "Spare=1");
    let spare = |number, state| Member { name: name(number), spare: true, state, ..member(9) };
    web.members.push(spare(3, Healthy));
    web.set(1, Pending(None));
    assert_eq!(web.look(), through([1]));
    assert_eq!(web.at(1, &[(1, Healthy)]), through([3]));
    assert_eq!(web.at(2, &[(3, Healthy)]), none());
    assert_eq!(web.at(12, &[]), through([2]));
    // One that serves nobody gets the new file at once.
    let mut web = self::web(2, "Spare=1");
    web.members.push(spare(3, Pending(None)));
    web.set(1, Pending(None));
    assert_eq!(web.look(), through([3, 1]));
    // Of one whose host has yet to report, nobody knows that it serves nobody.
    let mut web = self::web(2, "Spare=1\nDeadlineSec=60");
    web.members.push(spare(3, Assigned(None)));
    web.set(1, Pending(None));
    assert_eq!(web.look(), through([1]));
    assert_eq!(web.at(59, &[]), none());
    assert_eq!(web.at(60, &[]), through([3]));
    // A member that isn't healthy is the canary then, and doesn't wait for the spare, which waits for it.
    let mut web = self::web(2, "Spare=1\nCanary=1");
    web.members.push(spare(3, Healthy));
    web.set(1, Pending(None));
    assert_eq!(web.look(), through([1]));
    assert_eq!(web.at(1, &[(1, Healthy)]), through([3]));
    assert_eq!((web.at(11, &[]), web.phase()), (none(), Phase::Waiting));
    // With a unit that has failed, and that the new file leaves as it is, another one takes its place.
    let mut web = self::web(2, "Spare=1");
    web.members.push(Member { keeps: true, ..spare(3, Failed("its rider failed".into())) });
    assert_eq!((web.look(), web.spares(), web.phase()), (none(), vec![3], Phase::Rolling));
    assert_eq!((web.members[2].gated, &web.members[2].state), (false, &Unplaced));
    // Without `Spare=` it is left alone as long as it serves.
    let mut web = self::web(1, "");
    web.members.push(spare(3, Healthy));
    assert_eq!((web.look(), web.spares()), (through([1]), vec![3]));
    web.at(1, &[(3, Pending(None))]);
    assert_eq!(web.spares(), Vec::<u32>::new());
}

#[test]
fn without_members_there_are_none() {
    let mut web = spared(1, "Spare=1\nOnFailure=pause");
    web.ask(Request::Pause);
    assert_eq!((web.at(1, &[(2, Healthy)]), web.spares()), (none(), vec![2]));
    web.members.remove(0);
    assert_eq!((web.look(), web.spares()), (none(), vec![]));
}

#[test]
fn one_that_serves_stays_if_nobody_else_does() {
    let mut web = spared(1, "Spare=1");
    web.at(1, &[(2, Healthy)]);
    assert_eq!(web.at(11, &[]), through([1]));
    assert_eq!(web.at(12, &[(1, Failed("it failed".into()))]), back([1]));
    web.at(13, &[(1, Failed("the file before failed".into()))]);
    assert_eq!((web.phase(), web.spares()), (Phase::Stuck, vec![2]));
    // What is over is looked at by the next leader.
    web.timers = Timers::default();
    assert_eq!((web.look(), web.spares()), (none(), vec![2]));
    // Its host has registered anew, and has yet to report.
    web.timers = Timers::default();
    assert_eq!((web.at(14, &[(2, Assigned(None))]), web.spares()), (none(), vec![2]));
    assert_eq!((web.at(15, &[(2, Pending(None))]), web.spares()), (none(), vec![]));
}

#[test]
fn what_was_previewed_serves_for_a_while_before_anybody_is_stopped() {
    let mut web = spared(2, "Spare=100%\nCanary=100%\nParallel=100%\nPreview=yes");
    assert_eq!((web.spares(), web.rollout.preview, web.rollout.promoted), (vec![3, 4], true, false));
    let target = web.rollout.target.clone();
    web.at(1, &[(3, Healthy), (4, Healthy)]);
    assert_eq!((web.at(11, &[]), web.phase()), (none(), Phase::Waiting));
    assert!(web.rollout.previews(&target) && !web.rollout.previews(&web.rollout.from.hash));
    web.now = 100;
    assert_eq!((web.ask(Request::Promote), web.phase()), (none(), Phase::Rolling));
    assert!(!web.rollout.previews(&target), "the spares get connections from now on");
    assert_eq!(web.wake(), Some(110));
    assert_eq!(web.at(109, &[]), none());
    assert_eq!(web.at(110, &[]), through([2, 1]));
    web.at(111, &[(1, Healthy), (2, Healthy)]);
    assert_eq!((web.at(121, &[]), web.phase(), web.spares()), (none(), Phase::Done, vec![]));
    // A canary that isn't a spare serves nobody before it is promoted, and its set goes on without it until then.
    let mut web = self::web(3, "Canary=1\nPreview=yes\nPromote=auto");
    assert_eq!(web.look(), through([3]));
    assert!(web.rollout.previews(&target));
    web.at(1, &[(3, Healthy)]);
    assert_eq!((web.at(11, &[]), web.phase(), web.wake()), (none(), Phase::Rolling, Some(21)));
    assert_eq!(web.at(21, &[]), through([2]));
}
