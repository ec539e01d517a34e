//! Units that stay assigned to a host that is gone, because their files say how long they wait for it: `MoveAfterSec=`.
//! Owns until when they do. This follows from the roster alone, so that another leader finds the same moment. Must
//! never decide what becomes of them then.

use std::collections::BTreeSet;

use crate::model::cluster::Cluster;
use crate::model::move_after::MoveAfter;
use crate::model::name::{MachineId, UnitName};

use super::fit::{View as _, is_wanted, live_at};

/// For how long a unit waits for a host that isn't registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// Until this moment, in ms since the epoch. It may be over.
    Until(u64),
    /// Until the host is back, or a person says that it won't be.
    ForGood,
}

impl Waits {
    /// Whether it still waits.
    #[must_use]
    pub fn go_on(self, now: u64) -> bool {
        match self {
            Self::Until(end) => end > now,
            Self::ForGood => true,
        }
    }
}

/// For how long `unit`, which is assigned to `host`, waits for it. `None` if it doesn't: it is to run nowhere, was told
/// to leave, the host is registered, or nothing is remembered of it, because a person has said that it is gone for
/// good.
///
/// A unit that follows another one by `MachineOf=` waits at least as long as that. A host that has just gone, of which
/// the roster doesn't know it yet, is gone since `now`.
pub(super) fn waits(cluster: &Cluster, unit: &UnitName, host: &MachineId, now: u64) -> Option<Waits> {
    if cluster.machines.contains_key(host) {
        return None;
    }
    let known = cluster.roster.get(host)?;
    // What was told to leave has nothing to wait for.
    if !is_wanted(cluster, unit) || !live_at(cluster, unit.as_str(), host) {
        return None;
    }
    let since = known.value.gone.map_or(now, |gone| gone.since);
    let after = move_after(cluster, unit, host, &mut BTreeSet::new());
    (after > MoveAfter::AT_ONCE).then(|| after.ends(since).map_or(Waits::ForGood, Waits::Until))
}

/// The longest time of the unit and of those that it follows there. `seen` were asked before.
fn move_after<'a>(
    cluster: &'a Cluster,
    unit: &'a UnitName,
    host: &MachineId,
    seen: &mut BTreeSet<UnitName>,
) -> MoveAfter {
    let Some(constraints) = cluster.constraints_at(unit, host).filter(|_| seen.insert(unit.clone())) else {
        return MoveAfter::AT_ONCE;
    };
    let there = constraints.machine_of.iter().filter(|peer| live_at(cluster, peer, host));
    let peers = there.filter_map(|peer| cluster.units.get_key_value(peer.as_str()));
    peers.fold(constraints.move_after, |longest, (peer, _)| longest.max(move_after(cluster, peer, host, seen)))
}

/// The units on hosts that are gone whose time ends, and when.
pub(super) fn ends(cluster: &Cluster) -> impl Iterator<Item = (&MachineId, &UnitName, u64)> {
    let gone = cluster.roster.iter().filter_map(|(host, known)| Some((host, known.value.gone?.since)));
    let assigned = gone.filter_map(|(host, since)| Some((host, since, cluster.schedule.get(host)?)));
    assigned.flat_map(move |(host, since, assignments)| {
        let end = move |unit| match waits(cluster, unit, host, since)? {
            Waits::Until(end) => Some((host, unit, end)),
            Waits::ForGood => None,
        };
        assignments.keys().filter_map(end)
    })
}
