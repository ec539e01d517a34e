//! How good a host is for a unit. Owns the comparison that chooses among the hosts that fit; must never decide whether
//! one fits.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::model::name::MachineId;

/// How much there is on a host; the smallest is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Load {
    /// The larger share of its memory and CPU that is taken, in percent.
    pub share: u64,
    /// The number of assignments.
    pub units: usize,
}

/// The score of one host; the smallest is the best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Score {
    /// Whether the host is cordoned: nearly no unit fits it, so it is tried last.
    pub(super) cordoned: bool,
    pub(super) load: Load,
    pub(super) host: MachineId,
}

/// Where hosts are in a ranking that are equally full: whether they are cordoned, and the share that is taken of them.
pub(super) type Place = (bool, u64);

impl Score {
    pub(super) fn place(&self) -> Place {
        (self.cordoned, self.load.share)
    }
}

/// Hosts, best first.
pub(super) type Ranking = BTreeSet<Score>;

/// The least loaded host that isn't cordoned, then the smallest id, so that the same cluster always results in the same
/// plan.
impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.cordoned, self.load).cmp(&(other.cordoned, other.load)).then_with(|| self.host.cmp(&other.host))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
