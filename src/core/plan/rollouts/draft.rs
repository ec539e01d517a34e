//! What a step changes in the records of gates and rollouts. Owns that each record is written once, guarded by what the
//! store has of it; must never decide what is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::cluster::{Change, Versioned};
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::rollout::{Gate, Phase, Rollout};

use super::super::schedule::{Scheduler, Write};

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "what isn't committed leaves the scheduler ahead of the store"]
pub struct Writes {
    /// By unit. One whose unit is assigned anew belongs into the transaction that does so.
    pub gates: BTreeMap<UnitName, GateWrite>,
    /// To be committed before any assignment.
    pub rollouts: Vec<RolloutWrite>,
}

/// A gate to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateWrite {
    /// The unit.
    pub unit: UnitName,
    /// The record. Nothing is written for a unit that had no gate and has none: it was its turn at once.
    pub write: Write<Gate>,
    /// The rollout, and the file that it brings.
    pub rollout: (UnitName, UnitHash),
    /// Why.
    pub why: GateEvent,
    /// If it is that of a global unit: the hosts about which this is.
    pub hosts: BTreeSet<MachineId>,
}

/// Why a gate is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateEvent {
    /// Another file was requested, and the unit goes on with the one that it runs, or with the one before.
    Closed,
    /// The unit needs none any more.
    Opened,
    /// It is the unit's turn.
    LetThrough,
    /// The unit had the new file, and gets the one before again.
    TakenBack,
    /// Of a global unit: hosts without it are to have the new file if they get it, or no longer.
    HostsSeen,
    /// The unit runs as a hook.
    HookBegun,
    /// It does so no longer.
    HookEnded,
    /// A spare is added, or gets another file.
    SpareGiven,
    /// A spare isn't needed any more.
    SpareEnded,
    /// A unit was submitted in the place of a spare.
    SpareTaken,
}

/// A rollout to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutWrite {
    /// The set or unit.
    pub name: UnitName,
    /// The record.
    pub write: Write<Rollout>,
    /// Whether it is in another phase, or another rollout, than before.
    pub is_news: bool,
}

/// The records that a step has changed, as they were before.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    gates: BTreeMap<UnitName, GateDraft>,
    rollouts: BTreeMap<UnitName, Option<Versioned<Rollout>>>,
}

#[derive(Debug, Clone)]
struct GateDraft {
    before: Option<Versioned<Gate>>,
    /// The last gate that was there, before or meanwhile.
    known: Option<Gate>,
    why: GateEvent,
    hosts: BTreeSet<MachineId>,
}

impl Draft {
    pub(super) fn is_empty(&self) -> bool {
        self.gates.is_empty() && self.rollouts.is_empty()
    }

    /// The gate of `name` is about to change from `before` to `after`.
    pub(super) fn gate(
        &mut self,
        name: &UnitName,
        before: Option<Versioned<Gate>>,
        after: Option<&Gate>,
        why: GateEvent,
    ) {
        let known = before.as_ref().map(|before| before.value.clone());
        let both = known.as_ref().zip(after);
        let hosts = both.map_or_else(Vec::new, |(before, after)| before.hosts_that_differ(after));
        let hosts: BTreeSet<MachineId> = hosts.into_iter().cloned().collect();
        let new = || GateDraft { before, known: None, why, hosts: BTreeSet::new() };
        let draft = self.gates.entry(name.clone()).or_insert_with(new);
        draft.known = known.or(draft.known.take());
        if draft.why != why && why == GateEvent::HostsSeen {
            // What is done to members is the news.
            return;
        }
        if draft.why != why {
            draft.hosts.clear();
        }
        draft.hosts.extend(hosts);
        draft.why = why;
    }

    /// A rollout is about to change from `before`.
    pub(super) fn rollout(&mut self, name: &UnitName, before: Option<Versioned<Rollout>>) {
        self.rollouts.entry(name.clone()).or_insert(before);
    }

