//! Units that leave a host together: those that name each other in `MachineOf=`, directly or not.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::Target;

/// `unit`, which is placed on `home`, and those that leave it together with it.
#[must_use]
pub fn group_of(cluster: &Cluster, home: &MachineId, unit: &UnitName) -> Vec<UnitName> {
    let found = groups(cluster, lives(cluster, home)).into_iter().find(|group| group.contains(unit));
    found.unwrap_or_else(|| vec![unit.clone()])
}

/// The units that are placed on `home` and aren't leaving it.
#[must_use]
pub fn lives(cluster: &Cluster, home: &MachineId) -> Vec<UnitName> {
    let there = cluster.schedule.get(home).into_iter().flatten().filter(|(unit, assignment)| {
        let is_there = assignment.value.target != Target::Removed && !assignment.value.global;
        is_there && cluster.placed_on(unit) == Some(home)
    });
    there.map(|(unit, _)| unit.clone()).collect()
}

/// `units`, which are on one host, by group; each in order, and the groups in the order of their first units.
#[must_use]
pub fn groups(cluster: &Cluster, units: Vec<UnitName>) -> Vec<Vec<UnitName>> {
    let mut tied: BTreeMap<&UnitName, BTreeSet<&UnitName>> = BTreeMap::new();
    for unit in &units {
        let constraints = cluster.constraints(unit);
        for peer in constraints.iter().flat_map(|constraints| &constraints.machine_of) {
            // A global unit, which isn't among them, is on other hosts too.
            if let Ok(at) = units.binary_search_by(|other| other.as_str().cmp(peer)) {
                tied.entry(unit).or_default().insert(&units[at]);
                tied.entry(&units[at]).or_default().insert(unit);
            }
        }
    }
    let (mut groups, mut seen) = (Vec::new(), BTreeSet::new());
    for unit in &units {
        let (mut group, mut open) = (BTreeSet::new(), vec![unit]);
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                group.insert(next.clone());
                open.extend(tied.get(next).into_iter().flatten());
            }
        }
        if !group.is_empty() {
            groups.push(group.into_iter().collect());
        }
    }
    groups
}

/// A group, the unit first as which the others are placed: it names none of them, or only those that name it as well.
#[must_use]
pub fn leader_first(cluster: &Cluster, mut group: Vec<UnitName>) -> Vec<UnitName> {
    if group.len() > 1 {
        let above: Vec<BTreeSet<usize>> = (0..group.len()).map(|at| above(cluster, &group, at)).collect();
        let leads = |at: &usize| above[*at].iter().all(|other| above[*other].contains(at));
        let leader = (0..group.len()).find(leads).unwrap_or_default();
        group[..=leader].rotate_right(1);
    }
    group
}

/// The units of a group that one of them names in `MachineOf=`, directly or not.
fn above(cluster: &Cluster, group: &[UnitName], at: usize) -> BTreeSet<usize> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![at]);
    while let Some(next) = open.pop() {
        let constraints = cluster.constraints(&group[next]);
        let peers = constraints.iter().flat_map(|constraints| &constraints.machine_of);
        let named = peers.filter_map(|peer| group.iter().position(|unit| unit.as_str() == peer));
        open.extend(named.filter(|peer| seen.insert(*peer)));
    }
    seen
}
