//! What hosts offer of memory and CPU, and what units take of it, as it changes. Owns which units are examined again
//! when some of it is free; must never decide whether a unit fits.

use crate::model::cluster::{Change, Versioned};
use crate::model::name::{MachineId, UnitName};
use crate::model::resources::{Kind, Resources};
use crate::model::settings::Settings;

use super::super::fit::resources::offered;
use super::Scheduler;
use super::dirty::Rescan;
use super::index::Index;
use super::index::amounts::Recount;

impl Scheduler {
    /// The settings of the cluster have changed. Nothing that has a host moves for that.
    pub(super) fn apply_settings(&mut self, settings: Option<Versioned<Settings>>) {
        let before = self.cluster.settings.clone();
        self.cluster_mut().apply(Change::Settings(settings));
        if before == self.cluster.settings {
            return;
        }
        self.index.offers_changed(&self.cluster);
        let Index { amounts, waiting, globals, .. } = &self.index;
        waiting.iter().filter(|name| amounts.declares(name)).for_each(|name| self.dirty.unit(name, Rescan::Explain));
        globals.iter().filter(|name| amounts.declares(name)).for_each(|name| self.dirty.unit(name, Rescan::Keep));
    }

    /// Count what a unit takes of a host. Units that wait, or aren't there, may fit if some of that is free now.
    pub(super) fn recount(&mut self, name: &UnitName, host: &MachineId) {
        if self.index.recount(&self.cluster, name, host) == Recount::Freed {
            let Index { amounts, waiting, globals, .. } = &self.index;
            for other in waiting.iter().chain(globals).filter(|other| amounts.declares(other)) {
                self.dirty.at(other, host);
            }
        }
    }

    /// The same on all hosts that have the unit.
    pub(super) fn recount_all(&mut self, name: &UnitName) {
        for host in self.index.hosts(name.as_str()) {
            self.recount(name, &host);
        }
    }

    /// What all hosts that are alive offer, and what units take of them.
    #[must_use]
    pub fn resources(&self) -> [(Kind, u64, u64); 2] {
        let hosts = self.cluster.machines.keys();
        let taken = hosts.clone().fold(Resources::default(), |sum, host| sum.with(self.index.amounts.on(host).amount));
        Kind::ALL.map(|kind| {
            let offered = hosts.clone().map(|host| offered(&self.cluster, host, kind));
            (kind, offered.fold(0, u64::saturating_add), taken.of(kind))
        })
    }
}
