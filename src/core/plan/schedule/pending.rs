//! The writes of a round, collected by unit: a record that changes several times in a round is written once, guarded by
//! the value that the store has. Owns the order of the writes; must never decide what to write.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::{Cluster, Versioned};
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Assignment, Placement, Target};

use super::decision::{Decision, Reason, Write};
use super::index::Index;

type Before<T> = Option<Versioned<T>>;

/// What a round has changed, and the values before it.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    pending: BTreeMap<UnitName, UnitWrites>,
    /// In the order in which they were first changed.
    order: Vec<UnitName>,
}

#[derive(Debug, Default)]
struct UnitWrites {
    placement: Option<Before<Placement>>,
    assignments: BTreeMap<MachineId, (Before<Assignment>, Option<Reason>)>,
    why: Option<Reason>,
    taken_back: u32,
}

impl PendingWrites {
    fn draft(&mut self, name: &UnitName) -> &mut UnitWrites {
        self.pending.entry(name.clone()).or_insert_with(|| {
            self.order.push(name.clone());
            UnitWrites::default()
        })
    }

    /// `name`'s placement is about to change from `before`.
    pub(super) fn placement(&mut self, name: &UnitName, before: Before<Placement>) {
        self.draft(name).placement.get_or_insert(before);
    }

    /// An assignment is about to change from `before`.
    pub(super) fn assignment(&mut self, name: &UnitName, host: &MachineId, before: Before<Assignment>) {
        self.draft(name).assignments.entry(host.clone()).or_insert((before, None));
    }

    /// Whether the assignment was made in this round, so that no host has it yet.
    pub(super) fn is_new(&self, name: &UnitName, host: &MachineId) -> bool {
        let before = self.pending.get(name).and_then(|draft| draft.assignments.get(host));
        before.is_some_and(|(before, _)| before.is_none())
    }

    /// Whether an assignment made in this round may be withdrawn. The limit ensures that a round ends even if the proof
    /// in `fit::displacement` were wrong, which the engine's audit would report.
    pub(super) fn may_take_back(&mut self, name: &UnitName) -> bool {
        const OFTEN: u32 = 16;
        let draft = self.draft(name);
        draft.taken_back += 1;
        draft.taken_back <= OFTEN
    }

    /// Why, for the unit as a whole; the last reason counts.
    pub(super) fn why(&mut self, name: &UnitName, why: Reason) {
        self.draft(name).why = Some(why);
    }

    /// Why, for one host.
    pub(super) fn why_at(&mut self, name: &UnitName, host: &MachineId, why: Reason) {
        if let Some((_, reason)) = self.draft(name).assignments.get_mut(host) {
            *reason = Some(why);
        }
    }

    /// Decisions in the order in which to commit them. A value that ended up unchanged is restored with its revision.
    pub(super) fn finish(self, cluster: &mut Cluster, index: &Index) -> Vec<Decision> {
        let Self { mut pending, order } = self;
        let [mut leaving, mut staying, mut arriving] = [const { Vec::new() }; 3];
        for unit in order {
            let Some(draft) = pending.remove(&unit) else { continue };
            for (step, decision) in draft.decide(&unit, cluster) {
                match step {
                    Step::Leave => leaving.push(decision),
                    Step::Stay => staying.push(decision),
                    Step::Arrive => arriving.push(decision),
                }
            }
        }
        [leaving, staying, arriving].into_iter().flat_map(|decisions| chains(decisions, index)).collect()
    }
}

/// What a decision means for the hosts it writes to. Committed in this order, no host ever has two live assignments
/// whose files conflict: units are told to leave before another unit's file changes, and files change before new units
/// arrive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Leave,
    Stay,
    Arrive,
}

impl Step {
    fn of(before: Option<&Versioned<Assignment>>, after: Option<&Assignment>) -> Self {
        let live = |target: Target| target != Target::Removed;
        match (before.is_some_and(|before| live(before.value.target)), after.is_some_and(|after| live(after.target))) {
            (_, false) => Self::Leave,
            (true, true) => Self::Stay,
            (false, true) => Self::Arrive,
        }
    }
}

