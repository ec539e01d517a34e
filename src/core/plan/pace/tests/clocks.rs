//! What another leader takes over from the record, what it counts anew, and clocks that are set back.

use super::*;

#[test]
fn another_leader_goes_on_where_it_was_and_counts_anew() {
    let mut web = web(3, "");
    web.look();
    web.at(1, &[(3, Healthy)]);
    web.at(10, &[]);
    web.timers = Timers::default();
    assert_eq!(web.at(11, &[]), none());
    assert_eq!(web.at(21, &[]), through([2]));
    web.at(22, &[(2, Healthy)]);
    web.timers = Timers::default();
    assert_eq!(web.at(23, &[]), none(), "it doesn't know since when the second is healthy");
    assert_eq!(web.at(33, &[]), through([1]));
}

#[test]
fn another_leader_knows_who_has_been_healthy_for_long_enough() {
    let down = || Pending(None);
    let late = "web@3.service isn't ready after 60 s";
    // What the record says of its members is lost, or about others, or true.
    for (edit, is_known) in [(None, false), (Some(7), false), (Some(2), true)] {
        let mut web = web(3, "DeadlineSec=60");
        web.look();
        web.at(1, &[(3, Healthy)]);
        assert_eq!(web.at(11, &[]), through([2]));
        let written = web.rollout.through.clone().unwrap();
        assert_eq!(*written, Through { members: 2, unproven: vec![name(2)] });
        // A person stops the one that was healthy for long enough, and somebody else leads.
        web.at(12, &[(2, Healthy), (3, down())]);
        web.timers = Timers::default();
        web.rollout.through = edit.map(|members| Box::new(Through { members, ..*written }));
        web.at(13, &[]);
        web.at(23, &[]);
        web.at(73, &[]);
        assert_eq!(web.phase(), if is_known { Phase::Rolling } else { Phase::Reverting }, "{edit:?}");
        assert!(is_known || web.why() == late, "{}", web.why());
        if is_known {
            web.at(74, &[(3, Healthy)]);
            assert_eq!(web.now, 74);
            assert_eq!(web.members.iter().filter(|member| member.gated).count(), 0, "the first is let through");
        }
    }
}

#[test]
fn the_record_says_only_of_those_that_a_member_is_healthy_for_long_enough_that_are() {
    let mut web = web(3, "Canary=1\nDeadlineSec=60");
    let written = |web: &World| web.rollout.through.clone().map(|known| (known.members, known.unproven.clone()));
    web.look();
    assert_eq!(written(&web), Some((1, vec![name(3)])));
    web.at(1, &[(3, Healthy)]);
    assert_eq!(web.at(11, &[]), none());
    assert_eq!((web.phase(), written(&web)), (Phase::Waiting, Some((1, vec![]))));
    // It goes to another host, and has proved nothing there: another leader mustn't believe that it has.
    let moved = web.members.iter_mut().find(|member| member.name == name(3)).unwrap();
    moved.host = Some(host(9));
    web.at(12, &[(3, Pending(None))]);
    assert_eq!(written(&web), Some((1, vec![name(3)])));
    web.timers = Timers::default();
    web.ask(Request::Promote);
    assert_eq!(web.at(13, &[]), none(), "it is waited for");
    assert_eq!(web.at(73, &[]), back([3]));
    assert_eq!((web.phase(), written(&web)), (Phase::Reverting, None));
}

#[test]
fn of_very_many_members_the_record_says_nothing() {
    let mut web = web(150, "Parallel=100%");
    web.look();
    assert_eq!(web.rollout.through, None);
    let healthy: Vec<(u32, MemberState)> = (1..=150).map(|number| (number, Healthy)).collect();
    web.at(1, &healthy[40..]);
    web.ask(Request::Pause);
    web.at(11, &[]);
    assert_eq!(web.rollout.through.as_ref().map(|known| known.unproven.len()), Some(40));
}

/// A leader follows its clock while it waits for nothing, such as while a rollout is paused.
#[test]
fn nobody_waits_for_what_a_clock_showed_before_it_was_set_back() {
    let began = 90_000;
    let mut web = web(2, "");
    assert_eq!(web.at(began, &[]), through([2]));
    assert_eq!(web.at(began + 1, &[(2, Healthy)]), none());
    web.ask(Request::Pause);
    web.at(began + 2, &[]);
    web.at(7, &[]);
    web.ask(Request::Resume);
    assert_eq!((web.wake(), web.at(17, &[])), (Some(17), through([1])));
    // What was only previewed is taken up soon, and a member without a host isn't waited for.
    for (state, policy) in [(Healthy, "Canary=1\nPreview=yes"), (Away, "")] {
        let mut web = self::web(2, policy);
        (web.rollout.phase, web.rollout.promoted) = (Phase::Rolling, true);
        web.at(began, &[(2, state.clone())]);
        web.at(7, &[]);
        let step = web.at(17, &[]);
        let expected = if state == Away { through([1]) } else { through([2]) };
        assert_eq!(step, expected, "{policy}");
    }
}

#[test]
fn nobody_waits_for_the_clock_of_another_leader() {
    for (policy, waits) in [("", false), ("Canary=1\nPreview=yes", true)] {
        let mut web = web(2, policy);
        // It has been rolling since a time that is yet to come here.
        let since = 9_000_000;
        (web.rollout.phase, web.rollout.since, web.rollout.promoted) = (Phase::Rolling, since, true);
        assert_eq!(web.look(), if waits { none() } else { through([2]) }, "{policy}");
        assert_eq!(web.at(9, &[]), none());
        assert_eq!(web.at(10, &[]), if waits { through([2]) } else { none() }, "{policy}");
    }
}
