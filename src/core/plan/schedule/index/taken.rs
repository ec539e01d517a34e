//! The units that drains took from hosts, by these hosts. Owns that it says what the placements say; must never decide
//! who comes back.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::{MachineId, UnitName};

/// The units that drains took.
#[derive(Debug, Clone, Default)]
pub(in crate::plan::schedule) struct Taken {
    hosts: BTreeMap<UnitName, MachineId>,
    units: BTreeMap<MachineId, BTreeSet<UnitName>>,
}

impl Taken {
    /// Those from `host`.
    pub(in crate::plan::schedule) fn from(&self, host: &MachineId) -> impl Iterator<Item = &UnitName> {
        self.units.get(host).into_iter().flatten()
    }

    /// `unit` was taken from this host, or isn't away from any.
    pub(super) fn changed(&mut self, unit: &UnitName, host: Option<&MachineId>) {
        if self.hosts.get(unit) == host {
            return;
        }
        if let Some(before) = self.hosts.remove(unit)
            && let Some(units) = self.units.get_mut(&before)
        {
            units.remove(unit);
            if units.is_empty() {
                self.units.remove(&before);
            }
        }
        if let Some(host) = host {
            self.hosts.insert(unit.clone(), host.clone());
            self.units.entry(host.clone()).or_default().insert(unit.clone());
        }
    }
}
