//! A cluster with its indexes, as the rules of `fit` look at it. Owns the answers that come from the indexes; must
//! never give another answer than a search of the cluster.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::placement::preference::Crowd;
use crate::model::small::SmallMap;

use super::super::super::fit::resources::Taken;
use super::super::super::fit::{Eligible, Occupancy, View, is_eligible, is_wanted, live_at, metadata_value};
use super::ports::ports_of;
use super::{Index, Member, Node, range};

/// A cluster with its indexes.
#[derive(Clone, Copy)]
pub(in super::super) struct Indexed<'a> {
    pub(in super::super) cluster: &'a Cluster,
    pub(in super::super) index: &'a Index,
}

/// The other units on the hosts, as far as they concern one unit.
pub(in super::super) struct Others<'a> {
    index: &'a Index,
    node: &'a Node,
}

impl Occupancy for Others<'_> {
    fn has_conflict(&self, host: &MachineId) -> bool {
        self.index.has_conflict(self.node, host)
    }

    fn is_named_by_replacer(&self, host: &MachineId) -> bool {
        self.index.is_named_by_replacer(self.node, host)
    }

    fn has_port(&self, host: &MachineId) -> bool {
        self.index.ports.is_taken(ports_of(self.node), host, self.node.hosts.contains_key(host))
    }

    fn is_exact(&self) -> bool {
        self.index.mixed.is_empty()
    }
}

impl<'a> Indexed<'a> {
    /// The constraints of a unit, which `node` has, on `host`: those of a global unit may be others there.
    pub(in super::super) fn on<'n>(
        &self,
        (unit, node): Member<'n>,
        host: &MachineId,
    ) -> Option<Cow<'n, Arc<Constraints>>> {
        let constraints = node.constraints.as_ref()?;
        if constraints.global && self.cluster.is_by_host(unit) {
            return self.constraints_at(unit, host).map(Cow::Owned);
        }
        Some(Cow::Borrowed(constraints))
    }

    pub(in super::super) fn others(&self, node: &'a Node) -> Others<'a> {
        Others { index: self.index, node }
    }

    /// The units that the unit's `MachineOf=` names.
    pub(in super::super) fn colocation_targets(&self, unit: &UnitName) -> Vec<UnitName> {
        let constraints = self.index.nodes.get(unit).and_then(|node| node.constraints.as_ref());
        constraints
            .into_iter()
            .flat_map(|constraints| &constraints.machine_of)
            .filter_map(|peer| peer.parse().ok())
            .collect()
    }

    /// Whether it could be placed now: its desired state puts it on a host, its file is known, and it is neither global
    /// nor assigned.
    pub(in super::super) fn is_ready(&self, unit: &UnitName) -> bool {
        let node = self.index.nodes.get(unit);
        is_wanted(self.cluster, unit)
            && node.is_some_and(|node| {
                node.hosts.is_empty() && node.constraints.as_ref().is_some_and(|constraints| !constraints.global)
            })
    }
}

impl View for Indexed<'_> {
    fn cluster(&self) -> &Cluster {
        self.cluster
    }

    fn constraints(&self, name: &UnitName) -> Option<Arc<Constraints>> {
        self.index.nodes.get(name)?.constraints.clone()
    }

    fn constraints_at(&self, name: &UnitName, host: &MachineId) -> Option<Arc<Constraints>> {
        let hash = self.cluster.file_on(name, host)?;
        let is_own = self.cluster.units.get(name).is_some_and(|unit| unit.hash == *hash);
        if is_own && !self.cluster.is_by_host(name) {
            return self.constraints(name); // already resolved
        }
        Some(Constraints::resolve(&self.cluster.files.get(hash)?.value, name))
    }

    fn constraints_in_force(&self, name: &UnitName) -> Option<Arc<Constraints>> {
        self.index.nodes.get(name)?.in_force.clone()
    }

    fn dependents(&self, name: &UnitName) -> Vec<UnitName> {
        self.index.nodes.get(name).into_iter().flat_map(|node| &node.dependents).cloned().collect()
    }

    fn matching(&self, patterns: &[Glob], except: &UnitName) -> Vec<UnitName> {
        let exists = |name: &UnitName, node: &Node| !node.hosts.is_empty() || self.cluster.units.contains_key(name);
        let names =
            |glob| range(&self.index.nodes, glob).filter(|(name, node)| exists(name, node)).map(|(name, _)| name);
        let all: BTreeSet<&UnitName> = patterns.iter().flat_map(names).collect();
        all.into_iter().filter(|name| *name != except).cloned().collect()
    }

    fn is_placed(&self, name: &str) -> bool {
        let hosts = self.index.nodes.get(name).map(|node| &node.hosts);
        hosts.into_iter().flat_map(SmallMap::keys).any(|host| live_at(self.cluster, name, host))
    }

    fn counted(&self, crowd: &Crowd, key: &str, except: &UnitName) -> BTreeMap<Option<String>, usize> {
        let Some(sums) = self.index.crowds.sums(crowd, key) else {
            return View::counted(self.cluster, crowd, key, except);
        };
        let mut counts = sums.clone();
        let own = self.index.nodes.get(except).filter(|_| crowd.has(except)).map(|node| &node.hosts);
        for host in own.into_iter().flat_map(SmallMap::keys).filter(|host| live_at(self.cluster, except.as_str(), host))
        {
            let value = metadata_value(self.cluster, host, key).map(str::to_owned);
            if let Some(count) = counts.get_mut(&value).filter(|_| self.cluster.machines.contains_key(host)) {
                *count -= 1;
            }
        }
        counts
    }

    fn eligible(&self, unit: &UnitName, constraints: &Constraints, key: &str) -> Arc<Eligible> {
        let id = self.index.nodes.get(unit).map_or(0, |node| node.constraint_id);
        if let Some(known) = self.index.eligible.get(&(id, key.to_owned())) {
            return Arc::clone(known);
        }
        let fits = |host: &MachineId| is_eligible(self.cluster, constraints, host);
        match self.index.hosts.values_with(key, fits) {
            Some(values) => Arc::new(values),
            None => View::eligible(self.cluster, unit, constraints, key),
        }
    }

    fn taken_on(&self, host: &MachineId) -> Taken {
        self.index.amounts.on(host)
    }
}
