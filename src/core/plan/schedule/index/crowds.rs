//! How many units of a crowd are on each host, and on the hosts with each value of a key: for `Spread=` and `Avoids=`.
//! Owns the counts; holds nothing in a cluster without these options, and must never decide where a unit goes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::placement::preference::Crowd;

use super::super::super::fit::{live_at, metadata_value};
use super::{Node, put, range};

/// The crowds that units name.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Crowds {
    all: BTreeMap<Crowd, Counted>,
    /// How many of them are patterns, which are compared with each name. They are the last ones.
    patterns: usize,
    /// Units with `MaxSkew=`: where one fits depends on where those of its crowd are.
    skewed: BTreeSet<UnitName>,
}

/// A crowd.
#[derive(Debug, Clone, Default)]
struct Counted {
    /// How many units name it.
    units: usize,
    /// Those of them with `MaxSkew=`.
    skewed: BTreeSet<UnitName>,
    /// Live assignments by host, also on hosts that aren't registered.
    on: BTreeMap<MachineId, usize>,
    /// By the keys over which it is spread.
    keys: BTreeMap<String, Spread>,
}

/// The same by the value of a key, for registered hosts.
#[derive(Debug, Clone, Default)]
struct Spread {
    /// How many units name it.
    units: usize,
    sums: BTreeMap<Option<String>, usize>,
    /// The values that are counted of hosts that have any.
    values: BTreeMap<MachineId, Option<String>>,
}

/// The crowds of these constraints, and over which key each is spread.
fn named(name: &UnitName, constraints: &Constraints) -> Vec<(Crowd, Option<String>)> {
    let Some(preferences) = &constraints.preferences else { return Vec::new() };
    let spread = preferences.spread.as_ref().and_then(|spread| Some((spread.crowd(name)?, Some(spread.key.clone()))));
    let avoids = preferences.avoids.iter().map(|glob| (Crowd::Matching(glob.clone()), None));
    spread.into_iter().chain(avoids).collect()
}

impl Crowds {
    /// The constraints of unit `name` changed.
    pub(super) fn changed(
        &mut self,
        cluster: &Cluster,
        nodes: &BTreeMap<UnitName, Node>,
        name: &UnitName,
        (old, new): (Option<&Constraints>, Option<&Constraints>),
    ) {
        let of = |constraints: Option<&Constraints>| constraints.map_or_else(Vec::new, |known| named(name, known));
        for (crowd, key) in of(new) {
            self.named(cluster, nodes, &crowd, key, true);
        }
        for (crowd, key) in of(old) {
            self.named(cluster, nodes, &crowd, key, false);
        }
        for (known, comes) in [(old, false), (new, true)] {
            let spread = known.and_then(|known| known.preferences.as_ref()?.spread.as_ref());
            let Some(spread) = spread.filter(|spread| spread.max_skew.is_some()) else { continue };
            let counted = spread.crowd(name).and_then(|crowd| self.all.get_mut(&crowd));
            for skewed in counted.map(|counted| &mut counted.skewed).into_iter().chain([&mut self.skewed]) {
                put(skewed, name, comes);
            }
        }
    }

    /// A unit names a crowd, or no longer does.
    fn named(
        &mut self,
        cluster: &Cluster,
        nodes: &BTreeMap<UnitName, Node>,
        crowd: &Crowd,
        key: Option<String>,
        comes: bool,
    ) {
        let is_pattern = usize::from(matches!(crowd, Crowd::Matching(_)));
        let step = |units: &mut usize| *units = if comes { *units + 1 } else { units.saturating_sub(1) };
        let counted = self.all.entry(crowd.clone()).or_insert_with(|| {
            self.patterns += is_pattern;
            Counted { on: count(cluster, nodes, crowd), ..Counted::default() }
        });
        step(&mut counted.units);
        if let Some(key) = key {
            let on = &counted.on;
            let spread = counted.keys.entry(key.clone()).or_insert_with(|| Spread::of(cluster, &key, on));
            step(&mut spread.units);
            if spread.units == 0 {
                counted.keys.remove(&key);
            }
        }
        if counted.units == 0 {
            self.all.remove(crowd);
            self.patterns -= is_pattern;
        }
    }

    /// Unit `name` has a live assignment on `host` from now on, or has none there any more.
    pub(in super::super) fn live_changed(&mut self, cluster: &Cluster, name: &UnitName, host: &MachineId, live: bool) {
        if self.is_empty() {
            return;
        }
        if let Some(counted) = name.template().and_then(|template| self.all.get_mut(&Crowd::Instances(template))) {
            counted.live_changed(cluster, host, live);
        }
        let patterns = self.all.iter_mut().rev().take(self.patterns).filter(|(crowd, _)| crowd.has(name));
        patterns.for_each(|(_, counted)| counted.live_changed(cluster, host, live));
    }

