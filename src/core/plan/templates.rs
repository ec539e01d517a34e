//! The templates that a host must have because of a unit: those whose instances the unit's file names, unless such an
//! instance is a unit of the cluster itself and thus placed by itself. Pure; must never decide where anything runs.

use std::collections::BTreeMap;

use crate::model::cluster::Cluster;
use crate::model::name::{UnitHash, UnitName};
use crate::model::placement::Constraints;

/// The templates of the cluster that must be on the host of `unit`, with the hashes of their files; also those that
/// these name in turn.
#[must_use]
pub fn brought_by(cluster: &Cluster, unit: &UnitName, constraints: &Constraints) -> BTreeMap<UnitName, UnitHash> {
    let mut found = BTreeMap::new();
    let mut named: Vec<UnitName> = constraints.instances.resolve(unit).collect();
    while let Some(name) = named.pop() {
        let template = match name.template() {
            Some(_) if cluster.units.contains_key(&name) => continue,
            Some(template) => template,
            None => name,
        };
        let Some(stored) = cluster.units.get(&template) else { continue };
        if found.insert(template.clone(), stored.hash.clone()).is_none()
            && let Some(constraints) = cluster.constraints(&template)
        {
            named.extend(constraints.instances.resolve(&template));
        }
    }
    found
}
