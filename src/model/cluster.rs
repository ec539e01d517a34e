//! The cluster as one value, and the changes that lead from one to the next. What an engine mirrors, and what `plan`
//! plans over.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::machine::{Machine, Metadata};
use super::name::{MachineId, UnitHash, UnitName};
use super::placement::Constraints;
use super::revision::Revision;
use super::unit::{Assignment, Placement, Unit, UnitReport};

/// A value and the commit that wrote it, for guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The commit that wrote it; [`Revision::default`] for one that is planned and not yet seen in the store.
    pub revision: Revision,
}

/// Everything that decides where units run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// The revision of the store that this is the state at.
    pub revision: Revision,
    /// What is wanted.
    pub units: BTreeMap<UnitName, Unit>,
    /// What the files say about placement, specifiers unresolved, and the commit that wrote each file.
    pub files: BTreeMap<UnitHash, Versioned<Arc<Constraints>>>,
    /// The hosts that are alive.
    pub machines: BTreeMap<MachineId, Machine>,
    /// Metadata set at run time, which outlives a host's absence.
    pub metadata: BTreeMap<MachineId, Metadata>,
    /// Where each non-global unit is.
    pub placements: BTreeMap<UnitName, Versioned<Placement>>,
    /// What is assigned to each host, dead hosts included.
    pub schedule: BTreeMap<MachineId, BTreeMap<UnitName, Versioned<Assignment>>>,
    /// What each host reports.
    pub states: BTreeMap<UnitName, BTreeMap<MachineId, UnitReport>>,
}

/// One change of a [`Cluster`]. `None` is a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A unit was submitted, changed or destroyed.
    Unit(UnitName, Option<Unit>),
    /// A file became known or was collected.
    File(UnitHash, Option<Versioned<Arc<Constraints>>>),
    /// A host came, changed or went.
    Machine(MachineId, Option<Machine>),
    /// A host's dynamic metadata changed.
    Metadata(MachineId, String, Option<String>),
    /// A unit was placed, or its reasons for waiting changed.
    Placement(UnitName, Option<Versioned<Placement>>),
    /// A host's assignment changed.
    Assignment(MachineId, UnitName, Option<Versioned<Assignment>>),
    /// A host reported something.
    Report(UnitName, MachineId, Option<UnitReport>),
}

impl Cluster {
    /// Take one change in.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Unit(name, unit) => set(&mut self.units, name, unit),
            Change::File(hash, constraints) => set(&mut self.files, hash, constraints),
            Change::Machine(id, machine) => set(&mut self.machines, id, machine),
            Change::Metadata(id, key, value) => set_nested(&mut self.metadata, id, key, value),
            Change::Placement(name, placement) => set(&mut self.placements, name, placement),
            Change::Assignment(host, name, entry) => set_nested(&mut self.schedule, host, name, entry),
            Change::Report(name, host, state) => set_nested(&mut self.states, name, host, state),
        }
    }

    /// What unit `name` asks of its host, specifiers resolved; `None` while its file isn't known.
    #[must_use]
    pub fn constraints(&self, name: &UnitName) -> Option<Arc<Constraints>> {
        let file = self.files.get(&self.units.get(name)?.hash)?;
        Some(Constraints::resolve(&file.value, name))
    }

    /// The file that a unit has, or is to have, on a host: that of its record; once it is destroyed, the one that the
    /// host still has. All hosts of a unit that exists have the same; where they are to differ, this is the place.
    #[must_use]
    pub fn file_on(&self, name: &UnitName, host: &MachineId) -> Option<&UnitHash> {
        let assigned = || Some(&self.schedule.get(host)?.get(name)?.value.hash);
        self.units.get(name).map(|unit| &unit.hash).or_else(assigned)
    }

    /// A host's metadata as units see it: dynamic over static. An empty dynamic value hides a static one.
    #[must_use]
    pub fn effective_metadata(&self, id: &MachineId) -> Metadata {
        let mut metadata = self.machines.get(id).map(|machine| machine.metadata.clone()).unwrap_or_default();
        for (key, value) in self.metadata.get(id).into_iter().flatten() {
            if value.is_empty() {
                metadata.remove(key);
            } else {
                metadata.insert(key.clone(), value.clone());
            }
        }
        metadata
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

fn set_nested<K: Ord + Clone, L: Ord, V>(map: &mut BTreeMap<K, BTreeMap<L, V>>, outer: K, inner: L, value: Option<V>) {
    let nested = map.entry(outer.clone()).or_default();
    set(nested, inner, value);
    if nested.is_empty() {
        map.remove(&outer);
    }
}
