//! Tables of what a failure is, how members go back, and which time counts.

use super::*;

#[test]
fn a_canary_that_fails_while_the_others_wait_fails_the_rollout() {
    let mut web = web(3, "Canary=1");
    web.look();
    web.at(1, &[(3, Healthy)]);
    web.at(11, &[]);
    assert_eq!(web.at(500, &[(3, Failed("web@3.service failed on n3".into()))]), back([3]));
    assert_eq!((web.phase(), web.why()), (Phase::Reverting, "web@3.service failed on n3"));
    assert_eq!(web.ask(Request::Promote), none());
    assert_eq!(web.phase(), Phase::Reverting, "there is nothing left to promote");
}

#[test]
fn a_failure_pauses_it_if_the_policy_says_so() {
    let mut web = web(3, "OnFailure=pause\nDeadlineSec=60");
    web.look();
    web.at(0, &[(3, Pending(Some("http://:80/: 503".into())))]);
    assert_eq!(web.at(60, &[]), none());
    let why = "web@3.service isn't ready after 60 s: http://:80/: 503";
    assert_eq!((web.phase(), web.why(), web.verdict()), (Phase::Paused, why, Some(Verdict::Failed)));
    assert_eq!(web.at(600, &[]), none());
    // It has all of its time again.
    assert_eq!((web.ask(Request::Resume), web.phase(), web.wake()), (none(), Phase::Rolling, Some(660)));
    assert_eq!(web.at(610, &[(3, Healthy)]), none());
    assert_eq!(web.at(620, &[]), through([2]));
    web.at(621, &[(2, Healthy)]);
    web.at(631, &[]);
    web.at(632, &[(1, Healthy)]);
    web.at(642, &[]);
    assert_eq!((web.phase(), web.verdict()), (Phase::Done, Some(Verdict::Stable)));
}

#[test]
fn what_a_failure_is() {
    let pending = |why: &str| Pending(Some(why.into()));
    let assigned = |why: &str| Assigned(Some(why.into()));
    for (state, after, expected) in [
        (
            Failed("web@3.service failed on n3: exited with 1".into()),
            0,
            Some("web@3.service failed on n3: exited with 1"),
        ),
        (pending("tcp:80: refused"), 59, None),
        (pending("tcp:80: refused"), 60, Some("web@3.service isn't ready after 60 s: tcp:80: refused")),
        (Pending(None), 60, Some("web@3.service isn't ready after 60 s")),
        (assigned("no space left"), 60, Some("web@3.service isn't ready after 60 s: no space left")),
        // Its host is still stopping the old one, or is gone, or there is none.
        (Assigned(None), 6000, None),
        (Away, 6000, None),
        (Unplaced, 6000, None),
    ] {
        let mut web = web(3, "DeadlineSec=60");
        web.look();
        web.at(0, &[(3, state.clone())]);
        web.at(after, &[]);
        let why = (web.phase() == Phase::Reverting).then(|| web.why().to_owned());
        assert_eq!(why.as_deref(), expected, "{state:?} after {after} s");
    }
}

#[test]
fn only_time_in_which_it_could_pass_counts() {
    let mut web = web(2, "DeadlineSec=60");
    web.look();
    web.at(0, &[(2, Pending(None))]);
    web.at(50, &[(2, Away)]);
    web.at(100, &[(2, Pending(None))]);
    assert_eq!(web.wake(), Some(110));
    web.now = 105;
    web.ask(Request::Pause);
    web.at(500, &[]);
    assert_eq!((web.at(500, &[]), web.phase()), (none(), Phase::Paused));
    web.ask(Request::Resume);
    assert_eq!(web.wake(), Some(560));
    // Another host is another start, and another leader counts from the beginning.
    let moved = web.members.iter_mut().find(|member| member.name == name(2)).unwrap();
    moved.host = Some(host(9));
    assert_eq!((web.at(550, &[]), web.wake()), (none(), Some(610)));
    web.timers = Timers::default();
    assert_eq!((web.at(600, &[]), web.wake()), (none(), Some(660)));
    // A clock that is set back.
    assert_eq!((web.at(590, &[]), web.phase()), (none(), Phase::Rolling));
}

