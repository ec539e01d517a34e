//! What this host reports of its units: which reports differ from those in the store, which are obsolete, and how many
//! units are in which state.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::unit::{Target, UnitReport};
use crate::plan::converge::{Step, next};

use super::{HostState, Now, Unit};

impl HostState {
    /// The reports that differ from those in the store and may be written now, and when the next one may be.
    pub(super) fn unpublished(&mut self, now: Now) -> (Vec<(UnitName, Option<UnitReport>)>, Option<Duration>) {
        if !self.assignments_known {
            return (Vec::new(), None);
        }
        let (mut changed, mut due) = (Vec::new(), Vec::new());
        let mut settled = Vec::new();
        for name in &self.dirty {
            let Some(unit) = self.units.get_mut(name) else { continue };
            if name.is_template() {
                // Only units are reported: the cluster decides about a template by the units that bring it.
                unit.reported = Some(None);
                settled.push(name.clone());
                continue;
            }
            let report = unit.report();
            if unit.reported.as_ref() == Some(&report) {
                settled.push(name.clone());
            } else if let Some(at) = report.as_ref().and_then(|report| unit.report_due(report, now)) {
                due.push(at);
            } else {
                changed.push((name.clone(), report));
            }
        }
        for name in settled {
            self.settle(&name);
        }
        (changed, due.into_iter().min())
    }

    /// These reports were committed.
    pub(super) fn published(&mut self, reports: Vec<(UnitName, Option<UnitReport>)>, now: Now) {
        for (name, report) in reports {
            if let Some(unit) = self.units.get_mut(&name) {
                unit.was_reported(report.as_ref(), now);
                unit.reported = Some(report);
            }
        }
    }

    /// It is unknown whether the reports of these units were committed.
    pub(super) fn publish_failed(&mut self, names: &[UnitName]) {
        for name in names {
            self.mark_dirty(name).reported = None;
        }
    }

    /// Write every report again: it is unknown which ones are in the store, or in which form.
    pub(super) fn forget_reports(&mut self) {
        let names: Vec<UnitName> = self.units.keys().cloned().collect();
        for name in names {
            self.mark_dirty(&name).reported = None;
        }
    }

    /// The store has reports of these units. One of a unit that isn't known here is by an earlier daemon, which could
    /// not save that it had the unit before it died, or is in a store that was restored. It is examined like a unit
    /// that has just left: if nothing of it is here, its report is deleted.
    pub(super) fn see_reported(&mut self, names: BTreeSet<UnitName>) {
        for name in names.into_iter().filter(|name| !self.units.contains_key(name)).collect::<Vec<_>>() {
            self.mark_dirty(&name);
            self.unseen.insert(name);
        }
    }

    /// Everything that happened to the unit is reported.
    fn settle(&mut self, name: &UnitName) {
        if self.unseen.contains(name) {
            return;
        }
        self.dirty.remove(name);
        if self.units.get(name).is_some_and(Unit::is_over) {
            self.units.remove(name);
            self.unsaved.executed = true;
        }
    }

    /// The number of units that are or were assigned to this host, without foreign ones and templates.
    #[must_use]
    pub fn count(&self) -> usize {
        self.units.keys().filter(|name| !self.is_foreign(name) && !name.is_template()).count()
    }

    /// All units that are known.
    pub fn units(&self) -> impl Iterator<Item = (&UnitName, &Unit)> {
        self.units.iter()
    }

    /// Whether every unit is reconciled and reported.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.dirty.is_empty() && self.unseen.is_empty()
    }

    /// The number of units to be reconciled.
    #[must_use]
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// The number of units that have a systemd job.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.units.values().filter(|unit| unit.state.job.is_some()).count()
    }

    /// The number of units that should run and don't.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.units.values().filter(|unit| unit.is_missing()).count()
    }

    /// The `ActiveState` of each unit that has a file here.
    pub fn active(&self) -> impl Iterator<Item = &str> {
        let here = self.units.iter().filter(|(name, unit)| unit.file.is_some() && !name.is_template());
        here.map(|(_, unit)| unit.state.active.as_str())
    }
}

impl Unit {
    /// What is to be reported of it now.
    pub(super) fn report(&self) -> Option<UnitReport> {
        let executed = self.executed.as_ref().filter(|executed| executed.generation > Revision::default())?;
        if self.assignment.is_none() && executed.target == Target::Removed {
            return None;
        }
        let hash = self.hash().or(self.assignment.as_ref().map(|assignment| &assignment.hash))?;
        Some(UnitReport {
            generation: executed.generation,
            target: executed.target,
            hash: hash.clone(),
            load: self.state.load.clone(),
            active: self.state.active.clone(),
            sub: self.state.sub.clone(),
            job: self.state.job.clone(),
            result: executed.result.clone(),
            error: executed.error.clone(),
            since: self.since,
            missing: self.is_missing(),
            restarts: self.restarts(),
            failure: self.failure().map(Box::new),
            status: self.status(),
            ready: self.is_ready(),
            health: self.ill_health(),
        })
    }

    /// Whether the unit has no assignment, no file and no report any more.
    fn is_over(&self) -> bool {
        self.assignment.is_none()
            && !self.unreadable
            && self.file.is_none()
            && !self.removed
            && self.reported == Some(None)
            && next(None, &self.seen()).is_none_or(|step| step == Step::Record)
    }
}
