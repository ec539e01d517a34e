//! Applies the outcomes of actions: what was carried out, and what failed and is left alone for a while. An unknown
//! outcome (systemd didn't answer) changes nothing and is observed instead.

use std::time::Duration;

use crate::model::name::UnitName;
use crate::model::systemd::{Error, Outcomes};
use crate::model::text::without_os_error;
use crate::model::unit::Target;
use crate::plan::converge::{Step, next};

use super::boot::Executed;
use super::unit::Known;
use super::{BACK_OFF, HostState, Log, Now, Unit};

/// When to check whether systemd has unloaded a removed unit by itself, as it does if nothing refers to the unit.
const UNLOAD_AFTER: Duration = Duration::from_secs(2);

impl HostState {
    /// Files were staged. A unit whose file can't be written keeps running, and backs off.
    pub(super) fn staged(&mut self, outcomes: Outcomes, now: Now) {
        for (name, outcome) in outcomes {
            match outcome {
                Ok(()) => {
                    let key = self.units.get(&name).and_then(Unit::wanted_key).cloned();
                    self.staged.extend(key.map(|key| (name, key)));
                }
                Err(error) => self.hold_back(&name, &error, now),
            }
        }
    }

    /// Files were written, or this failed.
    pub(super) fn installed(&mut self, outcomes: Vec<(UnitName, String, Result<(), Error>)>, now: Now) {
        self.fresh.clear();
        let mut any = false;
        for (name, text, outcome) in outcomes {
            self.unseen.insert(name.clone());
            self.installing.remove(&name);
            self.staged.remove(&name);
            let loaded = self.is_loaded(&name);
            let file = Known::of(&name, &text, &self.id);
            // systemd re-reads a loaded file, and links in `.wants` directories, only on a reload. A file that it has
            // never read needs no reload, and with a thousand units a reload blocks PID 1 for a second.
            let same = self.units.get(&name).is_some_and(|unit| unit.has_same_as(file.body));
            let needs_reload = !same && (loaded || file.has_install);
            match outcome {
                Ok(()) => {
                    any = true;
                    self.unloading.remove(&name);
                    self.lingering.remove(&name);
                    if needs_reload {
                        self.reload_due.insert(name.clone());
                    }
                    if same {
                        let unit = self.mark_dirty(&name);
                        (unit.file, unit.compared) = (Some(file), None);
                    } else {
                        self.has_file(&name, file);
                    }
                    self.log.push(Log::Installed(name));
                }
                Err(Error::Unavailable(_)) => {
                    // It may be written, linked, or neither: only the disk shows it, and only a reload makes it take
                    // effect.
                    self.disk_unread = true;
                    if needs_reload {
                        self.reload_due.insert(name);
                    }
                }
                Err(error) if same => self.not_rewritten(name, error, now),
                // The file that it had is there again.
                Err(error) => self.hold_back(&name, &error, now),
            }
        }
        self.texts.clear();
        if any {
            self.retry_missing();
        }
    }

    /// Whether systemd may have read the file that a unit had before, or have looked for it. systemd doesn't load a
    /// template, but its instances, together with the units that name them.
    fn is_loaded(&self, name: &UnitName) -> bool {
        let bringing =
            |unit: &&Unit| unit.assignment.as_ref().is_some_and(|assignment| assignment.templates.contains_key(name));
        let itself = self.units.get(name).into_iter();
        itself.chain(self.units.values().filter(bringing)).any(|unit| unit.state.load.is_found())
    }

    /// A unit's file is installed.
    fn has_file(&mut self, name: &UnitName, file: Known) {
        let unit = self.mark_dirty(name);
        (unit.file, unit.compared) = (Some(file), None);
        (unit.linked, unit.removed) = (true, false);
        unit.unread = true;
        unit.unconfirmed = None;
        // What was carried out was done with another file, or with none. The saved boot state may not know that either.
        unit.executed = unit.executed.take().filter(|executed| executed.target != Target::Removed);
        if let Some(executed) = &mut unit.executed {
            executed.undone = true;
        }
        // A unit that is about to start is observed afterwards: now, systemd would read its file and unload it again.
        if next(unit.assignment.as_ref(), &unit.seen()) == Some(Step::Start) {
            self.unseen.remove(name);
        }
    }

    /// Starts that failed because another unit's file was missing may be retried.
    fn retry_missing(&mut self) {
        let missing = |unit: &Unit| unit.executed.as_ref().is_some_and(|executed| executed.missing);
        let names: Vec<UnitName> =
            self.units.iter().filter(|(_, unit)| missing(unit)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.mark_dirty(&name).retry = true;
        }
    }

    /// systemd has reloaded, or failed to: units that need the reload back off, and the others go on.
    pub(super) fn reloaded(&mut self, outcome: Result<(), Error>, now: Now) {
        self.fresh.clear();
        let lingering = std::mem::take(&mut self.lingering);
        match outcome {
            Ok(()) => {
                self.unsaved.executed |= !self.reload_due.is_empty();
                self.reload_due.clear();
                self.unloading.retain(|name, _| !lingering.contains(name));
            }
            Err(error) => {
                for name in self.due_for_reload() {
                    self.back_off(&name, &error, now);
                }
                if !lingering.is_empty() {
                    self.unload_later(lingering, now, BACK_OFF);
                    self.log.push(Log::CantUnload(error));
                }
            }
        }
    }

