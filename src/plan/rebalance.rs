//! Which units a person may want on other hosts, because they are better there by the order in which hosts are chosen.
//! Pure; nothing moves because of it, unless a person asks (`drain::moves` carries that out). Owns what is better, and
//! that a second look after all moves finds none. Must never decide whether a host fits.
//!
//! Two hosts are compared as if the units were on neither. A move must make something better, and nothing that counts
//! more worse, for all units together: the sum of what is left of preferences, then what is taken of the fuller host,
//! then the number of its units. Each move lowers this, so that the search ends, and nothing goes back and forth.
//!
//! A host fits only if it has room for the units beside all that are there now, because others leave it later, or not
//! at all. So a swap isn't found, nor what another move makes room for: that is for the next look.

mod apart;
mod movable;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::drain::group::{group_of, groups, leader_first, lives};
use super::fit::metadata_value;
use super::schedule::{Load, Merit, Scheduler};
use crate::model::cluster::Cluster;
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitName};
use crate::model::settings::Order;
use apart::{Apart, Others};
use movable::Movable;

/// The search ends after so many moves, whatever is left.
const MOST_MOVES: usize = 10_000;

/// What a rebalance would move.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebalance {
    /// The first of the moves.
    pub moves: Vec<Relocation>,
    /// How many there are in all.
    pub all: usize,
    /// How many units the registered hosts have now, and after these moves.
    pub hosts: BTreeMap<MachineId, (usize, usize)>,
}

/// Units that would move together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relocation {
    /// The units, of which the first one leads.
    pub group: Vec<UnitName>,
    /// The host that they are on.
    pub from: MachineId,
    /// The host that they would be on.
    pub to: MachineId,
    /// What is better there.
    pub gain: Gain,
}

/// What is better on another host, compared with the one that units are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gain {
    /// Fewer of the units from which they are spread apart are on hosts with its value of the key.
    Spread {
        /// The key.
        key: String,
        /// The other host's value, and how many there are.
        there: (Option<String>, usize),
        /// The same of the present host.
        here: (Option<String>, usize),
    },
    /// Fewer units that they avoid, or other members of the set, are there.
    Avoided {
        /// How many on the other host.
        there: usize,
        /// How many on the present one.
        here: usize,
    },
    /// This line of `MachinePrefers=` holds.
    Prefers(String),
    /// Less of it is taken, with them, than of the present host.
    Taken {
        /// The share of the other host, in percent.
        there: u64,
        /// The share of the present one.
        here: u64,
    },
    /// It has fewer units, with them, than the present host.
    Units {
        /// How many the other host has then.
        there: usize,
        /// How many the present one has now.
        here: usize,
    },
}

/// As the reasons why a unit is where it is (`fit::preferred`).
impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spread { key, there, here } => {
                let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
                write!(f, "spread {key} {} {} < {} {}", value(&there.0), there.1, value(&here.0), here.1)
            }
            Self::Avoided { there, here } => write!(f, "avoided units {there} < {here}"),
            Self::Prefers(line) => write!(f, "prefers {line}"),
            Self::Taken { there, here } => write!(f, "taken {there}% < {here}%"),
            Self::Units { there, here } => write!(f, "units {there} < {here}"),
        }
    }
}

/// What would move, of units that match one of `only`, or of all, and of that the first `limit` moves.
#[must_use]
pub fn rebalance(scheduler: &Scheduler, only: &[Glob], limit: usize) -> Rebalance {
    let mut search = Search::of(scheduler, only);
    search.run();
    search.found(scheduler, limit)
}

/// What makes a host better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Preference,
    Load,
}

/// Units that may move together.
struct Mobile {
    group: Vec<UnitName>,
    /// The host that they are on now.
    first: MachineId,
    /// The host that they would be on.
    home: MachineId,
    /// Whether hosts may differ for them in more than their load.
    prefers: bool,
    /// Whether they take memory or CPU.
    takes: bool,
}

