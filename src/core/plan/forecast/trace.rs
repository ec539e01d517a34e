//! What happened in a copy of the cluster, unit by unit. Owns how it is told: a unit that leaves a host and arrives on
//! another one moves. Must never decide what happens.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::Cluster;
use crate::model::forecast::What;
use crate::model::name::{MachineId, UnitName};

use super::super::rollouts::{GateEvent, Writes};
use super::super::schedule::{Decision, Departure, Reason};
use super::Effect;
use super::course::{Course, Courses};
use super::hosts::Deed;

/// What happened.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    deeds: BTreeMap<UnitName, Vec<(MachineId, Deed)>>,
    /// Why units went where they went.
    arrivals: BTreeMap<UnitName, String>,
    /// Units that hosts got because they are global.
    globals: BTreeSet<UnitName>,
    /// Why units left their hosts.
    departures: BTreeMap<UnitName, String>,
    /// Units that are done, and leave their hosts because of it.
    done: BTreeSet<UnitName>,
    /// Units that run as hooks of rollouts.
    hooks: BTreeSet<UnitName>,
    courses: Courses,
}

impl Trace {
    /// The leader has decided about a unit.
    pub(super) fn decided(&mut self, decision: &Decision) {
        self.courses.happened_to(&decision.unit);
        let left = match &decision.why {
            Reason::Leaves { because, .. } | Reason::Left { because, .. } => Some(because),
            Reason::Placed { left, .. } | Reason::Waits { left, .. } => left.as_ref().map(|(_, because)| because),
            Reason::Updated { .. }
            | Reason::StaysAway { .. }
            | Reason::Again { .. }
            | Reason::Recovered { .. }
            | Reason::StaysUnmoved { .. }
            | Reason::Done { .. }
            | Reason::Forgotten => None,
        };
        // That a host has stopped it is no reason for it.
        if let Some(because) = left.filter(|because| **because != Departure::Stopped) {
            self.departures.entry(decision.unit.clone()).or_insert_with(|| because.to_string());
        }
        if let Reason::Done { .. } = &decision.why {
            self.done.insert(decision.unit.clone());
        }
        if let Reason::Placed { because, .. } = &decision.why {
            self.arrivals.insert(decision.unit.clone(), because.to_string());
        }
    }

    /// The rollouts went on; `cluster` shows what hosts were told since.
    pub(super) fn rolled(&mut self, writes: &Writes, cluster: &Cluster) {
        let hooks = writes.gates.values().filter(|gate| gate.why == GateEvent::HookBegun);
        self.hooks.extend(hooks.map(|gate| gate.unit.clone()));
        writes.gates.keys().for_each(|unit| self.courses.happened_to(unit));
        self.courses.follow(writes, cluster);
    }

    /// Whether a unit runs as a hook of a rollout.
    pub(super) fn is_hook(&self, name: &UnitName) -> bool {
        self.hooks.contains(name)
    }

    /// A host has done something with a unit, which is global or isn't.
    pub(super) fn done(&mut self, name: &UnitName, host: &MachineId, deed: Deed, is_global: bool) {
        if matches!(deed, Deed::Leaves(_)) && self.done.remove(name) {
            // It belongs to the run.
            return;
        }
        if is_global && matches!(deed, Deed::Arrives(_)) {
            self.globals.insert(name.clone());
        }
        self.deeds.entry(name.clone()).or_default().push((host.clone(), deed));
    }

    /// A host has reported a unit.
    pub(super) fn reported(&mut self, name: &UnitName) {
        self.courses.happened_to(name);
    }

    /// The rollouts that took place.
    pub(super) fn courses(&self, cluster: &Cluster) -> BTreeMap<UnitName, Course> {
        self.courses.ended(cluster)
    }

    /// What happened to units to which something else happened in `other`.
    pub(super) fn differs_from(&self, other: &Self) -> impl Iterator<Item = (UnitName, Vec<Effect>)> {
        let others = self.deeds.iter().filter(|(name, deeds)| other.deeds.get(*name) != Some(deeds));
        others.map(|(name, deeds)| (name.clone(), self.effects(name, deeds)))
    }

    fn effects(&self, name: &UnitName, deeds: &[(MachineId, Deed)]) -> Vec<Effect> {
        let is_global = self.globals.contains(name);
        let (arrival, departure) = (self.arrivals.get(name).filter(|_| !is_global), self.departures.get(name));
        let mut effects: Vec<Effect> = Vec::new();
        for (host, deed) in deeds {
            let (what, why) = match deed {
                Deed::Arrives(true) => (What::Placed, arrival),
                Deed::Arrives(false) => (What::Loaded, arrival),
                Deed::Starts => (What::Starts, None),
                Deed::Restarts => (What::Restarts, None),
                Deed::Stops => (What::Stops, None),
                Deed::Leaves(true) => (What::Leaves, departure),
                Deed::Leaves(false) => (What::Unloaded, departure),
                Deed::Writes => (What::Rewritten, None),
            };
            if let Deed::Arrives(_) = deed
                && let Some(left) = left(&mut effects, host, !is_global)
            {
                let from = left.host.replace(host.clone());
                (left.what, left.from) = match from {
                    Some(from) if from == *host => (back(left.what, *deed), None),
                    from => (What::Moves, from),
                };
                continue;
            }
            effects.push(Effect { what, host: Some(host.clone()), from: None, why: why.cloned() });
        }
        effects
    }
}

/// What a unit that arrives on `host` did before: it left the same one, or the only one that it left, if it `moves`. A
/// global unit doesn't.
fn left<'a>(effects: &'a mut [Effect], host: &MachineId, moves: bool) -> Option<&'a mut Effect> {
    let leaves = |effect: &Effect| matches!(effect.what, What::Leaves | What::Unloaded);
    let same = effects.iter().position(|effect| leaves(effect) && effect.host.as_ref() == Some(host));
    let only = || effects.iter().position(leaves).filter(|_| effects.iter().filter(|e| leaves(e)).count() == 1);
    let at = same.or_else(|| only().filter(|_| moves))?;
    effects.get_mut(at)
}

/// What happens to a unit that leaves a host and comes back to it.
fn back(left: What, deed: Deed) -> What {
    match (left, deed) {
        (What::Leaves, Deed::Arrives(true)) => What::Restarts,
        (What::Leaves, _) => What::Stops,
        (_, Deed::Arrives(true)) => What::Starts,
        _ => What::Rewritten,
    }
}
