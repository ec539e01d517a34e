//! What a change of units would lead to: the real scheduler and the real rollouts decide on a copy of the cluster,
//! while hosts on which everything works carry out what they are told. Owns how the copy goes on by itself, and what of
//! it follows from the change. Must never decide where a unit runs (`schedule` does), nor how a rollout goes on (`pace`
//! does).
//!
//! ```text
//!  copy --> decide --+--> hosts carry out, decide, … ----------------> without the change
//!                    +--> the change --> decide, hosts carry out, … --> with it
//!                                                     the difference is the forecast
//! ```
//!
//! What is under way anyway happens in both, and is left out. Time passes only when nothing else is left to do, until a
//! rollout goes on. What systemd does by itself with units that depend on others isn't known here.

mod course;
mod hosts;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::body::BodyHash;
use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::forecast::What;
use crate::model::format::ReportKeyForm;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::unit::Placement;

use super::drain::{self, Timers};
use super::rollouts::Rollouts;
use super::schedule::{Brake, Scheduler};
pub use course::Course;
#[cfg(test)]
pub(in crate::plan) use hosts::{Deed, carry_out};
use trace::Trace;

/// How often the copy goes on: several times for each member of the largest set.
const MAX_ROUNDS: usize = 10_000;

/// What is forecast from.
#[derive(Debug, Clone)]
pub struct Present {
    /// The cluster as a store has it, with the files that units, assignments, gates and rollouts refer to.
    pub cluster: Cluster,
    /// Units that exist, and whose records can't be read.
    pub unreadable: BTreeSet<UnitName>,
    /// When the leader holds the units of hosts that are gone.
    pub brake: Brake,
    /// In ms since the epoch.
    pub now: u64,
}

/// What would follow from a change, and wouldn't happen without it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forecast {
    /// What happens to each unit, in its order.
    pub units: BTreeMap<UnitName, Vec<Effect>>,
    /// The rollouts that take place, by set or unit.
    pub rollouts: BTreeMap<UnitName, Course>,
    /// Whether it was followed to its end; otherwise more follows.
    pub is_complete: bool,
}

/// One thing that happens to a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// What happens.
    pub what: What,
    /// The host on which it happens, or to which the unit moves. `None` if it waits.
    pub host: Option<MachineId>,
    /// The host that it leaves, if it moves.
    pub from: Option<MachineId>,
    /// Why it goes to this host, leaves it or waits, as a sentence without its name.
    pub why: Option<String>,
}

/// What would follow if the store had `changes` now.
#[must_use]
pub fn forecast(present: Present, changes: Vec<Change>) -> Forecast {
    let named: BTreeSet<UnitName> = changes.iter().filter_map(unit_of).cloned().collect();
    let mut world = World::of(present, &changes);
    // What the leader is about to decide anyway.
    world.decide();
    let mut without = world.clone();
    without.go_on();
    changes.into_iter().for_each(|change| world.tell(change));
    let is_complete = world.go_on();
    let units = world.trace.differs_from(&without.trace);
    let mut units: BTreeMap<UnitName, Vec<Effect>> = units.collect();
    // That they run, the rollouts say.
    units.retain(|name, _| !world.trace.is_hook(name));
    let waits = |world: &World, name: &UnitName| {
        let placement = world.scheduler.cluster().placements.get(name).map(|placement| &placement.value);
        placement.is_some_and(|placement| matches!(placement, Placement::Waiting { .. }))
    };
    for (name, placement) in &world.scheduler.cluster().placements {
        if let Placement::Waiting { why, .. } = &placement.value
            && (named.contains(name) || !waits(&without, name))
        {
            let waits = Effect { what: What::Waits, host: None, from: None, why: Some(why.clone()) };
            units.entry(name.clone()).or_default().push(waits);
        }
    }
    let (mut rollouts, others) = (world.courses(), without.courses());
    rollouts.retain(|name, course| others.get(name) != Some(course));
    Forecast { units, rollouts, is_complete }
}

fn unit_of(change: &Change) -> Option<&UnitName> {
    match change {
        Change::Unit(name, _) => Some(name),
        _ => None,
    }
}

