//! Gates: with which file a unit is scheduled while its rollout hasn't let it through to the one that was requested.
//! Owns who takes part in a rollout, and when a gate is closed by itself; `hosts` has the gates of global units, and
//! `riding` the riders of sets. Pure; must never decide who is let through (`pace` does).

pub mod hosts;
pub mod riding;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::rollout::Gate;
use crate::model::unit::{Assignment, Desired, Target, Unit};

use super::fit::{Misfit, Question, Stance, fit};

/// The cluster with the units by whose records it is scheduled: those behind gates have the gates' files, and spares
/// are units as well. A cluster of which this was taken already stays the same.
#[must_use]
pub fn effective(cluster: &Cluster) -> Cow<'_, Cluster> {
    if cluster.gates.is_empty() {
        return Cow::Borrowed(cluster);
    }
    let mut effective = cluster.clone();
    apply(&mut effective);
    Cow::Owned(effective)
}

/// The same, without a copy.
pub fn apply(cluster: &mut Cluster) {
    for (name, gate) in cluster.gates.iter().filter(|(_, gate)| !gate.value.spare) {
        if let Some(unit) = cluster.units.get_mut(name) {
            *unit = unit.behind(&gate.value);
        }
    }
    add_spares(cluster);
}

/// Spares as units among the others, which stay as they were requested. A unit that was submitted is no spare.
pub fn add_spares(cluster: &mut Cluster) {
    for (name, gate) in cluster.gates.iter().filter(|(_, gate)| gate.value.spare) {
        cluster.units.entry(name.clone()).or_insert_with(|| Unit::spare(&gate.value));
    }
}

/// The same in a part of the cluster in which nothing is scheduled: the gates of spares whose place a submitted unit
/// has taken, which the leader has yet to delete, count for nothing.
pub fn show_spares(cluster: &mut Cluster) {
    let Cluster { gates, units, .. } = cluster;
    gates.retain(|name, gate| !(gate.value.spare && units.contains_key(name)));
    add_spares(cluster);
}

/// The spares of the rollout of a set that are instances of `template`: the set itself, or a rider.
pub fn spares_of<'a>(
    cluster: &'a Cluster,
    template: &'a UnitName,
    set: &'a UnitName,
) -> impl Iterator<Item = (&'a UnitName, &'a Gate)> {
    let gates = numbered(&cluster.gates, template).map(|(name, gate)| (name, &gate.value));
    gates.filter(move |(_, gate)| gate.spare && gate.rollout == *set)
}

/// The numbered instances of a template.
pub fn instances<'a>(cluster: &'a Cluster, template: &'a UnitName) -> impl Iterator<Item = &'a UnitName> {
    numbered(&cluster.units, template).map(|(name, _)| name)
}

/// What there is of the numbered instances of a template, at no more cost than that of its instances.
fn numbered<'a, V>(
    all: &'a BTreeMap<UnitName, V>,
    template: &'a UnitName,
) -> impl Iterator<Item = (&'a UnitName, &'a V)> {
    let prefix = format!("{}@", template.prefix());
    let from = all.range::<str, _>((Bound::Included(prefix.clone().as_str()), Bound::Unbounded));
    let named = from.take_while(move |(name, _)| name.as_str().starts_with(&prefix));
    named.filter(|(name, _)| name.number_in(template).is_some())
}

/// Whether a rollout previews unit `name` on `host`: it is to get no new connections there before it is promoted.
#[must_use]
pub fn is_previewed(cluster: &Cluster, name: &UnitName, host: &MachineId) -> bool {
    if cluster.rollouts.is_empty() {
        return false;
    }
    let template = name.set();
    let mut rollouts = template.iter().chain([name]).filter_map(|of| cluster.rollouts.get(of)).peekable();
    if rollouts.peek().is_none() {
        return false;
    }
    let assigned = cluster.schedule.get(host).and_then(|assignments| assignments.get(name));
    let assigned = assigned.map(|assignment| &assignment.value.hash);
    let runs = cluster.report(name, host).map(|report| &report.hash);
    rollouts.any(|rollout| assigned.into_iter().chain(runs).any(|hash| rollout.value.previews(hash)))
}

