//! Tables of how a rollout goes on: phases and budgets, members that come and go; `failing` has the failures, `hosts`
//! global units, `riding` members of several units, `sparing` the spares, `hooking` what runs before and after the
//! members, and `clocks` other leaders and clocks that are set back.

mod clocks;
mod failing;
mod hooking;
mod hosts;
mod kept;
mod riding;
mod silent;
mod sparing;

use super::*;
use crate::model::file::UnitFile;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::rollout::{File, HookRun, Request, Through};

use MemberState::{Assigned, Away, Failed, FitsNowhere, Healthy, Pending, Unplaced};

/// A rollout whose members do what a test says.
struct World {
    rollout: Rollout,
    policy: Policy,
    ask: Option<Ask>,
    members: Vec<Member>,
    unfit: Vec<u32>,
    /// The hook that runs.
    hook: Option<Member>,
    /// Units that can't run as hooks.
    missing: Vec<UnitName>,
    timers: Timers,
    /// In seconds.
    now: u64,
}

fn name(number: u32) -> MemberName {
    format!("web@{number}.service").parse::<UnitName>().unwrap().into()
}

/// A healthy member behind its gate.
fn member(number: u32) -> Member {
    let (name, host) = (name(number), Some(host(number)));
    let (spare, partly, keeps, lacks, leaves, goes_on) = Default::default();
    Member {
        about: name.unit.clone(),
        name,
        hostname: None,
        spare,
        gated: true,
        partly,
        keeps,
        lacks,
        leaves,
        host,
        state: Healthy,
        goes_on,
    }
}

fn host(number: u32) -> MachineId {
    format!("{number:032x}").parse().unwrap()
}

/// A set with so many healthy members behind their gates, and this policy.
fn web(members: u32, policy: &str) -> World {
    let text = format!("[Service]\nExecStart=/a\n[X-Rollout]\nOnFailure=revert\n{policy}\n");
    let file = UnitFile::parse(text.as_bytes()).unwrap();
    let members = (1..=members).map(member);
    World {
        rollout: Rollout::begun(
            UnitHash::new("new"),
            File { hash: UnitHash::new("old"), text: None },
            Phase::Canary,
            0,
        ),
        policy: Policy::parse(&file).unwrap().unwrap(),
        ask: None,
        members: members.collect(),
        unfit: Vec::new(),
        hook: None,
        missing: Vec::new(),
        timers: Timers::default(),
        now: 0,
    }
}

impl World {
    /// Look, and do what was decided: the numbers of the members that are let through, and of those that go back.
    fn look(&mut self) -> (Vec<u32>, Vec<u32>) {
        let (unfit, missing) = (self.unfit.clone(), self.missing.clone());
        let fits = |member: &Member| match member.name.number() {
            Some(number) if unfit.contains(&number) => Err(format!("{} fits no host", member.name)),
            _ => Ok(()),
        };
        let look = Look {
            rollout: &self.rollout,
            policy: &self.policy,
            ask: self.ask.as_ref(),
            fits: &fits,
            hook: self.hook.as_ref(),
            can_run: &|unit| if missing.contains(unit) { Err(format!("there is no {unit}")) } else { Ok(()) },
        };
        self.timers.tell_all(self.members.clone());
        let step = advance(&look, &mut self.timers, self.now * 1000);
        assert!(step.wake.is_none_or(|wake| wake > self.now * 1000), "no look is wanted at once: {step:?}");
        assert!(step.wake.is_none() || !step.rollout.phase.is_over(), "what is over sets no timer: {step:?}");
        assert!(step.wake.is_none() || step.rollout.phase != Phase::Paused, "nor does what is paused: {step:?}");
        self.rollout = step.rollout;
        if let Some(unit) = step.run {
            self.begin(unit);
        } else if self.rollout.running().is_none() {
            self.hook = None;
        }
        for (names, gated) in [(&step.let_through, false), (&step.revert, true)] {
            for member in self.members.iter_mut().filter(|member| names.contains(&member.name)) {
                assert_ne!(member.gated, gated, "{} has it already", member.name);
                (member.gated, member.goes_on) = (gated, false);
                member.state = if member.host.is_some() { Assigned(None) } else { Unplaced };
            }
        }
        self.members.retain(|member| !step.end.contains(&member.name));
        let highest = self.members.iter().filter_map(|member| member.name.number()).max().unwrap_or_default();
        for number in (highest + 1..).take(step.add) {
            let spare = Member { spare: true, gated: false, host: None, state: Unplaced, ..member(number) };
            self.members.push(spare);
        }
        let numbers = |names: Vec<MemberName>| names.iter().filter_map(MemberName::number).collect();
        (numbers(step.let_through), numbers(step.revert))
    }

