//! What one leader saw of a rollout's members: since when each is healthy, and how much of its time it has used. Values
//! in memory only: a new leader takes over who has been healthy for long enough from the record, and counts the rest
//! anew, which only ever delays. Owns that what follows for a member is worked out again only if something happened to
//! it or its time has come; must never decide who is next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::revision::Revision;
use crate::model::rollout::{MemberName, Phase, Through};

use super::due::{Clock, Clocks, Due, Dues, Heeded, Moments, first};
use super::seen::{Seen, Timed, after};
use super::summary::Summary;
use super::{Look, Member, MemberState};

/// What the leader keeps of one rollout between two looks: its members as they were told, and what was seen of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timers {
    members: BTreeMap<MemberName, Known>,
    /// The members that were reported since the last look; `None` is no member any more.
    reported: BTreeMap<MemberName, Option<Member>>,
    summary: Summary,
    dues: Dues,
    clocks: Clocks,
    /// `HealthySec=` and `DeadlineSec=` when the members were examined.
    policy: Option<(Duration, Duration)>,
    /// The run of a hook, by its generation.
    hook: Option<(Revision, Seen)>,
    /// Since when it has been seen in `rolling`. The time in the record may be by the clock of another leader.
    rolling: Option<u64>,
    /// How many members were examined.
    examined: usize,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// It, as it counts.
    member: Member,
    /// Since when it lacks a unit.
    lacking: Option<u64>,
    seen: Seen,
    timed: Timed,
    heeded: Heeded,
    moments: Moments,
}

impl Timers {
    /// A member is like this, or is new. To be called for every change of one.
    pub fn tell(&mut self, member: Member) {
        self.reported.insert(member.name.clone(), Some(member));
    }

    /// There is no such member any more.
    pub fn forget(&mut self, name: &MemberName) {
        self.reported.insert(name.clone(), None);
    }

    /// These are all members, as they are.
    pub fn tell_all(&mut self, members: impl IntoIterator<Item = Member>) {
        self.reported = self.members.keys().map(|name| (name.clone(), None)).collect();
        members.into_iter().for_each(|member| self.tell(member));
    }

    /// How many members were examined since the beginning, each as often as it was: what the looks have cost.
    #[must_use]
    pub fn examined(&self) -> usize {
        self.examined
    }