/// Whether `name` has the gate of a hook.
#[must_use]
pub fn is_hook(cluster: &Cluster, name: &UnitName) -> bool {
    cluster.gates.get(name).is_some_and(|gate| gate.value.hook)
}

/// Whether `name` has the gate of a spare.
#[must_use]
pub fn is_spare(cluster: &Cluster, name: &UnitName) -> bool {
    cluster.gates.get(name).is_some_and(|gate| gate.value.spare)
}

/// The set or unit whose rollout brings unit `name` the file of `record`; `None` if it gets the file at once. A member
/// with a file of its own takes part in no rollout of its set. Members of a rider belong to the rollout of its lead,
/// unless the rider has one of its own.
#[must_use]
pub fn rollout_of(cluster: &Cluster, name: &UnitName, record: &Unit) -> Option<UnitName> {
    if let Some(template) = name.set()
        && let Some(set) = cluster.units.get(&template)
        && set.replicas.is_some()
        && set.hash == record.hash
    {
        return Some(riding::lead_of(cluster, &template).cloned().unwrap_or(template));
    }
    let file = &cluster.files.get(&record.hash)?.value;
    (!name.is_template() && file.rollout.is_some()).then(|| name.clone())
}

/// The gate that unit `name` must have now that its record is `record`. A gate that it has stays as long as it is asked
/// for the same file, and that of a hook as long as it runs. A new one is closed if the unit runs another file, and
/// would have to be stopped for this one: systemd reads something else from it, or it doesn't fit the unit's host.
#[must_use]
pub fn needed(cluster: &Cluster, name: &UnitName, record: &Unit) -> Option<Gate> {
    let known = cluster.gates.get(name).map(|gate| &gate.value);
    if let Some(gate) = known.filter(|gate| gate.hook || !gate.spare && gate.target == record.hash) {
        return Some(moved(cluster, name, record, gate).unwrap_or_else(|| gate.clone()));
    }
    if record.desired != Desired::Launched {
        return None;
    }
    let rollout = rollout_of(cluster, name, record)?;
    if is_global(cluster, record) {
        return hosts::needed(cluster, name, record);
    }
    let (host, runs) = launched(cluster, name)?;
    if stays_up(cluster, (name, host), &runs.hash, &record.hash) {
        return None;
    }
    Some(Gate::new(&rollout, &record.hash, hosts::file_of(runs), record.generation))
}

/// `gate`, which unit `name` has, for another rollout, if it belongs to that now: a rider may take part in the rollout
/// of its lead, or no longer. `record` is that of the unit.
#[must_use]
pub fn moved(cluster: &Cluster, name: &UnitName, record: &Unit, gate: &Gate) -> Option<Gate> {
    if gate.hook || gate.spare || gate.target != record.hash {
        return None;
    }
    let rollout = rollout_of(cluster, name, record).filter(|of| of.is_template() && *of != gate.rollout)?;
    Some(Gate { rollout, ..gate.clone() })
}

/// Whether a leader that didn't know gates has let the unit through to the file of `record` since `gate` was closed.
#[must_use]
pub fn is_left_over(cluster: &Cluster, name: &UnitName, record: &Unit, gate: &Gate) -> bool {
    let runs = launched(cluster, name).map(|(_, runs)| runs);
    let is_through = |runs: &Assignment| runs.hash == record.hash && runs.hash != gate.hash;
    !gate.hook && runs.is_some_and(|runs| is_through(runs) && runs.generation >= gate.asked)
}

/// A generation for a gate that the leader decides about: greater than that of the unit's `record`, and of what its
/// hosts were told `before`.
#[must_use]
pub fn next_generation(
    cluster: &Cluster,
    record: Option<&Unit>,
    before: impl IntoIterator<Item = Revision>,
) -> Revision {
    let known = before.into_iter().chain(record.map(|record| record.generation));
    known.map(Revision::next).fold(cluster.revision, Revision::max)
}

/// The assignment by which a unit that isn't global runs, and its host, alive or not.
#[must_use]
pub fn launched<'a>(cluster: &'a Cluster, name: &UnitName) -> Option<(&'a MachineId, &'a Assignment)> {
    let host = cluster.placed_on(name)?;
    let assignment = &cluster.schedule.get(host)?.get(name)?.value;
    (assignment.target == Target::Launched).then_some((host, assignment))
}

