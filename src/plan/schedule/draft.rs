//! The writes of a round as they pile up: one draft for each unit, whatever is written to it how often, guarded by what the store has.
//! Owns their order. Must never decide what to write.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::{Cluster, Versioned};
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Entry, Placement, Target};

use super::decision::{Decision, Reason, Write};
use super::index::Index;

type Before<T> = Option<Versioned<T>>;

/// What a round has changed, and what stood there before.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    drafts: BTreeMap<UnitName, Draft>,
    /// In the order first touched.
    order: Vec<UnitName>,
}

#[derive(Debug, Default)]
struct Draft {
    placement: Option<Before<Placement>>,
    entries: BTreeMap<MachineId, Before<Entry>>,
    why: Option<Reason>,
}

impl Drafts {
    fn draft(&mut self, name: &UnitName) -> &mut Draft {
        if !self.drafts.contains_key(name) {
            self.order.push(name.clone());
        }
        self.drafts.entry(name.clone()).or_default()
    }

    /// `name`'s placement is about to change; `before` is what it is now.
    pub(super) fn placement(&mut self, name: &UnitName, before: Before<Placement>) {
        self.draft(name).placement.get_or_insert(before);
    }

    /// An entry is about to change. Whether it exists in this round only, not in the store.
    pub(super) fn entry(&mut self, name: &UnitName, host: &MachineId, before: Before<Entry>) {
        self.draft(name).entries.entry(host.clone()).or_insert(before);
    }

    /// Whether the entry was made in this round: no host has ever heard of it.
    pub(super) fn is_new(&self, name: &UnitName, host: &MachineId) -> bool {
        let before = self.drafts.get(name).and_then(|draft| draft.entries.get(host));
        before.is_some_and(Option::is_none)
    }

    /// Why; the last word counts.
    pub(super) fn why(&mut self, name: &UnitName, why: Reason) {
        self.draft(name).why = Some(why);
    }

    /// Decisions in the order to commit them. What turned out as it was before is put back, revision and all.
    pub(super) fn finish(self, cluster: &mut Cluster, index: &Index) -> Vec<Decision> {
        let Self { mut drafts, order } = self;
        let mut leaving = Vec::new();
        let mut staying = Vec::new();
        for unit in order {
            let Some(draft) = drafts.remove(&unit) else { continue };
            let Some(decision) = draft.decide(unit, cluster) else { continue };
            if decision.only_leaves() { leaving.push(decision) } else { staying.push(decision) }
        }
        chains(leaving, index).chain(chains(staying, index)).collect()
    }
}

impl Draft {
    fn decide(self, unit: UnitName, cluster: &mut Cluster) -> Option<Decision> {
        let placement = self.placement.and_then(|before| write(before, cluster.placements.get_mut(&unit)));
        let entry = |(host, before): (MachineId, Before<Entry>)| {
            let now = cluster.schedule.get_mut(&host).and_then(|slice| slice.get_mut(&unit));
            Some((host, write(before, now)?))
        };
        let entries: Vec<_> = self.entries.into_iter().filter_map(entry).collect();
        if placement.is_none() && entries.is_empty() {
            return None;
        }
        Some(Decision { unit, placement, entries, why: self.why.unwrap_or(Reason::Forgotten) })
    }
}

impl Decision {
    /// Whether no host gets anything new by it.
    fn only_leaves(&self) -> bool {
        let leaves = |(_, write): &(MachineId, Write<Entry>)| {
            write.after.as_ref().is_none_or(|entry| entry.target == Target::Gone)
        };
        !self.entries.is_empty() && self.entries.iter().all(leaves)
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

/// Followers right behind their leader, otherwise as they come.
fn chains(decisions: Vec<Decision>, index: &Index) -> impl Iterator<Item = Decision> {
    let leads = |name: &UnitName| index.nodes.get(name).map(|node| &node.followers).filter(|them| !them.is_empty());
    let follows = |name: &UnitName| {
        index
            .nodes
            .get(name)
            .and_then(|node| node.wishes.as_ref())
            .map(|wishes| &wishes.machine_of)
            .filter(|them| !them.is_empty())
    };
    let mut slots: Vec<Option<Decision>> = Vec::new();
    let mut at: BTreeMap<UnitName, usize> = BTreeMap::new();
    for decision in decisions {
        if leads(&decision.unit).is_some() || follows(&decision.unit).is_some() {
            at.entry(decision.unit.clone()).or_insert(slots.len());
        }
        slots.push(Some(decision));
    }
    let mut order = Vec::with_capacity(slots.len());
    let mut done: BTreeSet<usize> = BTreeSet::new();
    // A second sweep for cycles, whose members all wait for each other in the first.
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
                let followers = leads(unit).into_iter().flatten().rev().filter_map(|name| at.get(name).copied());
                open.extend(followers.filter(|slot| !done.contains(slot)));
                order.push(slots[slot].take());
            }
        }
    }
    order.into_iter().flatten()
}
