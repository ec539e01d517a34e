//! Members with the units that ride with them, which get their files together and count as one. Owns which units these
//! are, what is known of a member from what is known of its units, and which files riders have before and after a
//! rollout. Must never decide what follows from it (`pace` does).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::name::{UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::rollout::riding::RiderFiles;
use crate::model::rollout::{File, Gate, MemberName, Phase, Rollout};

use super::super::gate::is_spare;
use super::super::pace::{Member, MemberState};
use super::member;

/// A member of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// What it is called: as the first of its units.
    pub(super) name: MemberName,
    /// The units that get their files together: the member of the set first, if it takes part, then those of riders.
    pub(super) units: Vec<UnitName>,
    /// Which of the templates that take part have units here that wait behind gates for their files.
    pub(super) awaits: Vec<usize>,
}

/// The spare of a rollout with the units that came with it and take part.
pub(super) fn spare(cluster: &Cluster, name: &UnitName, rollout: &Rollout, spare: &UnitName) -> Group {
    let number = spare.number();
    let riders = rollout.riders.keys().filter_map(|rider| rider.numbered(number?).ok());
    let is_of = |unit: &UnitName| {
        is_spare(cluster, unit) && cluster.gates.get(unit).is_some_and(|gate| gate.value.rollout == *name)
    };
    let units = std::iter::once(spare.clone()).chain(riders.filter(is_of)).collect();
    Group { name: spare.clone().into(), units, awaits: Vec::new() }
}

/// A member, in a cluster with the units as they are scheduled, and what is known of each of its units.
pub(super) fn member(
    cluster: &Cluster,
    group: &Group,
    rollout: &Rollout,
    new: Option<&Arc<Constraints>>,
    is_spare: bool,
) -> (Member, Vec<Member>) {
    let units: Vec<Member> = match &group.name.host {
        Some(host) => vec![member::on_host(cluster, &group.name, host, new)],
        None if is_spare => group.units.iter().map(|unit| member::spare(cluster, unit, rollout)).collect(),
        None => group.units.iter().map(|unit| member::unit(cluster, unit)).collect(),
    };
    (together(&group.name, &units, rollout), units)
}

/// What is known of a member whose units are these, at least one: the worst of them decides. A unit without a host
/// doesn't count as long as others have one, apart from that the member `lacks` it.
fn together(name: &MemberName, units: &[Member], rollout: &Rollout) -> Member {
    let is_here = |unit: &&Member| !unit.state.is_gone();
    let first = units.iter().find(is_here).unwrap_or(&units[0]);
    // The first of several that are equally bad.
    let worst = units.iter().filter(is_here).min_by_key(|unit| Reverse(badness(&unit.state))).unwrap_or(first);
    let is_changed = |unit: &&Member| unit.gated || rollout.changes(&unit.name.unit);
    let gated = units.iter().any(|unit| unit.gated);
    let is_missing = |unit: &Member| matches!(unit.state, MemberState::Away | MemberState::Unplaced);
    Member {
        name: name.clone(),
        gated,
        partly: gated && units.iter().filter(is_changed).any(|unit| !unit.gated),
        keeps: gated && !worst.gated,
        lacks: is_here(&worst) && units.iter().any(is_missing),
        host: first.host.clone(),
        ..worst.clone()
    }
}

/// How much a state weighs against others. Until the host of each unit has started it, no time counts, unless a host
/// can't start one.
fn badness(state: &MemberState) -> u8 {
    match state {
        MemberState::Failed(_) => 4,
        MemberState::Assigned(Some(_)) => 3,
        MemberState::Assigned(None) => 2,
        MemberState::Pending(_) => 1,
        MemberState::Healthy | MemberState::Away | MemberState::Unplaced | MemberState::FitsNowhere => 0,
    }
}

/// Whether each unit of a member that is to get another file fits its host with it, or some other host. One that has
/// none now is no reason to keep it from the others.
///
/// # Errors
/// A sentence about the first that doesn't.
pub(super) fn fit(cluster: &Cluster, units: &[Member], rollout: &Rollout) -> Result<(), String> {
    let is_alone = units.len() == 1;
    let next = units.iter().filter(|unit| is_alone || unit.gated && !unit.state.is_gone());
    for unit in next {
        let file = cluster.files.get(rollout.target_of(&unit.name.unit));
        if let Some(file) = file {
            member::fits(cluster, unit, &file.value)?;
        }
    }
    Ok(())
}

/// The units of a member that get the files before again: those that have others. If the rollout changes none of them,
/// the first, so that the member counts as taken back.
pub(super) fn to_take_back<'a>(cluster: &Cluster, units: &'a [UnitName], rollout: &Rollout) -> Vec<&'a UnitName> {
    let has_new = |unit: &&UnitName| match cluster.gates.get(*unit).map(|gate| &gate.value) {
        Some(gate) if gate.spare => gate.hash != rollout.from_of(unit).hash,
        gate => gate.is_none(),
    };
    let changed: Vec<&UnitName> = units.iter().filter(|unit| rollout.changes(unit)).collect();
    if changed.is_empty() { units.iter().take(1).collect() } else { changed.into_iter().filter(has_new).collect() }
}

