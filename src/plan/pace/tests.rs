//! Tables of how a rollout goes on: phases, budgets, failures, and the time that counts.

use super::*;
use crate::model::file::UnitFile;
use crate::model::name::UnitHash;
use crate::model::revision::Revision;
use crate::model::rollout::File;

use MemberState::{Assigned, Away, Failed, Healthy, Pending, Unplaced};

/// A rollout whose members do what a test says.
struct World {
    rollout: Rollout,
    policy: Policy,
    ask: Option<Ask>,
    members: Vec<Member>,
    unfit: Vec<u32>,
    timers: Timers,
    /// In seconds.
    now: u64,
}

fn name(number: u32) -> UnitName {
    format!("web@{number}.service").parse().unwrap()
}

fn host(number: u32) -> MachineId {
    format!("{number:032x}").parse().unwrap()
}

/// A set with so many healthy members behind their gates, and this policy.
fn web(members: u32, policy: &str) -> World {
    let text = format!("[Service]\nExecStart=/a\n[X-Rollout]\nOnFailure=revert\n{policy}\n");
    let file = UnitFile::parse(text.as_bytes()).unwrap();
    let members = (1..=members).map(|number| Member {
        name: name(number),
        gated: true,
        host: Some(host(number)),
        state: Healthy,
    });
    World {
        rollout: Rollout {
            target: UnitHash::new("new"),
            from: File { hash: UnitHash::new("old"), text: None },
            phase: Phase::Canary,
            since: 0,
            began: 0,
            why: None,
            promoted: false,
            heeded: Revision(0),
            outcomes: Vec::new(),
        },
        policy: Policy::parse(&file).unwrap().unwrap(),
        ask: None,
        members: members.collect(),
        unfit: Vec::new(),
        timers: Timers::default(),
        now: 0,
    }
}

impl World {
    /// Look, and do what was decided: the numbers of the members that are let through, and of those that go back.
    fn look(&mut self) -> (Vec<u32>, Vec<u32>) {
        let unfit = self.unfit.clone();
        let fits = |member: &Member| match member.name.number() {
            Some(number) if unfit.contains(&number) => Err(format!("{} fits no host", member.name)),
            _ => Ok(()),
        };
        let look = Look {
            rollout: &self.rollout,
            policy: &self.policy,
            ask: self.ask.as_ref(),
            members: &self.members,
            fits: &fits,
        };
        let step = advance(&look, &mut self.timers, self.now * 1000);
        assert!(step.wake.is_none_or(|wake| wake > self.now * 1000), "no look is wanted at once: {step:?}");
        assert!(step.wake.is_none() || !step.rollout.phase.is_over(), "what is over sets no timer: {step:?}");
        assert!(step.wake.is_none() || step.rollout.phase != Phase::Paused, "nor does what is paused: {step:?}");
        self.rollout = step.rollout;
        for (names, gated) in [(&step.let_through, false), (&step.revert, true)] {
            for member in self.members.iter_mut().filter(|member| names.contains(&member.name)) {
                assert_ne!(member.gated, gated, "{} has it already", member.name);
                (member.gated, member.state) = (gated, if member.host.is_some() { Assigned(None) } else { Unplaced });
            }
        }
        let numbers = |names: Vec<UnitName>| names.iter().filter_map(UnitName::number).collect();
        (numbers(step.let_through), numbers(step.revert))
    }

    /// When it wants to look again if nothing happens, in seconds.
    fn wake(&self) -> Option<u64> {
        let fits = |_: &Member| Ok(());
        let (rollout, policy, members) = (&self.rollout, &self.policy, &self.members);
        let look = Look { rollout, policy, ask: None, members, fits: &fits };
        advance(&look, &mut self.timers.clone(), self.now * 1000).wake.map(|wake| wake / 1000)
    }

    fn set(&mut self, number: u32, state: MemberState) {
        let member = self.members.iter_mut().find(|member| member.name == name(number)).unwrap();
        member.host = (state != Unplaced).then(|| member.host.clone().unwrap_or_else(|| host(number)));
        member.state = state;
    }

    /// Look at this second, after members got these states.
    fn at(&mut self, now: u64, states: &[(u32, MemberState)]) -> (Vec<u32>, Vec<u32>) {
        self.now = now;
        states.iter().for_each(|(number, state)| self.set(*number, state.clone()));
        self.look()
    }

    fn ask(&mut self, what: Request) -> (Vec<u32>, Vec<u32>) {
        let generation = self.ask.as_ref().map_or(Revision(1), |ask| ask.generation.next());
        self.ask = Some(Ask { what, generation, by: None });
        self.look()
    }

    fn phase(&self) -> Phase {
        self.rollout.phase
    }

