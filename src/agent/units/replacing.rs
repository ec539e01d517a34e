//! Who comes back after a replacement: systemd stops the units that need one that is stopped, and starts none of them again. Owns who ran
//! before; must never start what didn't.

use crate::model::name::UnitName;
use crate::model::unit::Target;
use crate::plan::converge::Job;

use super::Units;
use crate::agent::unit::Unit;

impl Units {
    /// These are about to be stopped. Some only for a new file: whoever runs now and is stopped with them is to come back.
    pub(in crate::agent) fn stopping(&mut self, names: &[UnitName]) {
        let replaced: Vec<UnitName> =
            names.iter().filter(|name| self.units.get(*name).is_some_and(Unit::is_outdated)).cloned().collect();
        if replaced.is_empty() {
            return;
        }
        let stays = |name: &UnitName, unit: &Unit| {
            let launched = unit.entry.as_ref().is_some_and(|entry| entry.target == Target::Launched);
            launched && unit.seen().running && !names.contains(name)
        };
        self.returning.extend(self.units.iter().filter(|(name, unit)| stays(name, unit)).map(|(name, _)| name.clone()));
        self.replacing.extend(replaced);
    }

    /// Those that ran before, once all new files are there.
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
