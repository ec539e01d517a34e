//! May this unit run on this host? Owns the rules, in their order, and the reason each gives when it says no. Must
//! never decide where a unit goes: that is `schedule`'s, which also answers the same questions from its indexes, and is
//! tested to agree with what stands here.

mod displacement;
mod misfit;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeSet;

use crate::model::cluster::Cluster;
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::unit::{Desired, Target};

pub(crate) use displacement::{displaced, is_effective};
pub use misfit::{Misfit, Rule};
pub use view::View;

/// Whether the unit is there already. An occupant needs less than a newcomer: healthy units stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// It would be new there: whatever occupies the host counts, even what is about to leave.
    Arrive,
    /// It is there: only what stays there and came first can drive it away.
    Stay,
}

/// What [`fit`] is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The unit.
    pub unit: &'a UnitName,
    /// Its constraints, resolved.
    pub constraints: &'a Constraints,
    /// The host.
    pub host: &'a MachineId,
    /// Newcomer or occupant.
    pub stance: Stance,
}

/// Every rule, every reason against.
///
/// # Errors
/// All misfits, in the rules' order.
pub fn fit<V: View>(view: &V, question: &Question<'_>) -> Result<(), Vec<Misfit>> {
    let misfits: Vec<Misfit> = RULES.iter().flat_map(|rule| ask(*rule, view, question)).collect();
    if misfits.is_empty() { Ok(()) } else { Err(misfits) }
}

/// The first reason against, in the rules' order; `None` if the unit fits.
pub fn first_misfit<V: View>(view: &V, question: &Question<'_>) -> Option<Misfit> {
    RULES.iter().find_map(|rule| ask(*rule, view, question).into_iter().next())
}

/// As [`first_misfit`], by the rules that don't ask who else is there and in the way.
pub(crate) fn first_own_misfit<V: View>(view: &V, question: &Question<'_>) -> Option<Misfit> {
    let own = RULES.iter().filter(|rule| !matches!(rule, Rule::Conflicts | Rule::Replaces));
    own.map(|rule| ask(*rule, view, question)).find_map(|misfits| misfits.into_iter().next())
}

/// The rules in their order.
const RULES: [Rule; 6] =
    [Rule::Alive, Rule::MachineId, Rule::Metadata, Rule::MachineOf, Rule::Conflicts, Rule::Replaces];

fn ask<V: View>(rule: Rule, view: &V, question: &Question<'_>) -> Vec<Misfit> {
    match rule {
        Rule::Alive => alive(view.cluster(), question.host),
        Rule::MachineId => machine_id(question.constraints, question.host),
        Rule::Metadata => metadata(view.cluster(), question.constraints, question.host),
        Rule::MachineOf => machine_of(view, question),
        Rule::Conflicts => conflicts(view, question),
        Rule::Replaces => replaces(view, question),
    }
}

/// Alive and eligible: the host's key is there.
fn alive(cluster: &Cluster, host: &MachineId) -> Vec<Misfit> {
    if cluster.machines.contains_key(host) { Vec::new() } else { vec![Misfit::Dead] }
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

/// `MachineMetadata=`: every key, one of its values.
pub(crate) fn metadata(cluster: &Cluster, constraints: &Constraints, host: &MachineId) -> Vec<Misfit> {
    let misfit = |(key, wanted): (&String, &BTreeSet<String>)| {
        let found = metadata_value(cluster, host, key);
        match found {
            Some(value) if wanted.contains(value) => None,
            _ => Some(Misfit::Metadata { key: key.clone(), found: found.map(Into::into), wanted: wanted.clone() }),
        }
    };
    constraints.metadata.iter().filter_map(misfit).collect()
}

/// One value of [`Cluster::effective_metadata`], without making all of it.
pub(crate) fn metadata_value<'a>(cluster: &'a Cluster, host: &MachineId, key: &str) -> Option<&'a str> {
    match cluster.metadata.get(host).and_then(|metadata| metadata.get(key)) {
        Some(dynamic) => Some(dynamic.as_str()).filter(|value| !value.is_empty()),
        None => cluster.machines.get(host)?.metadata.get(key).map(String::as_str),
    }
}

/// `MachineOf=`: all named units have a live assignment there. A named global counts where it is.
fn machine_of<V: View>(view: &V, question: &Question<'_>) -> Vec<Misfit> {
    let misfit = |peer: &String| {
        if live_at(view.cluster(), peer, question.host) {
            return None;
        }
        Some(Misfit::MachineOf { peer: peer.clone(), placed: view.is_placed(peer) })
    };
    question.constraints.machine_of.iter().filter_map(misfit).collect()
}

/// `Conflicts=`, whichever side says so.
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
            let theirs = view.constraints_in_force(other.name)?;
            let glob = theirs.conflicts.iter().find(|glob| glob.matches(question.unit.as_str()))?;
            Some(misfit(glob, true))
        })
        .collect()
}

/// `Replaces=` of a unit that is there and names this one. The replacer itself is never hindered.
pub(crate) fn replaces<V: View>(view: &V, question: &Question<'_>) -> Vec<Misfit> {
    others(view, question)
        .filter_map(|other| {
            let theirs = view.constraints_in_force(other.name)?;
            let glob = theirs.replaces.iter().find(|glob| glob.matches(question.unit.as_str()))?;
            is_effective(view, other.name, question.unit)
                .then(|| Misfit::Replaced { by: other.name.clone(), glob: glob.clone() })
        })
        .collect()
}

/// Another unit on the host in question.
struct Other<'a> {
    name: &'a UnitName,
    leaving: bool,
    precedence: (Revision, &'a UnitName),
}

/// Whoever counts for a unit that arrives or stays, itself excepted.
fn others<'a, V: View>(view: &'a V, question: &Question<'a>) -> impl Iterator<Item = Other<'a>> {
    let Question { unit, host, stance, .. } = *question;
    let cluster = view.cluster();
    cluster.schedule.get(host).into_iter().flatten().filter_map(move |(name, assignment)| {
        let leaving = assignment.value.target == Target::Removed || !is_wanted(cluster, name);
        let counts = name != unit && (stance == Stance::Arrive || !leaving);
        counts.then(|| Other { name, leaving, precedence: precedence(cluster, name) })
    })
}

/// Who came first: an older generation, then the smaller name. Of two that can't share a host, the later one leaves.
pub(crate) fn precedence<'a>(cluster: &Cluster, name: &'a UnitName) -> (Revision, &'a UnitName) {
    (cluster.units.get(name).map_or(Revision::default(), |unit| unit.generation), name)
}

/// Whether somebody wants it on a host.
pub(crate) fn is_wanted(cluster: &Cluster, name: &UnitName) -> bool {
    !name.is_template() && cluster.units.get(name).is_some_and(|unit| unit.desired != Desired::Inactive)
}

/// Whether it has an assignment there that isn't `gone`.
pub(crate) fn live_at(cluster: &Cluster, name: &str, host: &MachineId) -> bool {
    let assignment = cluster.schedule.get(host).and_then(|assignments| assignments.get(name));
    assignment.is_some_and(|assignment| assignment.value.target != Target::Removed)
}