#[test]
fn a_member_that_flaps_never_passes_and_is_late() {
    let mut web = web(2, "DeadlineSec=100");
    web.look();
    for second in 0..100 {
        let state = if second % 10 == 9 { Pending(None) } else { Healthy };
        assert_eq!(web.at(second, &[(2, state)]), none(), "{second}");
    }
    assert_eq!(web.at(100, &[(2, Healthy)]), back([2]));
    assert_eq!(web.why(), "web@2.service wasn't ready for 10 s within 100 s");
}

#[test]
fn what_isnt_healthy_goes_back_at_once_and_the_rest_at_the_pace_of_the_policy() {
    let mut web = web(5, "Parallel=2");
    assert_eq!(web.look(), through([5, 4]));
    web.at(1, &[(5, Healthy), (4, Healthy)]);
    assert_eq!(web.at(11, &[]), through([3, 2]));
    let failed = Failed("web@2.service failed".into());
    // 3 and 2 go back at once; that leaves nothing of the budget for 5 and 4.
    assert_eq!(web.at(12, &[(2, failed)]), back([3, 2]));
    assert_eq!(
        (web.phase(), web.why(), web.verdict()),
        (Phase::Reverting, "web@2.service failed", Some(Verdict::Failed))
    );
    assert_eq!(web.at(13, &[(3, Healthy)]), none());
    assert_eq!(web.at(23, &[]), back([5]));
    assert_eq!(web.at(24, &[(5, Healthy), (2, Healthy)]), none());
    assert_eq!(web.at(34, &[]), back([4]));
    web.at(35, &[(4, Healthy)]);
    assert_eq!((web.phase(), web.wake()), (Phase::Reverting, Some(45)));
    assert_eq!((web.at(45, &[]), web.phase(), web.why()), (none(), Phase::Reverted, "web@2.service failed"));
    assert_eq!((web.at(900, &[(1, Away)]), web.phase()), (none(), Phase::Reverted));
}

#[test]
fn another_leader_takes_no_more_back_at_a_time() {
    let mut web = web(5, "");
    web.members.iter_mut().skip(1).for_each(|member| member.gated = false);
    web.rollout.phase = Phase::Reverting;
    assert_eq!(web.at(100, &[]), none(), "it doesn't know yet whether the one with the old file serves");
    assert_eq!(web.at(110, &[]), back([5]));
    web.timers = Timers::default();
    assert_eq!(web.at(111, &[(5, Healthy)]), none());
    assert_eq!(web.at(121, &[]), back([4]));
}

#[test]
fn a_revert_that_fails_is_stuck_and_stays() {
    for (state, after, expected) in [
        (Failed("web@3.service failed on n3".into()), 0, "web@3.service failed on n3"),
        (Pending(Some("tcp:80: refused".into())), 600, "web@3.service isn't ready after 600 s: tcp:80: refused"),
    ] {
        let mut web = web(3, "");
        web.look();
        assert_eq!(web.at(1, &[(3, Failed("bad".into()))]), back([3]));
        web.at(2, &[(3, state)]);
        assert_eq!(web.at(2 + after, &[]), none());
        let why = format!("bad; with the file before, {expected}");
        assert_eq!((web.phase(), web.why(), web.wake()), (Phase::Stuck, why.as_str(), None));
        assert_eq!(web.at(9000, &[(3, Healthy)]), none());
    }
}

