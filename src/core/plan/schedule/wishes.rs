//! What units that are placed together prefer among the hosts that fit, in the order of `fit::preferred`: the
//! preferences of their leader, and that members of sets avoid each other. Owns the search for the best host, which
//! looks at no more hosts than it must; must never decide whether a host fits.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::{MachineId, UnitName};
use crate::model::placement::preference::{Crowd, Preferences, Spread, Wanted};

use super::super::fit::preferred::Distance;
use super::super::fit::{View, metadata_value};
use super::decision::Because;
use super::index::order::Trying;
use super::index::sets::Beside;
use super::index::{Indexed, Node};

/// Hosts of more values than this aren't merged, but picked out of all hosts.
const MERGED: usize = 16;

/// Hosts, in the order in which they are tried.
pub(super) type Ranked<'a> = Box<dyn Iterator<Item = &'a MachineId> + 'a>;

/// The same, and how many there are.
pub(super) type Candidates<'a> = (usize, Ranked<'a>);

/// What a group prefers. Most groups prefer nothing.
pub(super) struct Wishes<'a> {
    view: Indexed<'a>,
    beside: Option<Beside<'a>>,
    avoids: Vec<&'a BTreeMap<MachineId, usize>>,
    prefers: &'a [Wanted],
    spread: Option<Spreading<'a>>,
    /// In which order hosts are tried that are equally good.
    trying: Trying,
}

/// `Spread=` of the leader.
struct Spreading<'a> {
    spread: &'a Spread,
    /// The values of the hosts that could have the leader, by how many of its kind there are, the fewest first.
    groups: BTreeMap<usize, BTreeSet<Option<String>>>,
    /// More units than this must not be on hosts of one value (`MaxSkew=`).
    most: Option<usize>,
}

