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
mod levels;
mod movable;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::drain::group::{group_of, groups, leader_first, lives};
use super::fit::metadata_value;
use super::schedule::{Merit, Scheduler};
use crate::model::cluster::Cluster;
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitName};
use crate::model::resources::Resources;
use crate::model::settings::Order;
use apart::{Apart, Others};
use levels::Levels;
use movable::Movable;

/// The search ends after so many moves, whatever is left.
const MOST_MOVES: usize = 10_000;

/// What a rebalance would move.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebalance {
    /// The first of the moves.
    pub moves: Vec<Relocation>,
    /// How many there are in all, as far as the search went.
    pub all: usize,
    /// Whether the search ended before everything was looked at.
    pub ended_early: bool,
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

/// What would move, of units that match one of `only`, or of all, and of that the first `limit` moves. The search ends
/// early if it `is_enough`, which is asked before each attempt to move something.
#[must_use]
pub fn rebalance(scheduler: &Scheduler, only: &[Glob], limit: usize, is_enough: &dyn Fn() -> bool) -> Rebalance {
    let mut search = Search::of(scheduler, only, is_enough);
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
    /// The least share of any host that they take, if they take memory or CPU.
    takes: Option<u64>,
}

struct Search<'a> {
    /// All units where they are, and also where they would be: what must fit.
    now: Scheduler,
    /// All units where they would be: what is compared.
    then: Scheduler,
    apart: Apart,
    mobiles: Vec<Mobile>,
    by_home: BTreeMap<MachineId, BTreeSet<usize>>,
    /// Those that would move, by when that was found, and what is better there.
    moved: BTreeMap<usize, (usize, Gain)>,
    /// When it was found of each of them.
    found: BTreeMap<usize, usize>,
    /// The hosts that take part.
    open: BTreeSet<MachineId>,
    levels: Levels,
    packs: bool,
    /// How many moves there have been.
    steps: usize,
    is_enough: &'a dyn Fn() -> bool,
    ended_early: bool,
}

impl<'a> Search<'a> {
    fn of(scheduler: &Scheduler, only: &[Glob], is_enough: &'a dyn Fn() -> bool) -> Self {
        let cluster = scheduler.cluster();
        let is_open = |host: &MachineId| !cluster.is_closed(host);
        let hosts = cluster.machines.iter().filter(|(id, host)| !host.leaving && is_open(id));
        let open: BTreeSet<MachineId> = hosts.map(|(id, _)| id.clone()).collect();
        let matches = |unit: &UnitName| only.is_empty() || only.iter().any(|glob| glob.matches(unit.as_str()));
        let mut movable = Movable::of(scheduler);
        let levels = Levels::of(scheduler, &open);
        let (mut apart, mut mobiles) = (Apart::default(), Vec::new());
        for home in cluster.machines.keys() {
            for group in groups(cluster, lives(cluster, home)) {
                let group = leader_first(cluster, group);
                apart.declare(cluster, &group[0]);
                apart.put(cluster, &group, home);
                if open.contains(home) && group.iter().any(matches) && movable.may_move(&group, home) {
                    mobiles.push(Mobile::of(cluster, group, home, &levels));
                }
            }
        }
        let mut by_home: BTreeMap<MachineId, BTreeSet<usize>> = BTreeMap::new();
        for (at, mobile) in mobiles.iter().enumerate() {
            by_home.entry(mobile.home.clone()).or_default().insert(at);
        }
        let packs = cluster.settings.order() == Order::Pack;
        let (now, then) = (scheduler.clone(), scheduler.clone());
        let (moved, found, steps, ended_early) = Default::default();
        let search = Self {
            now,
            then,
            apart,
            mobiles,
            by_home,
            moved,
            found,
            open,
            levels,
            packs,
            steps,
            is_enough,
            ended_early,
        };
        search.suppose_asked(scheduler)
    }

