//! How many members a rollout may make unavailable at a time, and in which order it goes from one to the next.

use std::cmp::Reverse;

use crate::model::rollout::MemberName;

use super::timers::Timed;
use super::{Look, Member, MemberState};

/// What is left of `Parallel=`.
#[derive(Debug)]
pub(super) struct Budget {
    parallel: usize,
    /// Members that have a host, and spares that serve.
    placed: usize,
    /// Members and spares that serve, apart from those under way.
    healthy: usize,
    /// Members that were given another file, and haven't been healthy with it for long enough.
    under_way: usize,
    taken: usize,
}

impl Budget {
    /// For letting members through.
    pub(super) fn of(look: &Look<'_>, timed: &[Timed]) -> Self {
        Self::new(look, timed, |member| !member.gated)
    }

    /// For giving members the file before again, of which `back` go back anyway.
    pub(super) fn of_revert(look: &Look<'_>, timed: &[Timed], back: usize) -> Self {
        let budget = Self::new(look, timed, Member::is_back);
        Self { under_way: budget.under_way + back, ..budget }
    }

    fn new(look: &Look<'_>, timed: &[Timed], changed: impl Fn(&Member) -> bool) -> Self {
        let parallel = look.policy.parallel.at_least_one_of(look.members.iter().filter(|member| !member.spare).count());
        let mut budget = Self { parallel, placed: 0, healthy: 0, under_way: 0, taken: 0 };
        for (member, timed) in look.members.iter().zip(timed).filter(|(_, timed)| !timed.is_nowhere) {
            if member.spare {
                let serves = member.state == MemberState::Healthy && timed.has_passed;
                (budget.placed, budget.healthy) =
                    (budget.placed + usize::from(serves), budget.healthy + usize::from(serves));
                continue;
            }
            let is_under_way = changed(member) && !timed.has_passed;
            budget.placed += 1;
            budget.under_way += usize::from(is_under_way);
            budget.healthy += usize::from(member.state == MemberState::Healthy && !is_under_way);
        }
        budget
    }

    /// Whether `member`, which isn't under way, may be given another file.
    pub(super) fn allows(&self, member: &Member) -> bool {
        let is_free = member.state != MemberState::Healthy || self.healthy + self.parallel > self.placed;
        self.under_way + self.taken < self.parallel && is_free
    }

    /// Give `member` another file.
    pub(super) fn take(&mut self, member: &Member) {
        self.taken += 1;
        self.healthy -= usize::from(member.state == MemberState::Healthy);
    }
}

/// The members without the spares. Those that don't serve come first: a file that repairs them must reach them. Then
/// those that have new files in part, and then the highest number, since the first member is often the primary, and
/// `scale` takes the same end. The hosts of a global unit are ordered by their ids, and those that lose it come last.
pub(super) fn in_order(members: &[Member]) -> Vec<&Member> {
    let mut all: Vec<&Member> = members.iter().filter(|member| !member.spare).collect();
    all.sort_by_key(|member| {
        let (is_well, MemberName { unit, host }) = (member.state == MemberState::Healthy, &member.name);
        (member.leaves, is_well, !member.partly, Reverse((unit.number(), unit)), host)
    });
    all
}
