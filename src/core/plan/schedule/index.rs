//! Indexes over a cluster: by unit, by host, by file and by pattern. Owns that they agree with the cluster; must never
//! decide anything, and never hold what can't be derived from the cluster.

pub(super) mod amounts;
pub(super) mod crowds;
pub(super) mod hosts;
mod mixed;
mod naming;
pub(super) mod order;
pub(super) mod patterns;
pub(super) mod ports;
mod references;
pub(super) mod rooms;
pub(super) mod sets;
mod taken;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::placement::limits::MAX_PLANNED_PATTERNS;
use crate::model::small::SmallMap;
use crate::model::unit::Placement;

use super::super::fit::{Eligible, View as _, live_at};
use amounts::Amounts;
use crowds::Crowds;
use hosts::Hosts;
use naming::Naming;
use patterns::{PatternIds, PatternIndex};
use ports::{Ports, asked, ports_of};
use references::References;
use sets::SetCounts;
use taken::Taken;
pub(super) use view::Indexed;

/// All indexes.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// By unit, including those that are only named or only have assignments.
    pub(super) nodes: BTreeMap<UnitName, Node>,
    /// Live hosts.
    pub(super) hosts: Hosts,
    /// `Conflicts=`.
    pub(super) conflicts: PatternIndex,
    /// `Replaces=`.
    pub(super) replaces: PatternIndex,
    /// `Port=`.
    pub(super) ports: Ports,
    /// `Memory=` and `CPU=`.
    pub(super) amounts: Amounts,
    /// Units that wait for a host.
    pub(super) waiting: BTreeSet<UnitName>,
    /// Units that drains took from hosts.
    pub(super) taken: Taken,
    /// Global units whose desired state puts them on hosts.
    pub(super) globals: BTreeSet<UnitName>,
    /// The templates that files name.
    pub(super) naming: Naming,
    /// The members of sets by host.
    pub(super) sets: SetCounts,
    /// The units that others are spread apart from, or avoid.
    pub(super) crowds: Crowds,
    /// `Priority=` of the units that have another one than 0.
    pub(super) priorities: BTreeMap<UnitName, i32>,
    /// For units that are spread: the values of the key that they can have, since a host changed.
    eligible: BTreeMap<(ConstraintId, String), Arc<Eligible>>,
    by_hash: BTreeMap<UnitHash, FileUsers>,
    /// The files of assignments.
    assigned: References,
    /// The texts that units and assignments have under keys of their own, and those that units had before.
    pub(super) texts: References,
    /// Files that are kept although neither a unit nor an assignment refers to them.
    pub(super) held: References,
    /// Global units whose hosts may have files with different conflicts. They are indexed with all of these.
    mixed: BTreeSet<UnitName>,
    /// Units that aren't planned while they have this file.
    pub(super) left_out: BTreeMap<UnitName, UnitHash>,
    /// The id that the next constraints get.
    next_id: ConstraintId,
}

/// For how many constraints it is remembered which values of a key they allow. Those that are gone are forgotten with
/// the others.
const MOST_ELIGIBLE: usize = 1024;

/// Identifies resolved constraints: units with the same id have equal ones. The converse doesn't hold, since two files
/// may contain the same constraints.
pub(super) type ConstraintId = u64;

/// The units with one file.
#[derive(Debug, Clone, Default)]
struct FileUsers {
    names: SmallMap<UnitName, ()>,
    /// The file's constraints, if they contain no specifiers.
    plain: Option<ConstraintId>,
    /// Resolved constraints by the units' prefix: most specifiers have the same value for all instances of a template.
    resolved: BTreeMap<Box<str>, (ConstraintId, Arc<Constraints>)>,
}

/// A unit and what the index holds about it.
pub(super) type Member<'a> = (&'a UnitName, &'a Node);