    fn why(&self) -> &str {
        self.rollout.why.as_deref().unwrap_or_default()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.rollout.outcomes.last().map(|outcome| outcome.verdict)
    }
}

fn none() -> (Vec<u32>, Vec<u32>) {
    (vec![], vec![])
}

fn through<const N: usize>(numbers: [u32; N]) -> (Vec<u32>, Vec<u32>) {
    (numbers.into(), vec![])
}

fn back<const N: usize>(numbers: [u32; N]) -> (Vec<u32>, Vec<u32>) {
    (vec![], numbers.into())
}

#[test]
fn one_after_another_from_the_highest_number_until_all_have_passed() {
    let mut web = web(3, "");
    assert_eq!(web.look(), through([3]));
    assert_eq!(web.phase(), Phase::Rolling);
    assert_eq!(web.at(1, &[]), none());
    assert_eq!(web.at(2, &[(3, Pending(None))]), none());
    assert_eq!(web.wake(), Some(602));
    assert_eq!(web.at(3, &[(3, Healthy)]), none());
    assert_eq!(web.wake(), Some(13));
    assert_eq!(web.at(12, &[]), none());
    assert_eq!(web.at(13, &[]), through([2]));
    assert_eq!(web.at(14, &[(2, Healthy)]), none());
    assert_eq!(web.at(24, &[]), through([1]));
    assert_eq!(web.at(25, &[(1, Healthy)]), none());
    assert_eq!(web.phase(), Phase::Rolling);
    assert_eq!(web.at(35, &[]), none());
    assert_eq!((web.phase(), web.rollout.since, web.verdict()), (Phase::Done, 35_000, Some(Verdict::Stable)));
    assert_eq!((web.at(900, &[(1, Failed("x".into()))]), web.phase()), (none(), Phase::Done));
}

#[test]
fn so_many_at_a_time() {
    for (members, policy, expected) in [
        (3, "Parallel=1", 1),
        (3, "Parallel=2", 2),
        (3, "Parallel=7", 3),
        (3, "Parallel=25%", 1),
        (4, "Parallel=50%", 2),
        (5, "Parallel=50%", 2),
        (5, "Parallel=100%", 5),
        (1, "Parallel=1", 1),
    ] {
        let mut web = web(members, policy);
        assert_eq!(web.look().0.len(), expected, "{members} {policy}");
        assert_eq!(web.look(), none(), "nobody else before one has passed");
        let highest = members;
        web.at(1, &[(highest, Healthy)]);
        let rest = (members as usize - expected).min(1);
        assert_eq!(web.at(11, &[]).0.len(), rest, "{members} {policy}: one has passed, the next one follows");
    }
}

#[test]
fn a_repair_reaches_members_that_are_broken_first_and_all_at_the_pace_of_the_policy() {
    let mut web = web(4, "");
    web.set(1, Failed("with the old file".into()));
    web.set(2, Pending(None));
    assert_eq!(web.look(), through([2]), "not the healthy one with the highest number");
    assert_eq!(web.at(1, &[(2, Healthy)]), none());
    assert_eq!(web.at(11, &[]), through([1]));
    assert_eq!(web.at(12, &[(1, Healthy)]), none());
    assert_eq!(web.at(22, &[]), through([4]));
    // All of them are broken.
    let mut web = self::web(3, "Parallel=2");
    (1..=3).for_each(|number| web.set(number, Failed("with the old file".into())));
    assert_eq!(web.look(), through([3, 2]));
}

#[test]
fn a_healthy_member_isnt_stopped_while_others_are_down() {
    // One that has passed isn't ready any more: that fails nothing, and nobody follows.
    let mut web = web(3, "");
    web.look();
    web.at(1, &[(3, Healthy)]);
    assert_eq!(web.at(11, &[]), through([2]));
    web.at(12, &[(2, Healthy)]);
    web.at(13, &[(3, Pending(None))]);
    assert_eq!(web.at(22, &[]), none());
    assert_eq!((web.at(9_999, &[]), web.phase(), web.wake()), (none(), Phase::Rolling, None));
    assert_eq!(web.at(10_000, &[(3, Healthy)]), through([1]));
    // With two at a time, one that is down leaves one.
    let mut two = self::web(4, "Parallel=2");
    two.members[3].gated = false;
    two.ask(Request::Pause);
    two.at(10, &[]);
    two.at(11, &[(4, Pending(None))]);
    assert_eq!(two.ask(Request::Resume), through([3]));
    // systemd gives it up.
    assert_eq!(web.at(10_001, &[(3, Failed("it failed".into()))]), back([3, 1]));
    assert_eq!((web.phase(), web.why()), (Phase::Reverting, "it failed"));
}

