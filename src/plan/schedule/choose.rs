//! Which host: candidates from the narrowest index, least loaded first, each asked the rules of `fit` by look-up. Owns
//! that speed; must never answer otherwise than `fit` would.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::model::name::{MachineId, UnitName};

use super::super::fit::{Question, Stance};
use super::super::fit::{Rule, View, is_effective, live_at, machine_id, metadata, replaces};
use super::dirty::Rescan;
use super::index::Node;
use super::index::hosts::load;
use super::index::patterns::PatternId;
use super::place::Round;

/// So many units are named in the summary of what another one waits for: it is stored and travels with each change.
/// `plan::explain` has them all.
const NAMED: usize = 5;

/// What decides where a unit fits that must follow nobody and is replaced by nobody: units with the same key fit the
/// same hosts.
type ConstraintKey = (usize, Vec<PatternId>);

/// What is known to fit nowhere, and why. Holds while nothing leaves a host: newcomers only make it truer.
#[derive(Debug, Default)]
pub(super) struct InfeasibleCache {
    keys: BTreeMap<ConstraintKey, String>,
}

impl InfeasibleCache {
    /// A unit has left a host.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
    }

    fn key(node: &Node) -> Option<ConstraintKey> {
        let constraints = node.constraints.as_ref()?;
        let plain = constraints.machine_of.is_empty() && node.replaces.matches.is_empty();
        // The index keeps the constraints, and so the address, of every unit that this is asked about.
        plain.then(|| (Arc::as_ptr(constraints).addr(), node.conflicts.matches.clone()))
    }
}

