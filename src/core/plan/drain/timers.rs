//! What the leader has seen of drains: when each began for it, and which units are on their way. Lost with the leader:
//! its successor begins to count anew, which only delays what follows.

use std::collections::BTreeMap;

use super::super::pace::MemberState;
use super::super::rollouts::member_of;
use super::super::schedule::Scheduler;
use super::{coming_back, under_way};
use crate::model::cluster::Cluster;
use crate::model::maintenance::Drain;
use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::{Placement, Target};

/// What the leader has seen.
#[derive(Debug, Clone, Default)]
pub struct Timers {
    /// When it saw each drain first, in ms since the epoch, and which.
    began: BTreeMap<MachineId, (Revision, u64)>,
    /// The units that were told to leave.
    moving: BTreeMap<UnitName, OnItsWay>,
    /// When it looked last.
    looked: u64,
}

/// A unit is on its way.
#[derive(Debug, Clone)]
pub(super) struct OnItsWay {
    /// The host that it leaves.
    pub(super) home: MachineId,
    /// What for.
    pub(super) cause: Cause,
}

/// What a unit leaves its host for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// The drain of this host, or the restore of what was taken from it.
    Host(MachineId),
    /// A person wants it elsewhere.
    Asked,
}

impl Timers {
    /// Bring this up to date at `now`.
    pub fn see(&mut self, cluster: &Cluster, now: u64) {
        // The leader may follow a clock that was set back: what has passed has passed.
        let back = std::mem::replace(&mut self.looked, now).saturating_sub(now);
        self.began.values_mut().for_each(|(_, began)| *began = began.saturating_sub(back));
        let drains: BTreeMap<&MachineId, Revision> =
            under_way(cluster).map(|(host, drain)| (host, drain.generation)).collect();
        self.began.retain(|host, (generation, _)| drains.get(host) == Some(generation));
        for (host, generation) in drains {
            self.began.entry(host.clone()).or_insert((generation, now));
        }
        self.moving.retain(|unit, moved| is_on_its_way(cluster, unit, &moved.home));
    }

    /// A unit is told to leave a host.
    pub(super) fn leaves(&mut self, unit: UnitName, moved: OnItsWay) {
        self.moving.insert(unit, moved);
    }

    /// Whether the deadline of a drain has passed.
    pub(super) fn is_over(&self, host: &MachineId, drain: &Drain, now: u64) -> bool {
        self.end(host, drain).is_some_and(|end| end <= now)
    }

    fn end(&self, host: &MachineId, drain: &Drain) -> Option<u64> {
        let (generation, began) = self.began.get(host)?;
        (*generation == drain.generation).then(|| began.saturating_add(drain.deadline.saturating_mul(1000)))
    }

    /// When the next deadline passes, after `now`.
    #[must_use]
    pub fn due(&self, cluster: &Cluster, now: u64) -> Option<u64> {
        under_way(cluster).filter_map(|(host, drain)| self.end(host, drain)).filter(|end| *end > now).min()
    }

    /// How many units are on their way, by what they are for.
    pub(super) fn moving(&self, scheduler: &Scheduler) -> BTreeMap<Cause, usize> {
        let cluster = scheduler.cluster();
        let mut moving: BTreeMap<Cause, usize> = BTreeMap::new();
        let known = self.moving.values().map(|moved| moved.cause.clone());
        let is_sent = |unit: &UnitName| scheduler.on_their_way().any(|(sent, _)| sent == unit);
        // Those that an earlier leader has told to leave.
        let sent_earlier = under_way(cluster).flat_map(|(host, _)| {
            let leaving = cluster.schedule.get(host).into_iter().flatten().filter(|(unit, assignment)| {
                assignment.value.target == Target::Removed
                    && !assignment.value.global
                    && !self.moving.contains_key(*unit)
            });
            leaving.filter(|(unit, _)| !is_sent(unit)).map(|_| Cause::Host(host.clone()))
        });
        let back = coming_back(scheduler).filter(|(_, unit)| {
            let home = cluster.placed_on(unit).and_then(|home| cluster.schedule.get(home));
            let assignment = home.and_then(|there| there.get(*unit));
            assignment.is_some_and(|assignment| assignment.value.target == Target::Removed)
                && !self.moving.contains_key(*unit)
        });
        let sent = scheduler.on_their_way().filter(|(unit, _)| !self.moving.contains_key(*unit));
        known
            .chain(sent_earlier)
            .chain(back.map(|(host, _)| Cause::Host(host.clone())))
            .chain(sent.map(|_| Cause::Asked))
            .for_each(|cause| *moving.entry(cause).or_default() += 1);
        moving
    }
}

/// Whether a unit that was told to leave `host` has yet to arrive: until it is healthy elsewhere, has failed there, or
/// waits because no host fits any more.
fn is_on_its_way(cluster: &Cluster, unit: &UnitName, host: &MachineId) -> bool {
    let waits = cluster.placements.get(unit).is_some_and(|known| matches!(known.value, Placement::Waiting { .. }));
    let is_there = cluster.schedule.get(host).is_some_and(|there| there.contains_key(unit));
    let arrives = || matches!(member_of(cluster, unit).state, MemberState::Assigned(None) | MemberState::Pending(_));
    cluster.units.contains_key(unit) && !waits && (is_there || arrives())
}