#[test]
fn canaries_come_first_and_the_rest_waits_until_it_is_promoted() {
    for (policy, canaries) in [("Canary=1", 1), ("Canary=30%", 2), ("Canary=4", 4), ("Canary=9", 4)] {
        let mut web = web(4, &format!("{policy}\nParallel=4"));
        assert_eq!(web.look().0.len(), canaries, "{policy}");
        let states: Vec<(u32, MemberState)> = (0..canaries as u32).map(|n| (4 - n, Healthy)).collect();
        assert_eq!((web.at(1, &states), web.phase()), (none(), Phase::Canary));
        assert_eq!((web.at(11, &[]), web.phase(), web.wake()), (none(), Phase::Waiting, None), "{policy}");
        assert_eq!(web.at(90_000, &[]), none(), "waiting isn't limited");
        let rest = 4 - canaries;
        assert_eq!(web.ask(Request::Promote).0.len(), rest, "{policy}");
        let expected = if rest == 0 { Phase::Done } else { Phase::Rolling };
        assert_eq!((web.phase(), web.rollout.promoted), (expected, true), "{policy}");
    }
}

#[test]
fn canaries_are_promoted_by_themselves_if_the_policy_says_so() {
    let mut web = web(2, "Canary=1\nPromote=auto");
    web.look();
    web.at(1, &[(2, Healthy)]);
    assert_eq!(web.at(11, &[]), through([1]));
    let mut web = self::web(2, "Canary=1\nPromote=5min");
    web.look();
    web.at(1, &[(2, Healthy)]);
    assert_eq!((web.at(11, &[]), web.phase(), web.wake()), (none(), Phase::Waiting, Some(311)));
    // It isn't ready for a moment: the time begins again.
    assert_eq!((web.at(100, &[(2, Pending(None))]), web.wake()), (none(), None));
    assert_eq!((web.at(101, &[(2, Healthy)]), web.wake()), (none(), Some(411)));
    // So it does with another leader.
    web.timers = Timers::default();
    assert_eq!((web.at(400, &[]), web.wake()), (none(), Some(710)));
    assert_eq!(web.at(710, &[]), through([1]));
}

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
fn another_canary_follows_one_whose_host_is_gone_for_long() {
    let mut web = web(3, "Canary=1");
    assert_eq!(web.look(), through([3]));
    assert_eq!((web.at(1, &[(3, Away)]), web.wake()), (none(), Some(11)));
    assert_eq!(web.at(11, &[]), through([2]));
    // It comes back, and is one canary more.
    assert_eq!(web.at(12, &[(3, Pending(None)), (2, Healthy)]), none());
    assert_eq!((web.at(22, &[]), web.phase()), (none(), Phase::Waiting));
}

