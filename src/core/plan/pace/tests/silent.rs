//! Hosts that are there and carry out nothing.

use super::*;

#[test]
fn a_host_that_carries_out_nothing_holds_nobody_up_for_longer_than_the_deadline() {
    let why = "web@3.service isn't waited for: its host has carried out nothing for 60 s";
    // One that was let through, and has neither stopped nor started anything.
    let mut web = web(3, "DeadlineSec=60");
    assert_eq!((web.look(), web.look(), web.wake()), (through([3]), none(), Some(60)));
    assert_eq!((web.at(59, &[]), web.rollout.why.as_deref()), (none(), None));
    assert_eq!((web.at(60, &[]), web.why(), web.phase()), (through([2]), why, Phase::Rolling));
    web.at(61, &[(2, Healthy)]);
    assert_eq!(web.at(71, &[]), through([1]));
    web.at(72, &[(1, Healthy)]);
    assert_eq!((web.at(82, &[]), web.phase(), web.why()), (none(), Phase::Done, why));
    assert_eq!(web.verdict(), Some(Verdict::Stable), "it isn't the file that has failed");
    // It comes back meanwhile, and is waited for again.
    let mut web = self::web(3, "DeadlineSec=60");
    web.look();
    web.look();
    web.at(60, &[]);
    assert_eq!((web.at(61, &[(3, Pending(None)), (2, Healthy)]), web.rollout.why.as_deref()), (none(), None));
    assert_eq!((web.at(71, &[]), web.wake()), (none(), Some(121)));
    // Nobody is let through for one of which nothing is known, however long that lasts; nor is it.
    let mut web = self::web(2, "DeadlineSec=60");
    web.set(2, Assigned(None));
    assert_eq!((web.look(), web.wake()), (none(), Some(60)));
    web.now = 59;
    web.timers = Timers::default();
    assert_eq!((web.look(), web.wake()), (none(), Some(119)), "another leader counts from the beginning");
    assert_eq!(web.at(119, &[]), through([1]));
    web.at(120, &[(1, Healthy)]);
    assert_eq!((web.at(130, &[]), web.phase(), web.members[1].gated), (none(), Phase::Done, true));
    // Another canary follows, and going back ends.
    let mut web = self::web(3, "DeadlineSec=60\nCanary=1");
    web.look();
    web.look();
    assert_eq!((web.at(60, &[]), web.phase()), (through([2]), Phase::Canary));
    assert_eq!((web.at(61, &[(2, Failed("bad".into()))]), web.why()), (back([3, 2]), "bad"));
    web.at(62, &[(2, Healthy)]);
    assert_eq!((web.at(72, &[]), web.phase(), web.wake()), (none(), Phase::Reverting, Some(122)));
    assert_eq!((web.at(122, &[]), web.phase(), web.why()), (none(), Phase::Reverted, "bad"));
    // The time doesn't count while it is paused.
    let mut web = self::web(2, "DeadlineSec=60");
    web.look();
    web.look();
    web.at(50, &[]);
    web.ask(Request::Pause);
    web.at(500, &[]);
    assert_eq!((web.ask(Request::Resume), web.wake()), (none(), Some(560)));
}
