//! What is told of a supposition: the cluster before and after it, compared. Owns who moves, who waits because of it,
//! who waited before, and who stays with a host that is lost. Must never change anything.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::Placement;

use super::super::fit::live_at;
use super::course::Course;
use super::{Globals, Move, Wait, WhatIf};

/// The units of `waiting` wait in `before`; `lost` are the hosts that are lost.
pub(super) fn told(
    (before, waiting): (&Cluster, &BTreeSet<UnitName>),
    after: &Cluster,
    course: &Course,
    lost: &BTreeSet<MachineId>,
) -> WhatIf {
    let all: BTreeSet<&UnitName> = waiting.iter().chain(&course.touched).collect();
    let all = all.into_iter().filter_map(|unit| waits(before, after, unit));
    let (waited, waits): (Vec<Wait>, Vec<Wait>) = all.partition(|wait| waiting.contains(&wait.unit));
    let (mut bound, waits) = apart(before, waits, (kept(after, lost), lost));
    bound.sort_by(|a, b| a.unit.cmp(&b.unit));
    let (globals_lost, globals_gained) = globals(before, after, course);
    WhatIf {
        joined: BTreeMap::new(),
        moves: moves(before, after, course),
        waits,
        bound,
        waited,
        globals_lost,
        globals_gained,
        held: course.held,
        is_complete: course.is_complete,
        decisions: course.decisions,
    }
}

/// In the order in which they were placed last.
fn moves(before: &Cluster, after: &Cluster, course: &Course) -> Vec<Move> {
    let moved = |(unit, (at, why, elapsed)): (&UnitName, &(usize, String, u64))| {
        let (from, to) = (before.placed_on(unit), after.placed_on(unit)?);
        let moved = Move { unit: unit.clone(), from: from.cloned(), to: to.clone(), why: why.clone(), after: *elapsed };
        (from != Some(to)).then_some((*at, moved))
    };
    let mut moves: Vec<(usize, Move)> = course.placed.iter().filter_map(moved).collect();
    moves.sort_by_key(|(at, _)| *at);
    moves.into_iter().map(|(_, moved)| moved).collect()
}

/// The units that wait, by name.
pub(super) fn waiting(cluster: &Cluster) -> BTreeSet<UnitName> {
    let waits = |placement: &Placement| matches!(placement, Placement::Waiting { .. });
    let all = cluster.placements.iter().filter(|(_, placement)| waits(&placement.value));
    all.map(|(unit, _)| unit.clone()).collect()
}

fn waits(before: &Cluster, after: &Cluster, unit: &UnitName) -> Option<Wait> {
    match &after.placements.get(unit)?.value {
        Placement::Waiting { why, .. } => {
            Some(Wait { unit: unit.clone(), from: before.placed_on(unit).cloned(), why: why.clone() })
        }
        Placement::On { .. } | Placement::Done { .. } => None,
    }
}

/// The units that stay assigned to hosts that are lost, because they belong to them or to a unit that does.
fn kept(after: &Cluster, lost: &BTreeSet<MachineId>) -> Vec<Wait> {
    let on = |host: &MachineId| {
        let host = host.clone();
        let there = after.schedule.get(&host).into_iter().flat_map(BTreeMap::keys);
        let stays: Vec<&UnitName> = there.filter(|unit| after.placed_on(unit) == Some(&host)).collect();
        stays.into_iter().map(move |unit| (unit, host.clone()))
    };
    let why = |unit: &UnitName| match after.constraints(unit) {
        Some(constraints) if constraints.belongs_to_its_host() => "it belongs to its host (MoveAfterSec=infinity)",
        _ => "it stays with a unit that belongs to its host (MachineOf=)",
    };
    lost.iter()
        .flat_map(on)
        .map(|(unit, host)| Wait { why: why(unit).into(), unit: unit.clone(), from: Some(host) })
        .collect()
}

/// Tell the units apart that can run nowhere but on the host that is lost from those that wait for another reason.
fn apart(
    before: &Cluster,
    waiting: Vec<Wait>,
    (mut bound, lost): (Vec<Wait>, &BTreeSet<MachineId>),
) -> (Vec<Wait>, Vec<Wait>) {
    let mut rest = waiting;
    rest.retain(|wait| {
        let pinned = wait.from.as_ref().is_some_and(|from| lost.contains(from))
            && before.constraints(&wait.unit).is_some_and(|constraints| constraints.machine_id.is_some());
        if pinned {
            bound.push(Wait { why: "it runs on that host only (MachineID=)".into(), ..wait.clone() });
        }
        !pinned
    });
    // Those that must be with one of them, directly or not.
    loop {
        let names: BTreeMap<&UnitName, &Option<MachineId>> = bound.iter().map(|it| (&it.unit, &it.from)).collect();
        let peer = |wait: &Wait| {
            let constraints = before.constraints(&wait.unit)?;
            let mut there = names.iter().filter(|(_, from)| wait.from.is_some() && **from == &wait.from);
            there.find(|(name, _)| constraints.machine_of.contains(name.as_str())).map(|(name, _)| (*name).clone())
        };
        let (tied, free): (Vec<_>, Vec<_>) =
            rest.into_iter().map(|wait| (peer(&wait), wait)).partition(|(peer, _)| peer.is_some());
        rest = free.into_iter().map(|(_, wait)| wait).collect();
        if tied.is_empty() {
            return (bound, rest);
        }
        let tied = tied.into_iter().filter_map(|(peer, wait)| Some((peer?, wait)));
        bound.extend(tied.map(|(peer, wait)| Wait { why: format!("it must be with {peer} (MachineOf=)"), ..wait }));
    }
}

/// The global units that hosts have no longer, and those that they get.
fn globals(before: &Cluster, after: &Cluster, course: &Course) -> (Globals, Globals) {
    let is_global = |cluster: &Cluster, host: &MachineId, unit: &UnitName| {
        let assignment = cluster.schedule.get(host).and_then(|there| there.get(unit));
        assignment.is_some_and(|assignment| assignment.value.global) && live_at(cluster, unit.as_str(), host)
    };
    let only = |one: &Cluster, other: &Cluster| {
        let all = course.on_hosts.iter();
        all.filter(|(host, unit)| is_global(one, host, unit) && !is_global(other, host, unit)).cloned().collect()
    };
    (only(before, after), only(after, before))
}
