//! Live hosts by load, the best first: all of them, and those with the metadata that some unit requires. Owns the order
//! in which hosts are tried; must never decide whether one fits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, btree_set};
use std::iter::{Peekable, Rev};

use crate::model::cluster::Cluster;
use crate::model::name::MachineId;
use crate::model::placement::{Condition, Constraints, Test};
use crate::model::settings::Order;

use super::super::super::fit::{Eligible, metadata_value};
use super::super::score::{Load, Ranking, Score};

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
    load: Load,
    values: Vec<(String, String)>,
}

impl Known {
    /// Where the rankings have the host.
    fn score(&self, host: &MachineId) -> Score {
        Score { cordoned: self.cordoned, load: self.load, host: host.clone() }
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
    pub(in super::super) fn changed(&mut self, cluster: &Cluster, host: &MachineId, load: Load) {
        if let Some(known) = self.known.remove(host) {
            let place = known.score(host);
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
            let score = Score { cordoned, load, host: host.clone() };
            self.all.insert(score.clone());
            self.known.insert(host.clone(), Known { cordoned, load, values: Vec::new() });
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

    /// A host has another load.
    pub(in super::super) fn loaded(&mut self, host: &MachineId, load: Load) {
        let Some(known) = self.known.get_mut(host).filter(|known| known.load != load) else { return };
        let place = known.score(host);
        known.load = load;
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
        order: Order,
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
        Some((count, Merge::of(found, order)))
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
        order: Order,
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
        Some((count, Merge::of(rankings, order)))
    }
}

/// That a host doesn't have a key.
fn missing(key: &str) -> Condition {
    Condition { key: key.into(), test: Test::Missing }
}

/// Several rankings merged into one.
pub(in super::super) struct Merge<'a>(Vec<Peekable<Way<'a>>>);

/// A ranking, from its beginning or from its end.
enum Way<'a> {
    Best(btree_set::Iter<'a, Score>),
    Fullest(Rev<btree_set::Iter<'a, Score>>),
}

impl<'a> Merge<'a> {
    fn of(rankings: Vec<&'a Ranking>, order: Order) -> Self {
        let way = |ranking: &'a Ranking| match order {
            Order::Spread => Way::Best(ranking.iter()),
            Order::Pack => Way::Fullest(ranking.iter().rev()),
        };
        Self(rankings.into_iter().map(|ranking| way(ranking).peekable()).collect())
    }
}

impl<'a> Iterator for Way<'a> {
    type Item = Ranked<'a>;

    fn next(&mut self) -> Option<Ranked<'a>> {
        match self {
            Self::Best(scores) => scores.next().map(Ranked::Best),
            Self::Fullest(scores) => scores.next().map(|score| Ranked::Fullest(Reverse(score))),
        }
    }
}

/// A host in the order of its ranking, the first is the smallest. All rankings that are merged have the same order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ranked<'a> {
    Best(&'a Score),
    Fullest(Reverse<&'a Score>),
}

impl<'a> Iterator for Merge<'a> {
    type Item = &'a MachineId;

    fn next(&mut self) -> Option<&'a MachineId> {
        let first = |(at, ranking): (usize, &mut Peekable<Way<'a>>)| ranking.peek().map(|ranked| (*ranked, at));
        let (_, at) = self.0.iter_mut().enumerate().filter_map(first).min()?;
        match self.0.get_mut(at)?.next()? {
            Ranked::Best(score) | Ranked::Fullest(Reverse(score)) => Some(&score.host),
        }
    }
}

fn holds(cluster: &Cluster, host: &MachineId, condition: &Condition) -> bool {
    condition.holds(metadata_value(cluster, host, &condition.key))
}
