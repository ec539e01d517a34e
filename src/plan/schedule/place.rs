//! One planning round. Owns the order of deciding (assignments, then units without a host, then globals) and the choice
//! of hosts. Must never move a unit that has one: `reconcile_unit` says who leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::unit::Placement;

use super::super::fit::{View, is_effective, is_wanted};
use super::Scheduler;
use super::choose::InfeasibleCache;
use super::decision::{Departure, Host, Plan, Reason, Report};
use super::dirty::Rescan;
use super::pending::PendingWrites;

/// A round under way.
pub(super) struct Round<'a> {
    pub(super) scheduler: &'a mut Scheduler,
    pub(super) pending: PendingWrites,
    pub(super) infeasible: InfeasibleCache,
    now: u64,
    pub(super) report: Report,
    /// Units without a host, where to look, and what they just left.
    unplaced: BTreeMap<UnitName, (Rescan, Option<(MachineId, Departure)>)>,
    /// Globals and hosts that may want them.
    unspread: BTreeSet<(UnitName, MachineId)>,
    /// Globals whose placement may be out of date.
    unsettled: BTreeSet<UnitName>,
}

impl<'a> Round<'a> {
    pub(super) fn new(scheduler: &'a mut Scheduler, now: u64) -> Self {
        Self {
            scheduler,
            pending: PendingWrites::default(),
            infeasible: InfeasibleCache::default(),
            now,
            report: Report::default(),
            unplaced: BTreeMap::new(),
            unspread: BTreeSet::new(),
            unsettled: BTreeSet::new(),
        }
    }

    /// Until nothing is dirty. Whoever leaves does so before anybody is placed; globals take what others left, as
    /// CoreOS fleet's did, but no more than a newcomer do they drive anybody away.
    pub(super) fn run(mut self) -> Plan {
        loop {
            if let Some((unit, rescan)) = self.scheduler.dirty.next_unit() {
                self.reconcile_unit(&unit, rescan);
            } else if let Some(unit) = self.unplaced.keys().next().cloned() {
                self.place(&unit);
            } else if let Some((unit, host)) = self.unspread.pop_first() {
                self.spread(&unit, &host);
            } else if let Some(unit) = self.unsettled.pop_first() {
                self.settle(&unit);
            } else {
                break;
            }
        }
        let files = self.collect_files();
        let decisions = self.pending.finish(&mut self.scheduler.cluster, &self.scheduler.index);
        self.report.waiting = self.scheduler.index.waiting.len();
        Plan { decisions, files, report: self.report }
    }

    pub(super) fn constraints(&self, unit: &UnitName) -> Option<Arc<Constraints>> {
        self.scheduler.view().constraints(unit)
    }

    pub(super) fn host(&self, id: &MachineId) -> Host {
        Host { id: id.clone(), name: self.scheduler.cluster.machines.get(id).map(|machine| machine.hostname.clone()) }
    }

    pub(super) fn queue_place(&mut self, unit: &UnitName, rescan: Rescan, left: Option<(MachineId, Departure)>) {
        let queued = self.unplaced.entry(unit.clone()).or_insert_with(|| (rescan.clone(), None));
        queued.0.widen(rescan);
        queued.1 = queued.1.take().or(left);
    }

    pub(super) fn queue_spread(&mut self, unit: &UnitName, host: &MachineId) {
        self.unspread.insert((unit.clone(), host.clone()));
    }

    pub(super) fn queue_settle(&mut self, unit: &UnitName) {
        self.unsettled.insert(unit.clone());
    }

    /// Place one unit; before it those it must follow, together with it those that must follow it.
    fn place(&mut self, unit: &UnitName) {
        let (core, group) = self.next_group(unit);
        // A cycle looks wherever any of it has reason to.
        let mut rescan = Rescan::Hosts(BTreeSet::new());
        for (known, _) in core.iter().filter_map(|name| self.unplaced.get(name)) {
            rescan.widen(known.clone());
        }
        let ready = core.iter().all(|name| self.is_ready(name));
        let whole = ready.then(|| self.choose(&group, &rescan)).flatten();
        let (members, found) = match whole {
            Some(found) => (group, Some(found)),
            None if ready && group.len() > core.len() => {
                let found = self.choose(&core, &rescan);
                (core, found)
            }
            None => (core, None),
        };
        match found {
            Some((host, passed)) => {
                for name in &members {
                    self.put(name, &host, passed);
                }
            }
            None => {
                for name in &members {
                    self.wait(name, &members, &rescan);
                }
            }
        }
        for name in &members {
            self.unplaced.remove(name);
        }
    }

