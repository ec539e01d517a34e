//! A new file from which systemd reads the same as from the old one: it is written, and its unit is neither stopped nor
//! started for it. Owns the comparison of the assigned file with the one on disk, and what such a file carries out by
//! itself. Must never write a file or queue a job.

use crate::model::body::BodyHash;
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::systemd::Error;
use crate::model::unit::Target;

use super::outcome::line;
use super::{Action, BACK_OFF, HostState, Log, Now, Unit};

impl HostState {
    /// Compare the files of units that must get another one with those on disk. The texts are fetched first: as long as
    /// that isn't possible, nothing is stopped.
    pub(super) fn compare_files(&mut self, now: Now) -> Option<Action> {
        let unknown = |unit: &Unit| unit.has_another_file() && unit.has_same_body().is_none();
        let dirty = self
            .dirty
            .iter()
            .filter(|name| self.units.get(name).is_some_and(|unit| unknown(unit) && self.may_change(name, unit)));
        let names: Vec<UnitName> = dirty.cloned().collect();
        if let Some(action) = self.fetch(&names) {
            return Some(action);
        }
        if self.give_up_lost_texts(&names)
            && let Some(action) = self.fetch(&names)
        {
            return Some(action);
        }
        for name in names {
            let Some(unit) = self.units.get_mut(&name) else { continue };
            let text = unit.wanted_key().and_then(|key| self.texts.get(key));
            match (text, &unit.assignment) {
                (Some(Ok(text)), Some(assignment)) => {
                    unit.compared = Some((assignment.hash.clone(), unit.has_body(BodyHash::of_text(text))));
                }
                (Some(Err(why)), _) => {
                    let error = Error::Io(why.clone());
                    self.hold_back(&name, &error, now);
                }
                _ => {}
            }
        }
        None
    }

    /// Read the reports of those of `names` whose new file has the same body, as before a start: what an earlier daemon
    /// has done counts as carried out.
    pub(super) fn read_reports_of_rewritten(&self, names: &[UnitName]) -> Option<Action> {
        let is_same = |name: &&UnitName| self.units.get(name).is_some_and(|unit| unit.has_same_body() == Some(true));
        self.read_reports(&names.iter().filter(is_same).cloned().collect::<Vec<_>>())
    }

    /// Note which of these files carry out by themselves what is asked of their units. Must be saved before they are
    /// written: a daemon that is killed in between would start a oneshot again that has finished. Returns whether any
    /// does and wasn't noted yet.
    pub(super) fn note_rewrites(&mut self, names: &[UnitName]) -> bool {
        let mut any = false;
        for name in names {
            let Some(unit) = self.units.get_mut(name).filter(|unit| unit.has_same_body() == Some(true)) else {
                continue;
            };
            let (asked, rewrites) = (unit.assignment.as_ref().map(|asked| asked.generation), unit.rewrites());
            // Already noted, and the file couldn't be written since.
            let new = unit.executed.as_mut().filter(|executed| asked.is_none() || executed.rewrites != asked);
            if let Some(executed) = new.filter(|executed| executed.rewrites != rewrites) {
                executed.rewrites = rewrites;
                any = true;
            }
        }
        any
    }

    /// A file with the same body couldn't be written. The unit stays as it is, with the text that it has, and is left
    /// alone for a while; it is reported if the assignment isn't carried out for this reason.
    pub(super) fn not_rewritten(&mut self, name: UnitName, error: Error, now: Now) {
        let unit = self.mark_dirty(&name);
        let both = unit.executed.as_mut().zip(unit.assignment.as_ref());
        let noted = both.filter(|(executed, assignment)| executed.rewrites == Some(assignment.generation));
        if let Some((executed, assignment)) = noted {
            executed.lacks(assignment, line(&error));
            self.unsaved.executed = true;
        } else if unit.has_another_file() {
            return self.hold_back(&name, &error, now);
        }
        self.mark_dirty(&name).held_until = Some(now.monotonic + BACK_OFF);
        self.log.push(Log::BacksOff(name, error));
    }

    /// If the unit's new file is there and nothing else was to be done, its assignment is carried out, and how its last
    /// job ended remains true. Returns whether that is so.
    pub(super) fn is_rewritten(&mut self, name: &UnitName) -> bool {
        let Some(unit) = self.units.get_mut(name) else { return false };
        let generation = unit.assignment.as_ref().map(|assignment| assignment.generation);
        let noted = unit.executed.as_mut().filter(|executed| generation.is_some() && executed.rewrites == generation);
        let Some(executed) = noted else { return false };
        executed.generation = generation.unwrap_or_default();
        (executed.rewrites, executed.error, executed.lacks, executed.kept) = (None, None, None, None);
        self.dirty.insert(name.clone());
        self.unsaved.executed = true;
        true
    }

    /// If another file couldn't be had, and the unit is to have the one again that it has, what was carried out with
    /// that stands. Returns whether that is so.
    pub(super) fn stands(&mut self, name: &UnitName) -> bool {
        let Some(unit) = self.units.get_mut(name).filter(|unit| unit.lacks_another()) else { return false };
        let Some((executed, assignment)) = unit.executed.as_mut().zip(unit.assignment.as_ref()) else { return false };
        if executed.undone || executed.target != assignment.target {
            return false;
        }
        executed.stands(assignment);
        self.dirty.insert(name.clone());
        // How its last job ended may not be known yet.
        self.unseen.insert(name.clone());
        self.unsaved.executed = true;
        true
    }
}

impl Unit {
    /// The generation that a file with the same body carries out: if everything else that is asked was carried out
    /// before. A unit that should run and doesn't is started, as for any other request.
    fn rewrites(&self) -> Option<Revision> {
        let (assignment, executed) = self.assignment.as_ref().zip(self.executed.as_ref())?;
        let carried_out = executed.generation > Revision::default() && !executed.undone;
        let asked = assignment.target == executed.target && assignment.restart == executed.restart;
        // That a file couldn't be had doesn't make a oneshot that has finished one whose start was refused.
        let refused = executed.kept.as_ref().is_some_and(|kept| kept.error.is_some());
        let finished = executed.lacks.is_some() && !refused && self.has_finished();
        let fails = assignment.target == Target::Launched && self.is_at_rest() && !finished;
        (carried_out && asked && !fails).then_some(assignment.generation)
    }
}
