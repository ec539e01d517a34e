//! What this host says of its units: which reports differ from those in the store, when nothing is left to say, and
//! how many units are how. Writing them is `publish`'s.

use crate::model::name::UnitName;
use crate::model::unit::{Target, UnitReport};
use crate::plan::converge::{Step, next};

use super::{Unit, Units};

impl Units {
    /// The reports that differ from what the store has.
    pub(in crate::agent) fn unpublished(&mut self) -> Vec<(UnitName, Option<UnitReport>)> {
        if !self.followed {
            return Vec::new();
        }
        let mut changed = Vec::new();
        let mut settled = Vec::new();
        for name in &self.dirty {
            let Some(unit) = self.units.get(name) else { continue };
            let report = unit.report();
            if unit.reported.as_ref() == Some(&report) {
                settled.push(name.clone());
            } else {
                changed.push((name.clone(), report));
            }
        }
        for name in settled {
            self.settle(&name);
        }
        changed
    }

    /// A report is in the store.
    pub(in crate::agent) fn published(&mut self, name: &UnitName, state: Option<UnitReport>) {
        if let Some(unit) = self.units.get_mut(name) {
            unit.reported = Some(state);
        }
        self.settle(name);
    }

    /// Nobody knows whether the reports of these are in the store.
    pub(in crate::agent) fn unpublish<'a>(&mut self, names: impl Iterator<Item = &'a UnitName>) {
        for name in names {
            self.mark_dirty(name).reported = None;
        }
    }

    /// Units that something happened to.
    pub(in crate::agent) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Units with a job of systemd's.
    pub(in crate::agent) fn jobs(&self) -> usize {
        self.units.values().filter(|unit| unit.systemd.job.is_some()).count()
    }

    /// What systemd says of each that has a file here.
    pub(in crate::agent) fn active(&self) -> impl Iterator<Item = &str> {
        self.units.values().filter(|unit| unit.file.is_some()).map(|unit| unit.systemd.active.as_str())
    }

    fn settle(&mut self, name: &UnitName) {
        if self.unseen.contains(name) {
            return;
        }
        self.dirty.remove(name);
        if self.units.get(name).is_some_and(Unit::is_over) {
            self.units.remove(name);
            self.records_changed = true;
        }
    }
}

impl Unit {
    fn report(&self) -> Option<UnitReport> {
        let record = self.record.as_ref()?;
        if self.entry.is_none() && record.target == Target::Removed {
            return None;
        }
        let hash = self.file.clone().or_else(|| self.entry.as_ref().map(|entry| entry.hash.clone()))?;
        Some(UnitReport {
            generation: record.generation,
            target: record.target,
            hash,
            load: self.systemd.load.clone(),
            active: self.systemd.active.clone(),
            sub: self.systemd.sub.clone(),
            job: self.systemd.job.clone(),
            result: record.result.clone(),
            error: record.error.clone(),
            since: self.since,
        })
    }

    /// Told nothing, there is nothing, and nothing is left of it in the store.
    fn is_over(&self) -> bool {
        self.entry.is_none()
            && !self.unreadable
            && self.file.is_none()
            && self.reported == Some(None)
            && next(None, &self.seen()).is_none_or(|step| step == Step::Record)
    }
}
