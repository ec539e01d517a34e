//! Where a unit has failed: kept with its placement until it has been well for a while, or somebody asks for it. Owns
//! what is remembered of that, and that such a unit goes to a host where it hasn't failed, if one fits. Must never
//! decide what becomes of a failed unit when (`plan::reschedule` does).

use std::collections::BTreeSet;

use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Placement, Target, Tried};

use super::Scheduler;
use super::decision::{Departure, Reason};
use super::dirty::Rescan;
use super::round::Round;

/// What becomes of a unit that has failed, or had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// It is to leave the host that it is on, for another one.
    Move,
    /// It is to be started again where it is.
    Start,
    /// It has been well for a while: its tries are forgotten.
    Forget,
}

impl Scheduler {
    /// The best host for units that are on `home` together and leave it because `unit` of them has failed there: one
    /// where none of them has failed.
    #[must_use]
    pub fn untried(&self, group: &[UnitName], home: &MachineId) -> Option<MachineId> {
        let avoided = self.avoided(group);
        self.best(group, None, &|host| host != home && !avoided.contains(host))
    }

    /// Units are to leave their host together in the next round, because `unit` of them has failed there.
    pub fn move_away(&mut self, group: &[UnitName], unit: &UnitName) {
        for name in group {
            let why = if name == unit { None } else { Some(unit.clone()) };
            self.send_away(name.clone(), Departure::Failed { with: why });
        }
        self.retried.insert(unit.clone(), Retry::Move);
    }

    /// A unit that has failed is to be started again where it is, in the next round.
    pub fn start_again(&mut self, unit: UnitName) {
        self.dirty.unit(&unit, Rescan::Keep);
        self.retried.insert(unit, Retry::Start);
    }

    /// A unit is well, and where it failed before is forgotten in the next round.
    pub fn forget_tries(&mut self, unit: UnitName) {
        self.dirty.unit(&unit, Rescan::Keep);
        self.retried.insert(unit, Retry::Forget);
    }

    /// Whether a unit is to leave its host in the next round.
    #[must_use]
    pub fn is_sent_away(&self, unit: &UnitName) -> bool {
        self.sent_away.contains_key(unit)
    }

    /// The hosts on which any of these units has failed.
    pub(super) fn avoided(&self, group: &[UnitName]) -> BTreeSet<MachineId> {
        group.iter().filter_map(|unit| self.cluster.tried(unit)).flat_map(|tried| tried.hosts.iter().cloned()).collect()
    }
}

impl Round<'_> {
    /// The hosts on which any of these units, which have no host now, has failed.
    pub(super) fn avoided(&self, group: &[UnitName]) -> BTreeSet<MachineId> {
        let tried = group.iter().filter_map(|unit| self.unplaced.get(unit)?.tried.as_ref());
        tried.flat_map(|tried| tried.hosts.iter().cloned()).collect()
    }

    /// Bring up to date what is remembered of the failures of `unit`: one more, or nothing any longer.
    pub(super) fn note_tries(&mut self, unit: &UnitName) {
        let retry = self.scheduler.retried.remove(unit);
        let cluster = &self.scheduler.cluster;
        let Some(Placement::On { host, since, from, tried, moved }) =
            cluster.placements.get(unit).map(|known| &known.value)
        else {
            return;
        };
        if retry.is_none() && tried.is_none() {
            return;
        }
        let next = match (retry, cluster.tried(unit)) {
            (None, known) => known.cloned(),
            // It isn't told anything else.
            (Some(Retry::Forget), known) => known.and_then(forgotten),
            (Some(Retry::Move), known) => self.failed_on(unit, host, known),
            (Some(Retry::Start), known) => self.failed_on(unit, host, known).and_then(|failed| {
                let assignment = self.scheduler.assignment(host, unit)?;
                let again = cluster.revision.max(assignment.value.generation.next());
                (assignment.value.target == Target::Launched).then_some(Tried { again: Some(again), ..failed })
            }),
        };
        let why = match (retry, &next) {
            (Some(Retry::Start), Some(next)) => Some(Reason::Again { host: self.host(host), times: next.times }),
            (Some(Retry::Forget), _) => Some(Reason::Recovered { host: self.host(host) }),
            _ => None,
        };
        let (host, since, from, moved) = (host.clone(), *since, from.clone(), moved.clone());
        self.set_placement(unit, Some(Placement::On { host, since, from, tried: next.map(Box::new), moved }));
        if let Some(why) = why {
            self.pending.why(unit, why);
        }
    }

    fn failed_on(&self, unit: &UnitName, host: &MachineId, known: Option<&Tried>) -> Option<Tried> {
        let generation = self.scheduler.cluster.units.get(unit)?.generation;
        let mut tried = known.cloned().unwrap_or(Tried { hosts: Vec::new(), times: 0, generation, again: None });
        if !tried.hosts.contains(host) {
            tried.hosts.push(host.clone());
        }
        tried.times = tried.times.saturating_add(1);
        Some(tried)
    }
}

/// What is left when a unit is well, or has no host: it begins anew, but no host is told an older generation of it.
pub(super) fn forgotten(tried: &Tried) -> Option<Tried> {
    let again = tried.again?;
    Some(Tried { hosts: Vec::new(), times: 0, generation: tried.generation, again: Some(again) })
}
