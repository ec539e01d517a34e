//! Tries fixes on a copy of the cluster: the real scheduler decides, and hosts stop at once what is to leave them. Owns
//! that afterwards the copy is as it was before. Must never decide what to try.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::format::ReportKeyForm;
use crate::model::machine::Machine;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Assignment, Desired, Target, Unit, UnitReport};

use super::super::schedule::{Departure, Host, Plan, Scheduler, Write};
use super::candidates::{Candidate, constraints};
use super::{Remedy, Step};

/// How often the leader decides and hosts carry that out before a fix counts as none.
const ROUNDS: usize = 6;

/// A copy on which fixes are tried.
pub(super) struct Trial<'a> {
    scheduler: &'a mut Scheduler,
    /// The cluster as it is between two attempts.
    base: Arc<Cluster>,
    now: u64,
    /// What was changed since, in order.
    changed: Vec<Change>,
}

impl<'a> Trial<'a> {
    /// On what there is once everything is decided that is about to be, and hosts have stopped what leaves them.
    pub(super) fn settled(scheduler: &'a mut Scheduler, now: u64) -> Self {
        let base = Arc::new(Cluster::default());
        let mut trial = Self { scheduler, base, now, changed: Vec::new() };
        for _ in 0..ROUNDS {
            let stopped = trial.stopped();
            if !trial.scheduler.is_dirty() && stopped.is_empty() {
                break;
            }
            trial.tell(stopped);
            if trial.scheduler.is_dirty() {
                drop(trial.plan());
            }
        }
        trial.changed.clear();
        trial.base = trial.scheduler.snapshot();
        trial
    }

    pub(super) fn scheduler(&self) -> &Scheduler {
        self.scheduler
    }

    pub(super) fn placed_on(&self, unit: &UnitName) -> Option<MachineId> {
        self.scheduler.cluster().placed_on(unit).cloned()
    }

    /// Whether these steps place `unit`, one after the other, and where. Afterwards everything is as it was.
    pub(super) fn attempt(&mut self, unit: &UnitName, steps: Vec<Step>, candidate: &Candidate) -> Option<Remedy> {
        let (mut new, mut moved, mut can_move) = (None, BTreeSet::new(), true);
        let (mut touched, mut left) = (BTreeSet::new(), BTreeSet::new());
        for step in &steps {
            let changes = self.changes(step, candidate);
            new = new.or_else(|| changes.iter().find_map(joined));
            self.tell(changes);
            if let Step::Move { unit, to } = step {
                can_move &= self.scheduler.fits_on(std::slice::from_ref(unit), to);
                let name = self.scheduler.cluster().hostname(to).map(str::to_owned);
                self.scheduler.send_away(unit.clone(), Departure::Moves { to: Host { id: to.clone(), name } });
                moved.insert(unit.clone());
            }
            let (then, gone) = self.go_on();
            touched.extend(then);
            left.extend(gone);
        }
        let is_placed = |name: &UnitName| self.placed_on(name).is_some();
        let is_harmed = |name: &UnitName| {
            let before = self.base.placed_on(name).filter(|_| !moved.contains(name));
            before.is_some() && before != self.scheduler.cluster().placed_on(name)
        };
        let is_harmless = can_move && left.is_subset(&moved) && !touched.iter().any(is_harmed);
        let host = self.placed_on(unit).filter(|_| is_harmless && moved.iter().all(is_placed));
        self.take_back();
        let host = host?;
        Some(Remedy { steps, host: Some(host).filter(|host| new.as_ref() != Some(host)) })
    }

