//! The pace of a rollout: which member gets the new file next, which one goes back to the file before, and when the
//! rollout goes on, ends or has failed. The caller passes the time and keeps what was timed. Must never decide where a
//! member runs, nor what is stored.
//!
//! ```text
//!  before --> canary --> waiting --> rolling --> after --> done
//!     |          |          |           |          |
//!     +----------+----------+-----------+----------+-- a member or a hook failed --> reverting --> reverted | stuck
//!                                                                            \----> paused
//! ```

mod asks;
mod budget;
mod due;
mod hooks;
mod member;
mod seen;
mod spares;
mod summary;
mod through;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::model::name::UnitName;
use crate::model::rollout::policy::{OnFailure, Policy, Promote};
use crate::model::rollout::{Ask, MemberName, Phase, Rollout, Verdict};
use crate::model::span;

use asks::{enter, heed};
use budget::Budget;
pub use member::{Member, MemberState};
use seen::{Timed, after};
use summary::{Count, Order, Summary, Turns};
pub use timers::Timers;

/// How often one look can change the phase: from paused by way of all others to its end.
const STEPS: usize = 8;

/// What is decided about, apart from the members, which the [`Timers`] are told of: those that have the new file, or
/// are to get it, and spares.
pub struct Look<'a> {
    /// The rollout, as far as it has got.
    pub rollout: &'a Rollout,
    /// The policy of the new file.
    pub policy: &'a Policy,
    /// What was last asked of it.
    pub ask: Option<&'a Ask>,
    /// Whether a member fits its host, or some other one, with the new file; otherwise a sentence with its name. For
    /// a global unit, whether any host fits that. Asked only of members that are next.
    pub fits: &'a dyn Fn(&Member) -> Result<(), String>,
    /// The hook that runs, with the host and the state that it has: healthy when it has ended well. `None` if none
    /// does, or if nothing is known of it.
    pub hook: Option<&'a Member>,
    /// Whether a unit can run as a hook; otherwise a sentence with its name. Asked only of the one that is next.
    pub can_run: &'a dyn Fn(&UnitName) -> Result<(), String>,
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The rollout afterwards.
    pub rollout: Rollout,
    /// These members get the new file.
    pub let_through: Vec<MemberName>,
    /// These members go back to the file before.
    pub revert: Vec<MemberName>,
    /// So many spares are added, with the new file.
    pub add: usize,
    /// These spares go away.
    pub end: Vec<MemberName>,
    /// This unit runs as a hook now, as soon as no other rollout runs it.
    pub run: Option<UnitName>,
    /// When to look again although nothing has happened, in ms since the epoch.
    pub wake: Option<u64>,
}

/// Decide how a rollout goes on at `now`, in ms since the epoch. `timers` has the members, and what this leader saw of
/// them before; with new ones, every wait begins again, apart from those that the record says are over. To be called
/// for every change of a member's state, and when it says. It costs what has changed and what is decided, however many
/// members there are.
pub fn advance(look: &Look<'_>, timers: &mut Timers, now: u64) -> Step {
    let mut hook = timers.observe_hook(look, now);
    timers.observe(look, now);
    let rolling_since = timers.rolling_since(look.rollout.phase, now);
    let mut next = Rollout { preview: look.policy.preview, ..look.rollout.clone() };
    if heed(&mut next, look.ask, now) {
        timers.begin_again();
        hook = timers.observe_hook(look, now);
        timers.observe(look, now);
    }
    let mut pace = Pace {
        look,
        next,
        known: timers,
        hook,
        rolling_since,
        now,
        run: None,
        let_through: Vec::new(),
        revert: Vec::new(),
        add: 0,
        end: Vec::new(),
        wake: None,
        looked_at: 0,
    };
    for _ in 0..STEPS {
        let phase = pace.next.phase;
        pace.go_on();
        if pace.next.phase == phase {
            break;
        }
    }
    pace.end_spares();
    let Pace { mut next, let_through, revert, add, end, run, wake, looked_at, .. } = pace;
    next.through = through::noted(look.rollout, &next, timers.summary(), &let_through);
    timers.looked_at(looked_at);
    timers.rolling_since(next.phase, now);
    Step { rollout: next, let_through, revert, add, end, run, wake }
}

/// One decision in the making.
struct Pace<'a> {
    look: &'a Look<'a>,
    next: Rollout,
    /// The members.
    known: &'a Timers,
    /// What follows for the hook that runs, and when something does from the time alone.
    hook: Option<(Timed, Option<u64>)>,
    /// Since when this leader has seen it in `rolling`; now, if it hasn't.
    rolling_since: u64,
    now: u64,
    let_through: Vec<MemberName>,
    revert: Vec<MemberName>,
    add: usize,
    end: Vec<MemberName>,
    run: Option<UnitName>,
    wake: Option<u64>,
    /// How many members were looked at one by one.
    looked_at: usize,
}

