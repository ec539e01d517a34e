//! What this host says of its units: which reports differ from those in the store, and when nothing is left to say. Writing them is
//! `publish`'s.

use crate::model::name::UnitName;
use crate::model::unit::State;

use super::Units;
use crate::agent::unit::Unit;

impl Units {
    /// The reports that differ from what the store has.
    pub(in crate::agent) fn unpublished(&mut self) -> Vec<(UnitName, Option<State>)> {
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
    pub(in crate::agent) fn published(&mut self, name: &UnitName, state: Option<State>) {
        if let Some(unit) = self.units.get_mut(name) {
            unit.reported = Some(state);
        }
        self.settle(name);
    }

    /// Nobody knows whether the reports of these are in the store.
    pub(in crate::agent) fn unpublish<'a>(&mut self, names: impl Iterator<Item = &'a UnitName>) {
        for name in names {
            self.touch(name).reported = None;
        }
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
