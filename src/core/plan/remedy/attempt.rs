//! Tries fixes: what a person's steps change, and whether they place the unit and make no other one leave its host.
//! Owns what counts as harmless. Must never decide what to try.

use std::collections::BTreeSet;

use crate::model::cluster::{Change, Versioned};
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Assignment, Desired, Target, Unit};

use super::super::schedule::{Departure, Host, Write};
use super::super::trial::{Trial, another};
use super::candidates::{Candidate, constraints};
use super::{Remedy, Step};

/// How often the leader decides and hosts carry that out before a fix counts as none.
const ROUNDS: usize = 6;

impl Trial<'_> {
    /// Whether these steps place `unit`, one after the other, and where. Afterwards everything is as it was.
    pub(super) fn attempt(&mut self, unit: &UnitName, steps: Vec<Step>, candidate: &Candidate) -> Option<Remedy> {
        let (mut new, mut moved, mut can_move) = (None, BTreeSet::new(), true);
        let (mut touched, mut left) = (BTreeSet::new(), BTreeSet::new());
        for step in &steps {
            let changes = self.changes(step, candidate);
            new = new.or_else(|| changes.iter().find_map(joined));
            self.tell(changes);
            if let Step::Move { unit, to } = step {
                can_move &= self.scheduler().fits_on(std::slice::from_ref(unit), to);
                let name = self.cluster().hostname(to).map(str::to_owned);
                self.send_away(unit, Departure::Moves { to: Host { id: to.clone(), name } });
                moved.insert(unit.clone());
            }
            self.go_on(ROUNDS, |_, plan| {
                touched.extend(plan.decisions.iter().map(|decision| decision.unit.clone()));
                let leaving = plan.decisions.iter().filter(|it| it.assignments.iter().any(|(_, write)| leaves(write)));
                left.extend(leaving.map(|decision| decision.unit.clone()));
            });
        }
        let is_placed = |name: &UnitName| self.placed_on(name).is_some();
        let is_harmed = |name: &UnitName| {
            let before = self.base().placed_on(name).filter(|_| !moved.contains(name));
            before.is_some() && before != self.cluster().placed_on(name)
        };
        let is_harmless = can_move && left.is_subset(&moved) && !touched.iter().any(is_harmed);
        let host = self.placed_on(unit).filter(|_| is_harmless && moved.iter().all(is_placed));
        self.take_back();
        let host = host?;
        Some(Remedy { steps, host: Some(host).filter(|host| new.as_ref() != Some(host)) })
    }

    /// What a person's step changes.
    fn changes(&self, step: &Step, candidate: &Candidate) -> Vec<Change> {
        let cluster = self.cluster();
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
}

/// Whether a host is told to stop the unit.
fn leaves(write: &Write<Assignment>) -> bool {
    write.after.as_ref().is_some_and(|assignment| assignment.target == Target::Removed)
}

/// The host that a change adds.
fn joined(change: &Change) -> Option<MachineId> {
    match change {
        Change::Machine(id, Some(_)) => Some(id.clone()),
        _ => None,
    }
}
