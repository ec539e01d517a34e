//! How good a host is for a unit, among those that fit. Owns the order of the preferences, found by searching; the
//! scheduler finds the same host with its indexes. Must never decide whether a host fits.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use crate::model::cluster::Cluster;
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::placement::preference::{Crowd, Preferences, Spread};
use crate::model::resources::Resources;
use crate::model::settings::Order;

use super::resources::{declared, share, taken_on};
use super::{Question, Stance, View, count_on, first_misfit, metadata_value};

/// How far a host is from what a unit prefers; the smallest is the best, compared field by field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Distance {
    /// How many units that it is spread apart from are on hosts with the same value of the key.
    pub spread: usize,
    /// How many units that it avoids are on the host.
    pub avoided: usize,
    /// Which lines of `MachinePrefers=` don't hold, in their order.
    pub missed: Vec<bool>,
}

/// Where a unit is, and why there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The name of its host.
    pub on: String,
    /// What decides between its host and the next best: `spread zone b 1 < a 2`.
    pub by: String,
    /// The name of the best of the other hosts that fit; `None` if there is no other.
    pub runner_up: Option<String>,
}

/// A host, compared.
pub(crate) struct Rated {
    pub(crate) distance: Distance,
    /// The share of its memory and CPU that is taken, in percent, and the number of units.
    pub(crate) load: (u64, usize),
    pub(crate) id: MachineId,
    /// The value of the key of `Spread=`.
    pub(crate) value: Option<String>,
}

/// Why a unit with preferences is on `host`, as the cluster is now; `None` for one without any, and for one of a group,
/// which is placed as its leader prefers.
#[must_use]
pub fn choice(cluster: &Cluster, unit: &UnitName, host: &MachineId) -> Option<Choice> {
    let mut constraints = Constraints::clone(&*cluster.constraints(unit).filter(|known| known.machine_of.is_empty())?);
    // No host that is better by `Spread=` breaks `MaxSkew=` where another one doesn't, so it needn't be looked at.
    constraints.preferences.as_mut()?.spread.iter_mut().for_each(|spread| spread.max_skew = None);
    let ruler = Ruler::new(cluster, unit, &constraints);
    let spread = constraints.preferences.as_ref().and_then(|preferences| preferences.spread.as_ref());
    let key = spread.map(|spread| spread.key.as_str());
    let rated = |id: &MachineId| Rated {
        distance: ruler.distance(id),
        load: load(cluster, unit, id),
        id: id.clone(),
        value: key.and_then(|key| metadata_value(cluster, id, key)).map(str::to_owned),
    };
    let fits = |id: &&MachineId| {
        let question = Question { unit, constraints: &constraints, host: id, stance: Stance::Arrive, with: &[] };
        first_misfit(cluster, &question).is_none()
    };
    let packs = !constraints.resources.is_none() && cluster.settings.order() == Order::Pack;
    let others = cluster.machines.keys().filter(|id| *id != host).filter(fits).map(rated);
    let next = others.min_by(|a, b| a.compared(b, packs));
    let by = next.as_ref().map(|next| rated(host).against(next, &constraints, packs));
    let by = by.unwrap_or_else(|| "no other host fits".into());
    let name = |id: &MachineId| cluster.hostname(id).map_or_else(|| id.short().to_owned(), str::to_owned);
    Some(Choice { on: name(host), by, runner_up: next.map(|next| name(&next.id)) })
}

impl Rated {
    /// Which of the two is better: less than the other one.
    pub(crate) fn compared(&self, other: &Self, packs: bool) -> Ordering {
        let (ours, theirs) = ((self.load, &self.id), (other.load, &other.id));
        let loads = if packs { theirs.cmp(&ours) } else { ours.cmp(&theirs) };
        self.distance.cmp(&other.distance).then(loads)
    }