#[test]
fn a_file_that_fits_nowhere_stops_nobody() {
    let mut web = web(3, "Parallel=2");
    web.unfit = vec![2];
    assert_eq!(web.look(), none());
    assert_eq!(
        (web.phase(), web.why(), web.verdict()),
        (Phase::Reverting, "web@2.service fits no host", Some(Verdict::Failed))
    );
    assert_eq!((web.at(10, &[]), web.phase()), (none(), Phase::Reverted));
    for policy in ["OnFailure=pause\nParallel=2", "OnFailure=pause\nParallel=2\nCanary=2"] {
        let mut web = self::web(3, policy);
        web.unfit = vec![3];
        // Another one has the new file, and its time is running.
        (web.members[0].gated, web.members[0].state) = (false, Pending(None));
        assert_eq!((web.look(), web.phase(), web.wake()), (none(), Phase::Paused, None));
    }
    // Only those that are next are asked about.
    let mut web = self::web(3, "");
    web.unfit = vec![1];
    assert_eq!(web.look(), through([3]));
}

#[test]
fn a_file_that_failed_is_tried_again_only_by_request() {
    let mut web = web(3, "Canary=1");
    web.look();
    web.at(1, &[(3, Healthy)]);
    web.at(11, &[]);
    web.ask(Request::Promote);
    web.at(12, &[(2, Failed("bad".into()))]);
    web.at(13, &[(2, Healthy)]);
    assert_eq!(web.at(23, &[]), back([3]));
    web.at(24, &[(3, Healthy)]);
    assert_eq!((web.at(34, &[]), web.phase()), (none(), Phase::Reverted));
    for what in [Request::Resume, Request::Promote, Request::Pause] {
        assert_eq!((web.ask(what), web.phase()), (none(), Phase::Reverted), "{what:?}");
    }
    web.now = 50;
    assert_eq!(web.ask(Request::Retry), through([3]));
    assert_eq!((web.phase(), web.rollout.promoted, web.rollout.began, web.why()), (Phase::Canary, false, 50_000, ""));
    web.at(51, &[(3, Healthy)]);
    assert_eq!((web.at(61, &[]), web.phase()), (none(), Phase::Waiting));
    assert_eq!((web.ask(Request::Retry), web.phase()), (none(), Phase::Waiting));
}

#[test]
fn a_unit_alone_is_a_rollout_of_one() {
    let mut db = web(1, "");
    db.members[0].name = "db.service".parse::<UnitName>().unwrap().into();
    let look = |db: &mut World, now: u64, state: MemberState| {
        (db.now, db.members[0].state) = (now, state);
        db.look();
        db.members[0].gated
    };
    assert!(!look(&mut db, 0, Healthy), "the only one is let through");
    assert!(!look(&mut db, 1, Pending(None)));
    assert!(look(&mut db, 2, Failed("db.service failed".into())), "and goes back");
    assert!(look(&mut db, 3, Healthy));
    assert!(look(&mut db, 13, Healthy));
    assert_eq!((db.phase(), db.why()), (Phase::Reverted, "db.service failed"));
}

#[test]
fn one_that_goes_on_with_what_reads_the_same_goes_back_as_one_that_is_healthy_does() {
    let going_back = |goes_on: bool| {
        let mut web = web(3, "HealthySec=10\nDeadlineSec=60");
        web.rollout.phase = Phase::Reverting;
        web.set(1, Pending(None));
        web.set(3, Assigned(None));
        (web.members[2].gated, web.members[2].goes_on) = (false, goes_on);
        web
    };
    assert_eq!(going_back(false).look(), back([3]));
    let mut web = going_back(true);
    assert_eq!(web.look(), none());
    assert_eq!(web.at(10, &[(1, Healthy)]), none());
    assert_eq!(web.at(20, &[]), back([3]));
    // Nobody waits for a host that carries out nothing, and nobody counts what serves there.
    let mut web = going_back(true);
    web.members.remove(1);
    web.set(1, Assigned(None));
    assert_eq!(web.look(), none());
    assert_eq!(web.at(60, &[]), back([3]));
}