    /// What to decide on first: a cycle (mostly one unit) and the dependents to take along. A dependent that something
    /// else without a host may drive away comes along only once that has its place; otherwise it might arrive in vain,
    /// and whom it replaces leave in vain.
    fn next_group(&self, unit: &UnitName) -> (Vec<UnitName>, Vec<UnitName>) {
        let mut core = self.root(unit);
        let mut group = self.with_dependents(&core);
        let mut seen = BTreeSet::from([core.clone()]);
        while group.len() > core.len() && !self.scheduler.index.replaces.is_empty() {
            let Some(above) = self.unplaced_above(&group) else { break };
            let other = self.root(&above);
            if seen.insert(other.clone()) {
                core = other;
                group = self.with_dependents(&core);
            } else {
                group.clone_from(&core);
            }
        }
        (core, group)
    }

    /// The unit to decide on first: nothing without a host stands above it, neither one that it must follow nor one
    /// whose arrival could drive away what it follows, or itself. With it the cycle it stands in (mostly itself alone).
    fn root(&self, unit: &UnitName) -> Vec<UnitName> {
        let mut root = unit.clone();
        let mut seen = BTreeSet::new();
        loop {
            let core = self.cycle(&root);
            match self.unplaced_above(&core) {
                // Upwards between cycles, never round one (`fit::displaces`); were that wrong, better a poor order than
                // none.
                Some(above) if seen.insert(root.clone()) => root = above,
                Some(above) => return self.cycle(&above),
                None => return core,
            }
        }
    }

    fn unplaced_above(&self, core: &[UnitName]) -> Option<UnitName> {
        let view = self.scheduler.view();
        let replacing = !self.scheduler.index.replaces.is_empty();
        let mut seen: BTreeSet<UnitName> = core.iter().cloned().collect();
        let mut open = core.to_vec();
        while let Some(name) = open.pop() {
            let mut above = self.colocation_targets(&name);
            if replacing {
                above.extend(
                    self.scheduler.index.replacers(&name).filter(|other| is_effective(&view, other, &name)).cloned(),
                );
            }
            for name in above {
                if !core.contains(&name) && self.unplaced.contains_key(&name) {
                    return Some(name);
                }
                // Without replacers a leader that has a host keeps it, whatever stands above it.
                if replacing && seen.insert(name.clone()) {
                    open.push(name);
                }
            }
        }
        None
    }

    pub(super) fn colocation_targets(&self, unit: &UnitName) -> Vec<UnitName> {
        let constraints = self.constraints(unit);
        constraints
            .iter()
            .flat_map(|constraints| &constraints.machine_of)
            .filter_map(|peer| peer.parse().ok())
            .collect()
    }

    /// The units that must follow each other all round, in order; the unit alone if it is in no cycle.
    fn cycle(&self, unit: &UnitName) -> Vec<UnitName> {
        let above = if self.colocation_targets(unit).is_empty() { BTreeSet::new() } else { self.above(unit) };
        if !above.contains(unit) {
            return vec![unit.clone()];
        }
        above.into_iter().filter(|name| self.above(name).contains(unit)).collect()
    }

    /// Everything that a unit must follow, directly or not.
    fn above(&self, unit: &UnitName) -> BTreeSet<UnitName> {
        let mut seen = BTreeSet::new();
        let mut open = self.colocation_targets(unit);
        while let Some(name) = open.pop() {
            if seen.insert(name.clone()) {
                open.extend(self.colocation_targets(&name));
            }
        }
        seen
    }

    /// `core` and everything that must follow it and has no host either, colocation_targets first.
    fn with_dependents(&self, core: &[UnitName]) -> Vec<UnitName> {
        let view = self.scheduler.view();
        let leads =
            |name: &UnitName| self.scheduler.index.nodes.get(name).is_some_and(|node| !node.dependents.is_empty());
        if !core.iter().any(leads) {
            return core.to_vec();
        }
        let mut below: BTreeSet<UnitName> = BTreeSet::new();
        let mut open: Vec<UnitName> = core.to_vec();
        while let Some(name) = open.pop() {
            for dependent in view.dependents(&name) {
                if !core.contains(&dependent) && self.is_ready(&dependent) && below.insert(dependent.clone()) {
                    open.push(dependent);
                }
            }
        }
        // Whoever also follows somebody that is neither placed nor comes along can't come along.
        loop {
            let stuck = |name: &&UnitName| {
                let mut colocation_targets = self.colocation_targets(name).into_iter();
                colocation_targets
                    .any(|peer| !below.contains(&peer) && !core.contains(&peer) && !view.is_placed(peer.as_str()))
            };
            let stuck: Vec<UnitName> = below.iter().filter(stuck).cloned().collect();
            if stuck.is_empty() {
                break;
            }
            below.retain(|name| !stuck.contains(name));
        }
        let mut group = core.to_vec();
        while !below.is_empty() {
            let free = below.iter().find(|name| self.colocation_targets(name).iter().all(|peer| !below.contains(peer)));
            let Some(next) = free.or(below.first()).cloned() else { break };
            below.remove(&next);
            group.push(next);
        }
        group
    }