/// A copy of the cluster that goes on by itself.
#[derive(Debug, Clone)]
struct World {
    scheduler: Scheduler,
    rollouts: Rollouts,
    drains: Timers,
    /// What systemd has of each file, also of those that nothing refers to any more.
    bodies: BTreeMap<UnitHash, BodyHash>,
    /// When it began. Holds on the units of hosts that are gone don't end, however long a rollout takes.
    began: u64,
    now: u64,
    /// The assignments that hosts have yet to carry out.
    pending: BTreeSet<(MachineId, UnitName)>,
    trace: Trace,
}

impl World {
    fn of(present: Present, changes: &[Change]) -> Self {
        let Present { mut cluster, unreadable, brake, now } = present;
        unreadable.iter().for_each(|name| cluster.preserve(name));
        cluster.placements.retain(|name, _| !unreadable.contains(name) || cluster.units.contains_key(name));
        let sent = changes.iter().filter_map(|change| match change {
            Change::File(hash, Some(file)) => Some((hash, file)),
            _ => None,
        });
        let files = cluster.files.iter().chain(sent);
        let bodies = files.map(|(hash, file)| (hash.clone(), file.value.body)).collect();
        let pending = hosts::behind(&cluster);
        let rollouts = Rollouts::of(&mut cluster, unreadable, BTreeSet::new());
        let mut scheduler = Scheduler::new(cluster).with_brake(brake);
        rollouts.hold_files(&mut scheduler);
        let (drains, trace) = Default::default();
        Self { scheduler, rollouts, drains, bodies, began: now, now, pending, trace }
    }

    fn tell(&mut self, change: Change) {
        self.rollouts.apply(&mut self.scheduler, change);
    }

    /// Go on until nothing is left to do. Returns whether it came to that.
    fn go_on(&mut self) -> bool {
        for _ in 0..MAX_ROUNDS {
            let decided = self.decide();
            let next = self.scheduler.cluster().revision.next();
            self.scheduler.advance(next);
            if self.carry_out() || decided {
                continue;
            }
            match self.rollouts.due() {
                Some(due) => self.now = due.max(self.now.saturating_add(1)),
                None => return true,
            }
        }
        false
    }

    /// The leader decides. Returns whether there was anything to decide.
    fn decide(&mut self) -> bool {
        let writes = self.rollouts.step(&mut self.scheduler, self.now);
        let again = drain::step(&mut self.scheduler, &mut self.drains, self.now);
        let plan = self.scheduler.plan(self.began);
        for decision in &plan.decisions {
            let assigned = decision.assignments.iter().filter(|(_, write)| write.after.is_some());
            self.pending.extend(assigned.map(|(host, _)| (host.clone(), decision.unit.clone())));
            self.trace.decided(decision);
        }
        self.trace.rolled(&writes, self.scheduler.cluster());
        again || !writes.is_empty() || !plan.decisions.is_empty()
    }

    /// The hosts carry out what they were told, and report it. Returns whether there was anything.
    fn carry_out(&mut self) -> bool {
        let pending = std::mem::take(&mut self.pending);
        let has_any = !pending.is_empty();
        for (host, name) in pending {
            let cluster = self.scheduler.cluster();
            let assignment = cluster.schedule.get(&host).and_then(|assignments| assignments.get(&name));
            let Some(assignment) = assignment.filter(|_| cluster.machines.contains_key(&host)) else { continue };
            let ends = cluster.files.get(&assignment.value.hash).is_some_and(|file| file.value.ends);
            let done = hosts::carry_out(&assignment.value, cluster.report(&name, &host), ends, &self.bodies);
            let Some((report, deed)) = done else { continue };
            if let Some(deed) = deed {
                self.trace.done(&name, &host, deed, assignment.value.global);
            }
            self.trace.reported(&name);
            let report = Some(Versioned { value: report, revision: cluster.revision });
            self.tell(Change::Report(name, host, ReportKeyForm::HostFirst, report));
        }
        has_any
    }

    fn courses(&self) -> BTreeMap<UnitName, Course> {
        self.trace.courses(self.scheduler.cluster())
    }
}
