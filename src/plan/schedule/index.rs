//! What follows from a cluster, kept at hand. Owns every index; must never decide anything, and never hold what can't be
//! rebuilt from the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::placement::Wishes;
use crate::model::unit::Placement;

use super::super::fit::{View, live_at};

/// All indexes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Index {
    /// By unit: its wishes, entries and followers.
    pub(super) nodes: BTreeMap<UnitName, Node>,
    /// Units and entries by the file they refer to.
    by_hash: BTreeMap<UnitHash, BTreeSet<UnitName>>,
    entries_by_hash: BTreeMap<UnitHash, usize>,
    /// Live hosts by load: number of entries.
    by_load: BTreeSet<(usize, MachineId)>,
    /// Units that wait for a host.
    pub(super) waiting: BTreeSet<UnitName>,
    /// Units that want to be everywhere.
    pub(super) globals: BTreeSet<UnitName>,
    /// How many units replace others.
    replacers: BTreeSet<UnitName>,
}

/// What is known of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Node {
    /// Its wishes, resolved.
    pub(super) wishes: Option<Arc<Wishes>>,
    /// Hosts that have an entry of it.
    pub(super) hosts: BTreeSet<MachineId>,
    /// Units whose `MachineOf=` names it.
    pub(super) followers: BTreeSet<UnitName>,
}

impl Index {
    pub(super) fn of(cluster: &Cluster) -> Self {
        let mut index = Self::default();
        for name in cluster.units.keys() {
            index.unit_changed(cluster, name, None);
        }
        for (host, slice) in &cluster.schedule {
            for (name, entry) in slice {
                index.node(name).hosts.insert(host.clone());
                *index.entries_by_hash.entry(entry.value.hash.clone()).or_default() += 1;
            }
        }
        for host in cluster.machines.keys() {
            index.by_load.insert((load(cluster, host), host.clone()));
        }
        for (name, placement) in &cluster.placements {
            index.placement_changed(name, Some(&placement.value));
        }
        index
    }

    pub(super) fn node(&mut self, name: &UnitName) -> &mut Node {
        self.nodes.entry(name.clone()).or_default()
    }

    /// The unit's record or its file changed; `before` is the hash it had.
    pub(super) fn unit_changed(&mut self, cluster: &Cluster, name: &UnitName, before: Option<&UnitHash>) {
        if let Some(hash) = before
            && let Some(names) = self.by_hash.get_mut(hash)
        {
            names.remove(name);
            if names.is_empty() {
                self.by_hash.remove(hash);
            }
        }
        if let Some(unit) = cluster.units.get(name) {
            self.by_hash.entry(unit.hash.clone()).or_default().insert(name.clone());
        }
        let wishes = cluster.wishes(name);
        let old = std::mem::replace(&mut self.node(name).wishes, wishes.clone());
        for peer in old.iter().flat_map(|wishes| &wishes.machine_of).filter_map(|peer| peer.parse().ok()) {
            self.node(&peer).followers.remove(name);
            self.prune(&peer);
        }
        for peer in wishes.iter().flat_map(|wishes| &wishes.machine_of).filter_map(|peer| peer.parse().ok()) {
            self.node(&peer).followers.insert(name.clone());
        }
        put(&mut self.globals, name, wishes.as_ref().is_some_and(|wishes| wishes.global));
        put(&mut self.replacers, name, wishes.as_ref().is_some_and(|wishes| !wishes.replaces.is_empty()));
        self.prune(name);
    }