struct Search {
    /// All units where they are, and also where they would be: what must fit.
    now: Scheduler,
    /// All units where they would be: what is compared.
    then: Scheduler,
    apart: Apart,
    mobiles: Vec<Mobile>,
    by_home: BTreeMap<MachineId, BTreeSet<usize>>,
    /// Those that would move, in this order, and what is better there.
    moved: Vec<(usize, Gain)>,
    /// The hosts that take part.
    open: BTreeSet<MachineId>,
    packs: bool,
    left: usize,
}

impl Search {
    fn of(scheduler: &Scheduler, only: &[Glob]) -> Self {
        let cluster = scheduler.cluster();
        let is_open = |host: &MachineId| !cluster.is_closed(host);
        let hosts = cluster.machines.iter().filter(|(id, host)| !host.leaving && is_open(id));
        let open: BTreeSet<MachineId> = hosts.map(|(id, _)| id.clone()).collect();
        let matches = |unit: &UnitName| only.is_empty() || only.iter().any(|glob| glob.matches(unit.as_str()));
        let mut movable = Movable::of(scheduler);
        let (mut apart, mut mobiles) = (Apart::default(), Vec::new());
        for home in cluster.machines.keys() {
            for group in groups(cluster, lives(cluster, home)) {
                let group = leader_first(cluster, group);
                apart.declare(cluster, &group[0]);
                apart.put(cluster, &group, home);
                if open.contains(home) && group.iter().any(matches) && movable.may_move(&group, home) {
                    mobiles.push(Mobile::of(cluster, group, home));
                }
            }
        }
        let mut by_home: BTreeMap<MachineId, BTreeSet<usize>> = BTreeMap::new();
        for (at, mobile) in mobiles.iter().enumerate() {
            by_home.entry(mobile.home.clone()).or_default().insert(at);
        }
        let packs = cluster.settings.order() == Order::Pack;
        let (now, then, moved) = (scheduler.clone(), scheduler.clone(), Vec::new());
        let mut search = Self { now, then, apart, mobiles, by_home, moved, open, packs, left: MOST_MOVES };
        search.suppose_asked(scheduler);
        search
    }

    /// What was asked before is as if it had been done.
    fn suppose_asked(&mut self, scheduler: &Scheduler) {
        let cluster = scheduler.cluster();
        let sent = scheduler
            .on_their_way()
            .filter_map(|(unit, to)| Some((vec![unit.clone()], cluster.placed_on(unit)?.clone(), to.clone())));
        let asked = scheduler.asked_to_move().filter_map(|(unit, asked)| {
            let group = leader_first(cluster, group_of(cluster, &asked.from, unit));
            Some((group, asked.from.clone(), asked.to.clone()?))
        });
        let elsewhere: Vec<_> = sent.chain(asked).filter(|(_, home, to)| home != to).collect();
        for (group, home, to) in elsewhere {
            self.apart.take_off(cluster, &group, &home);
            self.then.take_off(&group, &home);
            self.apart.put(cluster, &group, &to);
            self.then.suppose(&group, &to);
            self.now.suppose(&group, &to);
        }
    }

    /// Preferences come first; what follows from them, and from the load, may open others.
    fn run(&mut self) {
        loop {
            let mut any = false;
            while self.prefer() {
                any = true;
            }
            while self.level() {
                any = true;
            }
            if !any || self.left == 0 {
                return;
            }
        }
    }

    /// Move each group once for which another host is better by what it prefers. Returns whether any was moved.
    fn prefer(&mut self) -> bool {
        let prefer: Vec<usize> = (0..self.mobiles.len()).filter(|at| self.mobiles[*at].prefers).collect();
        prefer.into_iter().filter(|at| self.relocate(*at, By::Preference)).count() > 0
    }

