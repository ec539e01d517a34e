//! The host that a drain took a unit from: kept with the placement of the unit, until it comes back. Owns what is
//! remembered of it, and that a unit which is to return is placed there if it fits. Must never decide who returns when
//! (`plan::drain` does).

use std::iter;

use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Placement, Taken, Target};

use super::Scheduler;
use super::decision::{Because, Reason};
use super::dirty::Rescan;
use super::index::Indexed;
use super::round::Round;
use super::wishes::Candidates;

impl Scheduler {
    /// The units that drains took from `host`, and what is remembered of it.
    pub fn taken_from(&self, host: &MachineId) -> impl Iterator<Item = (&UnitName, &Taken)> {
        let taken = |unit| Some((unit, self.cluster.placements.get(unit)?.value.taken()?));
        self.index.taken.from(host).filter_map(taken)
    }

    /// Whether units that leave a host together all fit this one.
    #[must_use]
    pub fn fits_on(&self, group: &[UnitName], host: &MachineId) -> bool {
        self.view().at(group, host, Because::WasThere).is_some()
    }

    /// Whether units are about to be placed that may take the room of others.
    #[must_use]
    pub fn is_about_to_place(&self) -> bool {
        self.dirty.units().any(|unit| !self.index.is_anywhere(unit.as_str()))
    }

    /// A unit that a drain took stays where it is, although others are brought back.
    pub fn keep_away(&mut self, unit: UnitName) {
        self.dirty.unit(&unit, Rescan::Keep);
        self.kept_away.insert(unit);
    }

    /// The host that a drain took one of `group` from, if that is to return now and all of them fit there.
    pub(super) fn way_back(&self, group: &[UnitName]) -> Option<MachineId> {
        let taken = |unit: &UnitName| self.cluster.placements.get(unit)?.value.taken().cloned();
        let returning = |unit: &UnitName| taken(unit).filter(|taken| self.cluster.is_to_return(unit, taken));
        let host = group.iter().find_map(returning)?.host;
        self.fits_on(group, &host).then_some(host)
    }
}

impl Indexed<'_> {
    /// This host and why it was chosen, if all of `group` fit it.
    pub(super) fn at(&self, group: &[UnitName], host: &MachineId, why: Because) -> Option<(MachineId, Because)> {
        let members = self.members(group);
        let fits = |other: &MachineId| other == host && self.group_violation(&members, other, group).is_none();
        let ranked = || -> Candidates<'_> { (1, Box::new(iter::once(host))) };
        let found = self.preferred(group, &members, &ranked, &fits).filter(|_| !self.exclude_each_other(group));
        found.map(|(host, _)| (host, why))
    }
}

impl Round<'_> {
    /// What is to be remembered of `unit`, which may be about to leave its host: the drain that took it first, as long
    /// as that isn't over.
    pub(super) fn taken(&self, unit: &UnitName) -> Option<Box<Taken>> {
        let cluster = &self.scheduler.cluster;
        if cluster.maintenance.is_empty() {
            return None;
        }
        let Placement::On { host, from, moved, .. } = &cluster.placements.get(unit)?.value else { return None };
        // It leaves because a person wants it elsewhere.
        if moved.as_ref().is_some_and(|moved| moved.to.is_some()) {
            return None;
        }
        let generation = cluster.units.get(unit)?.generation;
        let is_known = |taken: &&Taken| {
            let began = cluster.asked_of(&taken.host).and_then(|asked| asked.drain_began());
            began == Some(taken.drain) && taken.generation == generation
        };
        if let Some(taken) = from.as_deref().filter(is_known) {
            return Some(Box::new(taken.clone()));
        }
        let asked = cluster.asked_of(host)?;
        // It may have been told to leave before the host was undrained.
        let assignment = self.scheduler.assignment(host, unit)?;
        let restore = asked.restore.as_ref();
        let has_left = restore.is_some_and(|restore| assignment.value.generation <= restore.generation);
        let is_taken = asked.drain.is_some() || (assignment.value.target == Target::Removed && has_left);
        let drain = asked.drain_began().filter(|_| is_taken)?;
        Some(Box::new(Taken { host: host.clone(), drain, generation, stays: None }))
    }

    /// Where units that have no host are placed because they are to return there; `None` if they aren't, or don't fit.
    pub(super) fn return_to(&self, group: &[UnitName]) -> Option<(MachineId, Because)> {
        let taken = |unit: &UnitName| self.unplaced.get(unit)?.from.clone();
        let cluster = &self.scheduler.cluster;
        let returning = |unit: &UnitName| taken(unit).filter(|taken| cluster.is_to_return(unit, taken));
        let host = group.iter().find_map(returning)?.host;
        let view = self.scheduler.view();
        // Elsewhere, it would run twice.
        view.running_on(group).is_empty().then(|| view.at(group, &host, Because::WasThere)).flatten()
    }

    /// What is remembered of a unit that arrives on `host`. One that was to return, and didn't, stays away.
    pub(super) fn remembered(&self, unit: &UnitName, host: &MachineId, from: Option<Box<Taken>>) -> Option<Box<Taken>> {
        let mut taken = from.filter(|taken| taken.host != *host)?;
        let cluster = &self.scheduler.cluster;
        if cluster.is_to_return(unit, &taken) {
            let restore = cluster.asked_of(&taken.host).and_then(|asked| asked.restore.as_ref());
            taken.stays = restore.map(|restore| restore.generation);
        }
        Some(taken)
    }

    /// A unit is brought back no more: if asked again, it is tried again.
    pub(super) fn stay_away(&mut self, unit: &UnitName) {
        if !self.scheduler.kept_away.remove(unit) {
            return;
        }
        let placement = self.scheduler.cluster.placements.get(unit).map(|known| known.value.clone());
        let Some(Placement::On { host, since, from: Some(taken), tried, moved }) = placement else { return };
        let back = self.host(&taken.host);
        let from = self.remembered(unit, &host, Some(taken));
        self.set_placement(unit, Some(Placement::On { host, since, from, tried, moved }));
        self.pending.why(unit, Reason::StaysAway { from: back });
    }
}