    pub(super) fn entry_changed(
        &mut self,
        cluster: &Cluster,
        host: &MachineId,
        name: &UnitName,
        before: Option<&UnitHash>,
    ) {
        let after = cluster.schedule.get(host).and_then(|slice| slice.get(name)).map(|entry| &entry.value.hash);
        if let Some(hash) = after {
            *self.entries_by_hash.entry(hash.clone()).or_default() += 1;
        }
        if let Some(hash) = before
            && let Some(count) = self.entries_by_hash.get_mut(hash)
        {
            *count -= 1;
            if *count == 0 {
                self.entries_by_hash.remove(hash);
            }
        }
        if before.is_some() == after.is_some() {
            return;
        }
        let now = load(cluster, host);
        let was = if after.is_some() { now - 1 } else { now + 1 };
        if self.by_load.remove(&(was, host.clone())) {
            self.by_load.insert((now, host.clone()));
        }
        if after.is_some() {
            self.node(name).hosts.insert(host.clone());
        } else {
            self.node(name).hosts.remove(host);
            self.prune(name);
        }
    }

    pub(super) fn machine_changed(&mut self, cluster: &Cluster, host: &MachineId) {
        let key = (load(cluster, host), host.clone());
        if cluster.machines.contains_key(host) {
            self.by_load.insert(key);
        } else {
            self.by_load.remove(&key);
        }
    }

    pub(super) fn placement_changed(&mut self, name: &UnitName, placement: Option<&Placement>) {
        put(&mut self.waiting, name, matches!(placement, Some(Placement::Waiting { .. })));
    }

    /// Units with this file.
    pub(super) fn users(&self, hash: &UnitHash) -> Vec<UnitName> {
        self.by_hash.get(hash).into_iter().flatten().cloned().collect()
    }

    pub(super) fn is_referred_to(&self, hash: &UnitHash) -> bool {
        self.by_hash.contains_key(hash) || self.entries_by_hash.contains_key(hash)
    }

    pub(super) fn hosts(&self, name: &str) -> Vec<MachineId> {
        self.nodes.get(name).into_iter().flat_map(|node| &node.hosts).cloned().collect()
    }

    pub(super) fn has_replacers(&self) -> bool {
        !self.replacers.is_empty()
    }

    /// Live hosts, least loaded first.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &MachineId> {
        self.by_load.iter().map(|(_, host)| host)
    }

    fn prune(&mut self, name: &UnitName) {
        if self.nodes.get(name).is_some_and(|node| *node == Node::default()) {
            self.nodes.remove(name);
        }
    }
}

/// The number of entries on a host.
pub(super) fn load(cluster: &Cluster, host: &MachineId) -> usize {
    cluster.schedule.get(host).map_or(0, BTreeMap::len)
}

fn put(set: &mut BTreeSet<UnitName>, name: &UnitName, member: bool) {
    if !member {
        set.remove(name);
    } else if !set.contains(name) {
        set.insert(name.clone());
    }
}

/// A cluster with its indexes.
#[derive(Clone, Copy)]
pub(super) struct Indexed<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) index: &'a Index,
}

impl View for Indexed<'_> {
    fn cluster(&self) -> &Cluster {
        self.cluster
    }

    fn wishes(&self, name: &UnitName) -> Option<Arc<Wishes>> {
        self.index.nodes.get(name)?.wishes.clone()
    }

    fn followers(&self, name: &UnitName) -> Vec<UnitName> {
        self.index.nodes.get(name).into_iter().flat_map(|node| &node.followers).cloned().collect()
    }

    fn matching(&self, globs: &[Glob], except: &UnitName) -> Vec<UnitName> {
        let all: BTreeSet<UnitName> =
            globs.iter().flat_map(|glob| matching(&self.cluster.units, glob)).cloned().collect();
        all.into_iter().filter(|name| name != except).collect()
    }

    fn is_placed(&self, name: &str) -> bool {
        let hosts = self.index.nodes.get(name).map(|node| &node.hosts);
        hosts.into_iter().flatten().any(|host| live_at(self.cluster, name, host))
    }
}

/// The keys that a pattern matches.
pub(super) fn matching<'a, V>(map: &'a BTreeMap<UnitName, V>, glob: &'a Glob) -> impl Iterator<Item = &'a UnitName> {
    let prefix = glob.literal_prefix();
    map.range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .map(|(name, _)| name)
        .take_while(move |name| name.as_str().starts_with(prefix))
        .filter(|name| glob.matches(name.as_str()))
}
