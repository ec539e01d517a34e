//! What would become of units if hosts were lost or added, or units started: the real scheduler decides on a copy of
//! the cluster, which is afterwards as it was. Pure. Owns what is supposed and how the answer is bounded; `course` lets
//! it happen, `joining` has the hosts that are added, `told` compares. Must never decide where a unit goes.
//!
//! A host that is lost is gone for good: its units are moved as the leader moves them, those with `MoveAfterSec=` when
//! their time is over. What is about to be decided anyway is decided first, so that it isn't told as a consequence.
//! Drains and rollouts that are under way stay where they are.

mod course;
mod joining;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::{Change, Cluster};
use crate::model::machine::Metadata;
use crate::model::name::{MachineId, UnitName};

use super::schedule::Scheduler;
use super::trial::Trial;
use course::Course;

/// Global units on hosts.
pub type Globals = BTreeSet<(MachineId, UnitName)>;

/// What is supposed to happen, all of it at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Supposed {
    /// Hosts that are lost. Those that are gone already won't be back.
    pub lost: BTreeSet<MachineId>,
    /// Hosts that join: the metadata that each has besides what all hosts have in common.
    pub added: Vec<Metadata>,
    /// What is submitted: the records of units, and their files.
    pub submitted: Vec<Change>,
}

/// What would follow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WhatIf {
    /// The hosts that are added: id and name.
    pub joined: BTreeMap<MachineId, String>,
    /// The units that get a host, or another one, in the order in which that is decided.
    pub moves: Vec<Move>,
    /// The units that would wait for a host because of it, by name.
    pub waits: Vec<Wait>,
    /// The units that stay with a host that is lost, by name: no other host could have them.
    pub bound: Vec<Wait>,
    /// The units that wait before, and wait still, by name.
    pub waited: Vec<Wait>,
    /// The global units that a host has no longer.
    pub globals_lost: Globals,
    /// The global units that a host gets.
    pub globals_gained: Globals,
    /// For how long the leader would hold the units of the hosts that are lost first, because so many are lost at once;
    /// in ms.
    pub held: Option<u64>,
    /// Whether it was followed to its end; otherwise more follows.
    pub is_complete: bool,
    /// How many decisions were made for it.
    pub decisions: usize,
}

/// A unit that gets a host, or another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The unit.
    pub unit: UnitName,
    /// The host that it leaves. `None` if it had none.
    pub from: Option<MachineId>,
    /// The host that it gets.
    pub to: MachineId,
    /// Why that one, as a sentence without the unit's name.
    pub why: String,
    /// How long it waits for its host first (`MoveAfterSec=`), in ms.
    pub after: u64,
}

/// A unit that isn't on a host on which it could run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The unit.
    pub unit: UnitName,
    /// The host that it had. `None` if it had none.
    pub from: Option<MachineId>,
    /// Why it waits or stays, as a sentence without its name.
    pub why: String,
}

impl WhatIf {
    /// How many units other than global ones these hosts had.
    #[must_use]
    pub fn units_of(&self, lost: &BTreeSet<MachineId>) -> usize {
        let is_lost = |from: &Option<MachineId>| from.as_ref().is_some_and(|from| lost.contains(from));
        let waits = self.waits.iter().chain(&self.bound).filter(|wait| is_lost(&wait.from)).count();
        waits + self.moves.iter().filter(|moved| is_lost(&moved.from)).count()
    }
}

/// What would follow from what is supposed, and from each of these losses alone after it, at `now`, in ms since the
/// epoch. It ends early if it `is_enough`: with what has happened by then, and with the first of the losses, but with
/// one at least.
///
/// Afterwards everything in `scheduler` is decided that was about to be decided, and nothing else has changed.
pub fn what_if(
    scheduler: &mut Scheduler,
    supposed: &Supposed,
    losses: &[BTreeSet<MachineId>],
    now: u64,
    is_enough: &dyn Fn() -> bool,
) -> (WhatIf, Vec<WhatIf>) {
    let mut trial = Trial::settled(scheduler, now);
    let settled = trial.base().clone();
    let all = follow(&mut trial, supposed, &told::waiting(&settled), is_enough);
    let mut each = Vec::new();
    if !losses.is_empty() {
        let first = trial.changed();
        trial.keep();
        let waiting = told::waiting(trial.base());
        for lost in losses {
            if !each.is_empty() && is_enough() {
                break;
            }
            // One that was begun is followed to its end: half of it would be no answer.
            let lost = Supposed { lost: lost.clone(), ..Supposed::default() };
            each.push(follow(&mut trial, &lost, &waiting, &|| false));
            trial.take_back();
        }
        trial.go_back_to(settled, first);
    }
    trial.take_back();
    (all, each)
}

/// Let it happen, and say what followed; the units of `waiting` wait before. The copy is as it is then.
fn follow(
    trial: &mut Trial<'_>,
    supposed: &Supposed,
    waiting: &BTreeSet<UnitName>,
    is_enough: &dyn Fn() -> bool,
) -> WhatIf {
    let joining = joining::machines(trial.cluster(), &supposed.added);
    let joined = joining.iter().map(|machine| (machine.id.clone(), machine.hostname.clone())).collect();
    let base = trial.base().clone();
    let mut course = Course::default();
    let added = joining.into_iter().map(|machine| Change::Machine(machine.id.clone(), Some(machine)));
    trial.tell(added.collect::<Vec<_>>());
    let submitted: Vec<Change> = supposed.submitted.iter().map(|change| scheduled(trial.cluster(), change)).collect();
    trial.tell(submitted);
    course.lose(trial, &supposed.lost, is_enough);
    WhatIf { joined, ..told::told((&*base, waiting), trial.cluster(), &course, &supposed.lost) }
}

/// A unit behind a gate goes on with the gate's file.
fn scheduled(cluster: &Cluster, change: &Change) -> Change {
    let Change::Unit(name, Some(record)) = change else { return change.clone() };
    let gate = cluster.gates.get(name).filter(|gate| !gate.value.spare);
    let record = gate.map_or_else(|| record.clone(), |gate| record.behind(&gate.value));
    Change::Unit(name.clone(), Some(record))
}