impl UnitWrites {
    /// One decision for everything that must be one transaction. Independent writes get a decision and a reason of
    /// their own: each host of a global unit (there may be thousands), and every `gone`, which doesn't take anything
    /// away yet. An assignment that the placement names is deleted together with the placement. The host of a unit that
    /// is done is told to remove it together with the placement that says so: with one of them alone, the unit would
    /// run again, on another host or after a reboot. So is one told to remove a unit that has failed on it, or that
    /// moves, together with the placement, which remembers that.
    fn decide(self, unit: &UnitName, cluster: &mut Cluster) -> Vec<(Step, Decision)> {
        let mut decisions = Vec::new();
        let mut assignments = Vec::new();
        let mut why = self.why;
        let mut last = None;
        let home = self.placement.as_ref().and_then(|before| before.as_ref()?.value.host()).cloned();
        let is_done = self.placement.is_some() && cluster.done(unit).is_some();
        let is_noted = self.placement.is_some() && home.is_some() && cluster.placed_on(unit) == home.as_ref();
        for (host, (before, reason)) in self.assignments {
            let global = before.as_ref().is_none_or(|before| before.value.global);
            let now = cluster.schedule.get_mut(&host).and_then(|assignments| assignments.get_mut(unit));
            let step = Step::of(before.as_ref(), now.as_ref().map(|now| &now.value));
            let Some(write) = write(before, now) else { continue };
            let alone = match &write.after {
                Some(assignment) => {
                    (assignment.target == Target::Removed && !is_done && !is_noted) || (global && assignment.global)
                }
                None => global && home.as_ref() != Some(&host),
            };
            if alone && let Some(why) = reason {
                let assignments = vec![(host, write)];
                decisions.push((step, Decision { unit: unit.clone(), placement: None, assignments, why }));
            } else {
                why = why.or(reason);
                last = last.max(Some(step));
                assignments.push((host, write));
            }
        }
        let placement = self.placement.and_then(|before| write(before, cluster.placements.get_mut(unit)));
        if placement.is_some() || !assignments.is_empty() {
            let why = why.unwrap_or(Reason::Forgotten);
            decisions.push((last.unwrap_or(Step::Stay), Decision { unit: unit.clone(), placement, assignments, why }));
        }
        decisions
    }
}

fn write<T: Clone + PartialEq>(before: Before<T>, now: Option<&mut Versioned<T>>) -> Option<Write<T>> {
    match (before, now) {
        (None, None) => None,
        (Some(before), Some(now)) if before.value == now.value => {
            now.revision = before.revision;
            None
        }
        (before, now) => {
            Some(Write { before: before.map(|before| before.revision), after: now.map(|now| now.value.clone()) })
        }
    }
}

/// Dependents right behind their colocation target, otherwise in the given order.
fn chains(decisions: Vec<Decision>, index: &Index) -> impl Iterator<Item = Decision> {
    let leads = |name: &UnitName| index.nodes.get(name).map(|node| &node.dependents).filter(|them| !them.is_empty());
    let follows = |name: &UnitName| {
        index
            .nodes
            .get(name)
            .and_then(|node| node.constraints.as_ref())
            .map(|constraints| &constraints.machine_of)
            .filter(|them| !them.is_empty())
    };
    let mut slots: Vec<Option<Decision>> = Vec::new();
    let mut at: BTreeMap<UnitName, usize> = BTreeMap::new();
    for decision in decisions {
        if leads(&decision.unit).is_some() || follows(&decision.unit).is_some() {
            // If there are several decisions, the last one has the placement.
            at.insert(decision.unit.clone(), slots.len());
        }
        slots.push(Some(decision));
    }
    let mut order = Vec::with_capacity(slots.len());
    let mut done: BTreeSet<usize> = BTreeSet::new();
    // A second pass for cycles: in the first pass, all of their members wait for each other.
    for cycles in [false, true] {
        for slot in 0..slots.len() {
            let mut open = vec![slot];
            while let Some(slot) = open.pop() {
                let Some(unit) = slots[slot].as_ref().map(|decision| &decision.unit) else { continue };
                let ready = |peer: &String| at.get(peer.as_str()).is_none_or(|slot| done.contains(slot));
                let waits = follows(unit).is_some_and(|peers| !peers.iter().all(ready));
                if done.contains(&slot) || (waits && !cycles) {
                    continue;
                }
                if at.contains_key(unit) {
                    done.insert(slot);
                }
                let dependents = leads(unit).into_iter().flatten().rev().filter_map(|name| at.get(name).copied());
                open.extend(dependents.filter(|slot| !done.contains(slot)));
                order.push(slots[slot].take());
            }
        }
    }
    order.into_iter().flatten()
}
