//! Live hosts by load, the best first: all of them, and those with the metadata that some unit requires. Owns the order
//! in which hosts are tried; must never decide whether one fits.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::Cluster;
use crate::model::name::MachineId;
use crate::model::placement::{Condition, Constraints, Test};

use super::super::super::fit::{Eligible, metadata_value};
use super::super::score::{Load, Place, Ranking, Score};
use super::order::{Merge, Ranked, Trying, Way};
use super::rooms::{Free, Rooms};

/// For how many conditions the hosts are ranked. Each assignment changes the place of its host in all of these
/// rankings; with more conditions, the hosts are tried one after another.
const RANKED: usize = 64;

/// Live hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Hosts {
    all: Ranking,
    /// By metadata key and value, only for keys that units require.
    by_value: BTreeMap<String, BTreeMap<String, Ranking>>,
    /// How many units require each key.
    asked: BTreeMap<String, usize>,
    /// The conditions that units require.
    conditions: BTreeMap<Condition, Asked>,
    /// How many of them have a ranking.
    ranked: usize,
    known: BTreeMap<MachineId, Known>,
    /// What is free on them, if the cluster packs units.
    rooms: Option<Rooms>,
}

/// How much there is on a host, and how much is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Filled {
    pub(in super::super) load: Load,
    /// `None` unless the cluster packs units.
    pub(in super::super) free: Option<Free>,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Asked {
    /// How many units require it.
    units: usize,
    /// The hosts for which it holds.
    ranking: Option<Ranking>,
}

/// What the rankings contain of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Known {
    cordoned: bool,
    filled: Filled,
    values: Vec<(String, String)>,
}

impl Known {
    /// Where the rankings have the host.
    fn score(&self, host: &MachineId) -> Score {
        Score { cordoned: self.cordoned, load: self.filled.load, host: host.clone() }
    }
}

impl Hosts {
    /// A unit with these constraints was added or removed.
    pub(in super::super) fn ask(&mut self, cluster: &Cluster, constraints: &Constraints, comes: bool) {
        let spread = constraints.preferences.as_ref().and_then(|preferences| preferences.spread.as_ref());
        for key in constraints.metadata.keys().chain(spread.map(|spread| &spread.key)) {
            let count = self.asked.entry(key.clone()).or_default();
            if comes {
                *count += 1;
            } else {
                *count -= 1;
            }
            match *count {
                1 if comes => self
                    .known
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
                    .iter()
                    .for_each(|host| self.enter_value(cluster, host, key)),
                0 => {
                    self.asked.remove(key);
                    self.by_value.remove(key);
                    self.known.values_mut().for_each(|known| known.values.retain(|(known, _)| known != key));
                }
                _ => {}
            }
        }
        let without = spread.map(|spread| missing(&spread.key));
        for condition in constraints.conditions.iter().chain(&without) {
            self.ask_condition(cluster, condition, comes);
        }
    }

    fn ask_condition(&mut self, cluster: &Cluster, condition: &Condition, comes: bool) {
        let Some(asked) = self.conditions.get_mut(condition) else {
            let is_ranked = self.ranked < RANKED;
            let score = |(host, known): (&MachineId, &Known)| known.score(host);
            let held = |(host, _): &(&MachineId, &Known)| holds(cluster, host, condition);
            let ranking = is_ranked.then(|| self.known.iter().filter(held).map(score).collect());
            self.ranked += usize::from(is_ranked);
            self.conditions.insert(condition.clone(), Asked { units: 1, ranking });
            return;
        };
        asked.units = if comes { asked.units + 1 } else { asked.units.saturating_sub(1) };
        if asked.units == 0 {
            self.ranked -= usize::from(asked.ranking.is_some());
            self.conditions.remove(condition);
        }
    }