    /// Move one group from a host on which there is more, the fullest host first. Returns whether any was moved.
    fn level(&mut self) -> bool {
        if self.packs {
            return false;
        }
        let load = |host: &MachineId| self.then.load(host);
        let fewest = self.open.iter().map(|host| load(host).units).min().unwrap_or_default();
        let mut full: Vec<(Reverse<Load>, MachineId)> =
            self.by_home.keys().map(|host| (Reverse(load(host)), host.clone())).collect();
        full.sort();
        for (Reverse(Load { units, .. }), host) in full {
            let mut there: Vec<usize> = self.by_home.get(&host).into_iter().flatten().copied().collect();
            // The fewer are restarted, the better.
            there.sort_by_key(|at| self.mobiles[*at].group.len());
            for at in there {
                let mobile = &self.mobiles[at];
                let is_worth_a_look = mobile.takes || fewest + mobile.group.len() < units;
                if is_worth_a_look && self.relocate(at, By::Load) {
                    return true;
                }
            }
        }
        false
    }

    /// Move a group to the best host that is better than its own. Returns whether there is one.
    fn relocate(&mut self, at: usize, by: By) -> bool {
        if self.left == 0 {
            return false;
        }
        let Mobile { group, first, home, .. } = &self.mobiles[at];
        let (group, first, home) = (group.clone(), first.clone(), home.clone());
        self.take_off(&group, &first, &home);
        let found = self.better(&group, &first, &home, by);
        let Some((to, gain)) = found else {
            self.put(&group, &first, &home);
            return false;
        };
        self.put(&group, &first, &to);
        self.left -= 1;
        self.by_home.entry(home).or_default().remove(&at);
        self.by_home.entry(to.clone()).or_default().insert(at);
        match self.moved.iter_mut().find(|(moved, _)| *moved == at) {
            _ if to == first => self.moved.retain(|(moved, _)| *moved != at),
            Some((_, known)) => *known = gain,
            None => self.moved.push((at, gain)),
        }
        self.mobiles[at].home = to;
        true
    }

    /// The best host that is better for units which are on none, and were on `home`.
    fn better(&self, group: &[UnitName], first: &MachineId, home: &MachineId, by: By) -> Option<(MachineId, Gain)> {
        let cluster = self.then.cluster();
        let measure = self.then.measure(group);
        let beside = self.apart.beside(group);
        let stand = |host: &MachineId| Stand { merit: measure.merit(host), others: beside.on(cluster, host) };
        let here = stand(home);
        let is_better = |host: &MachineId| match by {
            By::Preference => stand(host).is_preferred_to(&here),
            By::Load => stand(host).is_emptier_than(&here).is_some(),
        };
        let counts = |host: &MachineId| {
            let is_other = host != home && self.open.contains(host);
            is_other && is_better(host) && (host == first || self.now.fits_on(group, host))
        };
        let to = self.then.best(group, &counts)?;
        let there = stand(&to);
        let gain = match by {
            By::Preference => preference(cluster, &group[0], (&there.merit, &to), (&here.merit, home)),
            By::Load => there.is_emptier_than(&here),
        };
        Some((to, gain?))
    }

    fn take_off(&mut self, group: &[UnitName], first: &MachineId, home: &MachineId) {
        self.apart.take_off(self.then.cluster(), group, home);
        self.then.take_off(group, home);
        if home != first {
            self.now.take_off(group, home);
        }
    }

    fn put(&mut self, group: &[UnitName], first: &MachineId, host: &MachineId) {
        self.apart.put(self.then.cluster(), group, host);
        self.then.suppose(group, host);
        if host != first {
            self.now.suppose(group, host);
        }
    }

