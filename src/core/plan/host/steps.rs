//! Decides what is done next, phase by phase: files, then jobs, then removals. Ensures that a pass ends: a step without
//! effect is taken a few times, and then its unit is left alone for a while.

use std::collections::BTreeSet;

use crate::model::body::BodyHash;
use crate::model::name::{UnitHash, UnitName};
use crate::model::systemd::{ActiveState, Error};
use crate::model::unit::Assignment;
use crate::plan::converge::{Seen, Step, Steps, converge};

use super::{Action, HostState, LEASE_RETRY, Log, Now, Unit};

/// How often one step of one unit is taken in one pass. Each is followed by an observation, so even a second time is
/// unusual: something else is undoing it.
const MAX_TAKEN: usize = 8;

/// Jobs that were decided on together. All are queued before the first one ends, so that systemd orders them.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    pub(super) stop: Vec<UnitName>,
    /// Those of `start` that have failed.
    pub(super) reset: Vec<UnitName>,
    pub(super) start: Vec<UnitName>,
}

impl HostState {
    /// The next action that the assignments require.
    pub(super) fn carry_out(&mut self, now: Now, lease_holds: bool) -> Option<Action> {
        if !self.assignments_known {
            return None;
        }
        let returning = self.returning();
        if !returning.is_empty() {
            if !lease_holds {
                return Some(Action::Wait(Some(now.monotonic + LEASE_RETRY)));
            }
            if let Some(question) = self.observe_unless_fresh(&returning) {
                return Some(question);
            }
            self.restart_dependents(&returning);
        }
        // This ends: each iteration either returns an action or makes a unit back off.
        loop {
            if lease_holds && let Some(action) = self.compare_files(now) {
                return Some(action);
            }
            let steps = self.steps();
            if !lease_holds && !steps.is_empty() {
                return Some(self.await_lease(now));
            }
            for name in &steps.record {
                if !self.is_rewritten(name) && !self.stands(name) {
                    self.carried_out(name, None);
                }
            }
            if !steps.install.is_empty() {
                if let Some(action) = self.install(steps.install, now) {
                    return Some(action);
                }
            } else if !steps.stop.is_empty() || !steps.start.is_empty() {
                if let Some(action) = self.run_jobs(steps, now) {
                    return Some(action);
                }
            } else if !steps.remove.is_empty() {
                // A unit that was just started may have pulled one of them in again.
                if let Some(question) = self.observe_unless_fresh(&steps.remove) {
                    return Some(question);
                }
                let remove = self.take(Step::Remove, steps.remove, now);
                if !remove.is_empty() {
                    return Some(Action::Remove(remove));
                }
            } else {
                return None;
            }
        }
    }

    /// The steps that the dirty units need now.
    fn steps(&mut self) -> Steps {
        self.dirty.extend(std::mem::take(&mut self.deferred));
        let units = self.dirty.iter().filter_map(|name| Some((name, self.units.get(name)?)));
        let free = units
            .filter(|(name, unit)| self.may_change(name, unit))
            .map(|(name, unit)| (name, unit.assignment.as_ref(), unit.seen()));
        let free: Vec<(&UnitName, Option<&Assignment>, Seen)> = free.collect();
        let mut steps = converge(free.iter().map(|(name, assignment, seen)| (*name, *assignment, seen)));
        self.defer_starts(&mut steps);
        steps
    }

    /// Whether anything may be done with the unit now.
    pub(super) fn may_change(&self, name: &UnitName, unit: &Unit) -> bool {
        unit.held_until.is_none() && !unit.unreadable && !self.is_protected(name)
    }

