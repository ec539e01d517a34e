//! What the rules need to know about a cluster. Owns the direct answers, found by searching; the scheduler answers the
//! same from its indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::cluster::{Cluster, Versioned};
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::placement::preference::Crowd;
use crate::model::unit::{Assignment, Target};

use super::resources::{self, Taken};
use super::{is_eligible, metadata_value};

/// Values of a key of metadata, `None` for hosts without the key, and whether they count for `MaxSkew=`.
pub type Eligible = BTreeMap<Option<String>, bool>;

/// A cluster, and what is derived from it.
pub trait View {
    /// The cluster itself.
    fn cluster(&self) -> &Cluster;
    /// A unit's constraints, resolved; `None` while its file isn't known.
    fn constraints(&self, name: &UnitName) -> Option<Arc<Constraints>>;
    /// A unit's constraints on a host, resolved: those of the file that it has, or must have, there
    /// ([`Cluster::file_on`]).
    fn constraints_at(&self, name: &UnitName, host: &MachineId) -> Option<Arc<Constraints>>;
    /// The constraints by which a unit can evict others, on any host: its own; after it was destroyed, those of the
    /// file on its first host.
    fn constraints_in_force(&self, name: &UnitName) -> Option<Arc<Constraints>>;
    /// The units whose `MachineOf=` names this one, in order.
    fn dependents(&self, name: &UnitName) -> Vec<UnitName>;
    /// The units, submitted or still on a host, that one of these patterns matches, in order and without `except`.
    fn matching(&self, globs: &[Glob], except: &UnitName) -> Vec<UnitName>;
    /// Whether a unit has a live assignment anywhere.
    fn is_placed(&self, name: &str) -> bool;
    /// How many units of a crowd, without `except`, have live assignments on registered hosts with each value of a key;
    /// on those without the key, by `None`. Values that none has may be left out.
    fn counted(&self, crowd: &Crowd, key: &str, except: &UnitName) -> BTreeMap<Option<String>, usize>;
    /// The values of a key of the registered hosts that could have a unit, by what they are; and whether one of the
    /// hosts with this value isn't cordoned.
    fn eligible(&self, unit: &UnitName, constraints: &Constraints, key: &str) -> Arc<Eligible>;
    /// How much memory and CPU the units on a host take.
    fn taken_on(&self, host: &MachineId) -> Taken;
}

/// Searches the whole cluster: for single questions, not for planning rounds.
impl View for Cluster {
    fn cluster(&self) -> &Cluster {
        self
    }

    fn constraints(&self, name: &UnitName) -> Option<Arc<Constraints>> {
        Cluster::constraints(self, name)
    }

    fn constraints_at(&self, name: &UnitName, host: &MachineId) -> Option<Arc<Constraints>> {
        let hash = self.file_on(name, host)?;
        Some(Constraints::resolve(&self.files.get(hash)?.value, name))
    }

    fn constraints_in_force(&self, name: &UnitName) -> Option<Arc<Constraints>> {
        if self.units.contains_key(name) {
            return Cluster::constraints(self, name);
        }
        let (host, _) = self.schedule.iter().find(|(_, assignments)| assignments.contains_key(name))?;
        self.constraints_at(name, host)
    }

    fn dependents(&self, name: &UnitName) -> Vec<UnitName> {
        let follows = |other: &&UnitName| {
            Cluster::constraints(self, other).is_some_and(|constraints| constraints.machine_of.contains(name.as_str()))
        };
        self.units.keys().filter(follows).cloned().collect()
    }

    fn matching(&self, globs: &[Glob], except: &UnitName) -> Vec<UnitName> {
        let matches = |name: &&UnitName| *name != except && globs.iter().any(|glob| glob.matches(name.as_str()));
        let all: BTreeSet<&UnitName> =
            self.units.keys().chain(self.schedule.values().flat_map(BTreeMap::keys)).collect();
        all.into_iter().filter(matches).cloned().collect()
    }

    fn is_placed(&self, name: &str) -> bool {
        self.schedule.keys().any(|host| super::live_at(self, name, host))
    }

    fn counted(&self, crowd: &Crowd, key: &str, except: &UnitName) -> BTreeMap<Option<String>, usize> {
        let mut counts = BTreeMap::new();
        for host in self.machines.keys() {
            let there = count_on(self, crowd, host, except);
            if there > 0 {
                *counts.entry(metadata_value(self, host, key).map(str::to_owned)).or_default() += there;
            }
        }
        counts
    }

    fn eligible(&self, _: &UnitName, constraints: &Constraints, key: &str) -> Arc<Eligible> {
        let mut values = Eligible::new();
        for host in self.machines.keys().filter(|host| is_eligible(self, constraints, host)) {
            let value = metadata_value(self, host, key).map(str::to_owned);
            *values.entry(value).or_default() |= !self.is_closed(host);
        }
        Arc::new(values)
    }

    fn taken_on(&self, host: &MachineId) -> Taken {
        resources::taken_on(self, host)
    }
}

/// How many units of a crowd, without `except`, have live assignments on a host.
pub(crate) fn count_on(cluster: &Cluster, crowd: &Crowd, host: &MachineId, except: &UnitName) -> usize {
    let live = |(name, assignment): &(&UnitName, &Versioned<Assignment>)| {
        assignment.value.target != Target::Removed && *name != except && crowd.has(name)
    };
    cluster.schedule.get(host).into_iter().flatten().filter(live).count()
}