    /// What a person's step changes.
    fn changes(&self, step: &Step, candidate: &Candidate) -> Vec<Change> {
        let cluster = self.scheduler.cluster();
        let revision = cluster.revision.next();
        let record =
            |unit: &UnitName| cluster.units.get(unit).map(|record| Unit { generation: revision, ..record.clone() });
        match step {
            Step::Move { .. } => Vec::new(),
            Step::Start(unit) => {
                let record = record(unit).map(|record| Unit { desired: Desired::Launched, ..record });
                vec![Change::Unit(unit.clone(), record)]
            }
            Step::Open { host, .. } => {
                let asked = cluster.maintenance.get(host).cloned().map(|mut asked| {
                    (asked.value.cordon, asked.value.drain) = (None, None);
                    asked
                });
                vec![Change::Maintenance(host.clone(), asked.filter(|asked| !asked.value.is_empty()))]
            }
            Step::Metadata { host, set, unset } => {
                let set = set.iter().map(|(key, value)| (key.clone(), value.clone()));
                let unset = unset.iter().map(|key| (key.clone(), String::new()));
                set.chain(unset).map(|(key, value)| Change::Metadata(host.clone(), key, Some(value))).collect()
            }
            Step::Drop { units, .. } => {
                let Some((file, value)) = candidate.file().and_then(|file| Some((file, constraints(file)?))) else {
                    return Vec::new();
                };
                let renewed = |unit: &UnitName| {
                    let record = Unit { hash: file.hash(), text: None, ..record(unit)? };
                    Some(Change::Unit(unit.clone(), Some(record)))
                };
                let new = Change::File(file.hash(), Some(Versioned { value, revision }));
                std::iter::once(new).chain(units.iter().filter_map(renewed)).collect()
            }
            Step::Join { like } => another(cluster, like).into_iter().collect(),
        }
    }

    fn tell(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.changed.push(change.clone());
            self.scheduler.apply(change);
        }
    }

    /// The leader decides.
    fn plan(&mut self) -> Plan {
        let next = self.scheduler.cluster().revision.next();
        self.scheduler.advance(next);
        let plan = self.scheduler.plan(self.now);
        self.changed.extend(plan.decisions.iter().flat_map(|decision| decision.changes(next)));
        self.changed.extend(plan.hosts.iter().map(|decision| decision.change(next)));
        // What nothing refers to any more is forgotten at once.
        self.changed.extend(plan.histories.iter().map(|(name, _)| Change::History(name.clone(), None)));
        self.changed.extend(plan.files.iter().map(|(hash, _)| Change::File(hash.clone(), None)));
        plan
    }

    /// The leader decides and hosts stop what is to leave them, until nothing is left to do. Returns the units about
    /// which anything was decided, and those that were told to leave a host.
    fn go_on(&mut self) -> (BTreeSet<UnitName>, BTreeSet<UnitName>) {
        let (mut touched, mut left) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..ROUNDS {
            let plan = self.plan();
            touched.extend(plan.decisions.iter().map(|decision| decision.unit.clone()));
            let leaves = |write: &Write<Assignment>| {
                write.after.as_ref().is_some_and(|assignment| assignment.target == Target::Removed)
            };
            let leaving = plan.decisions.iter().filter(|it| it.assignments.iter().any(|(_, write)| leaves(write)));
            left.extend(leaving.map(|decision| decision.unit.clone()));
            let cluster = self.scheduler.cluster();
            let gone = plan
                .decisions
                .iter()
                .flat_map(|decision| decision.assignments.iter().map(move |(host, _)| (host, &decision.unit)));
            let stopped: Vec<Change> = gone.filter_map(|(host, unit)| stopped(cluster, host, unit)).collect();
            if stopped.is_empty() {
                break;
            }
            self.tell(stopped);
        }
        (touched, left)
    }

    /// What all hosts report when they have stopped what is to leave them.
    fn stopped(&self) -> Vec<Change> {
        let cluster = self.scheduler.cluster();
        let all = cluster.schedule.iter().flat_map(|(host, there)| there.keys().map(move |unit| (host, unit)));
        all.filter_map(|(host, unit)| stopped(cluster, host, unit)).collect()
    }

    /// Undo all changes since the last attempt, the last first.
    fn take_back(&mut self) {
        for change in std::mem::take(&mut self.changed).into_iter().rev() {
            if let Change::Report(unit, host, form, Some(_)) = &change {
                // One that was written earlier wouldn't count.
                self.scheduler.apply(Change::Report(unit.clone(), host.clone(), *form, None));
            }
            self.scheduler.apply(as_before(&self.base, change));
        }
    }
}

