//! Foreign units: their files were on this host before the first daemon of this boot, for instance because CoreOS fleet
//! writes to the same directory. Owns which units are foreign. A unit stops being foreign when the cluster assigns a
//! unit of its name, and never becomes foreign again.

use std::collections::BTreeSet;

use crate::model::name::UnitName;

use super::{Disk, HostState, Log};

impl HostState {
    /// Whether the unit is foreign.
    pub(super) fn is_foreign(&self, name: &UnitName) -> bool {
        self.foreign.as_ref().is_some_and(|foreign| foreign.contains(name))
    }

    /// Determine once, before anything is written, which files are foreign.
    pub(super) fn learn_foreign(&mut self, disk: &Disk) {
        if self.foreign.is_some() {
            return;
        }
        let foreign = disk.foreign.clone().unwrap_or_else(|| {
            (self.unsaved.foreign, self.unsaved.first) = (true, true);
            // A daemon of this boot carried out assignments without saving this, so all files are ours.
            if disk.executed.is_some() { BTreeSet::new() } else { disk.files.keys().cloned().collect() }
        });
        if !foreign.is_empty() {
            self.log.push(Log::Foreign(foreign.clone()));
        }
        self.foreign = Some(foreign);
    }

    /// A unit that was assigned is no longer foreign. This is saved before anything is done with it.
    pub(super) fn take_over_foreign(&mut self) {
        let Some(foreign) = &mut self.foreign else { return };
        let (before, units) = (foreign.len(), &self.units);
        foreign.retain(|name| units.get(name).is_none_or(|unit| unit.assignment.is_none() && unit.executed.is_none()));
        if foreign.len() < before {
            (self.unsaved.foreign, self.unsaved.first) = (true, true);
        }
    }
}
