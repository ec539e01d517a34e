//! Applies what is observed: the disk, systemd's answers and its signals. Owns which units must be asked about and
//! since when a state lasts. A signal only means that it is time to ask; nothing else may be concluded from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::systemd::{ActiveState, Event, JobResult, LoadState, UnitState};
use crate::model::unit::Target;

use super::unit::Known;
use super::{Action, Disk, HostState, Now, Question, Unit};

impl HostState {
    /// Everything must be compared with the disk and with systemd.
    pub(super) fn check_all(&mut self) {
        self.disk_unread = true;
        self.resync();
    }

    fn resync(&mut self) {
        let names: Vec<UnitName> = self.units.keys().cloned().collect();
        self.unseen.extend(names.iter().cloned());
        for name in names {
            let unit = self.mark_dirty(&name);
            (unit.unread, unit.diagnosis.due) = (true, true);
        }
    }

    /// Apply a signal from systemd.
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Resync => self.resync(),
            Event::Changed(name) => self.look_at(&name),
            Event::JobDone { unit: name, result } => {
                self.look_at(&name);
                if result == JobResult::Dependency {
                    self.suspect_lease(&name);
                }
                let Some(unit) = self.units.get_mut(&name) else { return };
                if result == JobResult::Canceled {
                    unit.stopped_for = None; // another start replaced the stop job
                }
                unit.ended_unseen |= unit.ends_unseen(&result);
                if let Some(executed) = &mut unit.executed {
                    executed.result = Some(result);
                    self.unsaved.executed = true;
                }
            }
        }
    }

    fn look_at(&mut self, name: &UnitName) {
        if let Some(unit) = self.units.get_mut(name) {
            unit.diagnosis.due = true;
            self.unseen.insert(name.clone());
            self.dirty.insert(name.clone());
        }
        self.fresh.remove(name);
    }

    /// Apply what is on disk and what an earlier daemon of this boot saved.
    pub(super) fn read_from_disk(&mut self, disk: Disk) {
        self.learn_foreign(&disk);
        let Disk { files, executed, .. } = disk;
        let executed = executed.unwrap_or_default();
        let known: Vec<UnitName> = self.units.keys().cloned().collect();
        for name in known.iter().chain(files.keys()).chain(executed.keys()) {
            let new = !self.units.contains_key(name);
            let file = files.get(name).map(|text| Known::of(name, text, &self.id));
            let changed = self.units.get(name).is_none_or(|unit| unit.file != file);
            if new || changed {
                self.unseen.insert(name.clone());
            }
            let unit = self.mark_dirty(name);
            unit.removed |= unit.file.is_some() && file.is_none();
            unit.compared = unit.compared.take().filter(|_| !changed);
            (unit.file, unit.unread) = (file, true);
            // systemd answers nothing about a template, but it was linked in this boot if it was recorded then.
            unit.linked |= name.is_template() && unit.file.is_some() && executed.contains_key(name);
        }
        for (name, mut executed) in executed {
            let unit = self.mark_dirty(&name);
            if unit.executed.is_none() {
                unit.saved_state = executed.state.take().filter(|_| unit.state.active == ActiveState::Unknown);
                // An earlier daemon had installed it, and may have removed the file without seeing what came of that.
                let carried_out = executed.generation > Revision::default();
                let installed = carried_out && executed.target != Target::Removed && executed.error.is_none();
                unit.removed |= installed && unit.file.is_none();
                let reload = std::mem::take(&mut executed.reload);
                unit.executed = Some(executed);
                if reload {
                    self.reload_due.insert(name);
                }
            }
        }
        for unit in self.units.values_mut().filter(|unit| unit.file.is_some()) {
            // The file exists and the call that wrote it was never answered: the unit doesn't count as removed any
            // more.
            unit.executed = unit.executed.take().filter(|executed| executed.target != Target::Removed);
            // This daemon hasn't observed anything yet, so only the saved state is known.
            if unit.state.active == ActiveState::Unknown && !unit.linked {
                unit.unconfirmed = Some(unit.saved_state.as_ref().map_or(0, |saved| saved.since));
            }
        }
        self.disk_unread = false;
    }

    /// Ask about the units that something happened to.
    pub(super) fn observe(&self) -> Option<Action> {
        if self.unseen.is_empty() {
            return None;
        }
        let must_read = |name: &UnitName| self.units.get(name).is_none_or(Unit::is_for_reading);
        let (read, recall) = self.unseen.iter().cloned().partition(must_read);
        Some(Action::Observe(Question { read, recall }))
    }

    /// Ask about those of `names` to which something may have happened since they were last asked about.
    pub(super) fn observe_unless_fresh<'a>(&mut self, names: impl IntoIterator<Item = &'a UnitName>) -> Option<Action> {
        let stale: BTreeSet<UnitName> = names.into_iter().filter(|name| !self.fresh.contains(*name)).cloned().collect();
        self.unseen.extend(stale);
        self.observe()
    }

    /// Apply systemd's answer.
    pub(super) fn answered(&mut self, question: &Question, mut seen: BTreeMap<UnitName, UnitState>, now: Now) {
        for name in question.read.iter().chain(&question.recall) {
            self.unseen.remove(name);
            self.fresh.insert(name.clone());
        }
        for name in question.recall.iter().filter(|name| !seen.contains_key(*name)).cloned().collect::<Vec<_>>() {
            let Some(unit) = self.units.get(&name) else { continue };
            seen.insert(name, unloaded(unit));
        }
        for (name, state) in seen {
            let ran = |unit: &Unit| unit.was_up() || (state.job.is_none() && unit.may_have_been_up());
            if state.active.is_down() && self.units.get(&name).is_some_and(ran) {
                self.suspect_lease(&name);
            }
            self.unsaved.executed |= self.units.get_mut(&name).is_some_and(|unit| unit.observe(state, now));
        }
    }

    /// Check the removed units that are due.
    pub(super) fn check_unloaded(&self, now: Now) -> Option<Action> {
        let due = self.unloading.iter().filter(|(name, at)| **at <= now.monotonic && !self.lingering.contains(*name));
        let due: Vec<UnitName> = due.map(|(name, _)| name.clone()).collect();
        (!due.is_empty()).then_some(Action::CheckUnloaded(due))
    }

    /// If systemd still has a removed unit in memory because another one refers to it, it is made to reload: otherwise
    /// a start of the other unit would also start the removed one.
    pub(super) fn unloaded(&mut self, asked: Vec<UnitName>, held: &BTreeMap<UnitName, UnitState>) {
        if held.values().any(|unit| unit.load != LoadState::NotFound) {
            self.lingering.extend(asked);
        } else {
            self.unloading.retain(|name, _| !asked.contains(name));
        }
    }

    /// Check again after `wait` whether these removed units are unloaded.
    pub(super) fn unload_later(&mut self, names: impl IntoIterator<Item = UnitName>, now: Now, wait: Duration) {
        self.unloading.extend(names.into_iter().map(|name| (name, now.monotonic + wait)));
    }
}

