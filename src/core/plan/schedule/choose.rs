//! Chooses a host: takes the candidates from the smallest index, best first, and checks each against the rules of
//! `fit`, using the index where it can answer. Owns this optimization; must never give another answer than `fit`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::model::name::{MachineId, UnitName};
use crate::model::resources::Resources;
use crate::model::rule::Rule;
use crate::model::settings::Order;
use crate::model::small::SmallMap;
use crate::model::unit::Target;

use super::super::fit::{Question, Stance, View, first_violation, is_effective};
use super::decision::Because;
use super::dirty::Rescan;
use super::index::order::Trying;
use super::index::ports::asked;
use super::index::rooms::Need;
use super::index::{Indexed, Member, Node};
use super::reasons::InfeasibleCache;
use super::score::Ranking;
use super::wishes::{Candidates, Ranked, Wishes};

impl<'a> Indexed<'a> {
    /// The best host where all of `group` fit, and why it is the best: one where they already run; or else the one that
    /// is most as they prefer; or else the least loaded. One that is to be `avoided` only if no other fits.
    pub(super) fn choose(
        &self,
        group: &[UnitName],
        rescan: &Rescan,
        infeasible: &InfeasibleCache,
        avoided: &BTreeSet<MachineId>,
    ) -> Option<(MachineId, Because)> {
        let members = self.members(group);
        let fits = |host: &MachineId| self.group_violation(&members, host, group).is_none();
        let avoids = !avoided.is_empty();
        let others = |host: &MachineId| !avoided.contains(host) && fits(host);
        if let Rescan::Hosts(hosts) = rescan {
            let mut running = self.running_on(group).into_iter().filter(|host| hosts.contains(*host));
            let ranking = self.ranked(hosts.iter());
            let order = self.order(group);
            let ranked =
                || -> Candidates<'_> { (ranking.len(), ordered(ranking.iter().map(|score| &score.host), order)) };
            let found = running.find(|host| fits(host)).map(runs);
            let found = found
                .or_else(|| avoids.then(|| self.preferred(group, &members, &ranked, &others)).flatten())
                .or_else(|| self.preferred(group, &members, &ranked, &fits));
            return found.filter(|_| !self.exclude_each_other(group));
        }
        let fit_nowhere = members.iter().any(|member| infeasible.contains(*self, *member));
        if fit_nowhere || self.exclude_each_other(group) {
            return None;
        }
        let ranked = || self.candidates(&members, group);
        let running = self.running_on(group).into_iter().find(|host| fits(host)).map(runs);
        running
            .or_else(|| avoids.then(|| self.preferred(group, &members, &ranked, &others)).flatten())
            .or_else(|| self.preferred(group, &members, &ranked, &fits))
    }

    /// Of the hosts that `fit`, the one that is most as `group` prefers; the least loaded one, if it prefers nothing.
    pub(super) fn preferred<'b>(
        &self,
        group: &[UnitName],
        members: &[(&UnitName, &'a Node)],
        ranked: &dyn Fn() -> Candidates<'b>,
        fits: &dyn Fn(&MachineId) -> bool,
    ) -> Option<(MachineId, Because)>
    where
        'a: 'b,
    {
        if let Some(wishes) = Wishes::of(*self, group, members) {
            return wishes.best(ranked, fits);
        }
        let (passed, host) = ranked().1.enumerate().find(|(_, host)| fits(host))?;
        let because = match self.order(group) {
            Order::Spread => Because::LeastLoaded { passed },
            Order::Pack => Because::Fullest,
        };
        Some((host.clone(), because))
    }

    /// In which order hosts are tried for a group. Units that take nothing of a host go where little is taken.
    pub(super) fn order(&self, group: &[UnitName]) -> Order {
        match self.cluster.settings.order() {
            Order::Pack if group.iter().any(|unit| self.index.amounts.declares(unit)) => Order::Pack,
            _ => Order::Spread,
        }
    }

    /// The same, without looking at full hosts one by one. A host is full for a unit that isn't there if it has less
    /// left than the group takes; what those of its members take whose gates may name other files isn't counted.
    pub(super) fn trying(&self, group: &[UnitName]) -> Trying {
        if self.order(group) == Order::Spread {
            return Trying::Best;
        }
        let ungated = group.iter().filter(|unit| !self.cluster.gates.contains_key(*unit));
        let takes = ungated.filter_map(|unit| self.constraints(unit)).map(|known| known.resources);
        let amount = takes.fold(Resources::default(), Resources::with);
        let assigned = group.iter().filter_map(|unit| self.index.nodes.get(unit)).flat_map(|node| node.hosts.keys());
        let running = group.iter().flat_map(|unit| self.cluster.reports(unit)).map(|(host, _)| host);
        let there = assigned.chain(running).filter_map(|host| self.index.hosts.place(host)).collect();
        Trying::Fullest(Need { amount, there })
    }

    /// The live hosts that run members of `group`, those with the most members first. A unit without an assignment
    /// runs only where the store has lost its record: there it is taken over without a restart, and on any other host
    /// it would run twice.
    pub(super) fn running_on(&self, group: &[UnitName]) -> Vec<&'a MachineId> {
        let mut running: BTreeMap<&MachineId, usize> = BTreeMap::new();
        for unit in group {
            let launched = self.cluster.reports(unit).filter(|(_, report)| report.target == Target::Launched);
            for (host, _) in launched.filter(|(host, _)| self.cluster.machines.contains_key(*host)) {
                *running.entry(host).or_default() += 1;
            }
        }
        let mut hosts: Vec<(&MachineId, usize)> = running.into_iter().collect();
        hosts.sort_by_cached_key(|(host, count)| (Reverse(*count), self.index.score(self.cluster, host)));
        hosts.into_iter().map(|(host, _)| host).collect()
    }

