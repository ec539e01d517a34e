//! Which units must be examined again, and which units a change concerns. Owns the answer to the latter: one unit too
//! many costs time, one too few is a bug that the engine's audit finds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::cluster::{Cluster, Versioned};
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::unit::{Assignment, Target};

use super::super::fit::{View, displaced, machine_id, metadata};
use super::index::ports::ports_of;
use super::index::{Index, Indexed, members};
use super::{Scheduler, roster};

/// How much of a unit must be examined again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rescan {
    /// If it has no host: only these hosts may fit it now. If it is global: only these hosts need to be examined.
    Hosts(BTreeSet<MachineId>),
    /// All hosts. The stored reasons why it waits are kept while they hold.
    Keep,
    /// All hosts, and the reasons why it waits are determined again.
    Explain,
}

impl Rescan {
    pub(super) fn widen(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Hosts(hosts), Self::Hosts(more)) => hosts.extend(more),
            (Self::Explain, _) | (Self::Keep, Self::Keep | Self::Hosts(_)) => {}
            (_, wider) => *self = wider,
        }
    }
}

/// Everything dirty.
#[derive(Debug, Clone, Default)]
pub(super) struct DirtySet {
    units: BTreeMap<UnitName, Rescan>,
    files: BTreeSet<UnitHash>,
    /// Units whose earlier texts may be kept no longer.
    histories: BTreeSet<UnitName>,
    /// Hosts of which the roster may not say what is so.
    hosts: BTreeSet<MachineId>,
}

impl DirtySet {
    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty() && self.files.is_empty() && self.histories.is_empty() && self.hosts.is_empty()
    }

    pub(super) fn unit(&mut self, name: &UnitName, rescan: Rescan) {
        match self.units.get_mut(name) {
            Some(known) => known.widen(rescan),
            None => drop(self.units.insert(name.clone(), rescan)),
        }
    }

    pub(super) fn at(&mut self, name: &UnitName, host: &MachineId) {
        self.unit(name, Rescan::Hosts(BTreeSet::from([host.clone()])));
    }

    pub(super) fn file(&mut self, hash: &UnitHash) {
        self.files.insert(hash.clone());
    }

    pub(super) fn files<'a>(&mut self, hashes: impl Iterator<Item = &'a UnitHash>) {
        self.files.extend(hashes.cloned());
    }

    pub(super) fn history(&mut self, unit: &UnitName) {
        self.histories.insert(unit.clone());
    }

    pub(super) fn take_histories(&mut self) -> BTreeSet<UnitName> {
        std::mem::take(&mut self.histories)
    }

    /// The host, if the roster of `cluster` is out of date about it.
    pub(super) fn host(&mut self, cluster: &Cluster, host: &MachineId) {
        if roster::is_outdated(cluster, host) {
            self.hosts.insert(host.clone());
        }
    }

    /// A host that is gone and whose hold is over, or whose record is to be written again.
    pub(super) fn held_host(&mut self, host: &MachineId) {
        self.hosts.insert(host.clone());
    }

    pub(super) fn take_hosts(&mut self) -> BTreeSet<MachineId> {
        std::mem::take(&mut self.hosts)
    }

    pub(super) fn units(&self) -> impl Iterator<Item = &UnitName> {
        self.units.keys()
    }

    pub(super) fn next_unit(&mut self) -> Option<(UnitName, Rescan)> {
        self.units.pop_first()
    }

    /// Take this unit out of turn, if it is dirty.
    pub(super) fn take_unit(&mut self, name: &str) -> Option<(UnitName, Rescan)> {
        self.units.remove_entry(name)
    }

    pub(super) fn take_files(&mut self) -> BTreeSet<UnitHash> {
        std::mem::take(&mut self.files)
    }
}