    /// A host was added or removed, or its metadata changed.
    pub(super) fn host_changed(&mut self, cluster: &Cluster, host: &MachineId) {
        for counted in self.all.values_mut() {
            let Some(there) = counted.on.get(host) else { continue };
            for (key, spread) in &mut counted.keys {
                spread.take(host, *there);
                spread.put(cluster, (key, host), *there);
            }
        }
    }

    /// How many units of a crowd that some unit avoids are on `host`.
    pub(in super::super) fn on(&self, crowd: &Crowd) -> Option<&BTreeMap<MachineId, usize>> {
        self.all.get(crowd).map(|counted| &counted.on)
    }

    /// By the value of a key over which some unit is spread.
    pub(in super::super) fn sums(&self, crowd: &Crowd, key: &str) -> Option<&BTreeMap<Option<String>, usize>> {
        self.all.get(crowd)?.keys.get(key).map(|spread| &spread.sums)
    }

    /// Whether no unit names any.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether the unit has `MaxSkew=`.
    pub(in super::super) fn is_skewed(&self, name: &UnitName) -> bool {
        self.skewed.contains(name)
    }

    /// The units among those that wait that may be helped by an arrival or a departure of `name`: those with `MaxSkew=`
    /// whose crowds it belongs to.
    pub(in super::super) fn helped(&self, name: &UnitName, waiting: &BTreeSet<UnitName>) -> BTreeSet<UnitName> {
        if self.skewed.is_empty() || waiting.is_empty() {
            return BTreeSet::new();
        }
        let own = name.template().and_then(|template| self.all.get(&Crowd::Instances(template)));
        let patterns = self.all.iter().rev().take(self.patterns).filter(|(crowd, _)| crowd.has(name));
        let crowds = own.into_iter().chain(patterns.map(|(_, counted)| counted));
        let helped = crowds.flat_map(|counted| {
            let (few, many) = if counted.skewed.len() < waiting.len() {
                (&counted.skewed, waiting)
            } else {
                (waiting, &counted.skewed)
            };
            few.iter().filter(move |unit| many.contains(*unit)).cloned()
        });
        helped.collect()
    }
}

impl Counted {
    fn live_changed(&mut self, cluster: &Cluster, host: &MachineId, live: bool) {
        let before = self.on.get(host).copied().unwrap_or_default();
        let now = if live { before + 1 } else { before.saturating_sub(1) };
        for (key, spread) in &mut self.keys {
            spread.take(host, before);
            if now > 0 {
                spread.put(cluster, (key, host), now);
            }
        }
        match now {
            0 => drop(self.on.remove(host)),
            now => drop(self.on.insert(host.clone(), now)),
        }
    }
}

impl Spread {
    fn of(cluster: &Cluster, key: &str, on: &BTreeMap<MachineId, usize>) -> Self {
        let mut spread = Self::default();
        for (host, there) in on {
            spread.put(cluster, (key, host), *there);
        }
        spread
    }

    /// Count a host that isn't counted.
    fn put(&mut self, cluster: &Cluster, (key, host): (&str, &MachineId), there: usize) {
        if cluster.machines.contains_key(host) {
            let value = metadata_value(cluster, host, key).map(str::to_owned);
            *self.sums.entry(value.clone()).or_default() += there;
            self.values.insert(host.clone(), value);
        }
    }

    /// Count a host no longer.
    fn take(&mut self, host: &MachineId, there: usize) {
        let Some(value) = self.values.remove(host) else { return };
        if let Some(sum) = self.sums.get_mut(&value) {
            *sum = sum.saturating_sub(there);
            if *sum == 0 {
                self.sums.remove(&value);
            }
        }
    }
}

/// The live assignments of a crowd.
fn count(cluster: &Cluster, nodes: &BTreeMap<UnitName, Node>, crowd: &Crowd) -> BTreeMap<MachineId, usize> {
    let mut hosts = BTreeMap::new();
    let mut take = |(name, node): (&UnitName, &Node)| {
        for host in node.hosts.keys().filter(|host| live_at(cluster, name.as_str(), host)) {
            *hosts.entry(host.clone()).or_default() += 1;
        }
    };
    match crowd {
        Crowd::Matching(glob) => range(nodes, glob).for_each(&mut take),
        Crowd::Instances(template) => {
            let prefix = format!("{}@", template.prefix());
            let after = (Bound::Included(prefix.as_str()), Bound::Unbounded);
            let from = nodes.range::<str, _>(after).take_while(|(name, _)| name.as_str().starts_with(&prefix));
            from.filter(|(name, _)| crowd.has(name)).for_each(&mut take);
        }
    }
    hosts
}