    pub(super) fn members<'g>(&self, group: &'g [UnitName]) -> Vec<(&'g UnitName, &'a Node)> {
        group.iter().filter_map(|unit| Some((unit, self.index.nodes.get(unit)?))).collect()
    }

    /// Candidate hosts, in the order in which they are tried: those that satisfy the most selective constraint of the
    /// group, and their number.
    pub(super) fn candidates<'b>(&'b self, members: &[Member<'b>], group: &[UnitName]) -> Candidates<'b> {
        let (index, order, trying) = (self.index, self.order(group), self.trying(group));
        let mut best: Ranked<'b> = Box::new(index.hosts.in_order(&trying));
        let mut fewest = index.hosts.len();
        for constraints in members.iter().filter_map(|(_, node)| node.constraints.as_ref()) {
            if let Some(wanted) = &constraints.machine_id {
                // The smallest id with this prefix. Without a prefix ("00000000…") there is none before it.
                let least = format!("{wanted:0<32}").parse::<MachineId>().map_or(Bound::Unbounded, Bound::Included);
                let machines = self.cluster.machines.range((least, Bound::Unbounded)).map(|(id, _)| id);
                let named = machines.take_while(|id| id.as_str().starts_with(wanted.as_str()));
                return (1, self.in_order(named, order));
            }
            let outside = |peer: &&String| !group.iter().any(|name| name.as_str() == **peer);
            for peer in constraints.machine_of.iter().filter(outside) {
                let hosts = index.nodes.get(peer.as_str()).map(|node| &node.hosts);
                let count = hosts.map_or(0, SmallMap::len);
                if count <= fewest {
                    fewest = count;
                    best = self.in_order(hosts.into_iter().flat_map(SmallMap::keys), order);
                }
            }
            let with_metadata = index.hosts.with_metadata(constraints, &trying);
            if let Some((count, hosts)) = with_metadata.filter(|(count, _)| *count < fewest) {
                fewest = count;
                best = Box::new(hosts);
            }
        }
        (fewest, best)
    }

    fn ranked<'h>(&self, hosts: impl Iterator<Item = &'h MachineId>) -> Ranking {
        hosts.map(|host| self.index.score(self.cluster, host)).collect()
    }

    fn in_order<'b>(&'b self, hosts: impl Iterator<Item = &'b MachineId>, order: Order) -> Ranked<'b> {
        let mut scores: Vec<_> = hosts.map(|host| (self.index.score(self.cluster, host), host)).collect();
        scores.sort();
        ordered(scores.into_iter().map(|(_, host)| host), order)
    }

    /// The first rule that any of `members` breaks on `host`; `None` if all of them fit. The rest of `group` counts as
    /// present. Whether they can share a host at all is checked separately, by [`Self::exclude_each_other`].
    pub(super) fn group_violation(&self, members: &[Member<'_>], host: &MachineId, group: &[UnitName]) -> Option<Rule> {
        members.iter().find_map(|(unit, node)| self.first_violation(unit, node, host, group))
    }

    /// The first rule that an arriving unit breaks on `host`; `None` if it fits. `with` arrives with it.
    pub(super) fn first_violation(
        &self,
        unit: &UnitName,
        node: &Node,
        host: &MachineId,
        with: &[UnitName],
    ) -> Option<Rule> {
        // A unit without a known file is only named by another one and is on no host.
        let Some(constraints) = self.on((unit, node), host) else { return Some(Rule::MachineOf) };
        let question = Question { unit, constraints: &constraints, host, stance: Stance::Arrive, with };
        first_violation(self, &question, &self.others(node))
    }

    /// Whether a group can't share any host: members conflict, replace each other, or need the same port.
    pub(super) fn exclude_each_other(&self, group: &[UnitName]) -> bool {
        group.len() > 1
            && group.iter().any(|unit| {
                let Some(constraints) = self.constraints(unit) else { return false };
                let patterns = [&constraints.conflicts, &constraints.replaces];
                let plain = patterns.iter().all(|globs| globs.is_empty()) && constraints.ports.is_none();
                let ports = asked(Some(&constraints));
                let has_port = |other| !ports.is_disjoint(asked(self.constraints(other).as_deref()));
                !plain
                    && group.iter().filter(|other| *other != unit).any(|other| {
                        constraints.conflicts.iter().any(|glob| glob.matches(other.as_str()))
                            || has_port(other)
                            || (constraints.replaces.iter().any(|glob| glob.matches(other.as_str()))
                                && is_effective(self, unit, other))
                    })
            })
    }
}

/// Hosts, which are given with the one first of which the least is taken.
fn ordered<'a>(hosts: impl DoubleEndedIterator<Item = &'a MachineId> + 'a, order: Order) -> Ranked<'a> {
    match order {
        Order::Spread => Box::new(hosts),
        Order::Pack => Box::new(hosts.rev()),
    }
}

/// A host where the units already run.
fn runs(host: &MachineId) -> (MachineId, Because) {
    (host.clone(), Because::Runs)
}
