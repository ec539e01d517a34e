//! Tries changes on a copy of the cluster: the real scheduler decides, and hosts stop at once what is to leave them.
//! Owns that afterwards the copy is as it was before. Must never decide what to try.

use std::sync::Arc;

use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::format::ReportKeyForm;
use crate::model::machine::Machine;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Target, UnitReport};

use super::schedule::{Departure, Plan, Scheduler};

/// How often the leader decides and hosts carry that out before the first change is tried.
const ROUNDS: usize = 6;

/// A copy on which changes are tried.
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
        trial.keep();
        trial
    }

    /// What was tried since is what later changes are tried on.
    pub(super) fn keep(&mut self) {
        self.changed.clear();
        self.base = self.scheduler.snapshot();
    }

    /// What was tried since, in order.
    pub(super) fn changed(&self) -> Vec<Change> {
        self.changed.clone()
    }

    /// What was [kept](Self::keep) is to be taken back as well: it had changed `base` in this order.
    pub(super) fn go_back_to(&mut self, base: Arc<Cluster>, changed: Vec<Change>) {
        (self.base, self.changed) = (base, changed);
    }

    pub(super) fn scheduler(&self) -> &Scheduler {
        self.scheduler
    }

    pub(super) fn cluster(&self) -> &Cluster {
        self.scheduler.cluster()
    }

    /// The cluster as it is between two attempts.
    pub(super) fn base(&self) -> &Arc<Cluster> {
        &self.base
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn placed_on(&self, unit: &UnitName) -> Option<MachineId> {
        self.scheduler.cluster().placed_on(unit).cloned()
    }

    /// A unit is to leave the host that it is on.
    pub(super) fn send_away(&mut self, unit: &UnitName, why: Departure) {
        self.scheduler.send_away(unit.clone(), why);
    }

    /// Something changes.
    pub(super) fn tell(&mut self, changes: impl IntoIterator<Item = Change>) {
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

    /// The leader decides and hosts stop what is to leave them, until nothing is left to do, and at most so many times.
    /// `see` is shown each plan. Returns whether it came to an end.
    pub(super) fn go_on(&mut self, rounds: usize, mut see: impl FnMut(&Cluster, &Plan)) -> bool {
        for _ in 0..rounds {
            let plan = self.plan();
            let cluster = self.scheduler.cluster();
            see(cluster, &plan);
            let gone = plan
                .decisions
                .iter()
                .flat_map(|decision| decision.assignments.iter().map(move |(host, _)| (host, &decision.unit)));
            let stopped: Vec<Change> = gone.filter_map(|(host, unit)| stopped(cluster, host, unit)).collect();
            if stopped.is_empty() {
                return true;
            }
            self.tell(stopped);
        }
        false
    }

    /// What all hosts report when they have stopped what is to leave them.
    fn stopped(&self) -> Vec<Change> {
        let cluster = self.scheduler.cluster();
        let all = cluster.schedule.iter().flat_map(|(host, there)| there.keys().map(move |unit| (host, unit)));
        all.filter_map(|(host, unit)| stopped(cluster, host, unit)).collect()
    }

    /// Undo all changes since the last attempt, the last first.
    pub(super) fn take_back(&mut self) {
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
pub(super) fn another(cluster: &Cluster, like: &MachineId) -> Option<Change> {
    let machine = cluster.machines.get(like)?;
    let ids = (0..=u16::MAX).rev().filter_map(|at| format!("{}{at:04x}", "f".repeat(28)).parse::<MachineId>().ok());
    let is_free = |id: &MachineId| !cluster.machines.contains_key(id) && !cluster.roster.contains_key(id);
    let id = ids.into_iter().find(is_free)?;
    let new = Machine::new(id.clone(), format!("another {}", machine.hostname));
    let (metadata, builtin) = (cluster.effective_metadata(like), machine.builtin.clone());
    let machine = Machine { metadata, builtin, reserved: machine.reserved, version: machine.version.clone(), ..new };
    Some(Change::Machine(id, Some(machine)))
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
        // Nobody tries to change them.
        Change::Settings(_) => change,
    }
}
