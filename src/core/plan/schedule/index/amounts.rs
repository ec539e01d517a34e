//! How much memory and CPU the units on each host take. Owns that this follows from files and assignments; holds
//! nothing in a cluster without `Memory=` and `CPU=`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::resources::Resources;

use super::super::super::fit::resources::{Taken, declared, share, taken_on};
use super::super::score::{Load, Score};
use super::hosts::Filled;
use super::rooms::Free;
use super::{Index, put};

/// The amounts.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Amounts {
    /// Units that declare any, wherever they are.
    declaring: BTreeSet<UnitName>,
    /// What is counted of each unit, by host.
    counted: BTreeMap<UnitName, BTreeMap<MachineId, Resources>>,
    /// The same by host.
    on: BTreeMap<MachineId, Taken>,
}

/// What a count has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Recount {
    /// Nothing.
    Same,
    /// More is taken of the host.
    More,
    /// Some that was taken of it is free.
    Freed,
}

impl Amounts {
    /// What units take of a host.
    pub(in super::super) fn on(&self, host: &MachineId) -> Taken {
        self.on.get(host).copied().unwrap_or_default()
    }

    /// Whether a unit declares any.
    pub(in super::super) fn declares(&self, unit: &UnitName) -> bool {
        self.declaring.contains(unit)
    }

    /// Whether no unit declares any, and none is counted.
    fn is_unused(&self) -> bool {
        self.declaring.is_empty() && self.counted.is_empty()
    }

    /// Count a unit on a host as it is in `cluster` now.
    fn count(&mut self, cluster: &Cluster, unit: &UnitName, host: &MachineId) -> Recount {
        let is_there = cluster.schedule.get(host).is_some_and(|there| there.contains_key(unit));
        let now = if is_there { declared(cluster, unit, host) } else { Resources::default() };
        let before = self.counted.get(unit).and_then(|hosts| hosts.get(host)).copied().unwrap_or_default();
        if now == before {
            return Recount::Same;
        }
        let hosts = self.counted.entry(unit.clone()).or_default();
        if now.is_none() {
            hosts.remove(host);
        } else {
            hosts.insert(host.clone(), now);
        }
        if hosts.is_empty() {
            self.counted.remove(unit);
        }
        let taken = self.on(host).but(before).and(now);
        if taken == Taken::default() {
            self.on.remove(host);
        } else {
            self.on.insert(host.clone(), taken);
        }
        if now.max(before) == now { Recount::More } else { Recount::Freed }
    }
}

impl Index {
    /// Note whether a unit declares any, in its file or in one that its gate names. One that isn't planned does too: it
    /// is where it is.
    pub(super) fn declares(&mut self, cluster: &Cluster, name: &UnitName) {
        let file = cluster.units.get(name).and_then(|unit| cluster.files.get(&unit.hash));
        let own = file.is_some_and(|file| !file.value.resources.is_none());
        let indexed = self.nodes.get(name).and_then(|node| node.constraints.as_ref());
        let declares = own || indexed.is_some_and(|constraints| !constraints.resources.is_none());
        put(&mut self.amounts.declaring, name, declares);
    }

    /// Every host offers another share of what it has, or units are packed from now on, or no longer.
    pub(in super::super) fn offers_changed(&mut self, cluster: &Cluster) {
        for host in cluster.machines.keys() {
            self.hosts.loaded(host, self.filled(cluster, host));
        }
    }

    /// Count what a unit takes of a host, as it is now.
    pub(in super::super) fn recount(&mut self, cluster: &Cluster, unit: &UnitName, host: &MachineId) -> Recount {
        // What was destroyed isn't among those that declare any.
        if self.amounts.is_unused() && cluster.units.contains_key(unit) {
            return Recount::Same;
        }
        let recount = self.amounts.count(cluster, unit, host);
        if recount != Recount::Same {
            self.hosts.loaded(host, self.filled(cluster, host));
        }
        recount
    }

    /// The hosts of which something else is taken than is counted: none, unless there is a bug.
    pub(in super::super) fn miscounted(&self, cluster: &Cluster) -> impl Iterator<Item = MachineId> {
        let hosts = cluster.schedule.keys().chain(self.amounts.on.keys()).chain(cluster.machines.keys());
        let hosts: BTreeSet<&MachineId> = hosts.collect();
        let is_wrong = |host: &&MachineId| {
            let is_ranked = || self.hosts.has(host, self.filled(cluster, host));
            taken_on(cluster, host) != self.amounts.on(host) || cluster.machines.contains_key(*host) && !is_ranked()
        };
        hosts.into_iter().filter(is_wrong).cloned().collect::<Vec<_>>().into_iter()
    }

    /// How much there is on a host.
    pub(in super::super) fn load(&self, cluster: &Cluster, host: &MachineId) -> Load {
        let taken = self.amounts.on(host).amount;
        let share = if taken.is_none() { 0 } else { share(cluster, host, taken) };
        Load { share, units: cluster.schedule.get(host).map_or(0, BTreeMap::len) }
    }

    /// The same, and how much is free.
    pub(super) fn filled(&self, cluster: &Cluster, host: &MachineId) -> Filled {
        let free = Free::of(cluster, host, self.amounts.on(host).amount);
        Filled { load: self.load(cluster, host), free }
    }

    /// How good a host is.
    pub(in super::super) fn score(&self, cluster: &Cluster, host: &MachineId) -> Score {
        Score { cordoned: cluster.is_closed(host), load: self.load(cluster, host), host: host.clone() }
    }
}
