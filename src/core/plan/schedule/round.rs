//! One planning round: what remains to be decided, in which order, and the writes so far. Owns the order (assignments,
//! then units without a host, then global units). Must never decide anything itself: `reconcile_unit` and `place` do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::cluster::Versioned;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::unit::{Assignment, Placement, Taken, Tried};

use super::super::fit::View;
use super::decision::{Departure, Host, Plan, Report};
use super::dirty::Rescan;
use super::pending::PendingWrites;
use super::reasons::InfeasibleCache;
use super::{Scheduler, roster};

/// A round in progress.
pub(super) struct Round<'a> {
    pub(super) scheduler: &'a mut Scheduler,
    pub(super) pending: PendingWrites,
    pub(super) infeasible: InfeasibleCache,
    pub(super) now: u64,
    pub(super) report: Report,
    pub(super) unplaced: BTreeMap<UnitName, Unplaced>,
    /// The same in the order of their priorities, if any unit has one; also some that are placed by now.
    first: BTreeSet<(Reverse<i32>, UnitName)>,
    /// Global units, and the hosts where they may have to be.
    unspread: BTreeSet<(UnitName, MachineId)>,
    /// Global units whose placement may be out of date.
    unsettled: BTreeMap<UnitName, Rescan>,
}

/// A unit without a host.
#[derive(Debug, Clone)]
pub(super) struct Unplaced {
    /// Which hosts to examine.
    pub(super) rescan: Rescan,
    /// The host that it just left, and why.
    pub(super) left: Option<(MachineId, Departure)>,
    /// The host that a drain took it from.
    pub(super) from: Option<Box<Taken>>,
    /// Where it has failed.
    pub(super) tried: Option<Box<Tried>>,
    /// The host that it was asked to move to, if it left for that.
    pub(super) to: Option<MachineId>,
}