impl Scheduler {
    /// Replace an assignment, and update what depends on it: the indexes, and the units that may now fit or no longer
    /// fit.
    pub(super) fn set_assignment(
        &mut self,
        host: &MachineId,
        name: &UnitName,
        assignment: Option<Versioned<Assignment>>,
    ) {
        let live = |assignment: Option<&Versioned<Assignment>>| {
            assignment.is_some_and(|assignment| assignment.value.target != Target::Removed)
        };
        let is_anchor = anchors(assignment.as_ref());
        self.touch(name, Some(host));
        let before = self.assignment(host, name);
        let was_anchor = anchors(before);
        let (was_there, was_live, hash) =
            (before.is_some(), live(before), before.map(|assignment| assignment.value.hash.clone()));
        let texts = |assignment: Option<&Versioned<Assignment>>| -> Vec<UnitHash> {
            assignment.into_iter().flat_map(|assignment| assignment.value.texts()).cloned().collect()
        };
        let (old_texts, new_texts) = (texts(before), texts(assignment.as_ref()));
        self.index.texts.changed(&old_texts, &new_texts);
        let (is_there, is_live) = (assignment.is_some(), live(assignment.as_ref()));
        let mut displaced = self.displaced_by_destroyed(name);
        if was_there && !is_there {
            self.mark_last(host);
            self.mark_helped(host, name);
        }
        match assignment {
            Some(assignment) => {
                drop(self.cluster_mut().schedule.entry(host.clone()).or_default().insert(name.clone(), assignment))
            }
            None => {
                let schedule = &mut self.cluster_mut().schedule;
                if let Some(assignments) = schedule.get_mut(host) {
                    assignments.remove(name);
                    if assignments.is_empty() {
                        schedule.remove(host);
                    }
                }
            }
        }
        self.index_assignment(host, name, hash.as_ref());
        self.dirty.files(hash.iter().chain(&old_texts).filter(|key| !self.index.is_referred_to(key)));
        displaced.append(&mut self.displaced_by_destroyed(name));
        for other in &displaced {
            self.dirty.unit(other, Rescan::Keep);
        }
        if was_live != is_live {
            self.live_changed(host, name, is_live);
        }
        if (was_live, was_anchor) != (is_live, is_anchor) {
            for dependent in self.view().dependents(name) {
                self.dirty.at(&dependent, host);
            }
        }
        if is_live && !was_live {
            self.mark_replaced(host, name);
        }
    }

    fn index_assignment(&mut self, host: &MachineId, name: &UnitName, before: Option<&UnitHash>) {
        if self.index.assignment_changed(&self.cluster, host, name, before) {
            self.mark_everybody(name);
        }
        self.recount(name, host);
    }

    /// Global units leave a host that is drained of them when they are the last.
    fn mark_last(&mut self, host: &MachineId) {
        let drain = self.cluster.asked_of(host).and_then(|asked| asked.drain.as_ref());
        if drain.is_some_and(|drain| drain.globals) {
            let there = self.cluster.schedule.get(host).into_iter().flat_map(|assignments| assignments.keys());
            there.for_each(|name| self.dirty.at(name, host));
        }
    }

    /// A unit has a live assignment on a host, or has none there any more: those that wait because too many of its kind
    /// are where they fit may fit elsewhere now.
    fn live_changed(&mut self, host: &MachineId, name: &UnitName, live: bool) {
        self.index.crowds.live_changed(&self.cluster, name, host, live);
        for other in self.index.crowds.helped(name, &self.index.waiting) {
            self.dirty.unit(&other, Rescan::Keep);
        }
    }

    /// Hosts still have different files of a destroyed unit. This is rare enough to examine every waiting unit.
    fn mark_everybody(&mut self, name: &UnitName) {
        for host in self.index.hosts(name.as_str()) {
            let all = self.index.waiting.iter().chain(&self.index.globals);
            all.for_each(|other| self.dirty.at(other, &host));
        }
    }

    /// The units that a destroyed unit can still displace. It does so only as long as a host has an assignment of it,
    /// and until then it may close a cycle, which keeps the `Replaces=` of others from being effective.
    fn displaced_by_destroyed(&self, name: &UnitName) -> BTreeSet<UnitName> {
        if self.index.replaces.is_empty() || self.cluster.units.contains_key(name) {
            return BTreeSet::new();
        }
        displaced(&self.view(), name)
    }

    /// The units that wait, or aren't on this host, because `name` is on it.
    fn mark_helped(&mut self, host: &MachineId, name: &UnitName) {
        let Index { nodes, conflicts, replaces, waiting, globals, .. } = &self.index;
        let Some(node) = nodes.get(name) else { return };
        let mut helped: Vec<UnitName> = Vec::new();
        for id in &node.conflicts.matches {
            let declarers = conflicts.declarers(*id);
            if declarers.len() <= waiting.len() + globals.len() {
                helped.extend(declarers.iter().filter(|n| waiting.contains(*n) || globals.contains(*n)).cloned());
            } else {
                helped.extend(waiting.iter().chain(globals).filter(|other| declarers.contains(*other)).cloned());
            }
        }
        let declared = node.conflicts.declares.iter().map(|id| conflicts.glob(*id));
        for glob in declared.chain(node.replaces.declares.iter().map(|id| replaces.glob(*id))) {
            helped.extend(members(waiting, glob).chain(members(globals, glob)).cloned());
        }
        let users = self.index.ports.users(ports_of(node));
        helped.extend(users.filter(|other| waiting.contains(*other) || globals.contains(*other)).cloned());
        for other in helped.iter().filter(|other| *other != name) {
            self.dirty.at(other, host);
        }
    }