    /// Count a step of each unit. Units that have taken it too often back off and are left out.
    fn take(&mut self, step: Step, names: Vec<UnitName>, now: Now) -> Vec<UnitName> {
        let mut taken = Vec::with_capacity(names.len());
        for name in names {
            let times = self.taken.entry((name.clone(), step)).or_default();
            *times += 1;
            if *times <= MAX_TAKEN {
                taken.push(name);
                continue;
            }
            let what = match step {
                Step::Install => "its file was installed",
                Step::Stop => "it was stopped",
                Step::Start => "it was started",
                Step::Remove | Step::Record => "it was removed",
            };
            let error = Error::Refused(format!("{what} {MAX_TAKEN} times in a row, and is found as it was before"));
            self.back_off(&name, &error, now);
        }
        taken
    }

    /// Read those texts of these units from the store that weren't read in this pass.
    pub(super) fn fetch(&self, names: &[UnitName]) -> Option<Action> {
        let key = |name: &UnitName| self.units.get(name)?.wanted_key().cloned();
        let wanted: BTreeSet<UnitHash> = names.iter().filter_map(key).collect();
        let missing: BTreeSet<UnitHash> = wanted.into_iter().filter(|key| !self.texts.contains_key(key)).collect();
        (!missing.is_empty()).then_some(Action::Fetch(missing))
    }

    fn install(&mut self, names: Vec<UnitName>, now: Now) -> Option<Action> {
        if let Some(action) = self.fetch(&names) {
            return Some(action);
        }
        if self.give_up_lost_texts(&names) {
            return None;
        }
        if let Some(question) = self.read_reports_of_rewritten(&names) {
            return Some(question);
        }
        // Saved before the files are written: a daemon that is killed before the reload leaves it to the next one.
        // Otherwise systemd would start a unit with the file that it has in memory.
        let due: Vec<UnitName> = names.iter().filter(|name| self.may_need_reload(name)).cloned().collect();
        if self.note_rewrites(&names) || !due.is_empty() {
            self.installing.extend(due);
            self.unsaved.executed = true;
            if let Some(action) = self.save() {
                return Some(action);
            }
        }
        let names = self.take(Step::Install, names, now);
        let files = self.texts_of(names, now);
        (!files.is_empty()).then_some(Action::Install(files))
    }

    /// A leader of an earlier version deletes texts that only a field names which it doesn't know. A unit whose text is
    /// lost gets the one that is stored under the hash of its file. Returns whether there is such a unit.
    pub(super) fn give_up_lost_texts(&mut self, names: &[UnitName]) -> bool {
        let is_lost = |text: &UnitHash| self.texts.get(text).is_some_and(Result::is_err);
        let mut lost = Vec::new();
        for name in names {
            let Some(assignment) = self.units.get_mut(name).and_then(|unit| unit.assignment.as_mut()) else { continue };
            if assignment.text.take_if(|text| is_lost(text)).is_some() {
                lost.push(Log::TextLost(name.clone()));
            }
        }
        let any = !lost.is_empty();
        self.log.extend(lost);
        any
    }

    /// Whether the file that is to be written takes effect only with a reload, and this isn't noted yet.
    fn may_need_reload(&self, name: &UnitName) -> bool {
        let Some(unit) = self.units.get(name).filter(|_| !self.installing.contains(name)) else { return false };
        let Some(Ok(text)) = unit.wanted_key().and_then(|key| self.texts.get(key)) else {
            return unit.state.load.is_found();
        };
        !unit.has_same_as(BodyHash::of_text(text)) && (unit.state.load.is_found() || text.contains("[Install]"))
    }

