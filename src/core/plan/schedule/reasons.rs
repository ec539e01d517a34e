//! Why a unit waits: the reasons stored in its placement, when they must be renewed, and which constraints are known
//! within a round to fit nowhere. Must never choose a host.

use std::collections::BTreeMap;

use crate::model::name::{MachineId, UnitName};
use crate::model::rule::{Reasons, Rule};

use super::super::fit::{Question, Stance, View, breaks_one_of};
use super::dirty::Rescan;
use super::index::patterns::PatternId;
use super::index::{ConstraintId, Indexed, Member};

/// How many of the units that another one waits for the sentence names. It is stored and sent with each change, so it
/// is bounded; `plan::explain` has all of them.
const NAMED: usize = 5;

/// Why a unit waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) sentence: String,
    pub(super) reasons: Reasons,
}

/// What determines where a unit fits that has no colocation targets, that no unit replaces and that doesn't run on a
/// cordoned or full host: units with equal keys fit the same hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ConstraintKey {
    constraints: ConstraintId,
    /// The patterns of other units' `Conflicts=` that match the name.
    matched_by: Vec<PatternId>,
}

impl ConstraintKey {
    fn of(view: Indexed<'_>, (unit, node): Member<'_>) -> Option<Self> {
        let constraints = node.constraints.as_ref()?;
        let is_open = view.cluster.maintenance.is_empty() && constraints.resources.is_none();
        let is_new = is_open || view.cluster.reports(unit).next().is_none();
        // Where one with `MaxSkew=` fits depends on the arrival of others, too.
        let spread = constraints.preferences.as_ref().and_then(|preferences| preferences.spread.as_ref());
        let is_skewed = spread.is_some_and(|spread| spread.max_skew.is_some());
        let is_alone = constraints.machine_of.is_empty() && node.replaces.matches.is_empty();
        let plain = is_alone && is_new && !is_skewed;
        plain.then(|| Self { constraints: node.constraint_id, matched_by: node.conflicts.matches.clone() })
    }
}

/// Constraints that are known to fit nowhere, and why. Valid until a unit leaves a host; arrivals can't make it wrong.
#[derive(Debug, Default)]
pub(super) struct InfeasibleCache {
    keys: BTreeMap<ConstraintKey, Why>,
    /// Whether stored reasons that differ from [`Self::keys`]' still exclude every host.
    verdicts: BTreeMap<(ConstraintKey, Vec<Rule>), bool>,
}

impl InfeasibleCache {
    /// A unit has left a host.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.verdicts.clear();
    }

    pub(super) fn contains(&self, view: Indexed<'_>, member: Member<'_>) -> bool {
        !self.keys.is_empty() && ConstraintKey::of(view, member).is_some_and(|key| self.keys.contains_key(&key))
    }

    /// Why `unit`, with `group`, fits no host.
    pub(super) fn explain(&mut self, view: Indexed<'_>, unit: &UnitName, group: &[UnitName]) -> Why {
        let key = view.key(unit, group);
        if let Some(known) = key.as_ref().and_then(|key| self.keys.get(key)) {
            return known.clone();
        }
        let why = view.explain_waiting(unit, group);
        if let Some(key) = key {
            self.keys.insert(key, why.clone());
        }
        why
    }

    /// Whether stored reasons are still valid: they count every live host, and each of these still breaks one of the
    /// counted rules.
    pub(super) fn still_hold(
        &mut self,
        view: Indexed<'_>,
        stored: &Reasons,
        (unit, group): (&UnitName, &[UnitName]),
        rescan: &Rescan,
    ) -> bool {
        let counted: usize = stored.values().sum();
        if counted == 0 || counted != view.index.hosts.len() {
            return false;
        }
        // It waits for another unit now, which no host counts for.
        if !view.awaited(unit, group).is_empty() {
            return false;
        }
        match rescan {
            Rescan::Explain => false,
            Rescan::Hosts(hosts) => view.each_breaks(stored, hosts.iter(), (unit, group)),
            Rescan::Keep => {
                let now = self.explain(view, unit, group);
                if now.reasons.keys().all(|rule| stored.contains_key(rule)) {
                    return true;
                }
                let check = || view.each_breaks(stored, view.index.hosts.all(), (unit, group));
                match view.key(unit, group) {
                    Some(key) => {
                        let question = (key, stored.keys().copied().collect());
                        *self.verdicts.entry(question).or_insert_with(check)
                    }
                    None => check(),
                }
            }
        }
    }
}