/// What the index holds about one unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Node {
    /// Its constraints, resolved.
    pub(super) constraints: Option<Arc<Constraints>>,
    /// The id of these constraints, for look-ups.
    pub(super) constraint_id: ConstraintId,
    /// The constraints that apply where it has assignments: its own; after it was destroyed, those of the file that its
    /// first host still has.
    pub(super) in_force: Option<Arc<Constraints>>,
    /// Hosts that have an assignment of it.
    pub(super) hosts: SmallMap<MachineId, ()>,
    /// Units whose `MachineOf=` names it.
    pub(super) dependents: BTreeSet<UnitName>,
    /// The patterns of `Conflicts=` that concern it.
    pub(super) conflicts: PatternIds,
    /// The patterns of `Replaces=` that concern it.
    pub(super) replaces: PatternIds,
}

impl Index {
    pub(super) fn of(cluster: &Cluster, left_out: BTreeMap<UnitName, UnitHash>) -> Self {
        let mut index = Self { left_out, texts: References::to_texts(cluster), ..Self::default() };
        for host in cluster.machines.keys() {
            index.hosts.changed(cluster, host, index.filled(cluster, host));
        }
        index.hold_files_of_gates(cluster);
        for name in cluster.units.keys() {
            index.unit_changed(cluster, name, None);
        }
        for (host, assignments) in &cluster.schedule {
            for name in assignments.keys() {
                index.assignment_changed(cluster, host, name, None);
                index.recount(cluster, name, host);
                if live_at(cluster, name.as_str(), host) {
                    index.crowds.live_changed(cluster, name, host, true);
                }
            }
            index.hosts.loaded(host, index.filled(cluster, host));
        }
        for (name, placement) in &cluster.placements {
            index.placement_changed(name, Some(&placement.value));
        }
        index
    }

    /// A host was added or removed, its metadata changed, or it was cordoned or no longer is.
    pub(super) fn host_changed(&mut self, cluster: &Cluster, host: &MachineId) {
        self.hosts.changed(cluster, host, self.filled(cluster, host));
        self.crowds.host_changed(cluster, host);
        self.eligible.clear();
    }

    /// Remember which values of the key a unit can have over which it is spread.
    pub(super) fn find_eligible(&mut self, cluster: &Cluster, name: &UnitName) {
        if self.crowds.is_empty() {
            return;
        }
        let Some(node) = self.nodes.get(name) else { return };
        let Some(constraints) = node.constraints.as_ref().filter(|known| known.preferences.is_some()) else { return };
        let spread = constraints.preferences.as_ref().and_then(|preferences| preferences.spread.as_ref());
        let asked = spread.map(|spread| (node.constraint_id, spread.key.clone()));
        let Some(asked) = asked.filter(|asked| !self.eligible.contains_key(asked)) else { return };
        let found = Indexed { cluster, index: self }.eligible(name, constraints, &asked.1);
        if self.eligible.len() >= MOST_ELIGIBLE {
            self.eligible.clear();
        }
        self.eligible.insert(asked, found);
    }

    fn node(&mut self, name: &UnitName) -> &mut Node {
        node(&mut self.nodes, &self.conflicts, &self.replaces, name)
    }

    /// The unit's record or its file changed; `before` is the hash it had.
    pub(super) fn unit_changed(&mut self, cluster: &Cluster, name: &UnitName, before: Option<&UnitHash>) {
        let hash = cluster.units.get(name).map(|unit| &unit.hash);
        if let Some(hash) = hash {
            self.by_hash.entry(hash.clone()).or_default().names.insert(name.clone(), ());
        }
        let (constraints, constraint_id) = self.resolve(cluster, name).unzip();
        if let Some(before) = before.filter(|before| Some(*before) != hash)
            && let Some(users) = self.by_hash.get_mut(before)
        {
            users.names.remove(name);
            if users.names.is_empty() {
                self.by_hash.remove(before);
            }
        }
        let node = self.node(name);
        node.constraint_id = constraint_id.unwrap_or_default();
        let old = std::mem::replace(&mut node.constraints, constraints.clone());
        if old != constraints {
            let peers = |constraints: Option<&Arc<Constraints>>| -> Vec<UnitName> {
                constraints
                    .into_iter()
                    .flat_map(|constraints| &constraints.machine_of)
                    .filter_map(|peer| peer.parse().ok())
                    .collect()
            };
            for peer in peers(old.as_ref()) {
                self.node(&peer).dependents.remove(name);
                self.prune(&peer);
            }
            for peer in peers(constraints.as_ref()) {
                self.node(&peer).dependents.insert(name.clone());
            }
            self.naming.changed(name, old.as_deref(), constraints.as_deref());
            if let Some(constraints) = &constraints {
                self.hosts.ask(cluster, constraints, true);
            }
            if let Some(old) = &old {
                self.hosts.ask(cluster, old, false);
            }
            self.crowds.changed(cluster, &self.nodes, name, (old.as_deref(), constraints.as_deref()));
            match constraints.as_ref().map_or(0, |constraints| constraints.priority()) {
                0 if self.priorities.is_empty() => {}
                0 => drop(self.priorities.remove(name)),
                priority => drop(self.priorities.insert(name.clone(), priority)),
            }
            put(&mut self.globals, name, constraints.is_some_and(|constraints| constraints.global));
        }
        self.declares(cluster, name);
        self.update_in_force(cluster, name);
        self.sets.unit_changed(cluster, name, &self.nodes);
        self.prune(name);
    }