/// What a host reports when it has stopped a unit that is to leave it.
fn stopped(cluster: &Cluster, host: &MachineId, unit: &UnitName) -> Option<Change> {
    let assignment = &cluster.schedule.get(host)?.get(unit)?.value;
    let is_told = assignment.target == Target::Removed && cluster.machines.contains_key(host);
    let known = cluster.states.get(unit).and_then(|states| states.get(host));
    let is_done = |report: &UnitReport| report.target == Target::Removed && report.generation == assignment.generation;
    if !is_told || known.is_some_and(|known| is_done(&known.value)) {
        return None;
    }
    let form = known.map_or(ReportKeyForm::HostFirst, |known| known.form);
    let revision = known.map(|known| known.revision).unwrap_or_default();
    let report = Versioned { value: UnitReport::of(assignment), revision };
    Some(Change::Report(unit.clone(), host.clone(), form, Some(report)))
}

/// Another host like this one, with an id that no host has.
fn another(cluster: &Cluster, like: &MachineId) -> Option<Change> {
    let machine = cluster.machines.get(like)?;
    let ids = (0..=u16::MAX).rev().filter_map(|at| format!("{}{at:04x}", "f".repeat(28)).parse::<MachineId>().ok());
    let is_free = |id: &MachineId| !cluster.machines.contains_key(id) && !cluster.roster.contains_key(id);
    let id = ids.into_iter().find(is_free)?;
    let new = Machine::new(id.clone(), format!("another {}", machine.hostname));
    let (metadata, builtin) = (cluster.effective_metadata(like), machine.builtin.clone());
    let machine = Machine { metadata, builtin, reserved: machine.reserved, version: machine.version.clone(), ..new };
    Some(Change::Machine(id, Some(machine)))
}

/// The host that a change adds.
fn joined(change: &Change) -> Option<MachineId> {
    match change {
        Change::Machine(id, Some(_)) => Some(id.clone()),
        _ => None,
    }
}

/// The change that brings back what `cluster` has in the place of this one.
fn as_before(cluster: &Cluster, change: Change) -> Change {
    match change {
        Change::Unit(name, _) => Change::Unit(name.clone(), cluster.units.get(&name).cloned()),
        Change::File(hash, _) => Change::File(hash.clone(), cluster.files.get(&hash).cloned()),
        Change::History(name, _) => Change::History(name.clone(), cluster.histories.get(&name).cloned()),
        Change::Machine(id, _) => Change::Machine(id.clone(), cluster.machines.get(&id).cloned()),
        Change::Roster(id, _) => Change::Roster(id.clone(), cluster.roster.get(&id).cloned()),
        Change::Metadata(id, key, _) => {
            let value = cluster.metadata.get(&id).and_then(|metadata| metadata.get(&key)).cloned();
            Change::Metadata(id, key, value)
        }
        Change::Maintenance(id, _) => Change::Maintenance(id.clone(), cluster.maintenance.get(&id).cloned()),
        Change::Gate(name, _) => Change::Gate(name.clone(), cluster.gates.get(&name).cloned()),
        Change::Rollout(name, _) => Change::Rollout(name.clone(), cluster.rollouts.get(&name).cloned()),
        Change::Placement(name, _) => Change::Placement(name.clone(), cluster.placements.get(&name).cloned()),
        Change::Assignment(host, name, _) => {
            let value = cluster.schedule.get(&host).and_then(|there| there.get(&name)).cloned();
            Change::Assignment(host, name, value)
        }
        Change::Report(name, host, form, _) => {
            let known = cluster.states.get(&name).and_then(|states| states.get(&host));
            let form = known.map_or(form, |known| known.form);
            let known = known.map(|known| Versioned { value: known.value.clone(), revision: known.revision });
            Change::Report(name, host, form, known)
        }
        // No fix changes them.
        Change::Settings(_) => change,
    }
}