    /// The units that must leave `host` because `name` replaces them.
    fn mark_replaced(&mut self, host: &MachineId, name: &UnitName) {
        let Some(node) = self.index.nodes.get(name) else { return };
        if !self.index.replaces.matches_on(&node.replaces, host, true) {
            return;
        }
        let globs: Vec<_> = node.replaces.declares.iter().map(|id| self.index.replaces.glob(*id)).collect();
        let there = self.cluster.schedule.get(host).into_iter().flat_map(|assignments| assignments.keys());
        for other in there.filter(|other| *other != name && globs.iter().any(|glob| glob.matches(other.as_str()))) {
            self.dirty.at(other, host);
        }
    }

    /// All units whose placement depends on the constraints of `name`, or on its age. Called before and after a change
    /// of these.
    pub(super) fn mark_neighbours(&mut self, name: &UnitName) {
        for host in self.index.hosts(name.as_str()) {
            let contended = self.index.nodes.get(name).is_some_and(|node| {
                self.index.has_conflict(node, &host) || self.index.replaces.matches_on(&node.replaces, &host, true)
            });
            if contended {
                let there = self.cluster.schedule.get(&host).into_iter().flat_map(|assignments| assignments.keys());
                let concerned = there.filter(|other| *other != name && self.concerns(name, other));
                for other in concerned.cloned().collect::<Vec<_>>() {
                    self.dirty.at(&other, &host);
                }
            }
            self.mark_helped(&host, name);
        }
        if !self.index.replaces.is_empty() {
            for other in displaced(&self.view(), name) {
                self.dirty.unit(&other, Rescan::Keep);
            }
        }
    }

    /// The units whose assignments may have to carry other templates, because `name` has changed.
    pub(super) fn mark_bringing(&mut self, name: &UnitName) {
        for other in self.index.naming.affected(name) {
            self.dirty.unit(&other, Rescan::Keep);
        }
    }

    /// Whether two units conflict, or the first replaces the second.
    fn concerns(&self, name: &UnitName, other: &UnitName) -> bool {
        let (ours, theirs) = (self.view().constraints_in_force(name), self.view().constraints_in_force(other));
        ours.is_some_and(|constraints| {
            constraints.conflicts.iter().chain(&constraints.replaces).any(|glob| glob.matches(other.as_str()))
        }) || theirs.is_some_and(|constraints| constraints.conflicts.iter().any(|glob| glob.matches(name.as_str())))
    }

    /// A host reports a unit. One that runs there although the store has lost its assignment isn't new to the host, and
    /// may be taken over there although the host is cordoned or full, or too many of its kind are.
    pub(super) fn mark_running(&mut self, host: &MachineId, name: &UnitName, reported: Option<Target>) {
        let is_open = !self.cluster.is_closed(host) && !self.index.crowds.is_skewed(name);
        let exempts = !is_open || self.index.amounts.declares(name);
        let runs = reported == Some(Target::Launched) && exempts;
        if runs && self.index.waiting.contains(name) {
            self.dirty.at(name, host);
        }
    }

    /// A host was added or removed, its metadata changed, or something else is asked of it. Every waiting unit counts
    /// the hosts in its reasons and is examined again; a global unit that has hosts only needs to be examined where it
    /// might fit now.
    pub(super) fn mark_host(&mut self, host: &MachineId) {
        let there = self.cluster.schedule.get(host).into_iter().flat_map(|assignments| assignments.keys());
        for name in there {
            self.dirty.at(name, host);
        }
        for name in &self.index.waiting {
            self.dirty.unit(name, Rescan::Explain);
        }
        if self.cluster.machines.contains_key(host) {
            for name in &self.index.globals {
                let node = self.index.nodes.get(name);
                let constraints =
                    node.and_then(|node| Indexed { cluster: &self.cluster, index: &self.index }.on((name, node), host));
                let fits = |constraints: &Arc<Constraints>| {
                    machine_id(constraints, host).is_empty() && metadata(&self.cluster, constraints, host).is_empty()
                };
                if constraints.is_some_and(|constraints| fits(&constraints)) {
                    self.dirty.at(name, host);
                }
            }
        }
    }
}

/// Whether an assignment binds others to its host.
fn anchors(assignment: Option<&Versioned<Assignment>>) -> bool {
    assignment.is_some_and(|assignment| assignment.value.anchors())
}