impl Pace<'_> {
    fn enter(&mut self, phase: Phase, why: Option<String>) {
        enter(&mut self.next, phase, why, self.now);
        self.wake = None;
    }

    fn go_on(&mut self) {
        if matches!(self.next.phase, Phase::Canary | Phase::Waiting | Phase::Rolling | Phase::After)
            && let Some((member, why)) = self.failure()
        {
            (self.next.failed, self.next.failed_on) = (Some(member.unit), member.host);
            return self.fail(why);
        }
        match self.next.phase {
            Phase::Before => self.before(),
            Phase::Canary => self.canary(),
            Phase::Waiting => self.waiting(),
            Phase::Rolling => self.rolling(),
            Phase::After => self.after(),
            Phase::Reverting => self.reverting(),
            Phase::Paused | Phase::Reverted | Phase::Stuck | Phase::Done => {}
        }
    }

    /// Which member failed with the new file, if one did, and why.
    fn failure(&self) -> Option<(MemberName, String)> {
        let (member, timed) = self.known.get(self.all().failed()?)?;
        let (unit, host) = (member.about.clone(), member.name.host.clone());
        Some((MemberName { unit, host }, self.failed(member, timed)?))
    }

    fn failed(&self, member: &Member, timed: &Timed) -> Option<String> {
        if let MemberState::Failed(why) = &member.state {
            return Some(why.clone());
        }
        let Policy { healthy, deadline, .. } = self.look.policy;
        let (name, deadline) = (member.shown(), span::shown(*deadline));
        let late = match &member.state {
            MemberState::Healthy => format!("{name} wasn't ready for {} within {deadline}", span::shown(*healthy)),
            MemberState::Pending(Some(why)) | MemberState::Assigned(Some(why)) => {
                format!("{name} isn't ready after {deadline}: {why}")
            }
            _ => format!("{name} isn't ready after {deadline}"),
        };
        timed.is_late.then_some(late)
    }

    fn fail(&mut self, why: String) {
        self.next.note(self.next.target.clone(), Verdict::Failed, Some(why.clone()));
        self.let_through.clear();
        self.add = 0;
        // One that failed, or isn't needed any more, runs no longer.
        self.next.hooks.retain(|run| run.took.is_some());
        // Of hosts that have missed a rollout which was done: all others have that file before as well, and keep it.
        let is_stable = self.all().has(Count::Hosts) && self.next.target == self.next.from.hash;
        let phase = match self.look.policy.on_failure {
            OnFailure::Revert if is_stable => Phase::Stuck,
            OnFailure::Revert => Phase::Reverting,
            OnFailure::Pause => Phase::Paused,
        };
        self.enter(phase, Some(why));
    }

    fn canary(&mut self) {
        if self.are_hooks_left(false) {
            return self.enter(Phase::Before, None);
        }
        let wanted = self.canaries();
        if self.next.promoted || wanted == 0 {
            return self.roll();
        }
        let (present, passed) = (self.all().count(Count::Present), self.all().count(Count::Passed));
        if passed >= wanted {
            return self.enter(Phase::Waiting, None);
        }
        self.next.why = self.silence();
        self.call_spares();
        let nowhere = self.is_unplaced();
        let through = if nowhere { self.all().count(Count::Ungated) } else { present };
        // A spare that serves with an earlier file is no canary yet: a member that isn't healthy needn't wait for it.
        let called = self.add + self.let_through.len();
        self.release(wanted.saturating_sub(through + called), nowhere);
        if self.next.phase != Phase::Canary {
            return;
        }
        self.wake = self.known.wake(false);
    }

    fn waiting(&mut self) {
        let wanted = self.canaries();
        if self.next.promoted || wanted == 0 {
            return self.roll();
        }
        if self.all().count(Count::Present) < wanted {
            return self.enter(Phase::Canary, None);
        }
        let Promote::After(time) = self.look.policy.promote else { return };
        let Some(since) = self.all().all_healthy_since() else { return };
        let promoted = after(after(since, self.look.policy.healthy).max(self.next.since), time);
        if promoted > self.now {
            return self.wake = Some(promoted);
        }
        self.roll();
    }

    fn roll(&mut self) {
        self.next.promoted = true;
        self.enter(Phase::Rolling, None);
    }

    fn rolling(&mut self) {
        let silence = self.silence();
        self.next.why.clone_from(&silence);
        self.call_spares();
        let (all, is_proven) = (self.all().count(Count::Own), self.all().has(Count::Proven));
        let taken_up = self.taken_up();
        if taken_up <= self.now {
            self.release(all, is_proven || self.is_unplaced());
        }
        if self.next.phase != Phase::Rolling {
            return;
        }
        // Those without a host get it as well, even if nothing else has to be waited for.
        let is_held_back = taken_up > self.now && self.all().has(Count::Unplaced);
        let is_done = !is_held_back && !self.all().has(Count::Unfinished);
        if is_done && (is_proven || all == 0) {
            if is_proven && self.are_hooks_left(true) {
                return self.enter(Phase::After, None);
            }
            if is_proven {
                self.next.note(self.next.target.clone(), Verdict::Stable, None);
            }
            return self.enter(Phase::Done, silence);
        }
        self.wake = self.known.wake(false).into_iter().chain(Some(taken_up).filter(|at| *at > self.now)).min();
    }

    /// When balancers may be expected to send new connections to what was only previewed before.
    fn taken_up(&self) -> u64 {
        if self.next.preview { after(self.rolling_since, self.look.policy.healthy) } else { 0 }
    }

    /// Let at most so many members through, within the budget; those that have no host, or serve and lose theirs, only
    /// if `unplaced`. Those that don't serve come first: a file that repairs them must reach them.
    fn release(&mut self, most: usize, unplaced: bool) {
        let (known, nobody) = (self.known, BTreeSet::new());
        let mut budget = Budget::of(self.look.policy, self.all());
        let is_covered = self.is_covered();
        let mut most = most + self.let_through.len();
        for leaves in [false, true] {
            let Turns { unwell, unplaced: without, well } = known.summary().next(leaves);
            let without = if unplaced { without } else { &nobody };
            let mut turns: Box<dyn Iterator<Item = &Order>> = Box::new(unwell.union(without));
            while self.let_through.len() < most
                && let Some(order) = turns.next()
            {
                match self.let_next(order, &mut budget, unplaced) {
                    Turn::Over => {}
                    Turn::Gone => most += 1,
                    // Those without a host take nothing of it.
                    Turn::Refused => turns = Box::new(without.range((Bound::Excluded(order), Bound::Unbounded))),
                    Turn::Failed => return,
                }
            }
            let mut turns = well.iter().filter(|_| is_covered);
            while self.let_through.len() < most
                && let Some(order) = turns.next()
            {
                match self.let_next(order, &mut budget, unplaced) {
                    Turn::Over | Turn::Gone => {}
                    Turn::Refused => break,
                    Turn::Failed => return,
                }
            }
        }
    }

    /// It is the turn of this member.
    fn let_next(&mut self, order: &Order, budget: &mut Budget, unplaced: bool) -> Turn {
        self.looked_at += 1;
        let Some((member, _)) = self.known.get(&order.name()) else { return Turn::Over };
        if member.state != MemberState::Unplaced {
            if !budget.allows(member) {
                return Turn::Refused;
            }
            if let Err(why) = (self.look.fits)(member) {
                self.fail(why);
                return Turn::Failed;
            }
            let is_lost = member.leaves && !unplaced;
            if is_lost && member.state == MemberState::Healthy {
                return Turn::Over;
            }
            budget.take(member);
            if is_lost {
                self.let_through.push(member.name.clone());
                return Turn::Gone;
            }
        }
        self.let_through.push(member.name.clone());
        Turn::Over
    }

    /// What isn't healthy with the new file goes back at once, the rest within the budget.
    fn reverting(&mut self) {
        let known = self.known;
        let stuck = self.all().failed_back().and_then(|name| known.get(name));
        let stuck = stuck.and_then(|(member, timed)| self.failed(member, timed));
        let is_back = !self.all().has(Count::Through);
        let mut budget = Budget::of_revert(self.look.policy, self.all());
        let mut back = if is_back { Vec::new() } else { self.spares_to_turn() };
        let may_stop = stuck.is_none() && back.is_empty() && self.is_covered();
        let Turns { unwell, well, .. } = known.summary().through();
        back.extend(unwell.iter().map(Order::name));
        for (member, _) in well.iter().filter(|_| may_stop).filter_map(|order| known.get(&order.name())) {
            self.looked_at += 1;
            if !budget.allows(member) {
                break;
            }
            budget.take(member);
            back.push(member.name.clone());
        }
        let serves = !self.all().has(Count::Unserved);
        self.revert = back;
        if let Some(what) = stuck {
            let why = self.next.why.clone().map_or_else(String::new, |why| format!("{why}; "));
            return self.enter(Phase::Stuck, Some(format!("{why}with the file before, {what}")));
        }
        if is_back && serves {
            let why = self.next.why.clone();
            return self.enter(Phase::Reverted, why);
        }
        self.wake = known.wake(true);
    }

    /// Which member isn't waited for because its host says nothing of it, as a sentence.
    fn silence(&self) -> Option<String> {
        let (member, _) = self.known.get(self.all().silent()?)?;
        let (name, deadline) = (member.shown(), span::shown(self.look.policy.deadline));
        Some(format!("{name} isn't waited for: its host has carried out nothing for {deadline}"))
    }

    /// All members in brief.
    fn all(&self) -> &Summary {
        self.known.summary()
    }

    /// Whether no member has a host. The new file may be what changes that.
    fn is_unplaced(&self) -> bool {
        self.all().count(Count::Own) == self.all().count(Count::Unplaced)
    }

    /// How many canaries there must be. A host that loses the unit tells nothing of the new file.
    fn canaries(&self) -> usize {
        let (all, leave) = (self.all().count(Count::Own), self.all().count(Count::Leaves));
        self.look.policy.canary.at_most_all_of(all).min(all - leave)
    }
}

/// What came of a member's turn.
enum Turn {
    /// The next one is next.
    Over,
    /// It loses the unit, which is down there, and is let through: it was missed already, and the others may have to
    /// wait for it. It tells nothing of the file, so it is no canary.
    Gone,
    /// The budget allows neither this one nor another that serves as well or as badly.
    Refused,
    /// It fits no host, so the rollout has failed.
    Failed,
}