    fn enter_value(&mut self, cluster: &Cluster, host: &MachineId, key: &str) {
        let Some(value) = metadata_value(cluster, host, key) else { return };
        let Some(known) = self.known.get_mut(host) else { return };
        known.values.push((key.into(), value.into()));
        let ranking = self.by_value.entry(key.into()).or_default().entry(value.into()).or_default();
        ranking.insert(known.score(host));
    }

    /// A host was added or removed, its metadata changed, or it was cordoned or no longer is.
    pub(in super::super) fn changed(&mut self, cluster: &Cluster, host: &MachineId, filled: Filled) {
        if let Some(known) = self.known.remove(host) {
            let place = known.score(host);
            self.moved(Some((place.place(), known.filled.free)), None);
            self.all.remove(&place);
            for (key, value) in &known.values {
                let Some(values) = self.by_value.get_mut(key) else { continue };
                let Some(ranking) = values.get_mut(value) else { continue };
                ranking.remove(&place);
                if ranking.is_empty() {
                    values.remove(value);
                }
            }
            for ranking in self.conditions.values_mut().filter_map(|asked| asked.ranking.as_mut()) {
                ranking.remove(&place);
            }
        }
        if cluster.machines.contains_key(host) {
            let cordoned = cluster.is_closed(host);
            let score = Score { cordoned, load: filled.load, host: host.clone() };
            self.moved(None, Some((score.place(), filled.free)));
            self.all.insert(score.clone());
            self.known.insert(host.clone(), Known { cordoned, filled, values: Vec::new() });
            for key in self.asked.keys().cloned().collect::<Vec<_>>() {
                self.enter_value(cluster, host, &key);
            }
            for (condition, asked) in &mut self.conditions {
                if let Some(ranking) = asked.ranking.as_mut().filter(|_| holds(cluster, host, condition)) {
                    ranking.insert(score.clone());
                }
            }
        }
    }

    /// A host has another load, or something else is free on it.
    pub(in super::super) fn loaded(&mut self, host: &MachineId, filled: Filled) {
        let Some(known) = self.known.get_mut(host).filter(|known| known.filled != filled) else { return };
        let (place, before, load) = (known.score(host), known.filled, filled.load);
        known.filled = filled;
        if before.free.is_some() || filled.free.is_some() {
            let place = (place.place(), (place.cordoned, load.share));
            self.moved(Some((place.0, before.free)), Some((place.1, filled.free)));
        }
        let Some(known) = self.known.get(host).filter(|_| before.load != load) else { return };
        let shift = |ranking: &mut Ranking| {
            ranking.remove(&place);
            ranking.insert(Score { load, ..place.clone() });
        };
        shift(&mut self.all);
        for (key, value) in &known.values {
            if let Some(ranking) = self.by_value.get_mut(key).and_then(|values| values.get_mut(value)) {
                shift(ranking);
            }
        }
        for ranking in self.conditions.values_mut().filter_map(|asked| asked.ranking.as_mut()) {
            if ranking.contains(&place) {
                shift(ranking);
            }
        }
    }

    /// What is free on a host, at this place, is known or not.
    fn moved(&mut self, before: Option<(Place, Option<Free>)>, after: Option<(Place, Option<Free>)>) {
        for (known, comes) in [(before, false), (after, true)] {
            let Some((place, free)) = known.and_then(|(place, free)| Some((place, free?))) else { continue };
            self.rooms.get_or_insert_default().changed(place, free, comes);
        }
        self.rooms.take_if(|rooms| rooms.is_empty());
    }

    /// Where the rankings have a host.
    pub(in super::super) fn place(&self, host: &MachineId) -> Option<Place> {
        self.known.get(host).map(|known| (known.cordoned, known.filled.load.share))
    }

    /// Whether what is known of a host agrees with this.
    pub(in super::super) fn has(&self, host: &MachineId, filled: Filled) -> bool {
        let is_known = |place| match (&self.rooms, filled.free) {
            (Some(rooms), Some(free)) => rooms.has(place, free),
            (rooms, free) => rooms.is_some() == free.is_some(),
        };
        let is_there = self.known.get(host).is_some_and(|known| known.filled == filled);
        is_there && self.place(host).is_some_and(is_known)
    }

