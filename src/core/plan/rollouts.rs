//! The leader's rollouts, between the units as they are requested and the scheduler. Owns which record of a unit the
//! scheduler sees, which rollouts have to be looked at, and what becomes of their records. Must never decide who is let
//! through (`pace` does), nor where a unit runs (`schedule` does).
//!
//! ```text
//!  Change --> apply --> records that changed, rollouts that something happened to
//!                             |
//!                             v
//!  step: close gates --> advance rollouts --> let through, take back --> the scheduler sees the units
//! ```
//!
//! What a step decides is in the scheduler's cluster at once, and is committed with the plan that follows it.
//! Everything follows from the store, except for durations: a new leader begins to count anew.

mod draft;
mod hooks;
mod hosts;
mod look;
mod member;
mod membership;
mod riding;
mod spares;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::rollout::{Gate, Phase, Rollout};
use crate::model::unit::{Desired, Unit};

use super::gate::riding::lead_of;
use super::gate::{self, instances, is_spare, launched, rollout_of};
use super::schedule::Scheduler;
use draft::Draft;
pub use draft::{GateEvent, GateWrite, RolloutWrite, Writes};
pub(in crate::plan) use member::unit as member_of;
use membership::Membership;

/// The rollouts, and the units behind gates.
#[derive(Debug, Clone, Default)]
pub struct Rollouts {
    /// Records that the scheduler hasn't seen.
    incoming: BTreeMap<UnitName, Unit>,
    /// The records of the units behind gates, as they were requested.
    asked: BTreeMap<UnitName, Unit>,
    /// Units whose files weren't known when it was decided whether they need gates.
    unknown: BTreeSet<UnitName>,
    /// Units that were started, or are new: before their rollout reaches everybody, they get the file before.
    fresh: BTreeSet<UnitName>,
    /// Units and sets about whose records nothing is known.
    unreadable: BTreeSet<UnitName>,
    /// Rollouts whose records were damaged.
    damaged: BTreeSet<UnitName>,
    /// Units that run as hooks.
    hooks: BTreeSet<UnitName>,
    /// Rollouts that aren't over.
    active: BTreeSet<UnitName>,
    /// How many rollouts are in each phase.
    phases: BTreeMap<Phase, usize>,
    /// Rollouts to look at.
    dirty: BTreeSet<UnitName>,
    /// Hosts without a unit whose rollout has failed, which the gate of the unit has yet to be compared with.
    bare: BTreeSet<(UnitName, MachineId)>,
    /// What the rollouts of riders had come to that take part in those of their leads from this step on.
    joined: BTreeMap<UnitName, Rollout>,
    /// The members of rollouts that aren't over, once they were looked at.
    kept: BTreeMap<UnitName, Membership>,
    /// When to look at a rollout although nothing has happened.
    wakes: BTreeMap<UnitName, u64>,
    draft: Draft,
    /// How many members were examined since the beginning, each as often as it was.
    examined: usize,
}

impl Rollouts {
    /// The rollouts of a cluster as a store has it. The cluster then has the units as they are scheduled. Nothing is
    /// known of `unreadable` units and of `damaged` rollouts, which exist nevertheless.
    #[must_use]
    pub fn of(cluster: &mut Cluster, unreadable: BTreeSet<UnitName>, damaged: BTreeSet<UnitName>) -> Self {
        let mut rollouts = Self { unreadable, damaged, ..Self::default() };
        rollouts.drop_left_over(cluster);
        gate::add_spares(cluster);
        for (name, gate) in &cluster.gates {
            if gate.value.spare {
                rollouts.dirty.insert(gate.value.rollout.clone());
                continue;
            }
            let Some(unit) = cluster.units.get_mut(name) else { continue };
            if gate.value.hook {
                rollouts.hooks.insert(name.clone());
            }
            let behind = unit.behind(&gate.value);
            let asked = std::mem::replace(unit, behind);
            let is_moved = gate::moved(cluster, name, &asked, &gate.value).is_some();
            if asked.hash != gate.value.target || is_moved {
                // It was asked for yet another file while nobody led, or belongs to another rollout since then.
                rollouts.incoming.insert(name.clone(), asked.clone());
            }
            rollouts.asked.insert(name.clone(), asked);
            rollouts.dirty.insert(gate.value.rollout.clone());
        }
        for (name, rollout) in &cluster.rollouts {
            rollouts.dirty.insert(name.clone());
            *rollouts.phases.entry(rollout.value.phase).or_default() += 1;
            if !rollout.value.phase.is_over() {
                rollouts.active.insert(name.clone());
            }
        }
        let all = cluster.schedule.values().flat_map(BTreeMap::iter);
        for (name, assignment) in all.filter(|(name, _)| !cluster.gates.contains_key(*name)) {
            let unit = cluster.units.get(name).filter(|unit| unit.hash != assignment.value.hash);
            rollouts.incoming.extend(unit.map(|unit| (name.clone(), unit.clone())));
        }
        let riders = cluster.rollouts.values().flat_map(|rollout| rollout.value.riders.keys());
        let templates = cluster.rollouts.keys().filter(|name| name.is_template());
        let ungated = templates
            .chain(riders)
            .flat_map(|template| instances(cluster, template))
            .filter(|name| !cluster.gates.contains_key(*name) && launched(cluster, name).is_none());
        rollouts.fresh = ungated.cloned().collect();
        rollouts
    }

