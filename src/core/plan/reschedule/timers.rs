//! What the leader has seen of units that have failed: since when each has been as it is. Lost with the leader: its
//! successor begins to count anew, which only delays what follows. Must never decide what follows.

use std::collections::{BTreeMap, BTreeSet};

use super::has_failed;
use crate::model::cluster::{Change, Cluster};
use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::{Desired, Target, UnitReport};

/// So long a unit must have been well, in ms, before its failures are forgotten.
const WELL: u64 = 600_000;

/// As long as a unit has been on its way up for less than this, in ms, its host gets no other.
const ARRIVES: u64 = 60_000;

/// When a unit is looked at again that could not be tried when its time had come, in ms.
const AGAIN: u64 = 5_000;

/// How a unit is that fails, or has failed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its host's systemd has given it up.
    Failed,
    /// It was told to leave its host.
    Leaving,
    /// It was moved or started again, and has yet to come up.
    Arriving,
    /// It is as it should be, after it had failed.
    Well,
}

/// How a unit is, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) standing: Standing,
    /// The host that it is on.
    pub(super) host: MachineId,
    /// The generation of its assignment, and since when its host has reported its state.
    version: (Revision, Option<u64>),
    /// When the leader saw it so first, in ms since the epoch.
    since: u64,
}

/// What the leader has seen.
#[derive(Debug, Clone, Default)]
pub struct Timers {
    seen: BTreeMap<UnitName, Seen>,
    /// The units to look at again.
    changed: BTreeSet<UnitName>,
    /// When something is to be done, in ms since the epoch.
    due: Option<u64>,
    /// When it looked last.
    looked: u64,
}

/// The unit that a change is about, if its standing may follow from it.
#[must_use]
pub fn about(change: &Change) -> Option<UnitName> {
    match change {
        Change::Unit(name, _)
        | Change::Placement(name, _)
        | Change::Assignment(_, name, _)
        | Change::Report(name, ..)
        | Change::Gate(name, _) => Some(name.clone()),
        _ => None,
    }
}

impl Timers {
    /// All of `cluster` may be other than it was.
    pub fn listed(&mut self, cluster: &Cluster) {
        self.changed.extend(self.seen.keys().cloned());
        self.changed.extend(cluster.units.keys().filter(|name| concerns(cluster, name)).cloned());
    }

    /// Something has changed about a unit.
    pub fn happened(&mut self, cluster: &Cluster, name: UnitName) {
        if self.seen.contains_key(&name) || concerns(cluster, &name) {
            self.changed.insert(name);
        }
    }

    /// Whether anything is to be looked at, at `now`.
    #[must_use]
    pub fn is_dirty(&self, now: u64) -> bool {
        !self.changed.is_empty() || self.due.is_some_and(|due| due <= now)
    }

    /// When something is to be done although nothing has happened, in ms since the epoch.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        self.due
    }

    pub(super) fn changed(&mut self, unit: UnitName) {
        self.changed.insert(unit);
    }

    /// Bring this up to date at `now`. What is as it was is so since it was seen first.
    pub(super) fn update(&mut self, cluster: &Cluster, now: u64) {
        // The leader may follow a clock that was set back: what has passed has passed.
        let back = std::mem::replace(&mut self.looked, now).saturating_sub(now);
        self.seen.values_mut().for_each(|seen| seen.since = seen.since.saturating_sub(back));
        for name in std::mem::take(&mut self.changed) {
            let known = self.seen.remove(&name);
            let Some((standing, host, version)) = standing(cluster, &name) else { continue };
            let is_same = |seen: &Seen| (seen.standing, &seen.host, seen.version) == (standing, &host, version);
            let since = known.filter(is_same).map_or(now, |seen| seen.since);
            self.seen.insert(name, Seen { standing, host, version, since });
        }
    }

    /// Set [`Self::due`], after everything was done that could be at `now`.
    pub(super) fn wind(&mut self, cluster: &Cluster, now: u64) {
        let ends = self.seen.iter().filter_map(|(name, seen)| end(cluster, name, seen));
        self.due = ends.map(|end| if end <= now { now.saturating_add(AGAIN) } else { end }).min();
    }

    /// The units whose time has come, those that waited longest first.
    pub(super) fn due_units(&self, cluster: &Cluster, now: u64) -> Vec<(&UnitName, &Seen)> {
        let ends = self.seen.iter().filter_map(|(name, seen)| Some((end(cluster, name, seen)?, name, seen)));
        let mut due: Vec<_> = ends.filter(|(end, ..)| *end <= now).collect();
        due.sort_by_key(|(end, name, _)| (*end, *name));
        due.into_iter().map(|(_, name, seen)| (name, seen)).collect()
    }

    /// The hosts on which units are on their way up.
    pub(super) fn arriving_on(&self, now: u64) -> BTreeSet<MachineId> {
        let arriving = |seen: &&Seen| seen.standing == Standing::Arriving && now < seen.since.saturating_add(ARRIVES);
        self.seen.values().filter(arriving).map(|seen| seen.host.clone()).collect()
    }

    /// The units that have yet to leave their hosts, and these.
    pub(super) fn leaving(&self) -> impl Iterator<Item = (&UnitName, &MachineId)> {
        let leaving = self.seen.iter().filter(|(_, seen)| seen.standing == Standing::Leaving);
        leaving.map(|(name, seen)| (name, &seen.host))
    }
}

/// Whether the file of a unit asks for it, or isn't known yet.
fn concerns(cluster: &Cluster, name: &UnitName) -> bool {
    let Some(unit) = cluster.units.get(name).filter(|_| !name.is_template()) else { return false };
    cluster.files.get(&unit.hash).is_none_or(|file| file.value.reschedule().is_some())
}

/// When something is to be done about a unit.
fn end(cluster: &Cluster, name: &UnitName, seen: &Seen) -> Option<u64> {
    let wait = match seen.standing {
        Standing::Failed => {
            let policy = cluster.constraints(name)?;
            let times = cluster.tried(name).map_or(0, |tried| tried.times);
            policy.reschedule()?.delay_ms(times, super::failed_on(cluster, name, &seen.host).len())
        }
        Standing::Well => WELL,
        Standing::Leaving | Standing::Arriving => return None,
    };
    Some(seen.since.saturating_add(wait))
}

/// How a unit is, on which host, and what tells this from the time before. `None` if nothing follows from it.
fn standing(cluster: &Cluster, name: &UnitName) -> Option<(Standing, MachineId, (Revision, Option<u64>))> {
    let unit = cluster.units.get(name).filter(|unit| unit.desired == Desired::Launched)?;
    let file = cluster.files.get(&unit.hash)?;
    file.value.reschedule()?;
    let host = cluster.placed_on(name).filter(|host| cluster.machines.contains_key(*host))?;
    let assignment = &cluster.schedule.get(host)?.get(name)?.value;
    let was_tried = cluster.tried(name).is_some_and(|tried| !tried.hosts.is_empty());
    let is_about = |report: &&UnitReport| {
        report.target == Target::Launched
            && report.generation >= assignment.generation
            && report.hash == assignment.hash
    };
    let report = cluster.report(name, host).filter(is_about);
    let standing = match report {
        _ if assignment.target == Target::Removed => Standing::Leaving,
        Some(report) if assignment.hash == unit.hash && has_failed(report) => Standing::Failed,
        Some(report) if report.is_healthy(file.value.ends) => Standing::Well,
        _ => Standing::Arriving,
    };
    let follows = standing == Standing::Failed || was_tried;
    (follows && assignment.target != Target::Loaded)
        .then(|| (standing, host.clone(), (assignment.generation, report.map(|report| report.since))))
}