    /// All hosts, in the order in which they are tried.
    pub(in super::super) fn in_order<'a>(&'a self, trying: &Trying) -> impl Iterator<Item = &'a MachineId> + use<'a> {
        Way::of(&self.all, self.rooms.as_ref(), trying).map(Ranked::host)
    }

    /// All hosts.
    pub(in super::super) fn all(&self) -> impl DoubleEndedIterator<Item = &MachineId> {
        self.all.iter().map(|score| &score.host)
    }

    /// The number of hosts.
    pub(in super::super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The hosts that have one of the values that `constraints` require for one metadata key, or for which one of their
    /// conditions holds, in this order, and their number. Of several keys and conditions, the one with the fewest hosts
    /// is used.
    pub(in super::super) fn with_metadata<'a>(
        &'a self,
        constraints: &'a Constraints,
        trying: &Trying,
    ) -> Option<(usize, Merge<'a>)> {
        let rankings = |(key, wanted): (&'a String, &'a BTreeSet<String>)| {
            let values = self.by_value.get(key);
            let found = wanted.iter().filter_map(move |value| values?.get(value));
            let found: Vec<&Ranking> = found.collect();
            (found.iter().map(|ranking| ranking.len()).sum::<usize>(), found)
        };
        let ranked = |condition| self.conditions.get(condition)?.ranking.as_ref();
        let conditions = constraints.conditions.iter().filter_map(ranked).map(|ranking| (ranking.len(), vec![ranking]));
        let (count, found) =
            constraints.metadata.iter().map(rankings).chain(conditions).min_by_key(|(count, _)| *count)?;
        Some((count, self.merge(found, trying)))
    }

    /// The values of a key of the hosts that `fit`, as `fit::View` has them; `None` if the hosts aren't ranked by it.
    pub(in super::super) fn values_with(&self, key: &str, fits: impl Fn(&MachineId) -> bool) -> Option<Eligible> {
        let without = self.conditions.get(&missing(key))?.ranking.as_ref()?;
        // Those that are cordoned come last.
        let counts = |ranking: &Ranking| Some(!ranking.iter().find(|score| fits(&score.host))?.cordoned);
        let known = self.by_value.get(key).into_iter().flatten().map(|(value, ranking)| (Some(value), ranking));
        let all = known.chain([(None, without)]);
        Some(all.filter_map(|(value, ranking)| Some((value.cloned(), counts(ranking)?))).collect())
    }

    /// The hosts that have one of these values of such a key, in this order, and their number; `None` if those without
    /// the key aren't ranked.
    pub(in super::super) fn of_values(
        &self,
        key: &str,
        values: &BTreeSet<Option<String>>,
        trying: &Trying,
    ) -> Option<(usize, Merge<'_>)> {
        let by_value = self.by_value.get(key);
        let mut rankings = Vec::new();
        for value in values {
            match value {
                Some(value) => rankings.extend(by_value.and_then(|by_value| by_value.get(value))),
                None => rankings.push(self.conditions.get(&missing(key))?.ranking.as_ref()?),
            }
        }
        let count = rankings.iter().map(|ranking| ranking.len()).sum();
        Some((count, self.merge(rankings, trying)))
    }

    fn merge<'a>(&'a self, rankings: Vec<&'a Ranking>, trying: &Trying) -> Merge<'a> {
        Merge::of(rankings.into_iter().map(|ranking| Way::of(ranking, self.rooms.as_ref(), trying)))
    }
}

/// That a host doesn't have a key.
fn missing(key: &str) -> Condition {
    Condition { key: key.into(), test: Test::Missing }
}

fn holds(cluster: &Cluster, host: &MachineId, condition: &Condition) -> bool {
    condition.holds(metadata_value(cluster, host, &condition.key))
}
