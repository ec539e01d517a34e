//! The patterns of `Conflicts=` or of `Replaces=`: which units declare them, which names they match, and on which hosts
//! both are. Owns one such table. Must never search for units itself: when a pattern is first used, and when its last
//! use ends, the caller updates the names that it matches.
//!
//! Every distinct pattern has a slot, which counts for each host the assignments whose names it matches and those whose
//! units declare it. Whether a unit conflicts with others on a host then takes one look-up for each pattern that it
//! declares or that matches it, regardless of how many units these stand for.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitName};

/// Identifies a slot.
pub(in super::super) type PatternId = u32;

/// The patterns that concern one unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct PatternIds {
    /// Those it declares, in order.
    pub(in super::super) declares: Vec<PatternId>,
    /// Those that match its name, whichever unit declares them.
    pub(in super::super) matches: Vec<PatternId>,
}

/// All patterns of one kind.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct PatternIndex {
    ids: BTreeMap<Glob, PatternId>,
    by_prefix: BTreeMap<Box<str>, Vec<PatternId>>,
    /// The lengths of all prefixes, with the number of prefixes of each: a name is looked up once for each length.
    lengths: BTreeMap<usize, usize>,
    slots: Vec<Slot>,
    free: Vec<PatternId>,
}

#[derive(Debug, Clone)]
struct Slot {
    glob: Glob,
    declarers: BTreeSet<UnitName>,
    matched: BTreeMap<MachineId, u32>,
    declared: BTreeMap<MachineId, u32>,
}

impl PatternIndex {
    pub(in super::super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(in super::super) fn glob(&self, id: PatternId) -> &Glob {
        &self.slots[id as usize].glob
    }

    pub(in super::super) fn declarers(&self, id: PatternId) -> &BTreeSet<UnitName> {
        &self.slots[id as usize].declarers
    }

    /// The patterns that match a name.
    pub(in super::super) fn matching(&self, name: &str) -> Vec<PatternId> {
        let prefixes = self.lengths.keys().filter_map(|length| self.by_prefix.get(name.get(..*length)?));
        prefixes.flatten().copied().filter(|id| self.glob(*id).matches(name)).collect()
    }

    /// `name` declares `glob`. The second value is whether no other unit did before; the caller must then add the
    /// pattern to the names that it matches.
    pub(in super::super) fn declare(&mut self, glob: &Glob, name: &UnitName) -> (PatternId, bool) {
        if let Some(id) = self.ids.get(glob) {
            self.slots[*id as usize].declarers.insert(name.clone());
            return (*id, false);
        }
        let slot = Slot {
            glob: glob.clone(),
            declarers: BTreeSet::from([name.clone()]),
            matched: BTreeMap::new(),
            declared: BTreeMap::new(),
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                PatternId::try_from(self.slots.len() - 1).unwrap_or(PatternId::MAX)
            }
        };
        self.ids.insert(glob.clone(), id);
        let prefix = glob.literal_prefix();
        if !self.by_prefix.contains_key(prefix) {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        self.by_prefix.entry(prefix.into()).or_default().push(id);
        (id, true)
    }

    /// `name` no longer declares it. Returns whether no unit does now; the caller must then remove the pattern from the
    /// names that it matches, and call [`Self::drop`].
    pub(in super::super) fn withdraw(&mut self, id: PatternId, name: &UnitName) -> bool {
        let declarers = &mut self.slots[id as usize].declarers;
        declarers.remove(name);
        declarers.is_empty()
    }

    pub(in super::super) fn drop(&mut self, id: PatternId) {
        let glob = self.glob(id).clone();
        let prefix = glob.literal_prefix();
        self.ids.remove(&glob);
        if let Some(ids) = self.by_prefix.get_mut(prefix) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_prefix.remove(prefix);
                if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&prefix.len());
                    }
                }
            }
        }
        let slot = &mut self.slots[id as usize];
        slot.matched.clear();
        slot.declared.clear();
        self.free.push(id);
    }

    /// A unit was assigned to a host, or no longer is.
    pub(in super::super) fn count(&mut self, ids: &PatternIds, host: &MachineId, there: bool) {
        ids.matches.iter().for_each(|id| self.count_matched(*id, host, there));
        ids.declares.iter().for_each(|id| self.count_declared(*id, host, there));
    }

    pub(in super::super) fn count_matched(&mut self, id: PatternId, host: &MachineId, there: bool) {
        step(&mut self.slots[id as usize].matched, host, there);
    }

    pub(in super::super) fn count_declared(&mut self, id: PatternId, host: &MachineId, there: bool) {
        step(&mut self.slots[id as usize].declared, host, there);
    }

    /// Whether another unit on `host` is matched by a pattern that this one declares. `there`: this unit has an
    /// assignment on the host and is counted.
    pub(in super::super) fn matches_on(&self, ids: &PatternIds, host: &MachineId, there: bool) -> bool {
        ids.declares.iter().any(|id| {
            let own = u32::from(there && ids.matches.contains(id));
            self.slots[*id as usize].matched.get(host).is_some_and(|count| *count > own)
        })
    }

    /// Whether another unit on `host` declares a pattern that matches this one.
    pub(in super::super) fn is_matched_on(&self, ids: &PatternIds, host: &MachineId, there: bool) -> bool {
        ids.matches.iter().any(|id| {
            let own = u32::from(there && ids.declares.contains(id));
            self.slots[*id as usize].declared.get(host).is_some_and(|count| *count > own)
        })
    }
}

fn step(counts: &mut BTreeMap<MachineId, u32>, host: &MachineId, up: bool) {
    match counts.get_mut(host) {
        Some(count) if up => *count += 1,
        Some(1) => drop(counts.remove(host)),
        Some(count) => *count -= 1,
        None if up => drop(counts.insert(host.clone(), 1)),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_see_the_others_only() {
        let mut globs = PatternIndex::default();
        let host: MachineId = "00000000000000000000000000000001".parse().unwrap();
        let name: UnitName = "web@1.service".parse().unwrap();
        let (id, new) = globs.declare(&"web@*".parse().unwrap(), &name);
        assert!(new && globs.matching("web@2.service") == [id] && globs.matching("db.service").is_empty());
        let both = PatternIds { declares: vec![id], matches: vec![id] };
        globs.count(&both, &host, true);
        assert!(!globs.matches_on(&both, &host, true) && !globs.is_matched_on(&both, &host, true));
        assert!(globs.matches_on(&both, &host, false) && globs.is_matched_on(&both, &host, false));
        globs.count(&both, &host, false);
        assert!(!globs.matches_on(&both, &host, false));
        assert!(globs.withdraw(id, &name));
        globs.drop(id);
        assert!(globs.is_empty() && globs.matching("web@2.service").is_empty());
    }
}