    /// What was asked before is as if it had been done.
    fn suppose_asked(mut self, scheduler: &Scheduler) -> Self {
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
            self.changed([&home, &to]);
        }
        self
    }

    /// There is something else on these hosts.
    fn changed(&mut self, hosts: [&MachineId; 2]) {
        hosts.into_iter().for_each(|host| self.levels.changed(host, self.then.load(host)));
    }

    /// Whether the search is to end now.
    fn is_over(&mut self) -> bool {
        self.ended_early = self.ended_early || self.steps == MOST_MOVES || (self.is_enough)();
        self.ended_early
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
            if !any || self.ended_early {
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
        let mut at = self.levels.next(None);
        while let Some(full) = at {
            let (Reverse(load), host) = &full;
            let mut there: Vec<usize> = self.by_home.get(host).into_iter().flatten().copied().collect();
            let may_be_emptier = |at: &usize| {
                let Mobile { group, takes, .. } = &self.mobiles[*at];
                self.levels.may_be_emptier(*load, group.len(), *takes)
            };
            there.retain(may_be_emptier);
            // The fewer are restarted, the better.
            there.sort_by_key(|at| self.mobiles[*at].group.len());
            if there.into_iter().any(|at| self.relocate(at, By::Load)) {
                return true;
            }
            at = self.levels.next(Some(&full)).filter(|_| !self.ended_early);
        }
        false
    }

    /// Move a group to the best host that is better than its own. Returns whether there is one.
    fn relocate(&mut self, at: usize, by: By) -> bool {
        if self.is_over() {
            return false;
        }
        let Mobile { group, first, home, takes, .. } = &self.mobiles[at];
        let (group, first, home) = (group.clone(), first.clone(), home.clone());
        let below = match by {
            By::Preference => None,
            By::Load => self.levels.below(&home, group.len(), *takes),
        };
        self.then.prepare(&group);
        if by == By::Preference && home == first && self.then.measure(&group).is_content(&home) {
            return false;
        }
        self.take_off(&group, &first, &home);
        let found = self.better(&group, (&first, &home), by, below);
        let Some((to, gain)) = found else {
            self.put(&group, &first, &home);
            return false;
        };
        self.put(&group, &first, &to);
        self.changed([&home, &to]);
        self.by_home.entry(home).or_default().remove(&at);
        self.by_home.entry(to.clone()).or_default().insert(at);
        if to == first {
            let found = self.found.remove(&at);
            found.into_iter().for_each(|step| drop(self.moved.remove(&step)));
        } else {
            let step = *self.found.entry(at).or_insert(self.steps);
            self.moved.insert(step, (at, gain));
        }
        self.steps += 1;
        self.mobiles[at].home = to;
        true
    }

    /// The best host that is better for units which are on none, were on `home`, and are on `first` now. A better one
    /// has less than the share `below` taken, if that is known.
    fn better(
        &self,
        group: &[UnitName],
        (first, home): (&MachineId, &MachineId),
        by: By,
        below: Option<u64>,
    ) -> Option<(MachineId, Gain)> {
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
        let to = self.then.best(group, below, &counts)?;
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
        let moves: Vec<Relocation> = self.moved.into_values().take(limit).map(relocation).collect();
        let count = |host: &MachineId| scheduler.load(host).units;
        let hosts = scheduler.cluster().machines.keys().map(|host| (host.clone(), (count(host), count(host))));
        let mut hosts: BTreeMap<MachineId, (usize, usize)> = hosts.collect();
        for Relocation { group, from, to, .. } in &moves {
            hosts.get_mut(from).into_iter().for_each(|(_, then)| *then = then.saturating_sub(group.len()));
            hosts.get_mut(to).into_iter().for_each(|(_, then)| *then += group.len());
        }
        Rebalance { moves, all, ended_early: self.ended_early, hosts }
    }
}

impl Mobile {
    fn of(cluster: &Cluster, group: Vec<UnitName>, home: &MachineId, levels: &Levels) -> Self {
        let constraints = |unit: &UnitName| cluster.constraints(unit);
        let is_set = |set: UnitName| cluster.units.get(&set).is_some_and(|record| record.replicas.is_some());
        let is_member = |unit: &UnitName| unit.set().is_some_and(is_set);
        let leads = constraints(&group[0]).is_some_and(|known| known.preferences.is_some());
        let takes = group.iter().filter_map(constraints).map(|known| known.resources);
        let takes = takes.fold(Resources::default(), Resources::with);
        let takes = (!takes.is_none()).then(|| levels.share(takes));
        let prefers = leads || group.iter().any(is_member);
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
