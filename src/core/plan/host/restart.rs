//! Starts dependents again after a replacement, a restart, or a stop that was taken back: systemd stops the units that
//! require a stopped unit, and doesn't start them again. Owns which units ran before; must never start a unit that
//! didn't.

use std::collections::BTreeSet;

use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::systemd::{ActiveState, JobKind};
use crate::model::unit::Target;

use super::{Action, Executed, HostState, Log, Unit};

impl HostState {
    /// These units are about to be stopped, some of them only to be replaced or restarted.
    pub(super) fn about_to_stop(&mut self, names: &[UnitName]) {
        let replaced = names.iter().filter(|name| self.units.get(name).is_some_and(Unit::is_replaced));
        let replaced: BTreeSet<UnitName> = replaced.cloned().collect();
        if !replaced.is_empty() {
            // Recorded and saved before the stop: the daemon may not be running when it happens.
            for name in self.stopped_with(&replaced).iter().filter(|name| !names.contains(name)) {
                self.mark_returning(name);
            }
            self.replacing.extend(replaced);
        }
        self.mark_followers(names);
        self.return_without(names);
        self.bindings.clear();
        for name in names {
            self.undo(name);
        }
    }

    /// Ask which units systemd stops together with those of `names` that will run again or stay on this host.
    pub(super) fn read_bindings(&self, names: &[UnitName]) -> Option<Action> {
        let replaced = |name: &UnitName| self.units.get(name).is_some_and(Unit::is_replaced);
        let comes_back = |name: &&UnitName| replaced(name) || self.stays_loaded(name);
        let unknown = names.iter().filter(comes_back).filter(|name| !self.bindings.contains_key(*name));
        let unknown: Vec<UnitName> = unknown.cloned().collect();
        (!unknown.is_empty()).then_some(Action::ReadBindings(unknown))
    }

    /// Whether a unit is to be stopped and stays on this host.
    fn stays_loaded(&self, name: &UnitName) -> bool {
        let loaded =
            |unit: &Unit| unit.assignment.as_ref().is_some_and(|assignment| assignment.target == Target::Loaded);
        self.stays_down(name) && self.units.get(name).is_some_and(loaded)
    }

    /// Running units that systemd stops together with `names`, or whose start it cancels. A unit that is being stopped
    /// already isn't among them, unless it was to return from that.
    fn stopped_with(&self, names: &BTreeSet<UnitName>) -> BTreeSet<UnitName> {
        let returns = |unit: &Unit| {
            unit.executed.as_ref().is_some_and(|executed| executed.returning || !executed.follows.is_empty())
        };
        let up = |unit: &Unit| match unit.state.job {
            Some(JobKind::Start) => true,
            Some(JobKind::Stop) if !returns(unit) => false,
            _ => unit.state.active.is_up(),
        };
        let bound = names.iter().filter_map(|name| self.bindings.get(name)).flatten();
        let up = |name: &&UnitName| self.units.get(name).is_some_and(up);
        bound.filter(|name| !names.contains(*name)).filter(up).cloned().collect()
    }

    /// Record the running units that will go down with those of `names` that are to be stopped and stay on this host.
    fn mark_followers(&mut self, names: &[UnitName]) {
        let bases: Vec<UnitName> = names.iter().filter(|name| self.stays_loaded(name)).cloned().collect();
        for base in bases {
            for name in self.stopped_with(&BTreeSet::from([base.clone()])) {
                let Some(unit) = self.units.get_mut(&name).filter(|unit| unit.is_launched()) else { continue };
                let ran =
                    unit.executed.as_mut().filter(|executed| executed.target == Target::Launched && !executed.undone);
                if let Some(executed) = ran {
                    executed.follows.insert(base.clone());
                    self.unsaved.executed = true;
                }
            }
        }
    }

    /// Units that went down with others, all of which are to run again and are no longer being stopped: until then,
    /// that they should stay down may be asked for once more.
    fn followers(&self) -> impl Iterator<Item = &UnitName> {
        let stops =
            |unit: &Unit| unit.state.active == ActiveState::Deactivating || unit.state.job == Some(JobKind::Stop);
        let runs = move |name: &UnitName| self.units.get(name).is_some_and(|unit| unit.is_launched() && !stops(unit));
        let follows = move |unit: &Unit| {
            let follows = unit.executed.as_ref().map(|executed| &executed.follows);
            follows.is_some_and(|follows| !follows.is_empty() && follows.iter().all(runs))
        };
        self.units.iter().filter(move |(_, unit)| follows(unit)).map(|(name, _)| name)
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

    /// These units are about to be started, and what had to be stopped for a restart is stopped. The answer may be
    /// lost, or the daemon killed before it arrives: then the start may have happened, and a later stop or restart is
    /// carried out as for a unit that was started.
    pub(super) fn about_to_start(&mut self, names: &[UnitName]) {
        for name in names {
            let Some(unit) = self.units.get_mut(name) else { continue };
            let Some(assignment) = &unit.assignment else { continue };
            let executed = unit.executed.get_or_insert(Executed::new(Revision::default(), Target::Launched));
            (executed.target, executed.restart, executed.undone) = (Target::Launched, assignment.restart, true);
            self.unsaved.executed = true;
        }
    }

    /// A stop job is queued. If it is for a restart, the unit isn't stopped for the same restart again, no matter what
    /// starts it meanwhile.
    pub(super) fn stop_queued(&mut self, name: &UnitName) {
        let unit = self.mark_dirty(name);
        let asked = unit.assignment.as_ref().and_then(|assignment| assignment.restart);
        unit.stopped_for = asked.filter(|_| unit.is_restarting());
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

    /// The units to be started again because they were stopped with others: with replaced and restarted ones, once all
    /// of these have their new files and have stopped; with stopped ones, once all of these are to run again.
    pub(super) fn returning(&mut self) -> BTreeSet<UnitName> {
        let units = &self.units;
        self.replacing.retain(|name| units.get(name).is_some_and(Unit::is_replaced));
        let mut names: BTreeSet<UnitName> = self.followers().cloned().collect();
        if self.replacing.is_empty() {
            let returns = |unit: &Unit| unit.executed.as_ref().is_some_and(|executed| executed.returning);
            names.extend(self.units.iter().filter(|(_, unit)| returns(unit)).map(|(name, _)| name.clone()));
        }
        names
    }

    /// Start those of `names` again that no longer run.
    pub(super) fn restart_dependents(&mut self, names: &BTreeSet<UnitName>) {
        for name in names {
            let unit = self.mark_dirty(name);
            unit.retry |= unit.state.active.is_down() || unit.state.job == Some(JobKind::Stop);
            if let Some(executed) = &mut unit.executed {
                executed.returning = false;
                executed.follows.clear();
            }
            self.log.push(Log::Returns(name.clone()));
            self.unsaved.executed = true;
        }
    }
}