    /// Have a unit run as a hook.
    fn begin(&mut self, unit: UnitName) {
        let (generation, since) = (Revision(10 + self.now), self.now * 1000);
        let after = self.rollout.phase == Phase::After;
        let run = HookRun { unit: unit.clone(), after, generation, since, host: None, took: None };
        self.rollout.hooks.push(run);
        self.hook = Some(Member { about: unit.clone(), name: unit.into(), state: Assigned(None), ..member(9) });
    }

    /// When it wants to look again if nothing happens, in seconds.
    fn wake(&self) -> Option<u64> {
        let fits = |_: &Member| Ok(());
        let (rollout, policy) = (&self.rollout, &self.policy);
        let (hook, can_run) = (self.hook.as_ref(), &|_: &UnitName| Ok(()));
        let look = Look { rollout, policy, ask: None, fits: &fits, hook, can_run };
        let mut timers = self.timers.clone();
        timers.tell_all(self.members.clone());
        advance(&look, &mut timers, self.now * 1000).wake.map(|wake| wake / 1000)
    }

    fn set(&mut self, number: u32, state: MemberState) {
        let member = self.members.iter_mut().find(|member| member.name == name(number)).unwrap();
        member.host = (!state.is_gone() || state == Away).then(|| member.host.clone().unwrap_or_else(|| host(number)));
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
    assert_eq!(web.at(1, &[(3, Healthy), (2, Healthy)]), none());
    assert_eq!(web.at(11, &[]), through([1]));
    web.at(12, &[(1, Healthy)]);
    assert_eq!((web.at(22, &[]), web.phase(), web.verdict()), (none(), Phase::Done, Some(Verdict::Stable)));
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
fn no_time_to_be_healthy_and_no_deadline() {
    let mut web = web(2, "HealthySec=0\nDeadlineSec=infinity");
    assert_eq!(web.look(), through([2]));
    assert_eq!((web.at(1, &[(2, Pending(None))]), web.wake()), (none(), None));
    assert_eq!(web.at(10_000_000, &[]), none());
    assert_eq!(web.at(10_000_001, &[(2, Healthy)]), through([1]));
    assert_eq!((web.at(10_000_001, &[(1, Healthy)]), web.phase()), (none(), Phase::Done));
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
    web.members.push(Member { gated: false, state: Assigned(None), ..member(3) });
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
    web.members.push(member(3));
    assert_eq!((web.at(12, &[]), web.phase()), (through([3]), Phase::Canary));
}

#[test]
fn nothing_is_concluded_from_the_silence_of_a_host() {
    let mut web = web(3, "Parallel=2");
    // Another leader begins, and the first two hosts have just registered again.
    let silent = [(1, Assigned(None)), (2, Assigned(None)), (3, Pending(None))];
    assert_eq!(web.at(0, &silent), through([3]), "they may be healthy");
    assert_eq!(web.at(1, &[(1, Healthy), (3, Healthy)]), none());
    let refused = (2, Assigned(Some("it can't be installed".into())));
    assert_eq!(web.at(2, &[refused]), through([2]), "a host that can't start it has said so");
}