/// How a rollout goes on that finds these riders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// As it did, with these files of riders.
    GoesOn(BTreeMap<UnitName, RiderFiles>),
    /// From its beginning.
    Begins,
}

/// Whether the rollout `known`, whose set is to have the same file as before, goes on. `riders` has their files as a
/// new one would have them. A rider that gets another file before any member beyond the canaries has the new ones joins
/// the rollout; later, or after it failed, that is another attempt.
pub(super) fn turn(known: &Rollout, riders: &BTreeMap<UnitName, RiderFiles>, waiting: &Waiting<'_>) -> Turn {
    let is_new = |name: &UnitName, files: &RiderFiles| match known.riders.get(name) {
        Some(before) => before.target != files.target,
        None => waiting.riders.contains(&name),
    };
    let new = || riders.iter().filter(|(name, files)| is_new(name, files)).map(|(name, _)| name);
    let begins = match known.phase {
        Phase::Done => waiting.any(),
        Phase::Before | Phase::Canary => false,
        Phase::Waiting | Phase::Rolling | Phase::After => new().any(|name| waiting.riders.contains(&name)),
        Phase::Paused | Phase::Reverting | Phase::Reverted | Phase::Stuck => waiting.any() && new().next().is_some(),
    };
    if begins {
        return Turn::Begins;
    }
    let kept = |(name, files): (&UnitName, &RiderFiles)| match known.riders.get(name) {
        Some(before) if before.target == files.target => (name.clone(), before.clone()),
        _ => (name.clone(), files.clone()),
    };
    Turn::GoesOn(riders.iter().map(kept).collect())
}

/// A `rollout` that goes on as it was `known`. It is over if the riders that it was for have left it: it could only go
/// back to what is there already, and give its spares the same file without end.
pub(super) fn ended_if_left(known: &Rollout, rollout: Rollout, waiting: &Waiting<'_>, now: u64) -> Rollout {
    let is_left = known.is_of_riders() && !rollout.is_of_riders();
    if !is_left || waiting.any() || rollout.phase.is_over() {
        return rollout;
    }
    Rollout { phase: Phase::Done, since: now, why: None, ..rollout }
}

/// Who waits behind gates for the files of a rollout.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting<'a> {
    /// Whether members of the set do, or the unit.
    pub(super) of_set: bool,
    /// The riders of which members do.
    pub(super) riders: Vec<&'a UnitName>,
}

impl Waiting<'_> {
    pub(super) fn any(&self) -> bool {
        self.of_set || !self.riders.is_empty()
    }
}

/// The file that the members of a template, or a unit, are to have, and what is known of the file before it.
#[derive(Debug)]
pub(super) struct Files<'a> {
    /// Its last target, and the file before that.
    known: Option<(&'a UnitHash, &'a File)>,
    /// The hash of the file.
    pub(super) target: &'a UnitHash,
    /// The gates of those that don't have it yet.
    gates: Vec<&'a Gate>,
    /// Whether nobody has it.
    all_wait: bool,
}

impl<'a> Files<'a> {
    /// Those of a set, of a rider that takes part in its rollout, or of a unit.
    pub(super) fn of(
        cluster: &'a Cluster,
        members: &[&'a Group],
        (name, target): (&UnitName, &'a UnitHash),
        known: Option<(&'a UnitHash, &'a File)>,
    ) -> Self {
        let is_of = |unit: &UnitName| unit == name || unit.number_in(name).is_some();
        let units = members.iter().flat_map(|member| member.units.iter().map(move |unit| (unit, &member.name.host)));
        let gates = units.filter(|(unit, _)| is_of(unit)).map(|(unit, host)| {
            let gate = cluster.gates.get(unit).map(|gate| &gate.value);
            gate.filter(|gate| host.as_ref().is_none_or(|host| gate.held_on(host).is_some()))
        });
        let gates: Vec<Option<&Gate>> = gates.collect();
        let all_wait = gates.iter().all(Option::is_some);
        Self { known, target, gates: gates.into_iter().flatten().collect(), all_wait }
    }

    /// The file to go back to, given the phase of the last rollout: the last one that was stable, or the one that most
    /// of the members behind gates run. That a rollout to the same file was done says nothing as long as nobody has it:
    /// the members of a large set are asked for a file after their template.
    pub(super) fn before(&self, cluster: &Cluster, phase: Option<Phase>) -> File {
        let gates = &self.gates;
        let text = |hash: &UnitHash| gates.iter().find(|gate| gate.hash == *hash).and_then(|gate| gate.text.clone());
        let stable = self.known.zip(phase).and_then(|((target, from), phase)| match phase {
            Phase::Done if target == self.target && self.all_wait && !gates.is_empty() => None,
            Phase::Done => Some(File { text: text(target), hash: target.clone() }),
            _ => Some(from.clone()),
        });
        if let Some(stable) = stable.filter(|stable| cluster.files.contains_key(&stable.hash)) {
            return stable;
        }
        let mut counts: BTreeMap<&UnitHash, usize> = BTreeMap::new();
        gates.iter().for_each(|gate| *counts.entry(&gate.hash).or_default() += 1);
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(hash, _)| hash);
        let hash = most.unwrap_or(self.target);
        File { hash: hash.clone(), text: text(hash) }
    }
}