impl Indexed<'_> {
    /// What determines where a unit fits that is placed alone.
    fn key(&self, unit: &UnitName, group: &[UnitName]) -> Option<ConstraintKey> {
        let node = self.index.nodes.get(unit).filter(|_| group.len() < 2)?;
        ConstraintKey::of(*self, (unit, node))
    }

    /// Whether each live host among `hosts` breaks one of the rules that `reasons` count.
    fn each_breaks<'h>(
        &self,
        reasons: &Reasons,
        hosts: impl Iterator<Item = &'h MachineId>,
        (unit, group): (&UnitName, &[UnitName]),
    ) -> bool {
        let group = self.ready_group(unit, group);
        let members = self.members(&group);
        let excluded = reasons.contains_key(&Rule::Conflicts) && self.exclude_each_other(&group);
        let breaks = |host: &MachineId, (unit, node): &Member<'_>| {
            let Some(constraints) = self.on((unit, node), host) else {
                return reasons.contains_key(&Rule::MachineOf);
            };
            let question = Question { unit, constraints: &constraints, host, stance: Stance::Arrive, with: &group };
            breaks_one_of(reasons, self, &question, &self.others(node))
        };
        let mut alive = hosts.filter(|host| self.cluster.machines.contains_key(*host));
        excluded || alive.all(|host| members.iter().any(|member| breaks(host, member)))
    }

    /// `unit`, and the members of `group` that could be placed with it.
    fn ready_group(&self, unit: &UnitName, group: &[UnitName]) -> Vec<UnitName> {
        let others = group.iter().filter(|name| *name != unit && self.is_ready(name));
        std::iter::once(unit).chain(others).cloned().collect()
    }

    /// The units that must be placed before `unit`, which isn't placed together with them.
    fn awaited(&self, unit: &UnitName, group: &[UnitName]) -> Vec<UnitName> {
        let mut targets = self.colocation_targets(unit);
        if !targets.is_empty() {
            let group = self.ready_group(unit, group);
            targets.retain(|peer| !group.contains(peer) && !self.is_placed(peer.as_str()));
        }
        targets
    }

    fn explain_waiting(&self, unit: &UnitName, group: &[UnitName]) -> Why {
        let group = self.ready_group(unit, group);
        let targets = self.awaited(unit, &group);
        if !targets.is_empty() {
            return Why { sentence: format!("for {} to be placed", named(&targets)), reasons: Reasons::new() };
        }
        let members = self.members(&group);
        let excluded = self.exclude_each_other(&group);
        let mut reasons = Reasons::new();
        for host in self.index.hosts.all() {
            let rule = self.group_violation(&members, host, &group);
            let rule = rule.or(excluded.then_some(Rule::Conflicts)).unwrap_or(Rule::Alive);
            *reasons.entry(rule).or_default() += 1;
        }
        Why { sentence: counted(&reasons), reasons }
    }
}

/// `a.service and b.service and 3 more`.
fn named(units: &[UnitName]) -> String {
    let mut names: Vec<String> = units.iter().take(NAMED).map(ToString::to_string).collect();
    if units.len() > NAMED {
        names.push(format!("{} more", units.len() - NAMED));
    }
    names.join(" and ")
}

/// `2 of 3 hosts: conflict; 1 of 3 hosts: metadata`, most frequent first.
fn counted(reasons: &Reasons) -> String {
    let hosts = match reasons.values().sum() {
        0 => return "no hosts".into(),
        1 => "1 host".into(),
        all => format!("{all} hosts"),
    };
    let mut found: Vec<(Rule, usize)> = reasons.iter().map(|(rule, count)| (*rule, *count)).collect();
    found.sort_by_key(|(rule, count)| (std::cmp::Reverse(*count), *rule));
    let parts: Vec<String> = found.iter().map(|(rule, count)| format!("{count} of {hosts}: {rule}")).collect();
    parts.join("; ")
}
