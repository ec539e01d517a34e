//! On which hosts the members of each set are, so that a new member can avoid the others. Owns the counts; holds
//! nothing in a cluster without sets, and must never decide where a member goes.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};

use super::Node;

/// For each set, by its template, the number of members with an assignment on each host that has any.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct SetCounts(BTreeMap<UnitName, BTreeMap<MachineId, usize>>);

/// The counts of the sets that some units belong to.
pub(in super::super) struct Beside<'a>(Vec<&'a BTreeMap<MachineId, usize>>);

impl Beside<'_> {
    /// How many members of these sets have an assignment on `host`.
    pub(in super::super) fn on(&self, host: &MachineId) -> usize {
        self.0.iter().filter_map(|hosts| hosts.get(host)).sum()
    }
}

impl SetCounts {
    /// The record of unit `name` changed: it may be the template of a set now, or no longer be one.
    pub(super) fn unit_changed(&mut self, cluster: &Cluster, name: &UnitName, nodes: &BTreeMap<UnitName, Node>) {
        let is_set = name.is_template() && cluster.units.get(name).is_some_and(|unit| unit.replicas.is_some());
        if !is_set {
            self.0.remove(name);
        } else if !self.0.contains_key(name) {
            self.0.insert(name.clone(), count(name, nodes));
        }
    }

    /// Unit `name` has an assignment on `host` from now on, or has none there any more.
    pub(super) fn assignment_changed(&mut self, name: &UnitName, host: &MachineId, there: bool) {
        let Some(hosts) = self.template_of(name).and_then(|template| self.0.get_mut(&template)) else { return };
        let before = hosts.get(host).copied().unwrap_or_default();
        let now = if there { before + 1 } else { before.saturating_sub(1) };
        match now {
            0 => drop(hosts.remove(host)),
            now => drop(hosts.insert(host.clone(), now)),
        }
    }

    /// The other members of the sets that the units of `group` belong to; `None` if none of them belongs to any.
    pub(in super::super) fn beside(&self, group: &[UnitName]) -> Option<Beside<'_>> {
        let sets: Vec<_> = group.iter().filter_map(|unit| self.0.get(&self.template_of(unit)?)).collect();
        (!sets.is_empty()).then_some(Beside(sets))
    }

    /// The template of a numbered instance, unless there are no sets at all.
    fn template_of(&self, name: &UnitName) -> Option<UnitName> {
        if self.0.is_empty() { None } else { name.set() }
    }
}

/// The assignments of the instances of `template` that are named by numbers.
fn count(template: &UnitName, nodes: &BTreeMap<UnitName, Node>) -> BTreeMap<MachineId, usize> {
    let prefix = format!("{}@", template.prefix());
    let instances = nodes
        .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
        .take_while(|(name, _)| name.as_str().starts_with(&prefix))
        .filter(|(name, _)| name.number_in(template).is_some());
    let mut hosts = BTreeMap::new();
    for host in instances.flat_map(|(_, node)| node.hosts.keys()) {
        *hosts.entry(host.clone()).or_default() += 1;
    }
    hosts
}