    /// Gates of units that don't exist any more, or that a leader which didn't know gates has let through; and of
    /// spares in whose place a unit was submitted.
    fn drop_left_over(&mut self, cluster: &mut Cluster) {
        let is_left = |name: &UnitName, gate: &Gate| match cluster.units.get(name) {
            Some(unit) => gate.spare || gate::is_left_over(cluster, name, unit, gate),
            None => gate.spare == self.unreadable.contains(name),
        };
        let left = cluster.gates.iter().filter(|(name, gate)| is_left(name, &gate.value));
        for name in left.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            let gate = cluster.gates.remove(&name);
            self.draft.gate(&name, gate, None, GateEvent::Opened);
        }
        for (name, gate) in cluster.gates.clone().into_iter().filter(|(_, gate)| gate.value.is_by_host()) {
            let Some(record) = cluster.units.get(&name) else { continue };
            let value = gate::hosts::caught_up(cluster, &name, record, &gate.value);
            if value != gate.value {
                self.draft.gate(&name, Some(gate), Some(&value), GateEvent::HostsSeen);
                let gate = Versioned { value, revision: Revision::default() };
                cluster.apply(Change::Gate(name, Some(gate)));
            }
        }
    }

    /// Keep the files that only units behind gates and rollouts refer to.
    pub fn hold_files(&self, scheduler: &mut Scheduler) {
        let files = self.asked.values().flat_map(files_of_unit).cloned();
        let from = scheduler.cluster().rollouts.values().flat_map(|rollout| files_of(&rollout.value)).cloned();
        let all: Vec<UnitHash> = files.chain(from).collect();
        scheduler.hold(&[], &all.iter().collect::<Vec<_>>());
    }

    /// Whether [`Self::step`] has anything to do at `now`, in ms since the epoch.
    #[must_use]
    pub fn is_dirty(&self, now: u64) -> bool {
        let idle = self.incoming.is_empty() && self.dirty.is_empty() && self.bare.is_empty() && self.draft.is_empty();
        !idle || self.due().is_some_and(|due| due <= now)
    }

    /// When there is something to do although nothing has happened, in ms since the epoch.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        self.wakes.values().min().copied()
    }

    /// Whether how much time passes may matter: members that were let through just now have yet to be looked at.
    #[must_use]
    pub fn is_timing(&self) -> bool {
        let goes_on = |phase: &Phase| !matches!(phase, Phase::Waiting | Phase::Paused) && !phase.is_over();
        self.due().is_some() || self.phases.iter().any(|(phase, count)| *count > 0 && goes_on(phase))
    }

    /// How many rollouts are in this phase, those that are over included.
    #[must_use]
    pub fn count(&self, phase: Phase) -> usize {
        self.phases.get(&phase).copied().unwrap_or_default()
    }

    /// How many members were examined since the beginning, each as often as it was: what the looks have cost. Those of
    /// a rollout that goes on are examined when something has happened to them, or their time has come.
    #[must_use]
    pub fn examined(&self) -> usize {
        self.examined
    }

    /// What is known of the members of rollouts and isn't so, each as a sentence. Empty while there is anything to do,
    /// and always unless there is a bug.
    #[must_use]
    pub fn check_itself(&mut self, scheduler: &mut Scheduler, now: u64) -> Vec<String> {
        if self.is_dirty(now) {
            return Vec::new();
        }
        self.heed_changes(scheduler);
        let kept = self.kept.iter();
        kept.filter_map(|(name, members)| members.fault(self, scheduler.cluster(), name)).collect()
    }

    /// Take in a change that the store reported. Everything but units, gates and rollouts goes to the scheduler.
    pub fn apply(&mut self, scheduler: &mut Scheduler, change: Change) {
        match change {
            Change::Unit(name, Some(unit)) => drop(self.incoming.insert(name, unit)),
            Change::Unit(name, None) => self.destroyed(scheduler, name),
            Change::Gate(name, gate) => self.gate_written(scheduler, name, gate),
            Change::Rollout(name, rollout) => {
                let known = scheduler.cluster().rollouts.get(&name).map(|known| &known.value);
                if known != rollout.as_ref().map(|rollout| &rollout.value) {
                    self.dirty.insert(name.clone());
                }
                self.keep(scheduler, &name, rollout);
            }
            Change::File(hash, file) => {
                self.kept.values_mut().for_each(|members| members.file_changed(&hash));
                scheduler.apply(Change::File(hash, file));
                for name in std::mem::take(&mut self.unknown) {
                    self.again(scheduler.cluster(), &name);
                }
            }
            Change::Machine(id, machine) => {
                if scheduler.cluster().machines.contains_key(&id) != machine.is_some() {
                    self.dirty.extend(self.active.iter().cloned());
                }
                self.kept.values_mut().for_each(|members| members.host_changed(&id));
                scheduler.apply(Change::Machine(id, machine));
            }
            Change::Report(name, host, form, report) => {
                self.happened_to(scheduler.cluster(), &name);
                scheduler.apply(Change::Report(name, host, form, report));
            }
            Change::Assignment(host, name, assignment) => {
                self.happened_to(scheduler.cluster(), &name);
                scheduler.apply(Change::Assignment(host, name, assignment));
            }
            Change::Placement(name, placement) => {
                self.happened_to(scheduler.cluster(), &name);
                scheduler.apply(Change::Placement(name, placement));
            }
            Change::Metadata(ref id, ..) => {
                self.kept.values_mut().for_each(|members| members.host_changed(id));
                scheduler.apply(change);
            }
            Change::History(..) | Change::Roster(..) | Change::Maintenance(..) | Change::Settings(..) => {
                scheduler.apply(change);
            }
        }
    }

    /// Bring everything up to date at `now`, in ms since the epoch: the scheduler's cluster is then as it will be when
    /// the returned writes are committed, each gate that is opened or taken back with what is planned for its unit.
    pub fn step(&mut self, scheduler: &mut Scheduler, now: u64) -> Writes {
        let incoming = std::mem::take(&mut self.incoming);
        // Whether a unit is a member follows from the record of its template.
        let (templates, units): (BTreeMap<_, _>, BTreeMap<_, _>) =
            incoming.into_iter().partition(|(name, _)| name.is_template());
        for (name, record) in templates.into_iter().chain(units) {
            self.asked_for(scheduler, name, record);
        }
        let due = self.wakes.iter().filter(|(_, wake)| **wake <= now).map(|(name, _)| name.clone());
        self.dirty.extend(due.collect::<Vec<_>>());
        self.see_bare_hosts(scheduler);
        loop {
            while let Some(name) = self.dirty.pop_first() {
                self.look(scheduler, &name, now);
            }
            if !self.end_hooks(scheduler) {
                break;
            }
        }
        self.fresh.clear();
        self.joined.clear();
        self.heed_changes(scheduler);
        self.draft.finish(scheduler)
    }

    /// Decide about a unit again.
    fn again(&mut self, cluster: &Cluster, name: &UnitName) {
        if !self.incoming.contains_key(name)
            && let Some(record) = self.record(cluster, name)
        {
            self.incoming.insert(name.clone(), record.clone());
        }
    }

    /// The record of a unit as it was requested; a spare has none.
    fn record<'a>(&'a self, cluster: &'a Cluster, name: &UnitName) -> Option<&'a Unit> {
        self.asked.get(name).or_else(|| cluster.units.get(name).filter(|_| !is_spare(cluster, name)))
    }

    /// A gate that this leader hasn't written makes its unit look different.
    fn gate_written(&mut self, scheduler: &mut Scheduler, name: UnitName, gate: Option<Versioned<Gate>>) {
        let cluster = scheduler.cluster();
        let known = cluster.gates.get(&name).map(|known| &known.value);
        let now = gate.as_ref().map(|gate| &gate.value);
        if known == now {
            return scheduler.apply(Change::Gate(name, gate));
        }
        let spares = [known, now].map(|gate| gate.filter(|gate| gate.spare));
        self.dirty.extend(spares.iter().flatten().map(|spare| spare.rollout.clone()));
        let is_spare = spares.iter().any(Option::is_some) && self.record(cluster, &name).is_none();
        let unit = spares[1].map(Unit::spare);
        self.again(cluster, &name);
        scheduler.apply(Change::Gate(name.clone(), gate));
        self.happened_to(scheduler.cluster(), &name);
        self.note_hook(scheduler.cluster(), &name);
        if is_spare {
            scheduler.apply(Change::Unit(name, unit));
        }
    }

    fn destroyed(&mut self, scheduler: &mut Scheduler, name: UnitName) {
        self.incoming.remove(&name);
        self.unreadable.remove(&name);
        if is_spare(scheduler.cluster(), &name) {
            // It had yet to take the place of the spare.
            return;
        }
        self.happened_to(scheduler.cluster(), &name);
        self.set_gate(scheduler, &name, None, GateEvent::Opened);
        if let Some(asked) = self.asked.remove(&name) {
            scheduler.hold(&files_of_unit(&asked).collect::<Vec<_>>(), &[]);
        }
        if !scheduler.cluster().rollouts.is_empty() {
            let cluster = scheduler.cluster();
            let rollouts = may_belong_to(cluster, &name).filter(|rollout| cluster.rollouts.contains_key(rollout));
            self.dirty.extend(rollouts);
        }
        scheduler.apply(Change::Unit(name, None));
    }

    /// A unit has this record now.
    fn asked_for(&mut self, scheduler: &mut Scheduler, name: UnitName, record: Unit) {
        self.unreadable.remove(&name);
        let cluster = scheduler.cluster();
        if name.is_template() {
            return self.template_asked_for(scheduler, name, record);
        }
        if !cluster.files.contains_key(&record.hash) {
            self.unknown.insert(name.clone());
        }
        let known = cluster.gates.get(&name).map(|gate| gate.value.rollout.clone());
        let gate = gate::needed(cluster, &name, &record);
        if !cluster.rollouts.is_empty() || gate.is_some() {
            let rollout = rollout_of(cluster, &name, &record);
            if gate.is_none() && record.desired == Desired::Launched && launched(cluster, &name).is_none() {
                self.fresh.insert(name.clone());
            }
            let own = cluster.rollouts.contains_key(&name).then(|| name.clone());
            self.dirty.extend(known.into_iter().chain(rollout).chain(own));
        }
        let why = match gate {
            Some(_) => GateEvent::Closed,
            None if is_spare(cluster, &name) => GateEvent::SpareTaken,
            None => GateEvent::Opened,
        };
        self.set_gate(scheduler, &name, gate, why);
        self.schedule(scheduler, &name, record);
    }

    /// A template has this record now. Its riders, or its lead, may take part in a rollout because of it, or no longer.
    fn template_asked_for(&mut self, scheduler: &mut Scheduler, name: UnitName, record: Unit) {
        let cluster = scheduler.cluster();
        let riders = cluster.units.get(&name).into_iter().chain([&record]).flat_map(Unit::riders);
        let related: BTreeSet<UnitName> = riders.chain([&name]).cloned().collect();
        if record.replicas.is_some() {
            if !cluster.files.contains_key(&record.hash) {
                self.unknown.insert(name.clone());
            }
            self.dirty.insert(name.clone());
        }
        self.dirty.extend(related.iter().filter(|template| cluster.rollouts.contains_key(*template)).cloned());
        self.dirty.extend(lead_of(cluster, &name).cloned());
        scheduler.apply(Change::Unit(name.clone(), Some(record)));
        self.dirty.extend(lead_of(scheduler.cluster(), &name).cloned());
        related.iter().for_each(|template| self.move_gates(scheduler, template));
    }

    /// The gates of the members of `template` belong to the rollout that brings these their files now.
    fn move_gates(&mut self, scheduler: &mut Scheduler, template: &UnitName) {
        let cluster = scheduler.cluster();
        let moved = |name: &UnitName| {
            let gate = &cluster.gates.get(name)?.value;
            Some((name.clone(), gate::moved(cluster, name, self.record(cluster, name)?, gate)?))
        };
        for (name, gate) in instances(cluster, template).filter_map(moved).collect::<Vec<_>>() {
            self.dirty.insert(gate.rollout.clone());
            self.set_gate(scheduler, &name, Some(gate), GateEvent::Closed);
        }
    }

    fn set_gate(&mut self, scheduler: &mut Scheduler, name: &UnitName, gate: Option<Gate>, why: GateEvent) {
        let known = scheduler.cluster().gates.get(name);
        if known.map(|known| &known.value) == gate.as_ref() {
            return;
        }
        self.draft.gate(name, known.cloned(), gate.as_ref(), why);
        let gate = gate.map(|value| Versioned { value, revision: Revision::default() });
        scheduler.apply(Change::Gate(name.clone(), gate));
        self.note_hook(scheduler.cluster(), name);
    }

    /// Let the scheduler see a unit with this record, behind its gate if it has one.
    fn schedule(&mut self, scheduler: &mut Scheduler, name: &UnitName, record: Unit) {
        let gate = scheduler.cluster().gates.get(name).map(|gate| &gate.value);
        let seen = gate.map(|gate| record.behind(gate));
        let before = match &seen {
            Some(_) => self.asked.insert(name.clone(), record.clone()),
            None => self.asked.remove(name),
        };
        if before.is_some() || seen.is_some() {
            let before: Vec<&UnitHash> = before.iter().flat_map(files_of_unit).collect();
            let after: Vec<&UnitHash> = seen.iter().flat_map(|_| files_of_unit(&record)).collect();
            scheduler.hold(&before, &after);
        }
        scheduler.apply(Change::Unit(name.clone(), Some(seen.unwrap_or(record))));
    }

    /// Open all gates of a rollout that `which` names, apart from those of hooks.
    fn open(&mut self, scheduler: &mut Scheduler, rollout: &UnitName, which: impl Fn(&UnitName, &Gate) -> bool) {
        let is_of = |gate: &Gate| gate.rollout == *rollout && !gate.hook;
        let gates = scheduler.cluster().gates.iter();
        let these = gates.filter(|(unit, gate)| is_of(&gate.value) && which(unit, &gate.value));
        for name in these.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            if is_spare(scheduler.cluster(), &name) {
                self.end_spare(scheduler, &name);
                continue;
            }
            self.set_gate(scheduler, &name, None, GateEvent::Opened);
            if let Some(record) = self.asked.get(&name).cloned() {
                self.schedule(scheduler, &name, record);
            }
        }
    }

    fn set_rollout(&mut self, scheduler: &mut Scheduler, name: &UnitName, rollout: Option<Rollout>) {
        let known = scheduler.cluster().rollouts.get(name);
        if known.map(|known| &known.value) != rollout.as_ref() {
            self.draft.rollout(name, known.cloned());
            let rollout = rollout.map(|value| Versioned { value, revision: Revision::default() });
            self.keep(scheduler, name, rollout);
        }
    }

    /// Have this record of a rollout, and the files that it refers to.
    fn keep(&mut self, scheduler: &mut Scheduler, name: &UnitName, rollout: Option<Versioned<Rollout>>) {
        if rollout.as_ref().is_some_and(|rollout| !rollout.value.phase.is_over()) {
            self.active.insert(name.clone());
        } else {
            self.active.remove(name);
            self.kept.remove(name);
            self.wakes.remove(name);
        }
        let known = scheduler.cluster().rollouts.get(name).map(|known| known.value.clone());
        if let Some(count) = known.as_ref().and_then(|known| self.phases.get_mut(&known.phase)) {
            *count -= 1;
        }
        if let Some(rollout) = &rollout {
            *self.phases.entry(rollout.value.phase).or_default() += 1;
        }
        let before: Vec<&UnitHash> = known.iter().flat_map(files_of).collect();
        let after: Vec<&UnitHash> = rollout.iter().flat_map(|rollout| files_of(&rollout.value)).collect();
        scheduler.hold(&before, &after);
        scheduler.apply(Change::Rollout(name.clone(), rollout));
    }
}

/// The keys of the files that a unit's record refers to.
fn files_of_unit(unit: &Unit) -> impl Iterator<Item = &UnitHash> {
    std::iter::once(&unit.hash).chain(&unit.text)
}

/// The keys of the files that a rollout may need again.
fn files_of(rollout: &Rollout) -> impl Iterator<Item = &UnitHash> {
    let riders = rollout.riders.values().map(|rider| &rider.from);
    std::iter::once(&rollout.from).chain(riders).flat_map(|from| std::iter::once(&from.hash).chain(&from.text))
}

/// The rollouts that unit `name` may belong to: its own, that of its set, and that of the lead of this.
fn may_belong_to(cluster: &Cluster, name: &UnitName) -> impl Iterator<Item = UnitName> + use<> {
    let set = name.set();
    let lead = lead_of(cluster, set.as_ref().unwrap_or(name)).cloned();
    [Some(name.clone()), set, lead].into_iter().flatten()
}
