//! Whether a unit may run on a host. Owns the rules, their order, and the reason that each gives when it is broken.
//! Must never decide where a unit goes: `schedule` does that with the same rules, and consults an index first where it
//! can (`Occupancy`).

mod displacement;
mod misfit;
pub mod preferred;
pub mod resources;
mod shortage;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeSet;

use crate::model::cluster::Cluster;
use crate::model::glob::Glob;
use crate::model::machine::BUILT_IN;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::{Condition, Constraints};
use crate::model::revision::Revision;
use crate::model::rule::{Reasons, Rule};
use crate::model::unit::{Desired, Target};

pub(crate) use displacement::{displaced, is_effective};
pub use misfit::{Misfit, Skew};
pub use shortage::Shortage;
use shortage::shortages;
pub(crate) use view::count_on;
pub use view::{Eligible, View};

/// Whether the unit is on the host already. Fewer rules apply then, so that healthy units stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// It would be new there: every unit on the host counts, even one that is leaving.
    Arrive,
    /// It is there: only a unit that stays there and has precedence can evict it.
    Stay,
    /// It is there, and its record is about to be replaced by one that gives precedence to all others: any unit that
    /// stays there can evict it.
    Renewed,
}

/// The question that [`fit`] answers.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The unit.
    pub unit: &'a UnitName,
    /// Its constraints, resolved.
    pub constraints: &'a Constraints,
    /// The host.
    pub host: &'a MachineId,
    /// Whether the unit arrives or stays.
    pub stance: Stance,
    /// Units that would arrive together with it: for its `MachineOf=` they count as being there.
    pub with: &'a [UnitName],
}

/// What an index knows about the other units on a host, without looking at each of them.
pub(crate) trait Occupancy {
    /// Whether another unit with an assignment on `host` conflicts with this one, whichever of them declares it.
    fn has_conflict(&self, host: &MachineId) -> bool;
    /// Whether any other unit with an assignment on `host` names this one in its `Replaces=`.
    fn is_named_by_replacer(&self, host: &MachineId) -> bool;
    /// Whether another unit with an assignment on `host` has one of this one's ports.
    fn has_port(&self, host: &MachineId) -> bool;
    /// Whether what it says of conflicts and ports is so. Otherwise there may be none although it says so.
    fn is_exact(&self) -> bool;
}

