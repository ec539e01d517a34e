//! Rollouts that go no further because a person has stopped members on their hosts. A member that was healthy for long
//! enough with the file that it is to have fails nothing when it is down later: it counts as away. When as many are as
//! `Parallel=` allows, no healthy member may be stopped for its file, until the person starts them again. So it is
//! excused only if those that are still to get another file are all healthy: one that isn't would get it at once.

use std::collections::BTreeMap;

use flotilla::model::cluster::Cluster;
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::rollout::{Phase, Rollout};
use flotilla::model::systemd::{ActiveState, JobResult};
use flotilla::model::unit::Desired;

use super::{Group, Member, group_of, is_whole_in, members_of, policy_of, rollout_of, told_of};

/// Whether a person has stopped a unit on a host since it was started there last.
pub(crate) type Stopped<'a> = dyn Fn(&MachineId, &UnitName) -> bool + 'a;

/// Whether the rollout `name` may stop no healthy member because of those that `was_stopped` names.
pub(super) fn holds_up(cluster: &Cluster, name: &UnitName, rollout: &Rollout, was_stopped: &Stopped<'_>) -> bool {
    if !matches!(rollout.phase, Phase::Rolling | Phase::Reverting) {
        return false;
    }
    let launched = cluster.units.iter().filter(|(unit, record)| {
        record.desired == Desired::Launched && rollout_of(cluster, unit).is_some_and(|(of, _)| of == name)
    });
    let mut groups: BTreeMap<Group<'_>, Vec<Member<'_>>> = BTreeMap::new();
    for member in launched.flat_map(|(unit, _)| members_of(cluster, unit)) {
        groups.entry(group_of(member)).or_default().push(member);
    }
    let parallel = policy_of(cluster, rollout).unwrap_or_default().parallel.at_least_one_of(groups.len());
    let (turned, waiting): (Vec<_>, Vec<_>) =
        groups.iter().partition(|(_, units)| has_turned(cluster, name, rollout, units));
    let is_down = |units: &[Member<'_>]| units.iter().any(|unit| is_down(cluster, *unit, was_stopped));
    !waiting.is_empty()
        && waiting.iter().all(|(group, _)| is_whole_in(cluster, name, **group))
        && turned.iter().filter(|(_, units)| is_down(units)).count() >= parallel
}

/// Whether a member has the files that it is to end up with: the new ones, or those before if the rollout goes back.
fn has_turned(cluster: &Cluster, name: &UnitName, rollout: &Rollout, units: &[Member<'_>]) -> bool {
    let is_held = |(unit, host): &Member<'_>| {
        let gate = cluster.gates.get(*unit).map(|gate| &gate.value);
        let gate = gate.filter(|gate| gate.rollout == *name && !gate.hook && !gate.spare);
        gate.is_some_and(|gate| host.is_none_or(|host| gate.held_on(host).is_some()))
    };
    match rollout.phase {
        Phase::Reverting => {
            units.iter().any(is_held) && units.iter().filter(|unit| rollout.changes(unit.0)).all(is_held)
        }
        _ => !units.iter().any(is_held),
    }
}

/// Whether a unit is down on its host, which has carried out all that it was told, because a person has stopped it.
fn is_down(cluster: &Cluster, member: Member<'_>, was_stopped: &Stopped<'_>) -> bool {
    let Some((host, told)) = told_of(cluster, member) else { return false };
    let report = cluster.report(member.0, host).filter(|_| cluster.machines.contains_key(host));
    let is_down = report.is_some_and(|report| {
        let is_about = report.hash == told.hash && report.generation >= told.generation && report.error.is_none();
        let has_ended = report.active == ActiveState::Inactive && report.result == Some(JobResult::Done);
        is_about && has_ended && report.missing && report.job.is_none()
    });
    is_down && was_stopped(host, member.0)
}
