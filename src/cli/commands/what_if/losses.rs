//! The losses of the N+1 check: which hosts are lost together. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::wire::{MachineList, MachineView};
use crate::cli::error::{Error, Line};
use crate::cli::output::people::natural;
use crate::model::name::MachineId;

/// Hosts that are lost together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    /// How people call them: `n1`, `zone=a`.
    pub(super) name: String,
    pub(super) hosts: BTreeSet<MachineId>,
}

/// Each registered host but those that are `lost` already, by name.
pub(super) fn of_hosts(known: &MachineList, lost: &BTreeSet<MachineId>) -> Vec<Loss> {
    let hosts = known.machines.iter().filter(|host| !lost.contains(&host.id));
    sorted(hosts.map(|host| Loss { name: host.name(), hosts: [host.id.clone()].into() }).collect())
}

/// The hosts with each value of a key of their metadata, by value. Those without the key are in none.
///
/// # Errors
/// No host has the key.
pub(super) fn of_key(known: &MachineList, lost: &BTreeSet<MachineId>, key: &str) -> Result<Vec<Loss>, Error> {
    let mut values: BTreeMap<&str, BTreeSet<MachineId>> = BTreeMap::new();
    for host in known.machines.iter().filter(|host| !lost.contains(&host.id)) {
        if let Some(value) = value(host, key) {
            values.entry(value).or_default().insert(host.id.clone());
        }
    }
    if values.is_empty() {
        let keys: BTreeSet<&str> =
            known.machines.iter().flat_map(|host| host.metadata.keys()).map(String::as_str).collect();
        let keys = if keys.is_empty() { "no host has any".into() } else { Vec::from_iter(keys).join(", ") };
        return Err(Error::failures([
            Line::from(format!("no host has the metadata {key}")),
            Line::hint(format!("keys: {keys}")),
        ]));
    }
    Ok(sorted(values.into_iter().map(|(value, hosts)| Loss { name: format!("{key}={value}"), hosts }).collect()))
}

/// What a host has under a key, which may be a built-in one.
pub(super) fn value<'a>(host: &'a MachineView, key: &str) -> Option<&'a str> {
    host.metadata.get(key).or_else(|| host.builtin.get(key)).map(String::as_str)
}

fn sorted(mut losses: Vec<Loss>) -> Vec<Loss> {
    losses.sort_by(|a, b| natural(&a.name, &b.name));
    losses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::input::hosts::tests::host;

    #[test]
    fn each_host_and_each_value_is_lost_once() {
        let zone = |mut host: MachineView, zone: &str| {
            host.metadata.insert("zone".into(), zone.into());
            host
        };
        let machines =
            vec![zone(host('1', "n10"), "a"), zone(host('2', "n2"), "b"), zone(host('3', "n3"), "a"), host('4', "n4")];
        let known = MachineList { here: None, machines, gone: vec![host('5', "n5")], offline: None };
        let lost = [known.machines[3].id.clone()].into();
        let names = |losses: Vec<Loss>| {
            let one = |loss: Loss| format!("{} {}", loss.name, loss.hosts.len());
            losses.into_iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(names(of_hosts(&known, &lost)), ["n2 1", "n3 1", "n10 1"]);
        assert_eq!(names(of_key(&known, &lost, "zone").unwrap()), ["zone=a 2", "zone=b 1"]);
        let error = of_key(&known, &lost, "rack").unwrap_err();
        assert_eq!(error.lines, ["no host has the metadata rack", "hint: keys: zone"]);
    }
}
