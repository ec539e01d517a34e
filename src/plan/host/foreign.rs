//! Units whose files were on this host before the first daemon of this boot: CoreOS fleet's, say, which writes to the
//! same folder. Owns which they still are; one stops being foreign when the cluster assigns a unit of its name, and
//! never becomes foreign again.

use std::collections::BTreeSet;

use crate::model::name::UnitName;

use super::{Disk, HostState, Log};

impl HostState {
    /// Whether the unit isn't ours.
    pub(super) fn is_foreign(&self, name: &UnitName) -> bool {
        self.foreign.as_ref().is_some_and(|foreign| foreign.contains(name))
    }

    /// Decide once, before anything is written, which files aren't ours.
    pub(super) fn learn_foreign(&mut self, disk: &Disk) {
        if self.foreign.is_some() {
            return;
        }
        let foreign = disk.foreign.clone().unwrap_or_else(|| {
            (self.unsaved.foreign, self.unsaved.first) = (true, true);
            // A daemon that didn't save this yet has been at work here in this boot: all files are ours.
            if disk.executed.is_some() { BTreeSet::new() } else { disk.files.keys().cloned().collect() }
        });
        if !foreign.is_empty() {
            self.log.push(Log::Foreign(foreign.clone()));
        }
        self.foreign = Some(foreign);
    }

    /// Those that have been assigned are ours from now on. Saved before anything is done with them.
    pub(super) fn take_over_foreign(&mut self) {
        let Some(foreign) = &mut self.foreign else { return };
        let (before, units) = (foreign.len(), &self.units);
        foreign.retain(|name| units.get(name).is_none_or(|unit| unit.assignment.is_none() && unit.executed.is_none()));
        if foreign.len() < before {
            (self.unsaved.foreign, self.unsaved.first) = (true, true);
        }
    }
}