    /// What has changed in the scheduler's cluster. A record that is as before gets its revision back.
    pub(super) fn finish(&mut self, scheduler: &mut Scheduler) -> Writes {
        let mut writes = Writes::default();
        for (unit, GateDraft { before, known, why, hosts }) in std::mem::take(&mut self.gates) {
            let now = scheduler.cluster().gates.get(&unit).map(|gate| gate.value.clone());
            if before.is_some() && before.as_ref().map(|before| &before.value) == now.as_ref() {
                scheduler.apply(Change::Gate(unit, before));
                continue;
            }
            let is_silent = before.is_none() && now.is_none() && why != GateEvent::LetThrough;
            let Some(known) = now.as_ref().or(known.as_ref()).filter(|_| !is_silent) else { continue };
            let rollout = (known.rollout.clone(), known.target.clone());
            let write = Write { before: before.map(|before| before.revision), after: now };
            writes.gates.insert(unit.clone(), GateWrite { unit, write, rollout, why, hosts });
        }
        for (name, before) in std::mem::take(&mut self.rollouts) {
            let now = scheduler.cluster().rollouts.get(&name).map(|rollout| rollout.value.clone());
            if before.as_ref().map(|before| &before.value) == now.as_ref() {
                scheduler.apply(Change::Rollout(name, before));
                continue;
            }
            let news = |rollout: &Rollout| (rollout.target.clone(), rollout.phase);
            let is_news = before.as_ref().map(|before| news(&before.value)) != now.as_ref().map(news);
            let write = Write { before: before.map(|before| before.revision), after: now };
            writes.rollouts.push(RolloutWrite { name, write, is_news });
        }
        writes
    }
}

impl Writes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gates.is_empty() && self.rollouts.is_empty()
    }
}

/// As a line of the log about the rollout's set or unit: `rollout of 5b1e0b2 lets web@3.service through`.
impl fmt::Display for GateWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.rollout.1.short();
        let hosts = self.hosts.iter().map(MachineId::short).collect::<Vec<_>>().join(", ");
        let unit = match self.why {
            GateEvent::LetThrough | GateEvent::TakenBack if !hosts.is_empty() => format!("{} on {hosts}", self.unit),
            _ => self.unit.to_string(),
        };
        match self.why {
            GateEvent::Closed => write!(f, "{unit} waits for the rollout of {target}"),
            GateEvent::Opened => write!(f, "{unit} no longer waits for the rollout of {target}"),
            GateEvent::LetThrough => write!(f, "rollout of {target} lets {unit} through"),
            GateEvent::HostsSeen => write!(f, "rollout of {target} decides for hosts without {unit}: {hosts}"),
            GateEvent::HookBegun => write!(f, "rollout of {target} runs {unit}"),
            GateEvent::HookEnded => write!(f, "rollout of {target} no longer runs {unit}"),
            GateEvent::SpareGiven => write!(f, "rollout of {target} has {unit} as a spare"),
            GateEvent::SpareEnded => write!(f, "rollout of {target} needs the spare {unit} no longer"),
            GateEvent::SpareTaken => write!(f, "{unit} is no spare of the rollout of {target} any more"),
            GateEvent::TakenBack => write!(f, "rollout of {target} gives {unit} the file before it"),
        }
    }
}

impl RolloutWrite {
    /// Whether a person has to look at it.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let phase = self.write.after.as_ref().map(|rollout| rollout.phase);
        matches!(phase, Some(Phase::Reverting | Phase::Reverted | Phase::Stuck))
    }
}

/// As a line of the log about the set or unit: `rollout of 5b1e0b2 failed, and is taken back: …`.
impl fmt::Display for RolloutWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rollout) = &self.write.after else { return f.write_str("its rollout is forgotten") };
        write!(f, "rollout of {}", rollout.target.short())?;
        match rollout.phase {
            Phase::Before => write!(f, " begins with what runs before it")?,
            Phase::Canary => write!(f, " begins with its canaries")?,
            Phase::Waiting => write!(f, " waits to be promoted")?,
            Phase::Rolling => write!(f, " goes on with all members")?,
            Phase::After => write!(f, " goes on with what runs after it")?,
            Phase::Paused => write!(f, " is paused")?,
            Phase::Reverting => write!(f, " failed, and is taken back")?,
            Phase::Reverted => write!(f, " failed, and was taken back")?,
            Phase::Stuck => write!(f, " failed, and the file before fails too")?,
            Phase::Done => write!(f, " is done")?,
        }
        match &rollout.why {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}
