//! When the boot state must be saved, and whether the saved state or the published report is more recent.

use std::collections::BTreeMap;

use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::unit::{Target, UnitReport};

use super::{Action, BootState, Executed, HostState, Log, StoreHistory, Unit};

/// What differs from the saved boot state.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    pub(super) executed: bool,
    /// More than its revision has changed.
    pub(super) history: bool,
    pub(super) foreign: bool,
    /// Whether to save before any other action.
    pub(super) first: bool,
    /// Whether saving failed in this pass. Work continues without it, and the next pass tries again.
    pub(super) failed: bool,
    /// The history as last saved.
    saved_history: StoreHistory,
}

impl HostState {
    /// Apply the history that an earlier daemon saved.
    pub(super) fn history_was(&mut self, history: StoreHistory) {
        self.unsaved.saved_history = history.clone();
        self.history = history;
    }

    /// Save, if that must come before any other action.
    pub(super) fn save_first(&mut self) -> Option<Action> {
        let first = std::mem::take(&mut self.unsaved.first);
        if first { self.save() } else { None }
    }

    /// Save what has changed.
    pub(super) fn save(&mut self) -> Option<Action> {
        let Unsaved { executed, history, foreign, failed, .. } = self.unsaved;
        if failed || !(executed || history || foreign) {
            return None;
        }
        let history = (executed || history) && self.history != self.unsaved.saved_history;
        Some(Action::Save(BootState {
            executed: executed.then(|| self.executed()),
            history: history.then(|| self.history.clone()),
            foreign: self.foreign.clone().filter(|_| foreign),
        }))
    }

    /// Apply the outcome of saving.
    pub(super) fn saved(&mut self, all: bool) {
        if !all {
            self.unsaved.failed = true;
            return;
        }
        let saved_history = self.history.clone();
        self.unsaved = Unsaved { saved_history, ..Unsaved::default() };
    }

    fn executed(&self) -> BTreeMap<UnitName, Executed> {
        let saved = |(name, unit): (&UnitName, &Unit)| {
            let reload = self.reload_due.contains(name) || self.installing.contains(name);
            let nothing = || reload.then(|| Executed::new(Revision::default(), Target::Loaded));
            let executed = unit.executed.clone().or_else(nothing)?;
            // The next daemon must not take it for a unit that was seen down.
            let result = executed.result.clone().filter(|_| !unit.ended_unseen);
            Some((name.clone(), Executed { result, state: unit.state_since(), reload, ..executed }))
        };
        self.units.iter().filter_map(saved).collect()
    }

    /// Before a unit is started or restarted on the basis of a saved state, check whether its report says that this was
    /// done already: a daemon that failed to save may still have reported it.
    pub(super) fn read_reports(&self, names: &[UnitName]) -> Option<Action> {
        let unsure = |name: &&UnitName| {
            self.units.get(name).is_some_and(|unit| unit.unconfirmed.is_some() && unit.is_launched())
        };
        let names: Vec<UnitName> = names.iter().filter(unsure).cloned().collect();
        (!names.is_empty()).then_some(Action::ReadReports(names))
    }

    /// Apply this host's own reports from the store. The newer of report and saved state is used: that of the newer
    /// generation, or, if an assignment that had failed was carried out at last and that couldn't be saved, that of
    /// the newer state.
    pub(super) fn confirm(&mut self, asked: &[UnitName], reports: &BTreeMap<UnitName, UnitReport>) {
        for name in asked {
            let unit = self.mark_dirty(name);
            let saved = unit.unconfirmed.take();
            let Some((assignment, report)) = unit.assignment.as_ref().zip(reports.get(name)) else { continue };
            let newer = unit.executed.as_ref().is_none_or(|executed| {
                let retried = executed.error.is_some() && saved.is_some_and(|saved| saved < report.since);
                executed.generation < report.generation || executed.generation == report.generation && retried
            });
            let launched = report.target == Target::Launched && report.generation <= assignment.generation;
            if newer && launched && report.error.is_none() && unit.hash() == Some(&report.hash) {
                // All restarts up to the reported generation were done, also if something else has changed since.
                let restart = assignment.restart.filter(|restart| *restart <= report.generation);
                let result = report.result.clone();
                let executed = Executed::new(report.generation, report.target);
                unit.executed = Some(Executed { restart, result, ..executed });
                self.log.push(Log::KnownFromReport(name.clone()));
                self.unsaved.executed = true;
            }
        }
    }
}