    /// Whether it could be placed now: wanted, known, not global, and no host has it.
    pub(super) fn is_ready(&self, unit: &UnitName) -> bool {
        let node = self.scheduler.index.nodes.get(unit);
        is_wanted(&self.scheduler.cluster, unit)
            && node.is_some_and(|node| {
                node.hosts.is_empty() && node.constraints.as_ref().is_some_and(|constraints| !constraints.global)
            })
    }

    fn put(&mut self, unit: &UnitName, host: &MachineId, passed: usize) {
        let Some(constraints) = self.constraints(unit) else { return };
        let Some(assignment) = self.wanted_assignment(unit, &constraints) else { return };
        let left = self.unplaced.remove(unit).and_then(|(_, left)| left).map(|(host, why)| (self.host(&host), why));
        self.set_assignment(unit, host, Some(assignment));
        self.set_placement(unit, Some(Placement::On { host: host.clone(), since: self.now }));
        self.pending.why(unit, Reason::Placed { host: self.host(host), passed, left });
    }

    /// No host: say why, if that isn't said already.
    fn wait(&mut self, unit: &UnitName, group: &[UnitName], tried: &Rescan) {
        if !is_wanted(&self.scheduler.cluster, unit)
            || self.constraints(unit).is_none_or(|constraints| constraints.global)
        {
            return; // only named by a cycle
        }
        // One of a cycle is tried as long as any of it is.
        let (rescan, left) = self.unplaced.remove(unit).unwrap_or_else(|| (tried.clone(), None));
        let known = match self.scheduler.cluster.placements.get(unit).map(|placement| &placement.value) {
            Some(Placement::Waiting { why, .. }) => Some(why.clone()),
            _ => None,
        };
        if let Some(why) = &known {
            let Some(node) = self.scheduler.index.nodes.get(unit) else { return };
            let told = |host: &MachineId| {
                self.first_violation(unit, node, host, group).is_none_or(|rule| why.contains(rule.as_str()))
            };
            match &rescan {
                Rescan::Keep => return,
                Rescan::Hosts(hosts) if hosts.iter().all(told) => return,
                _ => {}
            }
        }
        let why = self.summary(unit, group);
        if known.as_ref() != Some(&why) {
            let left = left.map(|(host, why)| (self.host(&host), why));
            self.set_placement(unit, Some(Placement::Waiting { why: why.clone(), since: self.now }));
            self.pending.why(unit, Reason::Waits { why, left });
        }
    }

    /// Give a global to a host, if it fits there.
    fn spread(&mut self, unit: &UnitName, host: &MachineId) {
        let Some(constraints) = self.constraints(unit).filter(|constraints| constraints.global) else { return };
        let Some(node) = self.scheduler.index.nodes.get(unit) else { return };
        let free = self.scheduler.assignment(host, unit).is_none();
        if free
            && self.first_violation(unit, node, host, &[]).is_none()
            && let Some(assignment) = self.wanted_assignment(unit, &constraints)
        {
            self.set_assignment(unit, host, Some(assignment));
            self.pending.why_at(unit, host, Reason::Placed { host: self.host(host), passed: 0, left: None });
        }
    }

    /// A global has a placement only while it has no assignment at all.
    fn settle(&mut self, unit: &UnitName) {
        let nowhere = !self.scheduler.index.is_anywhere(unit.as_str());
        let waits = self.scheduler.index.waiting.contains(unit);
        if !nowhere {
            self.set_placement(unit, None);
        } else if !waits {
            let why = self.summary(unit, &[]);
            self.set_placement(unit, Some(Placement::Waiting { why: why.clone(), since: self.now }));
            self.pending.why(unit, Reason::Waits { why, left: None });
        }
    }

    fn collect_files(&mut self) -> Vec<(crate::model::name::UnitHash, crate::model::revision::Revision)> {
        let hashes = self.scheduler.dirty.take_files();
        let unused = hashes.into_iter().filter(|hash| !self.scheduler.index.is_referred_to(hash)).collect::<Vec<_>>();
        let cluster = &mut self.scheduler.cluster;
        unused.into_iter().filter_map(|hash| cluster.files.remove(&hash).map(|file| (hash, file.revision))).collect()
    }
}
