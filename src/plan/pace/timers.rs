//! What one leader saw of a rollout's members: since when each is healthy, and how much of its time it has used. Values
//! in memory only: a new leader begins with none, which only ever delays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::name::MachineId;
use crate::model::revision::Revision;
use crate::model::rollout::policy::Policy;
use crate::model::rollout::{MemberName, Phase};

use super::{Look, Member, MemberState};

/// What the leader keeps of one rollout between two looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timers {
    members: BTreeMap<MemberName, Seen>,
    /// Since when members lack a unit.
    lacking: BTreeMap<MemberName, u64>,
    /// The run of a hook, by its generation.
    hook: Option<(Revision, Seen)>,
    /// Since when it has been seen in `rolling`. The time in the record may be by the clock of another leader.
    rolling: Option<u64>,
    /// When it looked last.
    at: u64,
}

/// What was seen of a member with one file on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    gated: bool,
    /// Whether all of it has the files before.
    is_back: bool,
    host: Option<MachineId>,
    healthy_since: Option<u64>,
    away_since: Option<u64>,
    /// Whether it is a spare that no host fits.
    fits_nowhere: bool,
    /// Whether it has been healthy for long enough once.
    has_passed: bool,
    /// How much of its time it has used, in ms.
    spent: u64,
    /// Whether it used its time since the last look.
    is_running: bool,
    /// For how long its host, which is there, has not carried out what it was told, in ms.
    silent: u64,
    /// Whether that was so at the last look.
    is_silent: bool,
}

/// What follows for a member at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timed {
    /// Whether it has been healthy without a break for long enough once.
    pub(super) has_passed: bool,
    /// Since when it is healthy.
    pub(super) healthy_since: Option<u64>,
    /// Whether its time is over, and it never was healthy for long enough.
    pub(super) is_late: bool,
    /// Whether it has had no host for a while, or its host has been gone or silent for too long: nothing waits for it
    /// any longer.
    pub(super) is_nowhere: bool,
    /// Whether that is because its host is silent.
    pub(super) is_silent: bool,
    /// When one of these changes if the member stays as it is.
    pub(super) wake: Option<u64>,
}

impl Timers {
    /// The members that lack a unit, and haven't for long enough that nothing waits for it any longer.
    pub(super) fn lacking(&mut self, look: &Look<'_>, now: u64) -> BTreeSet<MemberName> {
        let known = std::mem::take(&mut self.lacking);
        let lacking = look.members.iter().filter(|member| member.lacks).map(|member| &member.name);
        self.lacking = lacking.map(|name| (name.clone(), known.get(name).copied().unwrap_or(now))).collect();
        let waits = |since: u64| after(since, look.policy.healthy) > now;
        self.lacking.iter().filter(|(_, since)| waits(**since)).map(|(name, _)| name.clone()).collect()
    }

    /// Take in the members as they are at `now`. Returns what follows for each, in their order.
    pub(super) fn observe(&mut self, look: &Look<'_>, now: u64) -> Vec<Timed> {
        let elapsed = now.saturating_sub(self.at);
        let mut known = std::mem::take(&mut self.members);
        let timed = look.members.iter().map(|member| {
            let is_same =
                |seen: &Seen| (seen.gated, seen.is_back, &seen.host) == (member.gated, member.is_back(), &member.host);
            let seen = known.remove(&member.name).filter(is_same);
            let mut seen = seen.unwrap_or_else(|| Seen::new(member));
            if seen.is_running && uses_time(look.rollout.phase, member.gated, member.is_back()) {
                seen.spent = seen.spent.saturating_add(elapsed);
            }
            if seen.is_silent && goes_on(look.rollout.phase) {
                seen.silent = seen.silent.saturating_add(elapsed);
            }
            seen.take(&member.state, look.policy, now);
            let complete_at = self.lacking.get(&member.name).map(|since| after(*since, look.policy.healthy));
            let mut timed = seen.timed(look.policy, now);
            timed.wake = timed.wake.into_iter().chain(complete_at.filter(|at| *at > now)).min();
            self.members.insert(member.name.clone(), seen);
            timed
        });
        let timed = timed.collect();
        self.at = now;
        timed
    }