/// A rule: its name, its reasons against a host, and what an index can answer instead.
struct RuleCheck<V> {
    rule: Rule,
    misfits: fn(&V, &Question<'_>) -> Vec<Misfit>,
    indexed: Option<Indexed>,
}

/// Whether a rule is broken; `None` if the index can't tell, so that the misfits must be computed.
type Indexed = fn(&dyn Occupancy, &Question<'_>) -> Option<bool>;

impl<V: View> RuleCheck<V> {
    /// All rules, in their order.
    const ALL: [Self; 10] = [
        Self { rule: Rule::Alive, misfits: |view, asked| alive(view.cluster(), asked.host), indexed: None },
        Self { rule: Rule::Cordoned, misfits: cordoned, indexed: None },
        Self { rule: Rule::MachineId, misfits: |_, asked| machine_id(asked.constraints, asked.host), indexed: None },
        Self {
            rule: Rule::Metadata,
            misfits: |view, asked| match asked.stance {
                // Its host's metadata may change; it stays.
                Stance::Stay | Stance::Renewed if asked.constraints.belongs_to_its_host() => Vec::new(),
                _ => metadata(view.cluster(), asked.constraints, asked.host),
            },
            indexed: None,
        },
        Self { rule: Rule::MachineOf, misfits: machine_of, indexed: None },
        Self {
            rule: Rule::Conflicts,
            misfits: conflicts,
            indexed: Some(|occupancy, asked| match (occupancy.has_conflict(asked.host), asked.stance) {
                (false, _) => Some(false),
                (true, Stance::Arrive) => occupancy.is_exact().then_some(true),
                // Of two units that conflict, only the one without precedence leaves.
                (true, Stance::Stay | Stance::Renewed) => None,
            }),
        },
        Self {
            rule: Rule::Replaces,
            misfits: replaces,
            // A `Replaces=` that closes a cycle isn't effective, which only the rule can decide.
            indexed: Some(|occupancy, asked| (!occupancy.is_named_by_replacer(asked.host)).then_some(false)),
        },
        Self {
            rule: Rule::Spread,
            misfits: |view, asked| spread(view, asked).into_iter().collect(),
            indexed: Some(|_, asked| asked.constraints.preferences.is_none().then_some(false)),
        },
        Self {
            rule: Rule::Port,
            misfits: ports,
            indexed: Some(|occupancy, asked| match asked.constraints.ports {
                Some(_) if asked.stance == Stance::Arrive && occupancy.has_port(asked.host) => {
                    occupancy.is_exact().then_some(true)
                }
                _ => Some(false),
            }),
        },
        Self {
            rule: Rule::Resources,
            misfits: |view, asked| {
                shortages(view, asked).into_iter().map(|it| Misfit::Resources(Box::new(it))).collect()
            },
            indexed: Some(|_, asked| {
                (asked.constraints.resources.is_none() || asked.stance != Stance::Arrive).then_some(false)
            }),
        },
    ];

    fn answer(&self, question: &Question<'_>, occupancy: &dyn Occupancy) -> Option<bool> {
        self.indexed.and_then(|indexed| indexed(occupancy, question))
    }

    fn is_broken(&self, view: &V, question: &Question<'_>, occupancy: &dyn Occupancy) -> bool {
        self.answer(question, occupancy).unwrap_or_else(|| !(self.misfits)(view, question).is_empty())
    }
}

/// Check every rule.
///
/// # Errors
/// All misfits, in the rules' order.
pub fn fit<V: View>(view: &V, question: &Question<'_>) -> Result<(), Vec<Misfit>> {
    let misfits: Vec<Misfit> = RuleCheck::ALL.iter().flat_map(|check| (check.misfits)(view, question)).collect();
    if misfits.is_empty() { Ok(()) } else { Err(misfits) }
}

/// The first misfit, in the rules' order; `None` if the unit fits.
pub fn first_misfit<V: View>(view: &V, question: &Question<'_>) -> Option<Misfit> {
    RuleCheck::ALL.iter().find_map(|check| (check.misfits)(view, question).into_iter().next())
}

/// As [`first_misfit`], skipping rules that hold according to the index.
pub(crate) fn first_misfit_indexed<V: View>(
    view: &V,
    question: &Question<'_>,
    occupancy: &dyn Occupancy,
) -> Option<Misfit> {
    RuleCheck::ALL
        .iter()
        .filter(|check| check.answer(question, occupancy) != Some(false))
        .find_map(|check| (check.misfits)(view, question).into_iter().next())
}

/// As [`fit`], skipping rules that hold according to the index.
pub(crate) fn misfits_indexed<V: View>(view: &V, question: &Question<'_>, occupancy: &dyn Occupancy) -> Vec<Misfit> {
    let broken = RuleCheck::ALL.iter().filter(|check| check.answer(question, occupancy) != Some(false));
    broken.flat_map(|check| (check.misfits)(view, question)).collect()
}

/// The first rule that the host breaks, `None` if the unit fits.
pub(crate) fn first_violation<V: View>(view: &V, question: &Question<'_>, occupancy: &dyn Occupancy) -> Option<Rule> {
    RuleCheck::ALL.iter().find(|check| check.is_broken(view, question, occupancy)).map(|check| check.rule)
}

/// Whether the host breaks any rule that `reasons` count.
pub(crate) fn breaks_one_of<V: View>(
    reasons: &Reasons,
    view: &V,
    question: &Question<'_>,
    occupancy: &dyn Occupancy,
) -> bool {
    RuleCheck::ALL.iter().any(|check| reasons.contains_key(&check.rule) && check.is_broken(view, question, occupancy))
}

/// The host is registered.
fn alive(cluster: &Cluster, host: &MachineId) -> Vec<Misfit> {
    if cluster.machines.contains_key(host) { Vec::new() } else { vec![Misfit::Dead] }
}

/// The host takes new units. A unit that it runs already is none, also if the store has lost its assignment; nor is one
/// that must be with a unit which stays there. Global units are equipment of the host: they leave only one that is
/// drained of them too, when no other unit is there.
fn cordoned<V: View>(view: &V, question: &Question<'_>) -> Vec<Misfit> {
    let Question { unit, constraints, host, stance, with } = *question;
    let cluster = view.cluster();
    let Some((asked, closed)) = cluster.asked_of(host).and_then(|asked| Some((asked, asked.closed()?))) else {
        return Vec::new();
    };
    let there = cluster.schedule.get(host);
    let must_leave = if constraints.global {
        let is_last = || !there.into_iter().flatten().any(|(_, assignment)| !assignment.value.global);
        asked.drain.as_ref().is_some_and(|drain| drain.globals) && (stance == Stance::Arrive || is_last())
    } else {
        let anchors = |peer: &String| {
            let arrives = with.iter().any(|name| name.as_str() == peer);
            !arrives && there.and_then(|there| there.get(peer.as_str())).is_some_and(|peer| peer.value.anchors())
        };
        let runs = || resources::runs(cluster, unit, host);
        stance == Stance::Arrive && !constraints.machine_of.iter().any(anchors) && !runs()
    };
    must_leave.then_some(Misfit::Cordoned { asked: closed }).into_iter().collect()
}

/// `MachineID=`: the id, or its first eight digits.
pub(crate) fn machine_id(constraints: &Constraints, host: &MachineId) -> Vec<Misfit> {
    match &constraints.machine_id {
        Some(wanted) if wanted != host.as_str() && wanted != host.short() => {
            vec![Misfit::MachineId { wanted: wanted.clone() }]
        }
        _ => Vec::new(),
    }
}

/// `MachineMetadata=`: each key has one of its values, and every other condition holds.
pub(crate) fn metadata(cluster: &Cluster, constraints: &Constraints, host: &MachineId) -> Vec<Misfit> {
    let misfit = |(key, wanted): (&String, &BTreeSet<String>)| {
        let found = metadata_value(cluster, host, key);
        match found {
            Some(value) if wanted.contains(value) => None,
            _ => Some(Misfit::Metadata { key: key.clone(), found: found.map(Into::into), wanted: wanted.clone() }),
        }
    };
    let condition = |condition: &Condition| {
        let found = metadata_value(cluster, host, &condition.key);
        (!condition.holds(found)).then(|| Misfit::Condition { asked: condition.clone(), found: found.map(Into::into) })
    };
    let values = constraints.metadata.iter().filter_map(misfit);
    values.chain(constraints.conditions.iter().filter_map(condition)).collect()
}

/// One value of [`Cluster::effective_metadata`], without computing all of it, or of the host's built-in metadata.
pub(crate) fn metadata_value<'a>(cluster: &'a Cluster, host: &MachineId, key: &str) -> Option<&'a str> {
    if key.starts_with(BUILT_IN) {
        return cluster.machines.get(host)?.builtin.get(key).map(String::as_str);
    }
    match cluster.metadata.get(host).and_then(|metadata| metadata.get(key)) {
        Some(dynamic) => Some(dynamic.as_str()).filter(|value| !value.is_empty()),
        None => cluster.machines.get(host)?.metadata.get(key).map(String::as_str),
    }
}