    /// As [`Cluster::constraints`]: one value shared by all instances for which it is the same, and its id.
    fn resolve_own(&mut self, cluster: &Cluster, name: &UnitName) -> Option<(Arc<Constraints>, ConstraintId)> {
        let hash = &cluster.units.get(name)?.hash;
        let file = &cluster.files.get(hash)?.value;
        if self.is_too_expensive(name, hash, file) {
            return None;
        }
        let constraints = Constraints::resolve(file, name);
        let Self { by_hash, next_id, .. } = self;
        let mut fresh = || {
            *next_id += 1;
            *next_id
        };
        let users = by_hash.entry(hash.clone()).or_default();
        if Arc::ptr_eq(&constraints, file) {
            let id = *users.plain.get_or_insert_with(&mut fresh);
            return Some((constraints, id));
        }
        let shared = users.resolved.entry(name.prefix().into());
        let (id, shared) = shared.or_insert_with(|| (fresh(), Arc::clone(&constraints)));
        if **shared == *constraints {
            return Some((Arc::clone(shared), *id));
        }
        Some((constraints, fresh()))
    }

    /// Whether a unit isn't planned because its file has too many patterns to compare with every name, or was found to
    /// be too expensive. The index treats it like a unit whose file isn't known.
    pub(super) fn is_left_out(&self, cluster: &Cluster, name: &UnitName) -> bool {
        let Some(hash) = cluster.units.get(name).map(|unit| &unit.hash) else { return false };
        cluster.files.get(hash).is_some_and(|file| self.is_too_expensive(name, hash, &file.value))
    }

    fn is_too_expensive(&self, name: &UnitName, hash: &UnitHash, file: &Constraints) -> bool {
        file.patterns() > MAX_PLANNED_PATTERNS || self.left_out.get(name) == Some(hash)
    }

    /// A file was added, changed or removed; what was resolved from it is no longer valid.
    pub(super) fn file_changed(&mut self, hash: &UnitHash) {
        if let Some(users) = self.by_hash.get_mut(hash) {
            users.plain = None;
            users.resolved.clear();
        }
    }

    /// An assignment was added, changed or removed; `before` is the hash it had. Returns whether the constraints that
    /// apply to the unit changed.
    pub(super) fn assignment_changed(
        &mut self,
        cluster: &Cluster,
        host: &MachineId,
        name: &UnitName,
        before: Option<&UnitHash>,
    ) -> bool {
        let after = cluster
            .schedule
            .get(host)
            .and_then(|assignments| assignments.get(name))
            .map(|assignment| &assignment.value.hash);
        if after == before {
            return false;
        }
        self.assigned.changed(before, after);
        if before.is_some() != after.is_some() {
            let there = after.is_some();
            self.hosts.loaded(host, self.filled(cluster, host));
            self.sets.assignment_changed(name, host, there);
            let Self { nodes, conflicts, replaces, ports, .. } = self;
            let node = node(nodes, conflicts, replaces, name);
            conflicts.count(&node.conflicts, host, there);
            replaces.count(&node.replaces, host, there);
            ports.count(ports_of(node), host, there);
            if there {
                node.hosts.insert(host.clone(), ());
            } else {
                node.hosts.remove(host);
            }
        }
        let in_force_changed = !cluster.units.contains_key(name) && self.update_in_force(cluster, name);
        // A node with a host isn't empty.
        if after.is_none() {
            self.prune(name);
        }
        in_force_changed
    }