/// The state of a unit that systemd doesn't have in memory: it is down, and systemd would read its file again.
fn unloaded(unit: &Unit) -> UnitState {
    UnitState::stopped(if unit.file.is_some() { unit.state.load.clone() } else { LoadState::NotFound })
}

impl Unit {
    /// Apply the observed state; returns whether there is something new to save.
    fn observe(&mut self, state: UnitState, now: Now) -> bool {
        let mut news = false;
        let (up, was_ready) = (self.is_active(), self.saved_state.as_ref().is_some_and(|saved| saved.ready));
        if (&self.state.active, &self.state.sub) != (&state.active, &state.sub) {
            self.diagnosis.due = true;
            let saved =
                self.saved_state.take().filter(|saved| (&saved.active, &saved.sub) == (&state.active, &state.sub));
            news = saved.is_none() && self.executed.is_some();
            // What is still to come was saved while the clock was ahead.
            self.since = saved.map_or(now.wall_ms, |saved| saved.since.min(now.wall_ms));
        }
        self.removed &= state.active.is_up() || state.job.is_some();
        self.state = state;
        (self.unread, self.ended_unseen) = (false, false);
        if self.is_active() && !up {
            self.readiness.begins(self.since, was_ready);
        }
        // The job may have ended unobserved, while no daemon was running.
        let Some(executed) = &mut self.executed else { return news };
        if self.state.job.is_none() && executed.result.is_none() && executed.error.is_none() {
            executed.result = match self.state.active {
                ActiveState::Failed => Some(JobResult::Failed),
                ActiveState::Active | ActiveState::Inactive => Some(JobResult::Done),
                _ => return news,
            };
            news = true;
        }
        news
    }
}