    fn found(self, scheduler: &Scheduler, limit: usize) -> Rebalance {
        let all = self.moved.len();
        let relocation = |(at, gain): (usize, Gain)| {
            let Mobile { group, first, home, .. } = &self.mobiles[at];
            Relocation { group: group.clone(), from: first.clone(), to: home.clone(), gain }
        };
        let moves: Vec<Relocation> = self.moved.into_iter().take(limit).map(relocation).collect();
        let count = |host: &MachineId| scheduler.load(host).units;
        let hosts = scheduler.cluster().machines.keys().map(|host| (host.clone(), (count(host), count(host))));
        let mut hosts: BTreeMap<MachineId, (usize, usize)> = hosts.collect();
        for Relocation { group, from, to, .. } in &moves {
            for (host, (_, then)) in hosts.iter_mut().filter(|(host, _)| *host == from || *host == to) {
                *then = if host == to { *then + group.len() } else { then.saturating_sub(group.len()) };
            }
        }
        Rebalance { moves, all, hosts }
    }
}

impl Mobile {
    fn of(cluster: &Cluster, group: Vec<UnitName>, home: &MachineId) -> Self {
        let constraints = |unit: &UnitName| cluster.constraints(unit);
        let is_set = |set: UnitName| cluster.units.get(&set).is_some_and(|record| record.replicas.is_some());
        let is_member = |unit: &UnitName| unit.set().is_some_and(is_set);
        let leads = constraints(&group[0]).is_some_and(|known| known.preferences.is_some());
        let takes = |unit: &UnitName| constraints(unit).is_some_and(|known| !known.resources.is_none());
        let (prefers, takes) = (leads || group.iter().any(is_member), group.iter().any(takes));
        Self { group, first: home.clone(), home: home.clone(), prefers, takes }
    }
}

/// How good a host is for units, and how good it is for others that they are there.
struct Stand {
    merit: Merit,
    others: Others,
}

impl Stand {
    /// What is left of the preferences of all units, as far as it depends on where these are; the smallest is the best.
    fn open(&self) -> (usize, usize, &[bool]) {
        let Merit { distance, beside, .. } = &self.merit;
        let avoided = distance.avoided + beside + self.others.avoided;
        (distance.spread + self.others.spread, avoided, &distance.missed)
    }

    fn is_preferred_to(&self, here: &Self) -> bool {
        self.merit.distance < here.merit.distance && self.open() < here.open()
    }

    /// What is better, if the fuller of the two hosts has less afterwards.
    fn is_emptier_than(&self, here: &Self) -> Option<Gain> {
        let (there, home) = (&self.merit, &here.merit);
        if there.distance != home.distance || self.open() > here.open() {
            return None;
        }
        if there.with.share < home.with.share && home.without.share < home.with.share {
            return Some(Gain::Taken { there: there.with.share, here: home.with.share });
        }
        let sorted = |one: u64, two: u64| (one.max(two), one.min(two));
        let before = sorted(there.without.share, home.with.share);
        let after = sorted(there.with.share, home.without.share);
        let is_less = after <= before && there.with.units < home.with.units;
        is_less.then_some(Gain::Units { there: there.with.units, here: home.with.units })
    }
}

/// The first thing that is better by what a unit prefers.
fn preference(
    cluster: &Cluster,
    leader: &UnitName,
    (there, to): (&Merit, &MachineId),
    (here, home): (&Merit, &MachineId),
) -> Option<Gain> {
    let (ours, theirs) = (&there.distance, &here.distance);
    let constraints = cluster.constraints(leader)?;
    let preferences = constraints.preferences.as_deref();
    if ours.spread != theirs.spread {
        let key = preferences?.spread.as_ref()?.key.clone();
        let value = |host: &MachineId| metadata_value(cluster, host, &key).map(str::to_owned);
        let (there, here) = ((value(to), ours.spread), (value(home), theirs.spread));
        return Some(Gain::Spread { key, there, here });
    }
    if ours.avoided != theirs.avoided {
        return Some(Gain::Avoided { there: ours.avoided, here: theirs.avoided });
    }
    let line = ours.missed.iter().zip(&theirs.missed).position(|(ours, theirs)| ours != theirs)?;
    Some(Gain::Prefers(preferences?.prefers.get(line)?.to_string()))
}