    /// Stop jobs were queued, or this failed.
    pub(super) fn stopped(&mut self, outcomes: Outcomes, now: Now) {
        self.fresh.clear();
        for (name, outcome) in outcomes {
            self.jobs.stop.retain(|other| *other != name);
            match outcome {
                Ok(()) => {
                    self.stop_queued(&name);
                    self.log.push(Log::Stopping(name));
                }
                Err(Error::Unavailable(_)) => {}
                Err(error) => self.back_off(&name, &error, now),
            }
        }
    }

    /// systemd has forgotten what it could of the failures of units that are about to be started.
    pub(super) fn failures_forgotten(&mut self) {
        self.fresh.clear();
        self.jobs.reset.clear();
    }

    /// Start jobs were queued, or this failed.
    pub(super) fn started(&mut self, outcomes: Outcomes) {
        self.fresh.clear();
        for (name, outcome) in outcomes {
            self.jobs.start.retain(|other| *other != name);
            match outcome {
                Ok(()) => {
                    self.carried_out(&name, None);
                    self.log.push(Log::Starting(name));
                }
                Err(Error::Unavailable(_)) => {}
                Err(error) => {
                    self.carried_out(&name, Some(&error));
                    self.log.push(Log::CantStart(name, error));
                }
            }
        }
        // Saved now and not at the end of the pass, which may take long and be interrupted: a oneshot that has finished
        // by then would be started again.
        self.unsaved.first |= self.unsaved.executed;
    }

    /// Units were removed, or this failed.
    pub(super) fn removed(&mut self, outcomes: Outcomes, now: Now) {
        self.fresh.clear();
        for (name, outcome) in outcomes {
            match outcome {
                Ok(()) => {
                    self.has_no_file(&name);
                    self.unload_later([name.clone()], now, UNLOAD_AFTER);
                    self.log.push(Log::Removed(name));
                }
                Err(Error::Unavailable(_)) => self.disk_unread = true,
                Err(error) => self.back_off(&name, &error, now),
            }
        }
    }

    /// A unit's file was removed from the disk.
    fn has_no_file(&mut self, name: &UnitName) {
        let unit = self.mark_dirty(name);
        (unit.file, unit.linked, unit.removed, unit.held_until) = (None, false, true, None);
        if unit.assignment.is_none() {
            // Kept until the report is deleted from the store: a daemon that is restarted before must still know of the
            // unit.
            let generation = unit.executed.as_ref().map(|executed| executed.generation).unwrap_or_default();
            unit.executed = Some(Executed::new(generation, Target::Removed));
            self.unsaved.executed = true;
        }
        self.reload_due.remove(name);
        self.staged.remove(name);
        self.unseen.insert(name.clone());
    }

    /// A unit's assignment was carried out, or systemd refused it.
    pub(super) fn carried_out(&mut self, name: &UnitName, error: Option<&Error>) {
        let unit = self.mark_dirty(name);
        (unit.retry, unit.held_until) = (false, None);
        let Some(assignment) = &unit.assignment else { return };
        let missing = matches!(error, Some(Error::Missing(_)));
        unit.executed = Some(Executed { error: error.map(line), missing, ..Executed::of(assignment) });
        self.unsaved.executed = true;
    }

    /// What a unit needs can't be had, before anything was done with it: as [`HostState::back_off`], but what was
    /// carried out before still is, so that a file with the same body starts nothing.
    pub(super) fn hold_back(&mut self, name: &UnitName, error: &Error, now: Now) {
        let stands = self.units.get(name).and_then(|unit| unit.executed.clone()).filter(|executed| !executed.undone);
        self.back_off(name, error, now);
        let Some(unit) = self.units.get_mut(name) else { return };
        let Some((executed, assignment)) = unit.executed.as_mut().zip(unit.assignment.as_ref()) else { return };
        match stands {
            Some(mut stands) => {
                stands.lacks(assignment, line(error));
                *executed = Executed { target: executed.target, ..stands };
            }
            None => executed.lacks = Some(assignment.hash.clone()),
        }
    }

    /// A step failed: leave the unit alone for a while, and report the error.
    pub(super) fn back_off(&mut self, name: &UnitName, error: &Error, now: Now) {
        let unit = self.mark_dirty(name);
        unit.held_until = Some(now.monotonic + BACK_OFF);
        let text = line(error);
        let before = unit.executed.take();
        if before.as_ref().and_then(|executed| executed.error.as_ref()) != Some(&text) {
            self.log.push(Log::BacksOff(name.clone(), error.clone()));
        }
        let Some(unit) = self.units.get_mut(name) else { return };
        let Some(assignment) = &unit.assignment else {
            unit.executed = before;
            return;
        };
        // Not carried out, whatever was before. Never reported as `gone` before it is: that would let it start
        // elsewhere.
        let target = match before.as_ref().map(|executed| executed.target) {
            Some(Target::Launched) => Target::Launched,
            _ => Target::Loaded,
        };
        let restart = before.and_then(|executed| executed.restart);
        let executed = Executed::new(assignment.generation, target);
        unit.executed = Some(Executed { restart, error: Some(text), undone: true, ..executed });
        self.unsaved.executed = true;
    }

    /// End the back-off of units whose time is over.
    pub(super) fn end_back_off(&mut self, now: Now) {
        let over = |unit: &Unit| unit.held_until.is_some_and(|until| until <= now.monotonic);
        let names: Vec<UnitName> =
            self.units.iter().filter(|(_, unit)| over(unit)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.mark_dirty(&name).held_until = None;
        }
    }
}

/// An error for a report: shortened, and without its number.
pub(super) fn line(error: &Error) -> String {
    const LONGEST: usize = 500;
    without_os_error(&error.to_string()).chars().take(LONGEST).collect()
}
