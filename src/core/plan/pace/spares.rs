//! Spares: extra members that start first with the new file, and serve while the others are replaced. Owns how many
//! there must be, which file each has, and when it goes away. Must never decide which other member is next.

use crate::model::rollout::{MemberName, Phase};

use super::seen::Timed;
use super::summary::Count;
use super::{Member, MemberState, Pace};

impl Pace<'_> {
    /// Have as many spares as the policy wants, with the new file, while there is a member that isn't through. One that
    /// an earlier rollout has left serves with its file until all members do. If a unit of it has failed that the new
    /// file wouldn't change, another spare takes its place.
    pub(super) fn call_spares(&mut self) {
        if !self.all().has(Count::Waiting) {
            return;
        }
        let remaining = self.known.spares().filter(|(spare, _)| !is_lost(spare)).count();
        self.add = self.wanted_spares().saturating_sub(remaining);
        let is_whole = !self.all().has(Count::Unwell);
        let may_change =
            |spare: &Member, timed: &Timed| spare.gated && !is_lost(spare) && (is_whole || !may_serve(spare, timed));
        let renewed = self.called().filter(|(spare, timed)| may_change(spare, timed));
        let renewed: Vec<_> = renewed.map(|(spare, _)| spare.name.clone()).collect();
        self.let_through.extend(renewed);
    }

    /// Whether as many spares serve as can be placed, so that a healthy member may be stopped. While the rollout goes
    /// back, they may do so with either file.
    pub(super) fn is_covered(&self) -> bool {
        let goes_back = self.next.phase == Phase::Reverting;
        let serves = |spare: &Member, timed: &Timed| {
            (goes_back || !spare.gated) && timed.has_passed && spare.state == MemberState::Healthy
        };
        self.add == 0 && self.called().all(|(spare, timed)| timed.is_nowhere || serves(spare, timed))
    }

    /// The spares that get the file before while the rollout goes back: those that don't serve with the new one.
    pub(super) fn spares_to_turn(&self) -> Vec<MemberName> {
        let turned = self.known.spares().filter(|(spare, _)| !spare.gated && !spare.serves());
        turned.map(|(spare, _)| spare.name.clone()).collect()
    }

    /// Name the spares that go away: all of them when the rollout has ended, before that those that nobody needs and
    /// those that don't serve with the file before either, and all of them if there are no members. One that serves
    /// stays if the members don't (`stuck`).
    pub(super) fn end_spares(&mut self) {
        let nobody = !self.all().has(Count::Own);
        let is_back = !self.all().has(Count::Through);
        let called = self.called().count();
        let ends = |at: usize, spare: &Member, timed: &Timed| {
            let serves = may_serve(spare, timed);
            match self.next.phase {
                _ if nobody => true,
                Phase::Done | Phase::Reverted => true,
                Phase::Stuck => !serves,
                Phase::Reverting => {
                    let fails = matches!(spare.state, MemberState::Failed(_)) || timed.is_late;
                    !serves && is_back || spare.gated && fails
                }
                Phase::Canary | Phase::Rolling => !serves && (at >= called || is_lost(spare)),
                Phase::Before | Phase::Waiting | Phase::After | Phase::Paused => false,
            }
        };
        let ended = self.known.spares().enumerate().filter(|(at, (spare, timed))| ends(*at, spare, timed));
        let ended: Vec<_> = ended.map(|(_, (spare, _))| spare.name.clone()).collect();
        for names in [&mut self.let_through, &mut self.revert] {
            names.retain(|name| !ended.contains(name));
        }
        self.end = ended;
    }

    fn wanted_spares(&self) -> usize {
        self.look.policy.spare.at_most_all_of(self.all().count(Count::Own))
    }

    /// The spares that the policy wants; there may be others that an earlier rollout has left.
    pub(super) fn called(&self) -> impl Iterator<Item = (&Member, &Timed)> {
        self.known.spares().take(self.wanted_spares())
    }
}

/// Whether a spare can't be had any more with the new file: it is with an earlier one, and a unit has failed that both
/// leave as it is.
fn is_lost(spare: &Member) -> bool {
    spare.keeps && matches!(spare.state, MemberState::Failed(_))
}

/// Whether a spare serves, as far as is known. Its host may have registered anew, and has yet to report again.
fn may_serve(spare: &Member, timed: &Timed) -> bool {
    match spare.state {
        MemberState::Healthy => true,
        MemberState::Assigned(None) => !timed.is_nowhere,
        _ => false,
    }
}