    /// Update the constraints by which a unit can evict others, and the counts that depend on them. Returns whether
    /// they changed.
    fn update_in_force(&mut self, cluster: &Cluster, name: &UnitName) -> bool {
        let Some(node) = self.nodes.get_mut(name) else { return false };
        let in_force = match cluster.units.get(name) {
            Some(_) => node.constraints.clone(),
            None => node.hosts.keys().next().and_then(|host| {
                let file = cluster.files.get(cluster.file_on(name, host)?)?;
                let planned = file.value.patterns() <= MAX_PLANNED_PATTERNS;
                planned.then(|| Constraints::resolve(&file.value, name))
            }),
        };
        let same = |one: &Arc<Constraints>, two: &Arc<Constraints>| {
            let (ours, theirs) = ((&one.conflicts, &one.replaces), (&two.conflicts, &two.replaces));
            Arc::ptr_eq(one, two) || (ours, &one.ports) == (theirs, &two.ports)
        };
        let before = std::mem::replace(&mut node.in_force, in_force.clone());
        if before.is_none() && in_force.is_none()
            || before.as_ref().zip(in_force.as_ref()).is_some_and(|(a, b)| same(a, b))
        {
            return false;
        }
        self.ports.changed(name, &node.hosts, (asked(before.as_deref()), asked(in_force.as_deref())));
        let none: &[Glob] = &[];
        let (conflicts, replaces) = in_force
            .as_ref()
            .map_or((none, none), |in_force| (in_force.conflicts.as_slice(), in_force.replaces.as_slice()));
        declare(&mut self.conflicts, &mut self.nodes, |node| &mut node.conflicts, name, conflicts);
        declare(&mut self.replaces, &mut self.nodes, |node| &mut node.replaces, name, replaces);
        true
    }

    pub(super) fn placement_changed(&mut self, name: &UnitName, placement: Option<&Placement>) {
        put(&mut self.waiting, name, matches!(placement, Some(Placement::Waiting { .. })));
        self.taken.changed(name, placement.and_then(Placement::taken).map(|taken| &taken.host));
    }

    /// Units with this file.
    pub(super) fn users(&self, hash: &UnitHash) -> Vec<UnitName> {
        self.by_hash.get(hash).into_iter().flat_map(|users| users.names.keys()).cloned().collect()
    }

    pub(super) fn is_referred_to(&self, hash: &UnitHash) -> bool {
        self.by_hash.contains_key(hash) || self.assigned.has(hash) || self.texts.has(hash) || self.held.has(hash)
    }

    pub(super) fn hosts(&self, name: &str) -> Vec<MachineId> {
        self.nodes.get(name).into_iter().flat_map(|node| node.hosts.keys()).cloned().collect()
    }

    pub(super) fn is_anywhere(&self, name: &str) -> bool {
        self.nodes.get(name).is_some_and(|node| !node.hosts.is_empty())
    }

    /// Whether, on `host`, another unit conflicts with this one, whichever side declares it.
    pub(super) fn has_conflict(&self, node: &Node, host: &MachineId) -> bool {
        let there = node.hosts.contains_key(host);
        self.conflicts.matches_on(&node.conflicts, host, there)
            || self.conflicts.is_matched_on(&node.conflicts, host, there)
    }

    fn is_named_by_replacer(&self, node: &Node, host: &MachineId) -> bool {
        self.replaces.is_matched_on(&node.replaces, host, node.hosts.contains_key(host))
    }

