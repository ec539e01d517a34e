//! Which units are kept apart from others by what those prefer (`Spread=`, `Avoids=`): the other side of `Distance`.
//! Owns the counts. Holds nothing in a cluster without these options.

use std::collections::BTreeMap;

use super::super::fit::metadata_value;
use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::preference::Crowd;

/// How many units are on hosts with each value of a key; those without it are one of them.
type ByValue = BTreeMap<Option<String>, usize>;

/// How many units of those that name a crowd are on each host.
#[derive(Debug, Clone, Default)]
pub(super) struct Apart {
    avoid: BTreeMap<Crowd, BTreeMap<MachineId, usize>>,
    /// By the crowd, and the key over which they are spread apart from it: how many are on hosts with each value.
    spread: BTreeMap<(Crowd, String), ByValue>,
}

/// How many other units a host has that are to be apart from some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Others {
    /// On hosts with its value, those that are spread.
    pub(super) spread: usize,
    /// Those that avoid them.
    pub(super) avoided: usize,
}

/// The counts for some units, and how many of these each is about.
pub(super) struct Beside<'a> {
    avoid: Vec<(usize, &'a BTreeMap<MachineId, usize>)>,
    spread: Vec<(usize, &'a str, &'a ByValue)>,
}

/// The crowds that a unit avoids, and those from which it is spread apart, with the keys.
fn named(cluster: &Cluster, unit: &UnitName) -> (Vec<Crowd>, Option<(Crowd, String)>) {
    let constraints = cluster.constraints(unit);
    let Some(preferences) = constraints.as_ref().and_then(|known| known.preferences.as_ref()) else {
        return Default::default();
    };
    let spread = preferences.spread.as_ref().and_then(|spread| Some((spread.crowd(unit)?, spread.key.clone())));
    (preferences.avoids.iter().cloned().map(Crowd::Matching).collect(), spread)
}

fn count<K: Ord>(known: &mut BTreeMap<K, usize>, place: K, comes: bool) {
    let units = known.entry(place).or_default();
    *units = if comes { *units + 1 } else { units.saturating_sub(1) };
}

impl Apart {
    /// The crowds that `leader` names are counted.
    pub(super) fn declare(&mut self, cluster: &Cluster, leader: &UnitName) {
        let (avoid, spread) = named(cluster, leader);
        for crowd in avoid {
            self.avoid.entry(crowd).or_default();
        }
        if let Some(crowd) = spread {
            self.spread.entry(crowd).or_default();
        }
    }

    /// A group is on a host from now on. What its first unit prefers counts.
    pub(super) fn put(&mut self, cluster: &Cluster, group: &[UnitName], host: &MachineId) {
        self.count(cluster, group, host, true);
    }

    /// A group is no longer on a host.
    pub(super) fn take_off(&mut self, cluster: &Cluster, group: &[UnitName], host: &MachineId) {
        self.count(cluster, group, host, false);
    }

    fn count(&mut self, cluster: &Cluster, group: &[UnitName], host: &MachineId, comes: bool) {
        if self.avoid.is_empty() && self.spread.is_empty() {
            return;
        }
        let Some(leader) = group.first() else { return };
        let (avoid, spread) = named(cluster, leader);
        for crowd in &avoid {
            self.avoid.get_mut(crowd).into_iter().for_each(|hosts| count(hosts, host.clone(), comes));
        }
        if let Some(crowd) = spread
            && let Some(values) = self.spread.get_mut(&crowd)
        {
            count(values, metadata_value(cluster, host, &crowd.1).map(str::to_owned), comes);
        }
    }

    /// The counts that concern `group`.
    pub(super) fn beside<'a>(&'a self, group: &[UnitName]) -> Beside<'a> {
        let about = |crowd: &Crowd| group.iter().filter(|unit| crowd.has(unit)).count();
        let avoid = self.avoid.iter().map(|(crowd, hosts)| (about(crowd), hosts));
        let spread = self.spread.iter().map(|((crowd, key), values)| (about(crowd), key.as_str(), values));
        Beside {
            avoid: avoid.filter(|(units, _)| *units > 0).collect(),
            spread: spread.filter(|(units, ..)| *units > 0).collect(),
        }
    }
}

impl Beside<'_> {
    /// How many there are for this host, counted once for each unit that they are to be apart from.
    pub(super) fn on(&self, cluster: &Cluster, host: &MachineId) -> Others {
        let avoid = self.avoid.iter().map(|(units, hosts)| units * hosts.get(host).copied().unwrap_or_default());
        let alike = |key: &str, values: &ByValue| {
            let value = metadata_value(cluster, host, key).map(str::to_owned);
            values.get(&value).copied().unwrap_or_default()
        };
        let spread = self.spread.iter().map(|(units, key, values)| units * alike(key, values));
        Others { spread: spread.sum(), avoided: avoid.sum() }
    }
}