impl Round<'_> {
    /// The least loaded host where all of `group` fit, and how many candidates were passed over.
    pub(super) fn choose(&self, group: &[UnitName], rescan: &Rescan) -> Option<(MachineId, usize)> {
        let nodes: Vec<(&UnitName, &Node)> =
            group.iter().filter_map(|unit| Some((unit, self.scheduler.index.nodes.get(unit)?))).collect();
        let fits = |host: &&MachineId| {
            nodes.iter().all(|(unit, node)| self.first_violation(unit, node, host, group).is_none())
        };
        if let Rescan::Hosts(hosts) = rescan {
            let mut hosts: Vec<_> = hosts.iter().map(|host| (load(&self.scheduler.cluster, host), host)).collect();
            hosts.sort();
            let at = hosts.iter().position(|(_, host)| fits(host))?;
            return Some((hosts[at].1.clone(), at)).filter(|_| !self.exclude_each_other(group));
        }
        let known = |node| InfeasibleCache::key(node).is_some_and(|key| self.infeasible.keys.contains_key(&key));
        if !self.infeasible.keys.is_empty() && nodes.iter().any(|(_, node)| known(node)) {
            return None;
        }
        if self.exclude_each_other(group) {
            return None;
        }
        let found = self.candidates(&nodes, group).enumerate().find(|(_, host)| fits(host));
        found.map(|(at, host)| (host.clone(), at))
    }

    /// Hosts that could do, least loaded first: those that the pickiest of the group leaves.
    fn candidates<'b>(
        &'b self,
        nodes: &[(&UnitName, &'b Node)],
        group: &[UnitName],
    ) -> Box<dyn Iterator<Item = &'b MachineId> + 'b> {
        let index = &self.scheduler.index;
        let mut best: Box<dyn Iterator<Item = &MachineId>> = Box::new(index.hosts.all());
        let mut fewest = index.hosts.len();
        for constraints in nodes.iter().filter_map(|(_, node)| node.constraints.as_ref()) {
            if let Some(wanted) = &constraints.machine_id {
                // The least id that begins so; there is none in "00000000…", where all ids begin.
                let least = format!("{wanted:0<32}").parse::<MachineId>().map_or(Bound::Unbounded, Bound::Included);
                let machines = self.scheduler.cluster.machines.range((least, Bound::Unbounded)).map(|(id, _)| id);
                return self.by_load(machines.take_while(|id| id.as_str().starts_with(wanted.as_str())));
            }
            let outside = |peer: &&String| !group.iter().any(|name| name.as_str() == **peer);
            for peer in constraints.machine_of.iter().filter(outside) {
                let hosts = index.nodes.get(peer.as_str()).map(|node| &node.hosts);
                let count = hosts.map_or(0, std::collections::BTreeSet::len);
                if count <= fewest {
                    fewest = count;
                    best = self.by_load(hosts.into_iter().flatten());
                }
            }
            if let Some((count, hosts)) = index.hosts.with_metadata(constraints).filter(|(count, _)| *count < fewest) {
                fewest = count;
                best = Box::new(hosts);
            }
        }
        best
    }

    fn by_load<'b>(
        &'b self,
        hosts: impl Iterator<Item = &'b MachineId>,
    ) -> Box<dyn Iterator<Item = &'b MachineId> + 'b> {
        let mut hosts: Vec<_> = hosts.map(|host| (load(&self.scheduler.cluster, host), host)).collect();
        hosts.sort();
        Box::new(hosts.into_iter().map(|(_, host)| host))
    }

    /// The first rule against a newcomer, `None` if it fits; what it comes with counts as there, but isn't asked
    /// whether it can share a host: see [`Self::exclude_each_other`].
    pub(super) fn first_violation(
        &self,
        unit: &UnitName,
        node: &Node,
        host: &MachineId,
        with: &[UnitName],
    ) -> Option<Rule> {
        let cluster = &self.scheduler.cluster;
        let Some(constraints) = &node.constraints else { return Some(Rule::MachineOf) };
        let together = |peer: &String| with.iter().any(|name| name.as_str() == peer);
        if !cluster.machines.contains_key(host) {
            return Some(Rule::Alive);
        }
        if !machine_id(constraints, host).is_empty() {
            return Some(Rule::MachineId);
        }
        if !metadata(cluster, constraints, host).is_empty() {
            return Some(Rule::Metadata);
        }
        if !constraints.machine_of.iter().all(|peer| together(peer) || live_at(cluster, peer, host)) {
            return Some(Rule::MachineOf);
        }
        let (conflicts, replaced) = self.scheduler.index.crowded(node, host);
        if conflicts {
            return Some(Rule::Conflicts);
        }
        let question = || Question { unit, constraints, host, stance: Stance::Arrive };
        (replaced && !replaces(&self.scheduler.view(), &question()).is_empty()).then_some(Rule::Replaces)
    }

    /// Whether a group can't share a host, whichever: members conflict or replace each other.
    fn exclude_each_other(&self, group: &[UnitName]) -> bool {
        let view = self.scheduler.view();
        group.len() > 1
            && group.iter().any(|unit| {
                let Some(constraints) = view.constraints(unit) else { return false };
                let plain = constraints.conflicts.is_empty() && constraints.replaces.is_empty();
                !plain
                    && group.iter().filter(|other| *other != unit).any(|other| {
                        constraints.conflicts.iter().any(|glob| glob.matches(other.as_str()))
                            || (constraints.replaces.iter().any(|glob| glob.matches(other.as_str()))
                                && is_effective(&view, unit, other))
                    })
            })
    }

    /// `2 of 3 hosts: conflict; 1 of 3 hosts: metadata`: most frequent first.
    pub(super) fn summary(&mut self, unit: &UnitName, group: &[UnitName]) -> String {
        let key = self.scheduler.index.nodes.get(unit).filter(|_| group.len() < 2).and_then(InfeasibleCache::key);
        if let Some(known) = key.as_ref().and_then(|key| self.infeasible.keys.get(key)) {
            return known.clone();
        }
        let summary = self.summarise(unit, group);
        if let Some(key) = key {
            self.infeasible.keys.insert(key, summary.clone());
        }
        summary
    }

    fn summarise(&self, unit: &UnitName, group: &[UnitName]) -> String {
        let group: Vec<UnitName> = group.iter().filter(|name| self.is_ready(name)).cloned().collect();
        let view = self.scheduler.view();
        let missing = |peer: &UnitName| !group.contains(peer) && !view.is_placed(peer.as_str());
        let mut missing: Vec<String> =
            self.colocation_targets(unit).iter().filter(|peer| missing(peer)).map(ToString::to_string).collect();
        if !missing.is_empty() {
            let more = missing.len().saturating_sub(NAMED);
            if more > 0 {
                missing.truncate(NAMED);
                missing.push(format!("{more} more"));
            }
            return format!("for {} to be placed", missing.join(" and "));
        }
        let nodes: Vec<(&UnitName, &Node)> = std::iter::once(unit)
            .chain(group.iter().filter(|other| *other != unit))
            .filter_map(|name| Some((name, self.scheduler.index.nodes.get(name)?)))
            .collect();
        let exclude = self.exclude_each_other(&group);
        let mut found: BTreeMap<Rule, usize> = BTreeMap::new();
        for host in self.scheduler.index.hosts.all() {
            let rule = nodes.iter().find_map(|(name, node)| self.first_violation(name, node, host, &group));
            let rule = rule.or(exclude.then_some(Rule::Conflicts)).unwrap_or(Rule::Alive);
            *found.entry(rule).or_default() += 1;
        }
        let mut found: Vec<(Rule, usize)> = found.into_iter().collect();
        found.sort_by_key(|(rule, count)| (std::cmp::Reverse(*count), *rule));
        let hosts = match self.scheduler.index.hosts.len() {
            0 => return "no hosts".into(),
            1 => "1 host".into(),
            all => format!("{all} hosts"),
        };
        let parts: Vec<String> = found.iter().map(|(rule, count)| format!("{count} of {hosts}: {rule}")).collect();
        parts.join("; ")
    }
}
