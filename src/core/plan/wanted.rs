//! The assignment that a host must have of a unit that belongs there. Pure; must never decide where a unit belongs.

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::unit::{Assignment, Desired, Target};

use super::templates::brought_by;

/// The assignment of `unit`, which has these constraints there and a desired state other than `inactive`, to `host`.
/// `None` if the unit doesn't exist.
#[must_use]
pub fn assignment(
    cluster: &Cluster,
    unit: &UnitName,
    host: &MachineId,
    constraints: &Constraints,
) -> Option<Assignment> {
    let record = cluster.record_on(unit, host)?;
    let hash = record.hash.clone();
    let target = if record.desired == Desired::Launched { Target::Launched } else { Target::Loaded };
    let (global, restart, text) = (constraints.global, record.restart, record.text.clone());
    let templates = brought_by(cluster, unit, constraints);
    let own_text = |template: &UnitName| Some((template.clone(), cluster.units.get(template)?.text.clone()?));
    let template_texts = templates.keys().filter_map(own_text).collect();
    let required = Assignment::new(hash, target, record.generation);
    Some(Assignment { global, restart, text, templates, template_texts, ..required })
}