impl Unplaced {
    /// One of which nothing else is known.
    pub(super) fn of(rescan: &Rescan) -> Self {
        Self { rescan: rescan.clone(), left: None, from: None, tried: None, to: None }
    }
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
            first: BTreeSet::new(),
            unspread: BTreeSet::new(),
            unsettled: BTreeMap::new(),
        }
    }

    /// Continues until nothing is dirty. Units leave before others are placed. Global units are placed last, as CoreOS
    /// fleet did, and like all arriving units evict nothing that they don't replace.
    pub(super) fn run(mut self) -> Plan {
        let dirty = self.scheduler.dirty.take_hosts();
        let held = roster::hold(self.scheduler, &dirty, self.now);
        loop {
            if let Some((unit, rescan)) = self.scheduler.dirty.next_unit() {
                self.reconcile_unit(&unit, rescan);
            } else if let Some(unit) = self.next_unplaced() {
                self.place(&unit);
            } else if let Some((unit, host)) = self.unspread.pop_first() {
                self.spread(&unit, &host);
            } else if let Some((unit, rescan)) = self.unsettled.pop_first() {
                self.settle(&unit, &rescan);
            } else {
                break;
            }
        }
        let histories = self.collect_histories();
        let files = self.collect_files();
        let decisions = self.pending.finish(Arc::make_mut(&mut self.scheduler.cluster), &self.scheduler.index);
        let hosts = roster::reconcile(self.scheduler.cluster_mut(), dirty, held, &decisions, self.now);
        self.report.waiting = self.scheduler.index.waiting.len();
        Plan { decisions, hosts, histories, files, report: self.report }
    }

    /// The unit to place next: the one with the highest `Priority=`, or else the first by name.
    fn next_unplaced(&mut self) -> Option<UnitName> {
        let priorities = &self.scheduler.index.priorities;
        if priorities.is_empty() {
            return self.unplaced.keys().next().cloned();
        }
        while let Some((_, unit)) = self.first.first() {
            if self.unplaced.contains_key(unit) {
                return Some(unit.clone());
            }
            self.first.pop_first();
        }
        None
    }

    pub(super) fn constraints(&self, unit: &UnitName) -> Option<Arc<Constraints>> {
        self.scheduler.view().constraints(unit)
    }

    pub(super) fn host(&self, id: &MachineId) -> Host {
        Host { id: id.clone(), name: self.scheduler.cluster.hostname(id).map(str::to_owned) }
    }

    pub(super) fn queue_place(&mut self, unit: &UnitName, unplaced: Unplaced) {
        match self.unplaced.get_mut(unit) {
            Some(known) => {
                known.rescan.widen(unplaced.rescan);
                known.left = known.left.take().or(unplaced.left);
                known.from = known.from.take().or(unplaced.from);
                known.tried = known.tried.take().or(unplaced.tried);
                known.to = known.to.take().or(unplaced.to);
            }
            None => {
                self.unplaced.insert(unit.clone(), unplaced);
                let priorities = &self.scheduler.index.priorities;
                if !priorities.is_empty() {
                    let priority = priorities.get(unit).copied().unwrap_or_default();
                    self.first.insert((Reverse(priority), unit.clone()));
                }
            }
        }
    }

    pub(super) fn queue_spread(&mut self, unit: &UnitName, host: &MachineId) {
        self.unspread.insert((unit.clone(), host.clone()));
    }

    pub(super) fn queue_settle(&mut self, unit: &UnitName, rescan: Rescan) {
        match self.unsettled.get_mut(unit) {
            Some(known) => known.widen(rescan),
            None => drop(self.unsettled.insert(unit.clone(), rescan)),
        }
    }

    pub(super) fn set_assignment(&mut self, unit: &UnitName, host: &MachineId, assignment: Option<Assignment>) {
        let before = self.scheduler.assignment(host, unit).cloned();
        self.pending.assignment(unit, host, before);
        if assignment.is_none() {
            self.infeasible.clear();
        }
        let assignment = assignment.map(|value| Versioned { value, revision: Revision::default() });
        self.scheduler.set_assignment(host, unit, assignment);
    }

    pub(super) fn set_placement(&mut self, unit: &UnitName, placement: Option<Placement>) {
        let known = self.scheduler.cluster.placements.get(unit);
        if known.map(|known| &known.value) == placement.as_ref() {
            return;
        }
        self.pending.placement(unit, known.cloned());
        self.scheduler.touch(unit, None);
        self.scheduler.index.placement_changed(unit, placement.as_ref());
        let placements = &mut self.scheduler.cluster_mut().placements;
        match placement {
            Some(value) => drop(placements.insert(unit.clone(), Versioned { value, revision: Revision::default() })),
            None => drop(placements.remove(unit)),
        }
        self.scheduler.move_changed(unit);
    }

    /// The earlier texts of units that are kept no longer. The texts are files that nothing refers to then.
    fn collect_histories(&mut self) -> Vec<(UnitName, Revision)> {
        let (scheduler, now) = (&mut *self.scheduler, self.now);
        let mut over = Vec::new();
        for name in scheduler.dirty.take_histories() {
            let kept = scheduler.cluster.histories.get(&name);
            let kept = kept.filter(|kept| kept.value.is_over(now) && !scheduler.cluster.units.contains_key(&name));
            let Some(revision) = kept.map(|kept| kept.revision) else { continue };
            scheduler.set_history(name.clone(), None);
            over.push((name, revision));
        }
        over
    }

    /// Files that nothing refers to any more.
    fn collect_files(&mut self) -> Vec<(UnitHash, Revision)> {
        let hashes = self.scheduler.dirty.take_files();
        let unused = hashes.into_iter().filter(|hash| !self.scheduler.index.is_referred_to(hash)).collect::<Vec<_>>();
        let cluster = self.scheduler.cluster_mut();
        unused.into_iter().filter_map(|hash| cluster.files.remove(&hash).map(|file| (hash, file.revision))).collect()
    }
}
