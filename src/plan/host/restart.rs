//! Restarts dependents after a replacement or a restart: systemd stops the units that require a stopped unit, and
//! doesn't start them again. Owns which units ran before; must never start a unit that didn't.

use std::collections::BTreeSet;

use crate::model::name::UnitName;
use crate::model::systemd::{ActiveState, JobKind};
use crate::model::unit::Target;

use super::{HostState, Unit};

impl HostState {
    /// These units are about to be stopped, some of them only to be replaced or restarted.
    pub(super) fn about_to_stop(&mut self, names: &[UnitName]) {
        let replaced = names.iter().filter(|name| self.units.get(*name).is_some_and(Unit::is_replaced));
        let replaced: BTreeSet<UnitName> = replaced.cloned().collect();
        if !replaced.is_empty() {
            // Recorded and saved before the stop: the daemon may not be running when it happens.
            for name in self.bound_to(&replaced).iter().filter(|name| !names.contains(name)) {
                self.mark_returning(name);
            }
            self.replacing.extend(replaced);
        }
        self.return_without(names);
        for name in names {
            self.undo(name);
        }
    }

    /// Some of these are stopped for good. A unit that is bound to one of them doesn't return with another unit either:
    /// its start would pull the stopped one in again.
    fn return_without(&mut self, names: &[UnitName]) {
        let ends = |name: &UnitName| names.contains(name) && self.stays_down(name);
        let returns = |unit: &Unit| unit.executed.as_ref().is_some_and(|executed| executed.returning);
        let bound = self.units.iter().filter(|(name, unit)| returns(unit) && self.is_bound_to(name, ends));
        for name in bound.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            if let Some(executed) = self.mark_dirty(&name).executed.as_mut() {
                executed.returning = false;
                self.unsaved.executed = true;
            }
        }
    }

    /// A unit is being stopped, so its assignment isn't carried out any more.
    fn undo(&mut self, name: &UnitName) {
        if let Some(executed) = &mut self.mark_dirty(name).executed {
            executed.undone = true;
            self.unsaved.executed = true;
        }
    }

    /// These units are about to be started. For those that are being restarted, the stop is done.
    pub(super) fn about_to_start(&mut self, names: &[UnitName]) {
        for name in names {
            let Some(unit) = self.units.get_mut(name).filter(|unit| unit.is_restarting()) else { continue };
            let asked = unit.assignment.as_ref().and_then(|assignment| assignment.restart);
            if let Some(executed) = &mut unit.executed {
                (executed.restart, executed.undone) = (asked, true);
                self.unsaved.executed = true;
            }
        }
    }

    /// A stop job is queued. If it is for a restart, the unit isn't stopped for the same restart again, no matter what
    /// starts it meanwhile.
    pub(super) fn stop_queued(&mut self, name: &UnitName) {
        let unit = self.mark_dirty(name);
        let asked = unit.assignment.as_ref().and_then(|assignment| assignment.restart);
        unit.stopped_for = asked.filter(|_| unit.is_restarting());
    }

    /// A unit has a stop job. If other units are being replaced, it is assumed to be stopped with them, whatever its
    /// file says. The end of a job means nothing here: it may have been a start.
    pub(super) fn is_stopped_too(&mut self, name: &UnitName) {
        if !self.replacing.is_empty() {
            self.mark_returning(name);
        }
    }

    /// Mark a running unit that is stopped together with one that is replaced or restarted. A unit that is also bound
    /// to one that stays down or has failed isn't marked: its start would pull that one in again.
    fn mark_returning(&mut self, name: &UnitName) {
        let failed =
            |other: &UnitName| self.units.get(other).is_some_and(|unit| unit.state.active == ActiveState::Failed);
        if self.is_bound_to(name, |other| self.stays_down(other) || failed(other)) {
            return;
        }
        let Some(unit) = self.units.get_mut(name).filter(|unit| unit.is_launched()) else { return };
        let ran = unit.executed.as_mut().filter(|executed| executed.target == Target::Launched && !executed.undone);
        if let Some(executed) = ran {
            executed.returning = true;
            self.unsaved.executed = true;
        }
    }

    /// The units that were stopped too, once all replaced units have their new files and all restarted ones have
    /// stopped.
    pub(super) fn returning(&mut self) -> Vec<UnitName> {
        let units = &self.units;
        self.replacing.retain(|name| units.get(name).is_some_and(Unit::is_replaced));
        if !self.replacing.is_empty() {
            return Vec::new();
        }
        let returns = |unit: &Unit| unit.executed.as_ref().is_some_and(|executed| executed.returning);
        self.units.iter().filter(|(_, unit)| returns(unit)).map(|(name, _)| name.clone()).collect()
    }

    /// Start those of `names` again that no longer run.
    pub(super) fn restart_dependents(&mut self, names: &[UnitName]) {
        for name in names {
            let unit = self.mark_dirty(name);
            unit.retry |= unit.state.active.is_down() || unit.state.job == Some(JobKind::Stop);
            if let Some(executed) = &mut unit.executed {
                executed.returning = false;
            }
            self.unsaved.executed = true;
        }
    }
}