#[test]
fn a_rollout_is_paused_and_resumed_by_request() {
    let mut web = web(3, "");
    web.look();
    web.at(1, &[(3, Healthy)]);
    assert_eq!((web.ask(Request::Pause), web.phase()), (none(), Phase::Paused));
    // Nothing that happens meanwhile fails it, and its time doesn't count.
    assert_eq!(web.at(2, &[(3, Pending(None))]), none());
    assert_eq!((web.at(7200, &[]), web.phase(), web.wake()), (none(), Phase::Paused, None));
    assert_eq!((web.at(7300, &[(3, Failed("x".into()))]), web.phase()), (none(), Phase::Paused));
    web.at(7301, &[(3, Pending(None))]);
    web.now = 9000;
    assert_eq!(web.ask(Request::Resume), none());
    assert_eq!((web.phase(), web.rollout.why.clone(), web.wake()), (Phase::Rolling, None, Some(9600)));
    web.rollout.phase = Phase::Paused;
    assert_eq!((web.look(), web.phase()), (none(), Phase::Paused), "a request is heeded once");
    web.rollout.phase = Phase::Rolling;
    web.at(9001, &[(3, Healthy)]);
    assert_eq!(web.at(9011, &[]), through([2]));
    // Beyond its canaries, it stays there.
    let mut web = self::web(3, "Canary=1");
    web.look();
    web.at(1, &[(3, Healthy)]);
    web.at(11, &[]);
    web.ask(Request::Pause);
    assert_eq!((web.ask(Request::Resume), web.phase()), (none(), Phase::Waiting));
    assert_eq!(web.ask(Request::Promote), through([2]));
    web.ask(Request::Pause);
    assert_eq!((web.ask(Request::Resume), web.phase()), (none(), Phase::Rolling));
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
fn no_time_to_be_healthy_and_no_deadline() {
    let mut web = web(2, "HealthySec=0\nDeadlineSec=infinity");
    assert_eq!(web.look(), through([2]));
    assert_eq!((web.at(1, &[(2, Pending(None))]), web.wake()), (none(), None));
    assert_eq!(web.at(10_000_000, &[]), none());
    assert_eq!(web.at(10_000_001, &[(2, Healthy)]), through([1]));
    assert_eq!((web.at(10_000_001, &[(1, Healthy)]), web.phase()), (none(), Phase::Done));
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
fn a_host_that_is_gone_doesnt_keep_a_rollout_from_ending() {
    let mut web = web(3, "");
    web.look();
    assert_eq!(web.at(1, &[(3, Healthy), (1, Away)]), none());
    // Another one is down, for as long as its host isn't given up.
    assert_eq!((web.at(10, &[]), web.wake()), (none(), Some(11)));
    assert_eq!(web.at(11, &[]), through([2]));
    web.at(12, &[(2, Healthy)]);
    assert_eq!((web.at(22, &[]), web.phase()), (none(), Phase::Done));
    // Nor from going back.
    let mut web = self::web(3, "");
    web.look();
    web.at(1, &[(3, Failed("bad".into())), (1, Away)]);
    web.at(2, &[(3, Healthy)]);
    assert_eq!((web.at(12, &[]), web.phase()), (none(), Phase::Reverted));
}

#[test]
fn a_member_without_a_host_gets_the_new_file_once_that_has_proved_itself() {
    let mut web = web(3, "");
    web.set(1, Unplaced);
    // It may be on its way from one host to another.
    assert_eq!((web.look(), web.wake()), (none(), Some(10)));
    assert_eq!(web.at(10, &[]), through([3]));
    web.at(11, &[(3, Healthy)]);
    assert_eq!(web.at(21, &[]), through([1, 2]));
    assert_eq!(web.at(22, &[(2, Healthy)]), none());
    assert_eq!((web.at(32, &[]), web.phase()), (none(), Phase::Done));
    // None of them has a host: the new file may be what changes that.
    for (policy, expected) in [("", through([3, 2, 1])), ("Canary=1", through([3]))] {
        let mut web = self::web(3, policy);
        (1..=3).for_each(|number| web.set(number, Unplaced));
        assert_eq!(web.look(), expected);
        web.at(100, &[]);
        assert_eq!((web.at(200, &[]), web.wake()), (none(), None));
        assert!(!web.phase().is_over());
    }
    // The hosts of all of them are gone for now: that is no reason to give them an unproven file.
    let mut web = self::web(3, "");
    assert_eq!(web.at(1, &[(1, Away), (2, Away), (3, Away)]), none());
    assert_eq!((web.at(100, &[]), web.phase()), (none(), Phase::Rolling));
}

#[test]
fn members_come_and_go_meanwhile() {
    let mut web = web(2, "");
    web.look();
    web.at(1, &[(2, Healthy)]);
    // One more begins with the new file, and is under way.
    web.members.push(Member { name: name(3), gated: false, host: Some(host(3)), state: Assigned(None) });
    assert_eq!(web.at(11, &[]), none());
    web.at(12, &[(3, Healthy)]);
    assert_eq!(web.at(22, &[]), through([1]));
    // It is destroyed, and so are the others.
    web.members.truncate(1);
    web.at(23, &[(1, Healthy)]);
    assert_eq!((web.at(33, &[]), web.phase()), (none(), Phase::Done));
    let mut web = self::web(2, "");
    web.look();
    web.members.clear();
    assert_eq!((web.at(1, &[]), web.phase(), web.verdict()), (none(), Phase::Done, None));
    let mut web = self::web(3, "");
    web.look();
    web.at(1, &[(3, Failed("bad".into()))]);
    web.members.clear();
    assert_eq!((web.at(2, &[]), web.phase()), (none(), Phase::Reverted));
    let mut web = self::web(2, "Canary=1");
    web.look();
    web.at(1, &[(2, Healthy)]);
    web.at(11, &[]);
    web.members.clear();
    assert_eq!((web.at(12, &[]), web.phase()), (none(), Phase::Done), "there is nobody to wait for");
    // More canaries are wanted of more members.
    let mut web = self::web(2, "Canary=50%");
    web.look();
    web.at(1, &[(2, Healthy)]);
    assert_eq!((web.at(11, &[]), web.phase()), (none(), Phase::Waiting));
    web.members.push(Member { name: name(3), gated: true, host: Some(host(3)), state: Healthy });
    assert_eq!((web.at(12, &[]), web.phase()), (through([3]), Phase::Canary));
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

#[test]
fn a_unit_alone_is_a_rollout_of_one() {
    let mut db = web(1, "");
    db.members[0].name = "db.service".parse().unwrap();
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