    /// Take in the hook that runs, before the members. Returns what follows for it.
    pub(super) fn observe_hook(&mut self, look: &Look<'_>, now: u64) -> Option<Timed> {
        let (run, hook) = look.rollout.running().zip(look.hook)?;
        let known = self.hook.take().filter(|(begun, seen)| (*begun, &seen.host) == (run.generation, &hook.host));
        let mut seen = known.map_or_else(|| Seen::new(hook), |(_, seen)| seen);
        if matches!(look.rollout.phase, Phase::Before | Phase::After) {
            let elapsed = now.saturating_sub(self.at);
            seen.spent = seen.spent.saturating_add(if seen.is_running { elapsed } else { 0 });
            seen.silent = seen.silent.saturating_add(if seen.is_silent { elapsed } else { 0 });
        }
        seen.take(&hook.state, look.policy, now);
        let timed = seen.timed(look.policy, now);
        self.hook = Some((run.generation, seen));
        Some(timed)
    }

    /// Since when the rollout, which is in this phase, has been seen in `rolling`; `now` if it isn't in that.
    pub(super) fn rolling_since(&mut self, phase: Phase, now: u64) -> u64 {
        self.rolling = (phase == Phase::Rolling).then(|| self.rolling.unwrap_or(now));
        self.rolling.unwrap_or(now)
    }

    /// Members have all of their time again, and so has the hook that runs.
    pub(super) fn begin_again(&mut self) {
        let all = self.members.values_mut().chain(self.hook.iter_mut().map(|(_, seen)| seen));
        all.for_each(|seen| (seen.spent, seen.silent) = (0, 0));
    }
}

/// Whether the time in a phase counts for a member: with the new file while the rollout goes on, with the file before
/// while it goes back.
fn uses_time(phase: Phase, gated: bool, is_back: bool) -> bool {
    match phase {
        Phase::Canary | Phase::Rolling | Phase::After => !gated,
        Phase::Reverting => is_back,
        Phase::Before | Phase::Waiting | Phase::Paused | Phase::Reverted | Phase::Stuck | Phase::Done => false,
    }
}

/// Whether the time in a phase counts for hosts that say nothing of their members.
fn goes_on(phase: Phase) -> bool {
    matches!(phase, Phase::Canary | Phase::Rolling | Phase::After | Phase::Reverting)
}

impl Seen {
    fn new(member: &Member) -> Self {
        Self {
            gated: member.gated,
            is_back: member.is_back(),
            host: member.host.clone(),
            healthy_since: None,
            away_since: None,
            fits_nowhere: false,
            has_passed: false,
            spent: 0,
            is_running: false,
            silent: 0,
            is_silent: false,
        }
    }

    fn take(&mut self, state: &MemberState, policy: &Policy, now: u64) {
        let since = |before: Option<u64>, is_so: bool| is_so.then(|| before.unwrap_or(now));
        self.healthy_since = since(self.healthy_since, *state == MemberState::Healthy);
        self.away_since = since(self.away_since, state.is_gone());
        self.fits_nowhere = *state == MemberState::FitsNowhere;
        self.has_passed |= self.healthy_since.is_some_and(|since| after(since, policy.healthy) <= now);
        // Until its host has started it, the time counts only if it can't.
        self.is_running = match state {
            MemberState::Healthy | MemberState::Pending(_) | MemberState::Assigned(Some(_)) => !self.has_passed,
            _ => false,
        };
        self.is_silent = state.is_silent();
        if !self.is_silent {
            self.silent = 0;
        }
    }

    fn timed(&self, policy: &Policy, now: u64) -> Timed {
        let over_at =
            |used: u64| Some(after(now, policy.deadline).saturating_sub(used)).filter(|at| *at < u64::MAX - used);
        let patience = if self.fits_nowhere { Duration::ZERO } else { policy.healthy };
        let nowhere_at = self.away_since.map(|since| after(since, patience));
        let passes_at = self.healthy_since.filter(|_| !self.has_passed).map(|since| after(since, policy.healthy));
        let late = over_at(self.spent).filter(|_| self.is_running);
        let silent = over_at(self.silent).filter(|_| self.is_silent);
        let is_silent = silent.is_some_and(|at| at <= now);
        let wakes = [nowhere_at, passes_at, late, silent];
        Timed {
            has_passed: self.has_passed,
            healthy_since: self.healthy_since,
            is_late: late.is_some_and(|at| at <= now),
            is_nowhere: is_silent || nowhere_at.is_some_and(|at| at <= now),
            is_silent,
            wake: wakes.into_iter().flatten().filter(|at| *at > now).min(),
        }
    }
}

/// The first millisecond by which so much time has passed since `at`.
pub(super) fn after(at: u64, time: Duration) -> u64 {
    let ms = time.as_nanos().div_ceil(1_000_000);
    at.saturating_add(u64::try_from(ms).unwrap_or(u64::MAX))
}
