//! Which units are placed together: those that name each other in `MachineOf=` in a cycle, and those that depend on
//! them. Owns the order among units without a host; must never choose a host.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::UnitName;

use super::super::fit::{View, is_effective};
use super::index::Indexed;
use super::round::Unplaced;

/// Units that are placed together.
pub(super) struct Group {
    /// A cycle of `MachineOf=`; mostly one unit.
    pub(super) core: Vec<UnitName>,
    /// The core, then the dependents that are placed with it, each after the units that it names.
    pub(super) whole: Vec<UnitName>,
}

/// The units without a host, and how they depend on each other.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    pub(super) view: Indexed<'a>,
    pub(super) unplaced: &'a BTreeMap<UnitName, Unplaced>,
}

impl Groups<'_> {
    /// What to decide on first so that `unit` can be placed. A dependent that another unplaced unit may evict is
    /// included only once that unit is placed; otherwise it might arrive in vain, and units that it replaces would
    /// leave in vain.
    pub(super) fn next(&self, unit: &UnitName) -> Group {
        let mut core = self.root(unit);
        let mut whole = self.with_dependents(&core);
        let mut seen = BTreeSet::from([core.clone()]);
        while whole.len() > core.len() && !self.view.index.replaces.is_empty() {
            let Some(above) = self.unplaced_above(&whole) else { break };
            let other = self.root(&above);
            if seen.insert(other.clone()) {
                core = other;
                whole = self.with_dependents(&core);
            } else {
                whole.clone_from(&core);
            }
        }
        Group { core, whole }
    }

    /// The unit to decide on first, with the cycle that it is part of (usually itself alone): no unplaced unit is above
    /// it, which means one that it names, or one whose arrival could evict a unit that it names, or itself.
    fn root(&self, unit: &UnitName) -> Vec<UnitName> {
        let mut root = unit.clone();
        let mut seen = BTreeSet::new();
        loop {
            let core = self.cycle(&root);
            match self.unplaced_above(&core) {
                // This goes upwards between cycles and never around one (`fit::displacement`). If that proof were
                // wrong, a poor order would be better than none.
                Some(above) if seen.insert(root.clone()) => root = above,
                Some(above) => return self.cycle(&above),
                None => return core,
            }
        }
    }

    fn unplaced_above(&self, core: &[UnitName]) -> Option<UnitName> {
        let index = self.view.index;
        let replacing = !index.replaces.is_empty();
        let mut seen: BTreeSet<UnitName> = core.iter().cloned().collect();
        let mut open = core.to_vec();
        while let Some(name) = open.pop() {
            let mut above = self.view.colocation_targets(&name);
            if replacing {
                let replacers = index.replacers(&name).filter(|other| is_effective(&self.view, other, &name));
                above.extend(replacers.cloned());
            }
            for name in above {
                if !core.contains(&name) && self.unplaced.contains_key(&name) {
                    return Some(name);
                }
                // Without replacers, a colocation target that has a host keeps it, regardless of what is above it.
                if replacing && seen.insert(name.clone()) {
                    open.push(name);
                }
            }
        }
        None
    }

    /// The units that name each other in a cycle, in order; the unit alone if it is in no cycle.
    fn cycle(&self, unit: &UnitName) -> Vec<UnitName> {
        let above = if self.view.colocation_targets(unit).is_empty() { BTreeSet::new() } else { self.above(unit) };
        if !above.contains(unit) {
            return vec![unit.clone()];
        }
        above.into_iter().filter(|name| self.above(name).contains(unit)).collect()
    }

    /// All colocation targets of a unit, direct or not.
    fn above(&self, unit: &UnitName) -> BTreeSet<UnitName> {
        let mut seen = BTreeSet::new();
        let mut open = self.view.colocation_targets(unit);
        while let Some(name) = open.pop() {
            if seen.insert(name.clone()) {
                open.extend(self.view.colocation_targets(&name));
            }
        }
        seen
    }

    /// `core` and all its dependents without a host, targets first.
    fn with_dependents(&self, core: &[UnitName]) -> Vec<UnitName> {
        let has_dependents =
            |name: &UnitName| self.view.index.nodes.get(name).is_some_and(|node| !node.dependents.is_empty());
        if !core.iter().any(has_dependents) {
            return core.to_vec();
        }
        let mut below = self.dependents_to_take(core);
        let mut group = core.to_vec();
        while !below.is_empty() {
            let free =
                below.iter().find(|name| self.view.colocation_targets(name).iter().all(|peer| !below.contains(peer)));
            let Some(next) = free.or(below.first()).cloned() else { break };
            below.remove(&next);
            group.push(next);
        }
        group
    }

    /// The direct and indirect dependents of `core` whose other targets are placed or are included too.
    fn dependents_to_take(&self, core: &[UnitName]) -> BTreeSet<UnitName> {
        let mut below: BTreeSet<UnitName> = BTreeSet::new();
        let mut open: Vec<UnitName> = core.to_vec();
        while let Some(name) = open.pop() {
            for dependent in self.view.dependents(&name) {
                if !core.contains(&dependent) && self.view.is_ready(&dependent) && below.insert(dependent.clone()) {
                    open.push(dependent);
                }
            }
        }
        loop {
            let stuck = |name: &&UnitName| {
                let mut targets = self.view.colocation_targets(name).into_iter();
                targets
                    .any(|peer| !below.contains(&peer) && !core.contains(&peer) && !self.view.is_placed(peer.as_str()))
            };
            let stuck: Vec<UnitName> = below.iter().filter(stuck).cloned().collect();
            if stuck.is_empty() {
                return below;
            }
            below.retain(|name| !stuck.contains(name));
        }
    }
}
