//! Which units a rebalance may move: those that run and are well, and that nothing else happens to. Owns what speaks
//! against moving a unit; must never compare hosts.

use std::collections::BTreeMap;

use super::super::fit::is_wanted;
use super::super::gate::instances;
use super::super::pace::MemberState;
use super::super::rollouts::member_of;
use super::super::schedule::Scheduler;
use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::unit::Target;

/// Knows which units may move.
pub(super) struct Movable<'a> {
    scheduler: &'a Scheduler,
    /// Whether nothing is wrong with a set, and no rollout of it is under way.
    calm: BTreeMap<UnitName, bool>,
}

impl<'a> Movable<'a> {
    pub(super) fn of(scheduler: &'a Scheduler) -> Self {
        Self { scheduler, calm: BTreeMap::new() }
    }

    /// Whether units that are on `home` together may move to another host.
    pub(super) fn may_move(&mut self, group: &[UnitName], home: &MachineId) -> bool {
        group.iter().all(|unit| self.may_leave(unit, home))
    }

    fn may_leave(&mut self, unit: &UnitName, home: &MachineId) -> bool {
        let cluster = self.scheduler.cluster();
        let Some(constraints) = cluster.constraints(unit).filter(|known| may_change_hosts(known)) else { return false };
        let told = cluster.schedule.get(home).and_then(|there| there.get(unit));
        let is_to_run = told.is_some_and(|told| told.value.target == Target::Launched) && is_wanted(cluster, unit);
        if !is_to_run || cluster.gates.contains_key(unit) || self.is_expected_elsewhere(unit) {
            return false;
        }
        let lead = constraints.replicas.as_ref().and_then(|replicas| replicas.lead());
        let alone = [Some(unit), lead].into_iter().flatten().all(|name| !rolls_out(cluster, name));
        let is_set = |set: &UnitName| cluster.units.get(set).is_some_and(|record| record.replicas.is_some());
        let is_calm = unit.set().filter(is_set).is_none_or(|set| self.is_calm(&set));
        alone && is_calm && member_of(cluster, unit).state == MemberState::Healthy
    }

    /// Whether it is to be on another host already, was there, or has failed somewhere.
    fn is_expected_elsewhere(&self, unit: &UnitName) -> bool {
        let cluster = self.scheduler.cluster();
        let placement = cluster.placements.get(unit).map(|known| &known.value);
        let taken = placement.and_then(|placement| placement.taken());
        let is_asked = cluster.units.get(unit).and_then(|record| record.moves.as_deref());
        is_asked.is_some_and(|asked| asked.is_open(placement))
            || taken.is_some_and(|taken| cluster.is_to_return(unit, taken))
            || cluster.tried(unit).is_some()
    }

    /// Whether all members of a set that have hosts are well, and no rollout of it is under way.
    fn is_calm(&mut self, set: &UnitName) -> bool {
        if let Some(known) = self.calm.get(set) {
            return *known;
        }
        let cluster = self.scheduler.cluster();
        let states =
            instances(cluster, set).filter(|name| name.number().is_some()).map(|name| member_of(cluster, name));
        let is_well = states.map(|member| member.state).all(|state| state.is_gone() || state == MemberState::Healthy);
        let is_calm = is_well && !rolls_out(cluster, set);
        self.calm.insert(set.clone(), is_calm);
        is_calm
    }
}

/// Whether what a unit's file says lets it be anywhere else, without anything else following from that.
fn may_change_hosts(constraints: &Constraints) -> bool {
    let is_bound = constraints.global || constraints.machine_id.is_some() || constraints.belongs_to_its_host();
    !is_bound && !constraints.run_once && constraints.replaces.is_empty()
}

/// Whether a rollout of a set or a unit is under way.
fn rolls_out(cluster: &Cluster, name: &UnitName) -> bool {
    cluster.rollouts.get(name).is_some_and(|rollout| !rollout.value.phase.is_over())
}
