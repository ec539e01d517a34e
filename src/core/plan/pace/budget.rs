//! How many members a rollout may make unavailable at a time.

use crate::model::rollout::policy::Policy;

use super::Member;
use super::summary::{Count, Summary};

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
    pub(super) fn of(policy: &Policy, all: &Summary) -> Self {
        Self::new(policy, all, all.count(Count::Serving), all.count(Count::UnderWay))
    }

    /// For giving members the file before again; those that aren't healthy go back anyway.
    pub(super) fn of_revert(policy: &Policy, all: &Summary) -> Self {
        let back = all.count(Count::ThroughUnwell);
        Self::new(policy, all, all.count(Count::ServingBack), all.count(Count::UnderWayBack) + back)
    }

    fn new(policy: &Policy, all: &Summary, healthy: usize, under_way: usize) -> Self {
        let parallel = policy.parallel.at_least_one_of(all.count(Count::Own));
        Self { parallel, placed: all.count(Count::Placed), healthy, under_way, taken: 0 }
    }

    /// Whether `member`, which isn't under way, may be given another file. Once it may not, no other may that serves as
    /// well or as badly.
    pub(super) fn allows(&self, member: &Member) -> bool {
        let is_free = !member.serves() || self.healthy + self.parallel > self.placed;
        self.under_way + self.taken < self.parallel && is_free
    }

    /// Give `member` another file.
    pub(super) fn take(&mut self, member: &Member) {
        self.taken += 1;
        // One that goes on on a silent host isn't counted.
        self.healthy = self.healthy.saturating_sub(usize::from(member.serves()));
    }
}