/// `MachineOf=`: all named units have a live assignment there or arrive as well. A named global unit counts on every
/// host that has it.
fn machine_of<V: View>(view: &V, question: &Question<'_>) -> Vec<Misfit> {
    let misfit = |peer: &String| {
        let arrives = question.with.iter().any(|name| name.as_str() == peer);
        if arrives || live_at(view.cluster(), peer, question.host) {
            return None;
        }
        Some(Misfit::MachineOf { peer: peer.clone(), placed: view.is_placed(peer) })
    };
    question.constraints.machine_of.iter().filter_map(misfit).collect()
}

/// `Conflicts=`, whichever unit declares it.
fn conflicts<V: View>(view: &V, question: &Question<'_>) -> Vec<Misfit> {
    others(view, question)
        .filter_map(|other| {
            if question.stance == Stance::Stay && other.precedence > precedence(view.cluster(), question.unit) {
                return None;
            }
            let misfit = |glob: &Glob, declared_there| Misfit::Conflict {
                with: other.name.clone(),
                glob: glob.clone(),
                declared_there,
                leaving: other.leaving,
            };
            let ours = question.constraints.conflicts.iter().find(|glob| glob.matches(other.name.as_str()));
            if let Some(glob) = ours {
                return Some(misfit(glob, false));
            }
            let theirs = view.constraints_at(other.name, question.host)?;
            let glob = theirs.conflicts.iter().find(|glob| glob.matches(question.unit.as_str()))?;
            Some(misfit(glob, true))
        })
        .collect()
}

/// `Replaces=` of a unit on the host that names this one. It doesn't restrict the replacer itself.
fn replaces<V: View>(view: &V, question: &Question<'_>) -> Vec<Misfit> {
    others(view, question)
        .filter_map(|other| {
            let theirs = view.constraints_at(other.name, question.host)?;
            let glob = theirs.replaces.iter().find(|glob| glob.matches(question.unit.as_str()))?;
            is_effective(view, other.name, question.unit)
                .then(|| Misfit::Replaced { by: other.name.clone(), glob: glob.clone() })
        })
        .collect()
}

