//! The hosts that are supposed to join: with the hardware that most hosts have, and the metadata that all hosts have in
//! common, besides what was asked for. Owns what a usual host is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::Cluster;
use crate::model::machine::{Machine, Metadata};
use crate::model::name::MachineId;
use crate::model::resources::Kind;

/// A host for each of these pairs of metadata, with ids and names that no host has.
pub(super) fn machines(cluster: &Cluster, added: &[Metadata]) -> Vec<Machine> {
    if added.is_empty() {
        return Vec::new();
    }
    let (usual, shared) = (usual(cluster), shared(cluster));
    let names: BTreeSet<&str> = cluster.machines.keys().filter_map(|id| cluster.hostname(id)).collect();
    let ids = (0..=u16::MAX).rev().filter_map(|at| format!("{}{at:04x}", "f".repeat(28)).parse::<MachineId>().ok());
    let ids = ids.filter(|id| !cluster.machines.contains_key(id) && !cluster.roster.contains_key(id));
    let free = (1_u32..).map(|at| format!("new-{at}")).filter(|name| !names.contains(name.as_str()));
    let one = |((id, name), own): ((MachineId, String), &Metadata)| {
        let new = Machine::new(id, name);
        let metadata = shared.iter().chain(own).map(|(key, value)| (key.clone(), value.clone())).collect();
        let like = usual.map(|usual| (usual.builtin.clone(), usual.reserved, usual.version.clone()));
        let (builtin, reserved, version) = like.unwrap_or_default();
        Machine { metadata, builtin, reserved, version, ..new }
    };
    ids.zip(free).zip(added).map(one).collect()
}

/// The first of the hosts with the most usual hardware; of two kinds that are equally usual, the larger one.
fn usual(cluster: &Cluster) -> Option<&Machine> {
    let hardware = |machine: &Machine| {
        let offers = |kind| machine.has(kind).map(|all| all.saturating_sub(machine.reserved.of(kind)));
        (offers(Kind::Memory), offers(Kind::Cpu))
    };
    let mut kinds: BTreeMap<_, (usize, Reverse<&MachineId>)> = BTreeMap::new();
    for (id, machine) in &cluster.machines {
        kinds.entry(hardware(machine)).or_insert((0, Reverse(id))).0 += 1;
    }
    let (_, (_, Reverse(id))) = kinds.into_iter().max_by_key(|(hardware, (hosts, _))| (*hosts, *hardware))?;
    cluster.machines.get(id)
}

/// The metadata that all hosts have in common.
fn shared(cluster: &Cluster) -> Metadata {
    let mut all = cluster.machines.keys().map(|id| cluster.effective_metadata(id));
    let mut shared = all.next().unwrap_or_default();
    for metadata in all {
        shared.retain(|key, value| metadata.get(key) == Some(value));
    }
    shared
}
