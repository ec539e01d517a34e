//! How good a host is for a unit. Owns the comparison that chooses among the hosts that fit; must never decide whether
//! one fits.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::Cluster;
use crate::model::name::MachineId;

/// The score of one host; the smallest is the best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Score {
    /// Whether the host is cordoned: nearly no unit fits it, so it is tried last.
    pub(super) cordoned: bool,
    /// Assignments on the host.
    pub(super) load: usize,
    pub(super) host: MachineId,
}

/// Hosts, best first.
pub(super) type Ranking = BTreeSet<Score>;

impl Score {
    pub(super) fn of(cluster: &Cluster, host: &MachineId) -> Self {
        Self { cordoned: cluster.is_closed(host), load: load(cluster, host), host: host.clone() }
    }
}

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

/// The number of assignments on a host.
pub(super) fn load(cluster: &Cluster, host: &MachineId) -> usize {
    cluster.schedule.get(host).map_or(0, BTreeMap::len)
}
