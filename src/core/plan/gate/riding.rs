//! Which riders take part in the rollout of their lead: those whose files have no `[X-Rollout]` of their own. Pure;
//! must never decide what a rollout does with them.

use crate::model::cluster::Cluster;
use crate::model::name::UnitName;
use crate::model::placement::{Constraints, Replicas};
use crate::model::rollout::{Phase, Rollout};

/// The lead whose rollout brings the members of the set `template` their files; `None` if it has a rollout of its own.
/// One for whose present file such a rollout was begun, by an earlier version, goes on with that until it is done.
#[must_use]
pub fn lead_of<'a>(cluster: &'a Cluster, template: &UnitName) -> Option<&'a UnitName> {
    let file = file_of(cluster, template)?;
    let lead = file.replicas.as_ref().and_then(Replicas::lead).filter(|_| file.rollout.is_none())?;
    let (name, record) = cluster.units.get_key_value(lead)?;
    // The lead's record names its riders; versions that don't know them forget this.
    let is_named = record.replicas.is_some() && record.riders().any(|rider| rider == template);
    let is_first = file_of(cluster, name).is_none_or(|file| file.replicas.as_ref().and_then(Replicas::lead).is_none());
    let hash = &cluster.units.get(template)?.hash;
    let is_open = |own: &Rollout| own.phase != Phase::Done && own.target == *hash;
    let has_own = cluster.rollouts.get(template).is_some_and(|own| is_open(&own.value));
    (is_named && is_first && !has_own).then_some(name)
}

/// The riders that take part in the rollout of the set `lead`.
pub fn riders_of<'a>(cluster: &'a Cluster, lead: &'a UnitName) -> impl Iterator<Item = &'a UnitName> {
    let riders = cluster.units.get(lead).into_iter().flat_map(|record| record.riders());
    riders.filter(move |rider| lead_of(cluster, rider) == Some(lead))
}

/// The file of a set's template, if it is a set and that is known.
fn file_of<'a>(cluster: &'a Cluster, template: &UnitName) -> Option<&'a Constraints> {
    let record = cluster.units.get(template).filter(|record| record.replicas.is_some())?;
    Some(&cluster.files.get(&record.hash)?.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Versioned;
    use crate::model::file::UnitFile;
    use crate::model::name::UnitHash;
    use crate::model::revision::Revision;
    use crate::model::rollout::File;
    use crate::model::unit::{Desired, Unit};

    const LEAD: &str = "web@.service";
    const RIDER: &str = "log@.service";

    fn name(text: &str) -> UnitName {
        text.parse().unwrap()
    }

    /// A lead and its rider, whose file has these sections.
    fn cluster(sections: &str) -> Cluster {
        let mut cluster = Cluster::default();
        let texts = [(LEAD, "[X-Fleet]\nReplicas=2\n".to_owned()), (RIDER, sections.to_owned())];
        for (template, sections) in texts {
            let file = UnitFile::parse(format!("[Service]\nExecStart=/bin/a\n{sections}").as_bytes()).unwrap();
            let constraints = Constraints::parse(&file).unwrap().into();
            cluster.files.insert(file.hash(), Versioned { value: constraints, revision: Revision(1) });
            let record = Unit::new(Desired::Inactive, file.hash(), Revision(1));
            cluster.units.insert(name(template), Unit { replicas: Some(2), ..record });
        }
        cluster.units.get_mut(&name(LEAD)).unwrap().riders = Some(Box::new([name(RIDER)].into()));
        cluster
    }

    fn own(cluster: &mut Cluster, phase: Phase) {
        let target = cluster.units[&name(RIDER)].hash.clone();
        let rollout = Rollout::begun(target, File { hash: UnitHash::new("a"), text: None }, phase, 0);
        cluster.rollouts.insert(name(RIDER), Versioned { value: rollout, revision: Revision(2) });
    }

    #[test]
    fn a_rider_is_rolled_out_with_its_lead_unless_it_has_a_rollout_of_its_own() {
        type Change = fn(&mut Cluster);
        let rides = "[X-Fleet]\nReplicas=web@.service\n";
        let cases: [(&str, Change, bool); 9] = [
            (rides, |_| {}, true),
            ("[X-Fleet]\nReplicas=web@.service\n[X-Rollout]\nParallel=2\n", |_| {}, false),
            ("[X-Fleet]\nReplicas=2\n", |_| {}, false),
            // A command has made the lead something else, or an older version has forgotten its riders.
            (rides, |cluster| cluster.units.get_mut(&name(LEAD)).unwrap().replicas = None, false),
            (rides, |cluster| cluster.units.get_mut(&name(LEAD)).unwrap().riders = None, false),
            (rides, |cluster| drop(cluster.units.remove(&name(LEAD))), false),
            // An older version has begun a rollout of the rider.
            (rides, |cluster| own(cluster, Phase::Reverted), false),
            (rides, |cluster| own(cluster, Phase::Done), true),
            // It was for another file.
            (
                rides,
                |cluster| {
                    own(cluster, Phase::Rolling);
                    cluster.rollouts.get_mut(&name(RIDER)).unwrap().value.target = UnitHash::new("c");
                },
                true,
            ),
        ];
        for (at, (sections, change, is_ridden)) in cases.into_iter().enumerate() {
            let mut cluster = cluster(sections);
            change(&mut cluster);
            let expected = is_ridden.then(|| name(LEAD));
            assert_eq!(lead_of(&cluster, &name(RIDER)), expected.as_ref(), "{at}");
            assert_eq!(riders_of(&cluster, &name(LEAD)).count(), usize::from(is_ridden), "{at}");
            assert_eq!(lead_of(&cluster, &name(LEAD)), None, "{at}");
        }
    }
}