/// Whether a unit with this record runs on every host that fits, as far as its file is known.
#[must_use]
pub fn is_global(cluster: &Cluster, record: &Unit) -> bool {
    cluster.files.get(&record.hash).is_some_and(|file| file.value.global)
}

/// Whether a unit that runs one file on a host goes on there when it gets the `other`.
pub(super) fn stays_up(
    cluster: &Cluster,
    (name, host): (&UnitName, &MachineId),
    one: &UnitHash,
    other: &UnitHash,
) -> bool {
    one == other || is_same_body(cluster, one, other) && still_fits(cluster, (name, host), one, other)
}

/// Whether the host that has a unit with one file keeps it with the `other`. What is requested of units together is
/// decided for one after another, so that the precedence which they will have says nothing here: each gives way to all
/// others. That a host is gone is no reason against it.
fn still_fits(cluster: &Cluster, (name, host): (&UnitName, &MachineId), one: &UnitHash, other: &UnitHash) -> bool {
    let file = |hash: &UnitHash| cluster.files.get(hash).map(|file| &file.value);
    let Some((one, other)) = file(one).zip(file(other)) else { return false };
    if is_placed_alike(one, other) {
        return true;
    }
    let constraints = Constraints::resolve(other, name);
    let question = Question { unit: name, constraints: &constraints, host, stance: Stance::Renewed, with: &[] };
    fit(cluster, &question).err().is_none_or(|misfits| misfits.iter().all(|misfit| *misfit == Misfit::Dead))
}

/// Whether two files of a unit restrict in the same way where it may be.
fn is_placed_alike(one: &Constraints, other: &Constraints) -> bool {
    (&one.machine_id, &one.metadata, &one.conditions) == (&other.machine_id, &other.metadata, &other.conditions)
        && (&one.machine_of, &one.conflicts) == (&other.machine_of, &other.conflicts)
}

/// Whether systemd reads the same from two files. A file that isn't known is like no other.
fn is_same_body(cluster: &Cluster, one: &UnitHash, other: &UnitHash) -> bool {
    let body = |hash: &UnitHash| cluster.files.get(hash).map(|file| file.value.body);
    one == other || body(one).is_some_and(|one| Some(one) == body(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Versioned;
    use crate::model::rollout::File;

    #[test]
    fn a_unit_behind_a_gate_is_scheduled_with_the_file_of_the_gate() {
        let (name, other): (UnitName, UnitName) = ("a.service".parse().unwrap(), "b.service".parse().unwrap());
        let mut cluster = Cluster::default();
        for name in [&name, &other] {
            cluster.units.insert(name.clone(), Unit::new(Desired::Launched, UnitHash::new("new"), Revision(7)));
        }
        assert!(matches!(effective(&cluster), Cow::Borrowed(_)), "without gates, nothing is copied");
        let old = File { hash: UnitHash::new("old"), text: None };
        let gate = Gate::new(&name, &UnitHash::new("new"), old.held(Revision(3), None), Revision(7));
        cluster.gates.insert(name.clone(), Versioned { value: gate, revision: Revision(9) });
        let scheduled = effective(&cluster).into_owned();
        assert_eq!(
            (scheduled.units[&name].hash.as_str(), scheduled.units[&name].generation, &scheduled.units[&other]),
            ("old", Revision(3), &cluster.units[&other])
        );
        assert_eq!(*effective(&scheduled), scheduled);
        // A spare is a unit, unless one with its name was submitted.
        let spare: UnitName = "web@4.service".parse().unwrap();
        let gate = Gate { spare: true, ..cluster.gates[&name].value.clone() };
        for name in [&spare, &other] {
            cluster.gates.insert(name.clone(), Versioned { value: gate.clone(), revision: Revision(9) });
        }
        let scheduled = effective(&cluster).into_owned();
        assert_eq!(scheduled.units[&spare], Unit::new(Desired::Launched, UnitHash::new("old"), Revision(3)));
        assert_eq!(scheduled.units[&other], cluster.units[&other]);
        assert_eq!(*effective(&scheduled), scheduled);
    }
}