    fn run_jobs(&mut self, steps: Steps, now: Now) -> Option<Action> {
        let Steps { stop, start, .. } = steps;
        if let Some(question) = self.check_lease_for(&start) {
            return Some(question);
        }
        let start = self.without_lease(start, now);
        let names: Vec<UnitName> = stop.iter().chain(&start).cloned().collect();
        if let Some(question) = self.read_reports(&names) {
            return Some(question);
        }
        if let Some(question) = self.read_bindings(&stop) {
            return Some(question);
        }
        let unstaged = self.unstaged(&stop);
        if let Some(action) = self.fetch(&unstaged) {
            return Some(action);
        }
        if !unstaged.is_empty() {
            return self.stage(unstaged, now);
        }
        let (stop, start) = (self.take(Step::Stop, stop, now), self.take(Step::Start, start, now));
        let has_failed = |unit: &Unit| unit.state.active == ActiveState::Failed;
        let reset = start.iter().filter(|name| self.units.get(name).is_some_and(has_failed)).cloned().collect();
        let jobs = Jobs { stop, reset, start };
        // Saved before the jobs are queued: a daemon that is restarted now would believe that a stopped unit runs, or
        // stop a unit again that was already started for its restart. If saving fails, the jobs take precedence.
        self.about_to_stop(&jobs.stop);
        self.about_to_start(&jobs.start);
        self.unsaved.first |= self.unsaved.executed;
        self.unseen.extend(jobs.stop.iter().chain(&jobs.start).cloned());
        self.jobs = jobs;
        self.save_first().or_else(|| self.next_job())
    }

    /// Those of `names` that are to come back with another file, which isn't beside the present one yet.
    fn unstaged(&self, names: &[UnitName]) -> Vec<UnitName> {
        let is_due = |name: &&UnitName| {
            let unit = self.units.get(name).filter(|unit| unit.is_launched() && unit.is_outdated());
            unit.is_some_and(|unit| self.staged.get(*name) != unit.wanted_key())
        };
        names.iter().filter(is_due).cloned().collect()
    }

    /// Write the next files of `names`: no unit is stopped for a file that its host can't write. None of those whose
    /// texts can't be used is stopped either.
    fn stage(&mut self, names: Vec<UnitName>, now: Now) -> Option<Action> {
        let files = self.texts_of(names, now);
        (!files.is_empty()).then_some(Action::Stage(files))
    }

    /// The texts of these units' files. A unit whose text can't be used backs off.
    fn texts_of(&mut self, names: Vec<UnitName>, now: Now) -> Vec<(UnitName, String)> {
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            let key = self.units.get(&name).and_then(Unit::wanted_key);
            match key.and_then(|key| self.texts.get(key)).cloned() {
                Some(Ok(text)) => files.push((name, text)),
                Some(Err(why)) => self.back_off(&name, &Error::Io(why), now),
                None => {}
            }
        }
        files
    }

    /// Queue the jobs that aren't queued yet, unless the lease has ended while the boot state was saved or the first
    /// jobs were queued: then the next pass decides about them again.
    pub(super) fn queue_jobs(&mut self, now: Now, lease_holds: bool) -> Option<Action> {
        let job = self.next_job()?;
        Some(if lease_holds { job } else { self.await_lease(now) })
    }

    /// The jobs that aren't queued yet: all stops, then all starts, in front of which failures are forgotten.
    fn next_job(&self) -> Option<Action> {
        if !self.jobs.stop.is_empty() {
            return Some(Action::Stop(self.jobs.stop.clone()));
        }
        if !self.jobs.reset.is_empty() {
            return Some(Action::ResetFailed(self.jobs.reset.clone()));
        }
        (!self.jobs.start.is_empty()).then(|| Action::Start(self.jobs.start.clone()))
    }

    /// The lease ends too soon to change anything.
    fn await_lease(&mut self, now: Now) -> Action {
        self.log.push(Log::LeaseEnds);
        Action::Wait(Some(now.monotonic + LEASE_RETRY))
    }

    /// A reload, if one is due: once for all files of a batch, before any of their units is started. Units for which a
    /// reload has just failed don't cause another one.
    pub(super) fn reload(&self) -> Option<Action> {
        let due = !self.lingering.is_empty() || !self.due_for_reload().is_empty();
        due.then_some(Action::Reload)
    }

    pub(super) fn due_for_reload(&self) -> Vec<UnitName> {
        let free = |name: &&UnitName| self.units.get(name).is_some_and(|unit| unit.held_until.is_none());
        self.reload_due.iter().filter(free).cloned().collect()
    }
}