    /// Units that name this one in their `Replaces=`.
    pub(super) fn replacers(&self, name: &UnitName) -> impl Iterator<Item = &UnitName> {
        let ids = self.nodes.get(name).into_iter().flat_map(|node| &node.replaces.matches);
        ids.flat_map(|id| self.replaces.declarers(*id)).filter(move |other| *other != name)
    }

    fn prune(&mut self, name: &UnitName) {
        let empty = |node: &Node| {
            node.constraints.is_none() && node.in_force.is_none() && node.hosts.is_empty() && node.dependents.is_empty()
        };
        if self.nodes.get(name).is_some_and(empty) {
            self.nodes.remove(name);
        }
    }
}

fn node<'a>(
    nodes: &'a mut BTreeMap<UnitName, Node>,
    conflicts: &PatternIndex,
    replaces: &PatternIndex,
    name: &UnitName,
) -> &'a mut Node {
    nodes.entry(name.clone()).or_insert_with(|| {
        let ids =
            |patterns: &PatternIndex| PatternIds { declares: Vec::new(), matches: patterns.matching(name.as_str()) };
        Node { conflicts: ids(conflicts), replaces: ids(replaces), ..Node::default() }
    })
}

/// `name` declares exactly `wanted` from now on.
fn declare(
    patterns: &mut PatternIndex,
    nodes: &mut BTreeMap<UnitName, Node>,
    ids: impl Fn(&mut Node) -> &mut PatternIds,
    name: &UnitName,
    wanted: &[Glob],
) {
    let mut declares = Vec::with_capacity(wanted.len());
    for glob in wanted {
        let (id, new) = patterns.declare(glob, name);
        if new {
            for (_, node) in range_mut(nodes, glob) {
                ids(node).matches.push(id);
                node.hosts.keys().for_each(|host| patterns.count_matched(id, host, true));
            }
        }
        if !declares.contains(&id) {
            declares.push(id);
        }
    }
    let Some(node) = nodes.get_mut(name) else { return };
    let hosts = node.hosts.clone();
    let before = std::mem::replace(&mut ids(node).declares, declares.clone());
    for host in hosts.keys() {
        before.iter().for_each(|id| patterns.count_declared(*id, host, false));
        declares.iter().for_each(|id| patterns.count_declared(*id, host, true));
    }
    for id in before.into_iter().filter(|id| !declares.contains(id)) {
        if patterns.withdraw(id, name) {
            let glob = patterns.glob(id).clone();
            range_mut(nodes, &glob).for_each(|(_, node)| ids(node).matches.retain(|other| *other != id));
            patterns.drop(id);
        }
    }
}

fn put(set: &mut BTreeSet<UnitName>, name: &UnitName, member: bool) {
    if !member {
        set.remove(name);
    } else if !set.contains(name) {
        set.insert(name.clone());
    }
}

/// The entries of a map that a pattern matches.
fn range<'a, V>(map: &'a BTreeMap<UnitName, V>, glob: &'a Glob) -> impl Iterator<Item = (&'a UnitName, &'a V)> {
    map.range::<str, _>((Bound::Included(glob.literal_prefix()), Bound::Unbounded))
        .take_while(|(name, _)| name.as_str().starts_with(glob.literal_prefix()))
        .filter(|(name, _)| glob.matches(name.as_str()))
}

fn range_mut<'a, V>(
    map: &'a mut BTreeMap<UnitName, V>,
    glob: &'a Glob,
) -> impl Iterator<Item = (&'a UnitName, &'a mut V)> {
    map.range_mut::<str, _>((Bound::Included(glob.literal_prefix()), Bound::Unbounded))
        .take_while(|(name, _)| name.as_str().starts_with(glob.literal_prefix()))
        .filter(|(name, _)| glob.matches(name.as_str()))
}

/// The elements of a set that a pattern matches.
pub(super) fn members<'a>(set: &'a BTreeSet<UnitName>, glob: &'a Glob) -> impl Iterator<Item = &'a UnitName> {
    set.range::<str, _>((Bound::Included(glob.literal_prefix()), Bound::Unbounded))
        .take_while(|name| name.as_str().starts_with(glob.literal_prefix()))
        .filter(|name| glob.matches(name.as_str()))
}
