//! What another leader counts anew, and clocks that are set back.

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
    assert_eq!(web.at(23, &[]), none(), "it doesn't know that the third has passed, nor lets another one through");
    assert_eq!(web.at(33, &[]), through([1]));
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