impl<'a> Wishes<'a> {
    /// Those of a group, whose first unit leads; `None` if it has none.
    pub(super) fn of(view: Indexed<'a>, group: &[UnitName], members: &[(&UnitName, &'a Node)]) -> Option<Self> {
        let beside = view.index.sets.beside(group);
        let trying = view.trying(group);
        let leader = members.first().filter(|(name, _)| Some(*name) == group.first());
        let preferences = leader.and_then(|(_, node)| node.constraints.as_ref()?.preferences.as_deref());
        let Some((preferences, (leader, node))) = preferences.zip(leader) else {
            let (avoids, spread) = (Vec::new(), None);
            return beside.is_some().then_some(Self { view, beside, avoids, prefers: &[], spread, trying });
        };
        let Preferences { spread, avoids, prefers, .. } = preferences;
        let on = |glob| view.index.crowds.on(&Crowd::Matching(glob));
        let avoids = avoids.iter().cloned().filter_map(on).collect();
        let spread = spread.as_ref().and_then(|spread| Spreading::of(view, (leader, node), spread));
        let wishes = Self { view, beside, avoids, prefers, spread, trying };
        (wishes.spread.is_some() || !wishes.is_plain()).then_some(wishes)
    }

    /// Whether hosts with the same value of the key of `Spread=` are alike.
    fn is_plain(&self) -> bool {
        self.beside.is_none() && self.avoids.is_empty() && self.prefers.is_empty()
    }

    /// The best host among those candidates that `fit`, and why.
    pub(super) fn best<'b>(
        &self,
        candidates: &dyn Fn() -> Candidates<'b>,
        fits: &dyn Fn(&MachineId) -> bool,
    ) -> Option<(MachineId, Because)>
    where
        'a: 'b,
    {
        let ranked = || candidates().1;
        let Some(spreading) = &self.spread else {
            let host = self.best_of(&ranked, fits)?;
            return Some((host.clone(), self.because(host)));
        };
        let (count, _) = candidates();
        for (&there, values) in &spreading.groups {
            if spreading.most.is_some_and(|most| there > most) {
                break;
            }
            let of_values = || self.view.index.hosts.of_values(&spreading.spread.key, values, &self.trying);
            let fewer = values.len() <= MERGED && of_values().is_some_and(|(other, _)| other < count);
            let host = if fewer {
                let ranked = || -> Ranked<'b> { of_values().map_or_else(ranked, |(_, hosts)| Box::new(hosts)) };
                self.best_of(&ranked, fits)
            } else {
                let has_one = |host: &MachineId| values.contains(&spreading.value(self.view, host));
                self.best_of(&ranked, &|host| has_one(host) && fits(host))
            };
            if let Some(host) = host {
                let (key, value) = (spreading.spread.key.clone(), spreading.value(self.view, host));
                return Some((host.clone(), Because::Spread { key, value, there }));
            }
        }
        None
    }

    /// The best one, whatever its value of the key is.
    fn best_of<'b>(&self, ranked: &dyn Fn() -> Ranked<'b>, fits: &dyn Fn(&MachineId) -> bool) -> Option<&'b MachineId> {
        // Mostly there is one that leaves no wish open, and then the others needn't be sorted.
        let is_perfect = |host: &MachineId| self.avoided(host) == 0 && !self.missed(host).any(|missed| missed);
        let perfect = ranked().find(|host| is_perfect(host) && fits(host));
        if perfect.is_some() || self.is_plain() {
            return perfect;
        }
        let others = ranked().filter(|host| !is_perfect(host));
        let mut others: Vec<_> = others.map(|host| (self.avoided(host), self.missed(host).collect(), host)).collect();
        // Equal ones stay in their order.
        others.sort_by(|a: &(usize, Vec<bool>, _), b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        others.into_iter().map(|(.., host)| host).find(|host| fits(host))
    }

    /// How far a host is from what the group prefers, and how many of the units that it avoids there are members of the
    /// same sets.
    pub(super) fn distance(&self, host: &MachineId) -> (Distance, usize) {
        let spread = self.spread.as_ref().map_or(0, |spreading| spreading.on(&spreading.value(self.view, host)));
        let beside = self.beside.as_ref().map_or(0, |beside| beside.on(host));
        (Distance { spread, avoided: self.avoided(host), missed: self.missed(host).collect() }, beside)
    }

    /// Whether none is left open on a host that has the only unit of the group. It is counted as a member of its set.
    pub(super) fn are_fulfilled(&self, host: &MachineId) -> bool {
        let least = self.spread.as_ref().and_then(|spreading| spreading.groups.keys().next().copied());
        let (Distance { spread, avoided, missed }, _) = self.distance(host);
        let own = usize::from(self.beside.is_some());
        spread <= least.unwrap_or_default() && avoided <= own && !missed.contains(&true)
    }

    fn because(&self, host: &MachineId) -> Because {
        let avoided = self.avoided(host);
        if self.prefers.is_empty() && self.avoids.is_empty() {
            return Because::FewestMembers { there: avoided };
        }
        Because::Preferred { avoided, missed: self.missed(host).filter(|missed| *missed).count() }
    }

    fn avoided(&self, host: &MachineId) -> usize {
        let members = self.beside.as_ref().map_or(0, |beside| beside.on(host));
        members + self.avoids.iter().filter_map(|on| on.get(host)).sum::<usize>()
    }

    /// Which lines of `MachinePrefers=` don't hold.
    fn missed(&self, host: &MachineId) -> impl Iterator<Item = bool> {
        let value = |key: &str| metadata_value(self.view.cluster, host, key);
        self.prefers.iter().map(move |wanted| !wanted.holds(value))
    }
}

impl<'a> Spreading<'a> {
    fn of(view: Indexed<'a>, (leader, node): (&UnitName, &Node), spread: &'a Spread) -> Option<Self> {
        let constraints = node.constraints.as_ref()?;
        let counts = view.counted(&spread.crowd(leader)?, &spread.key, leader);
        let mut groups: BTreeMap<usize, BTreeSet<Option<String>>> = BTreeMap::new();
        let mut least = None;
        for (value, is_counted) in view.eligible(leader, constraints, &spread.key).iter() {
            let count = counts.get(value).copied().unwrap_or_default();
            groups.entry(count).or_default().insert(value.clone());
            if *is_counted {
                least = Some(least.map_or(count, |least: usize| least.min(count)));
            }
        }
        let most = spread.max_skew.zip(least).map(|(skew, least)| least + skew as usize - 1);
        Some(Self { spread, groups, most })
    }

    /// How many units of its kind are on hosts with this value.
    fn on(&self, value: &Option<String>) -> usize {
        self.groups.iter().find(|(_, values)| values.contains(value)).map_or(0, |(count, _)| *count)
    }

    fn value(&self, view: Indexed<'a>, host: &MachineId) -> Option<String> {
        metadata_value(view.cluster, host, &self.spread.key).map(str::to_owned)
    }
}