    /// What would be known otherwise if all members were examined again, as a sentence. Nothing may have been told
    /// since the last look.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let mut again = self.clone();
        if let Some(policy) = self.policy {
            again.examine_all(policy);
        }
        again.examined = self.examined;
        (again != *self).then(|| "the members of a rollout in brief aren't what they are one by one".into())
    }

    /// What other members are told of in `other`, as a sentence.
    #[must_use]
    pub fn differs_from(&self, other: &Self) -> Option<String> {
        (self.as_reported() != other.as_reported()).then(|| "members aren't as a look at all would find them".into())
    }

    /// The members as they were reported.
    fn as_reported(&self) -> BTreeMap<&MemberName, Member> {
        let known = self.members.iter().map(|(name, known)| (name, known.as_reported()));
        let mut all: BTreeMap<&MemberName, Member> = known.collect();
        for (name, member) in &self.reported {
            match member {
                Some(member) => drop(all.insert(name, member.clone())),
                None => drop(all.remove(name)),
            }
        }
        all
    }

    /// The members in brief.
    pub(super) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// What is known of a member, if there is one of this name.
    pub(super) fn get(&self, name: &MemberName) -> Option<(&Member, &Timed)> {
        self.members.get(name).map(|known| (&known.member, &known.timed))
    }

    /// The spares, in the order of their numbers.
    pub(super) fn spares(&self) -> impl Iterator<Item = (&Member, &Timed)> {
        self.summary.spares().filter_map(|name| self.get(name))
    }

    /// When something follows from the time alone, if the rollout goes on or, if it `is_back`, goes back.
    pub(super) fn wake(&self, is_back: bool) -> Option<u64> {
        self.dues.first(is_back, &self.clocks)
    }

    /// So many members were looked at by a decision.
    pub(super) fn looked_at(&mut self, members: usize) {
        self.examined += members;
    }

    /// Take in what was told of members, and what follows from the time, at `now`.
    pub(super) fn observe(&mut self, look: &Look<'_>, now: u64) {
        self.pass(look.rollout.phase, now);
        let policy = (look.policy.healthy, look.policy.deadline);
        let is_first = self.policy.is_none() && self.members.is_empty();
        for (name, member) in std::mem::take(&mut self.reported) {
            self.change(&name, member, policy);
        }
        if is_first && let Some(through) = &look.rollout.through {
            self.take_over(through);
        }
        if self.policy != Some(policy) {
            self.policy = Some(policy);
            self.examine_all(policy);
        }
        while let Some(name) = self.dues.next_over(&self.clocks) {
            self.examine(&name, policy);
        }
    }

    /// What an earlier leader saw of the members that have the new file, if they are still the same. All are examined
    /// afterwards.
    fn take_over(&mut self, through: &Through) {
        let ungated = || self.members.values().filter(|known| !known.member.gated);
        if ungated().count() != through.members {
            return;
        }
        for known in self.members.values_mut().filter(|known| !known.member.gated) {
            if !through.unproven.contains(&known.member.name) {
                known.seen.has_passed_before();
            }
        }
    }

    /// It is `now`, and the rollout was in this phase since the last look. If the leader follows a clock that was set
    /// back, what began when it showed more begins now.
    fn pass(&mut self, phase: Phase, now: u64) {
        let is_set_back = now < self.clocks.show(Clock::Day);
        self.clocks.pass(phase, now);
        if !is_set_back {
            return;
        }
        self.rolling = self.rolling.map(|since| since.min(now));
        for known in self.members.values_mut() {
            known.lacking = known.lacking.map(|since| since.min(now));
            known.seen.set_back(now);
        }
        if let Some((_, hook)) = &mut self.hook {
            hook.set_back(now);
        }
        // All are examined again in this look.
        self.policy = None;
    }

    /// Take in the hook that runs, before the members. Returns what follows for it, and when something does from the
    /// time alone.
    pub(super) fn observe_hook(&mut self, look: &Look<'_>, now: u64) -> Option<(Timed, Option<u64>)> {
        self.pass(look.rollout.phase, now);
        let (run, hook) = look.rollout.running().zip(look.hook)?;
        let is_same = |begun: Revision, seen: &Seen| begun == run.generation && seen.is_on(hook.host.as_ref());
        let known = self.hook.take().filter(|(begun, seen)| is_same(*begun, seen));
        let mut seen = known.map_or_else(|| Seen::of_hook(hook), |(_, seen)| seen);
        let policy = (look.policy.healthy, look.policy.deadline);
        seen.take(&hook.state, policy, &self.clocks);
        let (timed, moments) = seen.timed(policy, &self.clocks);
        self.hook = Some((run.generation, seen));
        Some((timed, first(&moments, &self.clocks)))
    }

    /// Since when the rollout, which is in this phase, has been seen in `rolling`; `now` if it isn't in that.
    pub(super) fn rolling_since(&mut self, phase: Phase, now: u64) -> u64 {
        self.rolling = (phase == Phase::Rolling).then(|| self.rolling.unwrap_or(now));
        self.rolling.unwrap_or(now)
    }

    /// Members have all of their time again, and so has the hook that runs.
    pub(super) fn begin_again(&mut self) {
        let members = self.members.values_mut().map(|known| &mut known.seen);
        let all = members.chain(self.hook.iter_mut().map(|(_, seen)| seen));
        all.for_each(|seen| seen.begin_again(&self.clocks));
        // They are examined again in the next look.
        self.policy = None;
    }

    fn change(&mut self, name: &MemberName, member: Option<Member>, policy: (Duration, Duration)) {
        let known = self.members.remove(name);
        if let Some(known) = &known {
            self.leave_out(known);
        }
        let Some(member) = member else { return };
        let lacking = known.as_ref().and_then(|known| known.lacking);
        let is_same = |seen: &Seen| seen.is_of(&member);
        let seen = known.map(|known| known.seen).filter(is_same).unwrap_or_else(|| Seen::new(&member));
        let lacking = member.lacks.then(|| lacking.unwrap_or(self.clocks.show(Clock::Day)));
        let known = Known {
            member,
            lacking,
            timed: Timed::default(),
            heeded: Heeded::default(),
            moments: Moments::default(),
            seen,
        };
        self.take_in(known, policy);
    }

    fn examine(&mut self, name: &MemberName, policy: (Duration, Duration)) {
        if let Some(known) = self.members.remove(name) {
            self.leave_out(&known);
            self.take_in(known, policy);
        }
    }

    fn examine_all(&mut self, policy: (Duration, Duration)) {
        (self.summary, self.dues) = (Summary::default(), Dues::default());
        for known in std::mem::take(&mut self.members).into_values() {
            self.take_in(known, policy);
        }
    }

    fn leave_out(&mut self, known: &Known) {
        self.summary.remove(&known.member, &known.timed);
        self.dues.remove(&known.member.name, known.heeded, &known.moments);
    }

    fn take_in(&mut self, mut known: Known, policy: (Duration, Duration)) {
        self.examined += 1;
        known.examine(policy, &self.clocks);
        self.summary.add(&known.member, &known.timed);
        self.dues.add(&known.member.name, known.heeded, &known.moments);
        self.members.insert(known.member.name.clone(), known);
    }
}

impl Known {
    /// The member as it was told.
    fn as_reported(&self) -> Member {
        let state = if self.timed.is_incomplete { MemberState::Healthy } else { self.member.state.clone() };
        Member { state, ..self.member.clone() }
    }

    /// Work out what follows now.
    fn examine(&mut self, (healthy, deadline): (Duration, Duration), clocks: &Clocks) {
        if self.timed.is_incomplete {
            self.member.state = MemberState::Healthy;
        }
        let complete = self.lacking.map(|since| Due { clock: Clock::Day, at: after(since, healthy) });
        let complete = complete.filter(|due| !due.is_over(clocks));
        let is_incomplete = complete.is_some() && self.member.state == MemberState::Healthy;
        if is_incomplete {
            // Nobody knows when it will be complete.
            self.member.state = MemberState::Assigned(None);
        }
        self.seen.take(&self.member.state, (healthy, deadline), clocks);
        (self.timed, self.moments) = self.seen.timed((healthy, deadline), clocks);
        self.timed.is_incomplete = is_incomplete;
        self.moments[4] = complete;
        let member = &self.member;
        let (lacks, is_gone) = (member.lacks, member.is_gone());
        self.heeded = Heeded {
            forward: lacks || !member.gated || is_gone || member.state.is_silent(),
            back: lacks || member.gated || member.spare || is_gone,
        };
    }
}
