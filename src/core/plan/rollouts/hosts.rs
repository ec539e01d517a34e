//! Global units: their hosts are let through, and go back, one by one. Owns what their gates say after each step. Must
//! never decide which host is next (`pace` does).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::rollout::hosts::HeldFile;
use crate::model::rollout::{File, Gate, Phase};
use crate::model::unit::Unit;

use super::super::gate::hosts::{all_of, in_phase, is_launched_on, with};
use super::super::gate::next_generation;
use super::super::schedule::Scheduler;
use super::{GateEvent, Rollouts};

impl Rollouts {
    /// The members that something has happened to, here or in the scheduler, are no longer as they were found.
    pub(super) fn heed_changes(&mut self, scheduler: &mut Scheduler) {
        for (name, host) in scheduler.take_touched() {
            self.kept.values_mut().for_each(|members| members.touch(&name, host.as_ref()));
            let cluster = scheduler.cluster();
            let is_bare = |host: &MachineId| !is_launched_on(cluster, &name, host);
            let has_failed = || gate_and_phase(cluster, &name).is_some_and(|(_, phase)| phase.is_over());
            let bare = host.filter(is_bare).filter(|_| has_failed());
            self.bare.extend(bare.map(|host| (name, host)));
        }
    }

    /// Hosts have lost a unit whose rollout has failed, which isn't looked at any more: when they get the unit again,
    /// they get the file of all others, whichever file they had.
    pub(super) fn see_bare_hosts(&mut self, scheduler: &mut Scheduler) {
        self.heed_changes(scheduler);
        let mut bare: BTreeMap<UnitName, BTreeSet<MachineId>> = BTreeMap::new();
        for (name, host) in std::mem::take(&mut self.bare) {
            bare.entry(name).or_default().insert(host);
        }
        for (name, hosts) in bare {
            let cluster = scheduler.cluster();
            let gate = gate_and_phase(cluster, &name);
            let gate = gate.and_then(|(gate, phase)| in_phase(cluster, &name, gate, phase, &hosts));
            if gate.is_some() {
                self.set_gate(scheduler, &name, gate, GateEvent::HostsSeen);
            }
        }
    }

    /// Hosts may have joined, or lost the unit, since the rollout `name` was looked at.
    pub(super) fn see_hosts(&mut self, scheduler: &mut Scheduler, name: &UnitName) {
        self.heed_changes(scheduler);
        let cluster = scheduler.cluster();
        let Some((gate, phase)) = gate_and_phase(cluster, name) else { return };
        let changed = self.kept.get_mut(name).and_then(|members| members.unseen(phase));
        let these = changed.as_ref().map_or_else(|| all_of(cluster, gate), |hosts| hosts.iter().collect());
        self.examined += these.len();
        if let Some(gate) = in_phase(cluster, name, gate, phase, these) {
            self.set_gate(scheduler, name, Some(gate), GateEvent::HostsSeen);
        }
    }

    /// These hosts get the file of the unit's record.
    pub(super) fn let_hosts_through(&mut self, scheduler: &mut Scheduler, name: &UnitName, hosts: Vec<&MachineId>) {
        let through = hosts.into_iter().map(|host| (host.clone(), None));
        self.change_hosts(scheduler, name, through.collect(), GateEvent::LetThrough);
    }

    /// These hosts get the file `before` again, which the record `subject` of the unit doesn't name.
    pub(super) fn take_hosts_back(
        &mut self,
        scheduler: &mut Scheduler,
        (name, subject): (&UnitName, &Unit),
        before: &File,
        hosts: Vec<&MachineId>,
    ) {
        let cluster = scheduler.cluster();
        let back = |host: &MachineId| {
            let assignment = cluster.schedule.get(host).and_then(|assignments| assignments.get(name));
            let had = assignment.map(|assignment| assignment.value.generation);
            before.held(next_generation(cluster, Some(subject), had), subject.restart)
        };
        let back = hosts.into_iter().map(|host| (host.clone(), Some(back(host))));
        self.change_hosts(scheduler, name, back.collect(), GateEvent::TakenBack);
    }

    fn change_hosts(
        &mut self,
        scheduler: &mut Scheduler,
        name: &UnitName,
        these: Vec<(MachineId, Option<HeldFile>)>,
        why: GateEvent,
    ) {
        let gate: Option<&Gate> = scheduler.cluster().gates.get(name).map(|gate| &gate.value);
        let gate = gate.filter(|_| !these.is_empty()).map(|gate| with(gate, these));
        if gate.is_some() {
            self.set_gate(scheduler, name, gate, why);
        }
    }
}

/// The gate that holds back hosts of a global unit, and the phase of the rollout to its file.
fn gate_and_phase<'a>(cluster: &'a Cluster, name: &UnitName) -> Option<(&'a Gate, Phase)> {
    let gate = cluster.gates.get(name).map(|gate| &gate.value).filter(|gate| gate.is_by_host())?;
    let rollout = cluster.rollouts.get(name).map(|rollout| &rollout.value);
    rollout.filter(|rollout| rollout.target == gate.target).map(|rollout| (gate, rollout.phase))
}
