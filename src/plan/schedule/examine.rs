//! What becomes of the entries a unit has: acknowledged and dead ones are deleted, those out of place are told to go,
//! the rest brought up to date. Owns the state machine of an entry. Must never choose a host.

use std::sync::Arc;

use crate::model::cluster::Versioned;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::unit::{Assignment, Desired, Placement, Target, Unit};

use super::super::fit::{Misfit, Question, Stance, first_misfit, first_own_misfit, is_wanted};
use super::decision::{Departure, Reason};
use super::marks::Scope;
use super::place::Round;

impl Round<'_> {
    /// Look at one unit's entries and placement, and queue it if it needs a host.
    pub(super) fn examine(&mut self, unit: &UnitName, scope: Scope) {
        self.report.examined += 1;
        let wanted = is_wanted(&self.scheduler.cluster, unit);
        let constraints = self.constraints(unit);
        match constraints {
            None if wanted => {} // its file will come, and bring it here again
            Some(constraints) if wanted && constraints.global => self.examine_global(unit, &constraints, scope),
            Some(constraints) if wanted => self.examine_single(unit, &constraints, scope),
            _ => self.examine_unwanted(unit),
        }
    }

    fn examine_unwanted(&mut self, unit: &UnitName) {
        let known = self.scheduler.cluster.units.contains_key(unit);
        self.clear(unit, None);
        for host in self.live_hosts(unit) {
            self.leave(unit, &host, if known { Departure::Unwanted } else { Departure::Destroyed });
        }
        if !self.scheduler.index.is_anywhere(unit.as_str()) {
            self.set_placement(unit, None);
        }
    }

    fn examine_single(&mut self, unit: &UnitName, constraints: &Arc<Constraints>, scope: Scope) {
        let left = self.clear(unit, None);
        let placement = self.scheduler.cluster.placements.get(unit).map(|placement| placement.value.clone());
        let home = match &placement {
            Some(Placement::On { host, .. }) => Some(host),
            _ => None,
        };
        let mut stays = false;
        for host in self.live_hosts(unit) {
            if Some(&host) == home {
                stays = true;
                self.stay_or_leave(unit, constraints, &host);
            } else {
                self.leave(unit, &host, Departure::Unexplained);
            }
        }
        if stays && self.scheduler.index.is_anywhere(unit.as_str()) {
            return;
        }
        // What still has an entry somewhere waits for that host's word.
        if !self.scheduler.index.is_anywhere(unit.as_str()) {
            let scope = match placement {
                Some(Placement::Waiting { .. }) if left.is_none() => scope,
                _ => Scope::Own,
            };
            self.queue_place(unit, scope, left);
        }
    }

    fn examine_global(&mut self, unit: &UnitName, constraints: &Arc<Constraints>, scope: Scope) {
        let hosts = match scope {
            Scope::Hosts(hosts) => hosts.into_iter().collect(),
            Scope::Audit | Scope::Own => {
                let mut all: Vec<MachineId> = self.scheduler.cluster.machines.keys().cloned().collect();
                all.extend(self.scheduler.index.hosts(unit.as_str()));
                all.sort();
                all.dedup();
                all
            }
        };
        for host in hosts {
            self.clear(unit, Some(&host));
            match self.scheduler.entry(&host, unit).map(|entry| entry.value.target) {
                None => self.queue_spread(unit, &host),
                Some(Target::Removed) => {}
                Some(_) => self.stay_or_leave(unit, constraints, &host),
            }
        }
        self.queue_settle(unit);
    }

    /// Delete entries that are gone for good: the host is dead, or has said so. The last host that was left.
    fn clear(&mut self, unit: &UnitName, only: Option<&MachineId>) -> Option<(MachineId, Departure)> {
        let mut left = None;
        let hosts = match only {
            Some(host) => vec![host.clone()],
            None => self.scheduler.index.hosts(unit.as_str()),
        };
        for host in hosts {
            let because = if self.scheduler.entry(&host, unit).is_none() {
                continue;
            } else if !self.scheduler.cluster.machines.contains_key(&host) {
                Departure::HostGone
            } else if self.scheduler.is_acknowledged(&host, unit) {
                Departure::Stopped
            } else {
                continue;
            };
            self.set_entry(unit, &host, None);
            let name = self.host(&host);
            self.drafts.why_at(unit, &host, Reason::Left { host: name, because: because.clone() });
            left = Some((host, because));
        }
        left
    }

    fn live_hosts(&self, unit: &UnitName) -> Vec<MachineId> {
        let mut hosts = self.scheduler.index.hosts(unit.as_str());
        hosts
            .retain(|host| self.scheduler.entry(host, unit).is_some_and(|entry| entry.value.target != Target::Removed));
        hosts
    }

    fn stay_or_leave(&mut self, unit: &UnitName, constraints: &Arc<Constraints>, host: &MachineId) {
        let question = Question { unit, constraints, host, stance: Stance::Stay };
        while let Some(misfit) = self.first_misfit(&question) {
            // Nobody leaves for the sake of one that isn't known to stay. Each turn takes a mark away: this ends.
            let dirty = misfit.other().and_then(|other| self.scheduler.marks.take_unit(other));
            let Some((other, scope)) = dirty else {
                return self.leave(unit, host, Departure::Misfit(misfit));
            };
            self.examine(&other, scope);
        }
        let Some(entry) = self.wanted_entry(unit, constraints) else { return };
        if self.scheduler.entry(host, unit).map(|known| &known.value) != Some(&entry) {
            self.set_entry(unit, host, Some(entry));
            self.drafts.why_at(unit, host, Reason::Updated { host: self.host(host) });
        }
    }

    /// As [`first_misfit`]; a host where nobody could be in its way isn't searched for who is.
    fn first_misfit(&self, question: &Question<'_>) -> Option<Misfit> {
        let node = self.scheduler.index.nodes.get(question.unit)?;
        let (conflicts, replaced) = self.scheduler.index.crowded(node, question.host);
        let view = self.scheduler.view();
        if conflicts || replaced { first_misfit(&view, question) } else { first_own_misfit(&view, question) }
    }

    /// What a host is to be told of a unit that runs there.
    pub(super) fn wanted_entry(&self, unit: &UnitName, constraints: &Constraints) -> Option<Assignment> {
        let record = self.scheduler.cluster.units.get(unit)?;
        let target = if record.desired == Desired::Launched { Target::Launched } else { Target::Loaded };
        let Unit { hash, generation, restart, .. } = record.clone();
        Some(Assignment { hash, target, global: constraints.global, generation, restart })
    }

    /// Tell a host to stop and forget a unit. An entry that was made in this very round is taken back instead.
    fn leave(&mut self, unit: &UnitName, host: &MachineId, because: Departure) {
        if self.drafts.is_new(unit, host) {
            if !self.drafts.may_take_back(unit) {
                return;
            }
            self.set_entry(unit, host, None);
            self.scheduler.marks.unit(unit, Scope::Own);
            return;
        }
        let Some(entry) = self.scheduler.entry(host, unit) else { return };
        // Greater than what the entry had, also if the store's revision isn't known here.
        let generation = self.scheduler.cluster.revision.max(entry.value.generation.next());
        let gone = Assignment { target: Target::Removed, generation, ..entry.value.clone() };
        self.set_entry(unit, host, Some(gone));
        self.drafts.why_at(unit, host, Reason::Leaves { host: self.host(host), because });
    }

    pub(super) fn set_entry(&mut self, unit: &UnitName, host: &MachineId, entry: Option<Assignment>) {
        let before = self.scheduler.entry(host, unit).cloned();
        self.drafts.entry(unit, host, before);
        if entry.is_none() {
            self.hopeless.reconsider();
        }
        let entry = entry.map(|value| Versioned { value, revision: Revision::default() });
        self.scheduler.set_entry(host, unit, entry);
    }

    pub(super) fn set_placement(&mut self, unit: &UnitName, placement: Option<Placement>) {
        let known = self.scheduler.cluster.placements.get(unit);
        if known.map(|known| &known.value) == placement.as_ref() {
            return;
        }
        self.drafts.placement(unit, known.cloned());
        self.scheduler.index.placement_changed(unit, placement.as_ref());
        let placements = &mut self.scheduler.cluster.placements;
        match placement {
            Some(value) => drop(placements.insert(unit.clone(), Versioned { value, revision: Revision::default() })),
            None => drop(placements.remove(unit)),
        }
    }
}
