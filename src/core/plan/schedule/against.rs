//! What hosts have against units, all of it: the questions of `plan::account` and `plan::remedy`, answered with the
//! indexes and the rules by which units are placed. Must never choose a host.

use std::collections::BTreeSet;

use crate::model::cluster::Versioned;
use crate::model::name::{MachineId, UnitName};
use crate::model::settings::Order;
use crate::model::unit::Assignment;

use super::super::fit::{Misfit, Question, Stance, live_at, misfits_indexed};
use super::Scheduler;
use super::index::Indexed;

/// A rule that speaks against a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The unit that breaks it: the one in question, or one that must be on the same host and has none either.
    pub unit: UnitName,
    /// How it is broken.
    pub misfit: Misfit,
}

impl Scheduler {
    /// `unit`, and the units without a host that it must be with (`MachineOf=`, directly or not): it is placed where
    /// all of them fit. The unit alone if it isn't about to be placed.
    #[must_use]
    pub fn arriving_with(&self, unit: &UnitName) -> Vec<UnitName> {
        let view = self.view();
        if !view.is_ready(unit) {
            return vec![unit.clone()];
        }
        let (mut seen, mut group) = (BTreeSet::from([unit.clone()]), vec![unit.clone()]);
        let mut at = 0;
        while let Some(next) = group.get(at) {
            let targets = view.colocation_targets(next).into_iter().filter(|peer| view.is_ready(peer));
            let more: Vec<UnitName> = targets.filter(|peer| seen.insert(peer.clone())).collect();
            group.extend(more);
            at += 1;
        }
        // Those that were found last name none of the others, or only in a cycle: they lead.
        group.reverse();
        group
    }

    /// What `host` has against units that are planned and would be there together; nothing if it fits. Of a unit that
    /// is there, what makes it leave.
    #[must_use]
    pub fn against(&self, group: &[UnitName], host: &MachineId) -> Vec<Obstacle> {
        let view = self.view();
        let of = |unit: &UnitName| -> Vec<Obstacle> {
            view.misfits(unit, host, group).into_iter().map(|misfit| Obstacle { unit: unit.clone(), misfit }).collect()
        };
        group.iter().flat_map(of).collect()
    }

    /// Whether units are planned at all: their files are known, and have no more patterns than can be planned with.
    #[must_use]
    pub fn plans(&self, group: &[UnitName]) -> bool {
        group.iter().all(|unit| self.index.nodes.get(unit).is_some_and(|node| node.constraints.is_some()))
    }

    /// Whether these units can't share any host, because they exclude each other.
    #[must_use]
    pub fn exclude_each_other(&self, group: &[UnitName]) -> bool {
        self.view().exclude_each_other(group)
    }

    /// Whether of the hosts that are equally good for these units, the fullest is the best (`placement=pack`).
    #[must_use]
    pub fn packs(&self, group: &[UnitName]) -> bool {
        self.view().order(group) == Order::Pack
    }

    /// What `look` sees while these units aren't on `host`. Afterwards they are there again, as they were.
    pub fn without<T>(&mut self, group: &[UnitName], host: &MachineId, look: impl FnOnce(&Self) -> T) -> T {
        let known = |unit: &UnitName| Some((unit.clone(), self.assignment(host, unit)?.clone()));
        let there: Vec<(UnitName, Versioned<Assignment>)> = group.iter().filter_map(known).collect();
        self.take_off(group, host);
        self.prepare(group);
        let seen = look(self);
        for (unit, assignment) in there {
            self.set_assignment(host, &unit, Some(assignment));
        }
        seen
    }
}

impl Indexed<'_> {
    fn misfits(&self, unit: &UnitName, host: &MachineId, with: &[UnitName]) -> Vec<Misfit> {
        let Some(node) = self.index.nodes.get(unit) else { return Vec::new() };
        let Some(constraints) = self.on((unit, node), host) else { return Vec::new() };
        let stance = if live_at(self.cluster, unit.as_str(), host) { Stance::Stay } else { Stance::Arrive };
        let question = Question { unit, constraints: &constraints, host, stance, with };
        misfits_indexed(self, &question, &self.others(node))
    }
}