/// `MaxSkew=`: with this unit, the host's value of the key has at most so many units more than the value that has the
/// fewest. Only values of hosts that aren't cordoned and could have the unit, by what they are, count. A unit that is
/// there stays there.
fn spread<V: View>(view: &V, question: &Question<'_>) -> Option<Misfit> {
    let Question { unit, constraints, host, stance, .. } = *question;
    let spread = constraints.preferences.as_ref()?.spread.as_ref()?;
    // One that runs there already, although the store has lost its assignment, isn't new.
    let runs = || resources::runs(view.cluster(), unit, host);
    let most = spread.max_skew.filter(|_| stance == Stance::Arrive && !runs())?;
    let crowd = spread.crowd(unit)?;
    let counts = view.counted(&crowd, &spread.key, unit);
    let count = |value: &Option<String>| counts.get(value).copied().unwrap_or_default();
    let eligible = view.eligible(unit, constraints, &spread.key);
    let counting = eligible.iter().filter(|(_, counts)| **counts);
    let (least, value) = counting.map(|(value, _)| (count(value), value.clone())).min()?;
    let own = metadata_value(view.cluster(), host, &spread.key).map(str::to_owned);
    let there = count(&own);
    (there + 1 > least + most as usize).then(|| {
        let (here, least) = ((own, there), (value, least));
        Misfit::Spread(Box::new(Skew { crowd, key: spread.key.clone(), here, least, most }))
    })
}

/// `Port=`: no other unit on the host has one of its ports, not even one that is leaving. A unit that is there stays
/// there.
fn ports<V: View>(view: &V, question: &Question<'_>) -> Vec<Misfit> {
    let Some(ours) = question.constraints.ports.as_ref().filter(|_| question.stance == Stance::Arrive) else {
        return Vec::new();
    };
    let taken = |other: Other<'_>| {
        let theirs = view.constraints_at(other.name, question.host)?;
        let port = theirs.ports.as_ref()?.known().intersection(ours.known()).next().copied()?;
        Some(Misfit::Port { port, of: other.name.clone(), leaving: other.leaving })
    };
    others(view, question).filter_map(taken).collect()
}

/// Whether a host could have a unit, by what it is and whatever else is on it.
pub(crate) fn is_eligible(cluster: &Cluster, constraints: &Constraints, host: &MachineId) -> bool {
    machine_id(constraints, host).is_empty() && metadata(cluster, constraints, host).is_empty()
}

/// Another unit on the host in question.
struct Other<'a> {
    name: &'a UnitName,
    leaving: bool,
    precedence: (Revision, &'a UnitName),
}

/// The other units on the host that count for a unit that arrives or stays.
fn others<'a, V: View>(view: &'a V, question: &Question<'a>) -> impl Iterator<Item = Other<'a>> {
    let Question { unit, host, stance, .. } = *question;
    let cluster = view.cluster();
    cluster.schedule.get(host).into_iter().flatten().filter_map(move |(name, assignment)| {
        let leaving = assignment.value.target == Target::Removed || !is_wanted(cluster, name);
        let counts = name != unit && (stance == Stance::Arrive || !leaving);
        counts.then(|| Other { name, leaving, precedence: precedence(cluster, name) })
    })
}

/// The precedence of a unit: the older generation first, then the smaller name. Of two units that can't share a host,
/// the one without precedence leaves.
pub(crate) fn precedence<'a>(cluster: &Cluster, name: &'a UnitName) -> (Revision, &'a UnitName) {
    (cluster.units.get(name).map_or(Revision::default(), |unit| unit.generation), name)
}

/// Whether its desired state puts it on a host.
pub(crate) fn is_wanted(cluster: &Cluster, name: &UnitName) -> bool {
    !name.is_template() && cluster.units.get(name).is_some_and(|unit| unit.desired != Desired::Inactive)
}

/// Whether it has an assignment there that isn't `gone`.
pub(crate) fn live_at(cluster: &Cluster, name: &str, host: &MachineId) -> bool {
    let assignment = cluster.schedule.get(host).and_then(|assignments| assignments.get(name));
    assignment.is_some_and(|assignment| assignment.value.target != Target::Removed)
}