    /// What tells this host from the `next` best.
    pub(crate) fn against(&self, next: &Self, constraints: &Constraints, packs: bool) -> String {
        let (ours, theirs) = (&self.distance, &next.distance);
        let sign = if self.compared(next, packs).is_lt() { '<' } else { '>' };
        let preferences = constraints.preferences.as_deref();
        if ours.spread != theirs.spread {
            let spread = preferences.and_then(|preferences| preferences.spread.as_ref());
            let value = |host: &Self| host.value.clone().unwrap_or_else(|| "-".into());
            let (key, here, there) = (spread.map_or("", |spread| &spread.key), value(self), value(next));
            return format!("spread {key} {here} {} {sign} {there} {}", ours.spread, theirs.spread);
        }
        if ours.avoided != theirs.avoided {
            return format!("avoided units {} {sign} {}", ours.avoided, theirs.avoided);
        }
        let differs = ours.missed.iter().zip(&theirs.missed).position(|(a, b)| a != b);
        if let Some(line) = differs.and_then(|at| preferences?.prefers.get(at)) {
            return if sign == '<' { format!("prefers {line}") } else { format!("prefers {line}, and isn't there") };
        }
        let sign = if self.load < next.load { '<' } else { '>' };
        if self.load.0 != next.load.0 {
            return format!("taken {}% {sign} {}%", self.load.0, next.load.0);
        }
        if self.load != next.load {
            return format!("units {} {sign} {}", self.load.1, next.load.1);
        }
        "equal, but for the machine id".into()
    }
}

/// Measures hosts for one unit.
#[derive(Debug)]
pub struct Ruler<'a> {
    cluster: &'a Cluster,
    unit: &'a UnitName,
    preferences: Option<&'a Preferences>,
    /// The units from which it is spread apart, by the value of the key.
    counts: BTreeMap<Option<String>, usize>,
}

impl<'a> Ruler<'a> {
    /// For a unit with these constraints.
    #[must_use]
    pub fn new(cluster: &'a Cluster, unit: &'a UnitName, constraints: &'a Constraints) -> Self {
        let preferences = constraints.preferences.as_deref();
        let spread = preferences.and_then(|preferences| preferences.spread.as_ref());
        let counts = spread.and_then(|spread| Some(View::counted(cluster, &spread.crowd(unit)?, &spread.key, unit)));
        Self { cluster, unit, preferences, counts: counts.unwrap_or_default() }
    }

    /// How far `host` is from what the unit prefers.
    #[must_use]
    pub fn distance(&self, host: &MachineId) -> Distance {
        let value = |key: &str| metadata_value(self.cluster, host, key);
        let avoided = members_on(self.cluster, self.unit, host);
        let Some(Preferences { spread, avoids, prefers, .. }) = self.preferences else {
            return Distance { avoided, ..Distance::default() };
        };
        let of = |glob: &Glob| count_on(self.cluster, &Crowd::Matching(glob.clone()), host, self.unit);
        let value_of = |spread: &Spread| value(&spread.key).map(str::to_owned);
        let spread = spread.as_ref().and_then(|spread| self.counts.get(&value_of(spread)).copied());
        Distance {
            spread: spread.unwrap_or_default(),
            avoided: avoided + avoids.iter().map(of).sum::<usize>(),
            missed: prefers.iter().map(|wanted| !wanted.holds(value)).collect(),
        }
    }
}

/// How full a host is without `unit`.
fn load(cluster: &Cluster, unit: &UnitName, host: &MachineId) -> (u64, usize) {
    let there = cluster.schedule.get(host);
    let is_there = there.is_some_and(|there| there.contains_key(unit));
    let own = if is_there { declared(cluster, unit, host) } else { Resources::default() };
    let taken = taken_on(cluster, host).but(own);
    let units = there.map_or(0, BTreeMap::len) - usize::from(is_there);
    (share(cluster, host, taken.amount), units)
}

/// How many other members of the set that a unit belongs to are on a host, leaving or not.
fn members_on(cluster: &Cluster, unit: &UnitName, host: &MachineId) -> usize {
    let is_set = |template: &UnitName| cluster.units.get(template).is_some_and(|record| record.replicas.is_some());
    let Some(set) = unit.set().filter(is_set) else { return 0 };
    let there = cluster.schedule.get(host).into_iter().flat_map(|there| there.keys());
    there.filter(|name| *name != unit && name.number_in(&set).is_some()).count()
}

/// As in `on n4: spread zone b 1 < a 2; runner-up n2`.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on {}: {}", self.on, self.by)?;
        self.runner_up.as_ref().map_or(Ok(()), |next| write!(f, "; runner-up {next}"))
    }
}
