//! Who comes back after a replacement: systemd stops the units that need one that is stopped, and starts none of them again. Owns who ran
//! before; must never start what didn't.

use crate::model::name::UnitName;
use crate::model::unit::Target;
use crate::plan::converge::Job;

use super::Units;
use crate::agent::unit::Unit;

impl Units {
    /// These are about to be stopped, some only for a new file.
    pub(in crate::agent) fn stopping(&mut self, names: &[UnitName]) {
        let outdated = names.iter().filter(|name| self.units.get(*name).is_some_and(Unit::is_outdated));
        self.replacing.extend(outdated.cloned());
    }

    /// A unit has a stop job, or has had one. If nobody here has asked for that while others are replaced, it was stopped with
    /// them. One that has ended by itself, as a oneshot does, isn't seen here, and isn't started again.
    pub(in crate::agent) fn is_stopped_too(&mut self, name: &UnitName) {
        let stays = |unit: &Unit| {
            let launched = unit.entry.as_ref().is_some_and(|entry| entry.target == Target::Launched);
            launched && unit.record.as_ref().is_some_and(|record| record.target == Target::Launched && !record.undone)
        };
        if !self.replacing.is_empty() && self.units.get(name).is_some_and(stays) {
            self.returning.insert(name.clone());
        }
    }

    /// Those that were stopped too, once all new files are there.
    pub(in crate::agent) fn replaced(&mut self) -> Vec<UnitName> {
        let units = &self.units;
        self.replacing.retain(|name| units.get(name).is_some_and(Unit::is_outdated));
        if self.replacing.is_empty() { std::mem::take(&mut self.returning).into_iter().collect() } else { Vec::new() }
    }

    /// Start those of `names` again that don't run any more.
    pub(in crate::agent) fn bring_back(&mut self, names: &[UnitName]) {
        for name in names {
            let down = |unit: &Unit| !unit.seen().running || unit.seen().job == Some(Job::Stop);
            if self.units.get(name).is_some_and(down) {
                self.touch(name).retry = true;
            }
        }
    }
}
