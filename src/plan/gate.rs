//! Gates: with which file a unit is scheduled while its rollout hasn't let it through to the one that was requested.
//! Pure; must never decide who is let through.

use std::borrow::Cow;

use crate::model::cluster::Cluster;

/// The cluster with the units by whose records it is scheduled: those behind gates have the gates' files. A cluster of
/// which this was taken already stays the same.
#[must_use]
pub fn effective(cluster: &Cluster) -> Cow<'_, Cluster> {
    if cluster.gates.is_empty() {
        return Cow::Borrowed(cluster);
    }
    let mut effective = cluster.clone();
    for (name, gate) in &cluster.gates {
        if let Some(unit) = effective.units.get_mut(name) {
            *unit = unit.behind(&gate.value);
        }
    }
    Cow::Owned(effective)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Versioned;
    use crate::model::name::{UnitHash, UnitName};
    use crate::model::revision::Revision;
    use crate::model::rollout::Gate;
    use crate::model::unit::{Desired, Unit};

    #[test]
    fn a_unit_behind_a_gate_is_scheduled_with_the_file_of_the_gate() {
        let (name, other): (UnitName, UnitName) = ("a.service".parse().unwrap(), "b.service".parse().unwrap());
        let mut cluster = Cluster::default();
        for name in [&name, &other] {
            cluster.units.insert(name.clone(), Unit::new(Desired::Launched, UnitHash::new("new"), Revision(7)));
        }
        assert!(matches!(effective(&cluster), Cow::Borrowed(_)), "without gates, nothing is copied");
        let gate = Gate {
            rollout: name.clone(),
            target: UnitHash::new("new"),
            hash: UnitHash::new("old"),
            text: None,
            generation: Revision(3),
            restart: None,
            asked: Revision(7),
        };
        cluster.gates.insert(name.clone(), Versioned { value: gate, revision: Revision(9) });
        let scheduled = effective(&cluster).into_owned();
        assert_eq!(
            (scheduled.units[&name].hash.as_str(), scheduled.units[&name].generation, &scheduled.units[&other]),
            ("old", Revision(3), &cluster.units[&other])
        );
        assert_eq!(*effective(&scheduled), scheduled);
    }
}
