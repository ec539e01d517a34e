//! What the leader knows of a unit of a rollout: whether it is healthy with the file that it should have now, and
//! whether it could run with the new one; `riding` joins units to members. Must never decide what follows from it.

use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::rollout::{MemberName, Rollout};
use crate::model::small::SmallMap;
use crate::model::systemd::ActiveState;
use crate::model::unit::{Placement, Target, Unit, UnitReport};

use super::super::fit::{Question, Stance, first_misfit, metadata};
use super::super::gate::{launched, stays_up};
use super::super::pace::{Member, MemberState};

/// How often systemd may start a unit again before it has failed.
const MAX_RESTARTS: u32 = 3;

/// A global unit on `host`, to which it is assigned, in its rollout to the file `new`.
pub(super) fn on_host(
    cluster: &Cluster,
    name: &MemberName,
    host: &MachineId,
    new: Option<&Arc<Constraints>>,
) -> Member {
    let unit = &name.unit;
    let gated = cluster.gates.get(unit).is_some_and(|gate| gate.value.held_on(host).is_some());
    let record = cluster.record_on(unit, host).filter(|_| cluster.machines.contains_key(host));
    let misfits = |new: &Arc<Constraints>| !metadata(cluster, &Constraints::resolve(new, unit), host).is_empty();
    let state = record.as_deref().map_or(MemberState::Away, |record| state(cluster, unit, record, host));
    Member {
        name: name.clone(),
        about: unit.clone(),
        partly: false,
        keeps: false,
        lacks: false,
        hostname: Some(cluster.hostname(host).unwrap_or(host.short()).to_owned()),
        spare: false,
        gated,
        leaves: gated && new.is_some_and(misfits),
        host: Some(host.clone()),
        goes_on: state == MemberState::Assigned(None) && record.is_some_and(|it| goes_on(cluster, unit, &it, host)),
        state,
    }
}

/// A unit that is a member, or rides with one.
pub(in crate::plan) fn unit(cluster: &Cluster, name: &UnitName) -> Member {
    let host = launched(cluster, name).map(|(host, _)| host);
    let record = host.and_then(|host| Some((host, cluster.record_on(name, host)?)));
    let goes_on = || record.as_ref().is_some_and(|(host, record)| goes_on(cluster, name, record, host));
    let member = |host: Option<&MachineId>, state: MemberState| Member {
        name: name.clone().into(),
        about: name.clone(),
        hostname: None,
        spare: false,
        gated: cluster.gates.contains_key(name),
        partly: false,
        keeps: false,
        lacks: false,
        leaves: false,
        host: host.cloned(),
        goes_on: state == MemberState::Assigned(None) && goes_on(),
        state,
    };
    if let Some((done, _)) = cluster.done(name) {
        // It has been what it should be, and no host has to be there for it any longer.
        return member(Some(&done.host), MemberState::Healthy);
    }
    let state = match (host, &record) {
        (Some(host), _) if !cluster.machines.contains_key(host) => MemberState::Away,
        (Some(_), Some((host, record))) => state(cluster, name, record, host),
        _ if has_a_host(cluster, name) => MemberState::Assigned(None),
        _ => MemberState::Unplaced,
    };
    member(host, state)
}

/// Spare `name` of a rollout, or a unit that rides with one.
pub(super) fn spare(cluster: &Cluster, name: &UnitName, rollout: &Rollout) -> Member {
    let member = unit(cluster, name);
    let waits = cluster.placements.get(name).is_some_and(|known| matches!(known.value, Placement::Waiting { .. }));
    let state = match member.state {
        MemberState::Unplaced if waits => MemberState::FitsNowhere,
        state => state,
    };
    let gated = cluster.gates.get(name).is_some_and(|gate| gate.value.hash != *rollout.target_of(name));
    Member { spare: true, gated, state, ..member }
}

/// Whether a unit is assigned to a host that is there. Of one that isn't launched: it is being stopped there, and goes
/// to another one afterwards, or has only been loaded there so far, and is about to be started.
fn has_a_host(cluster: &Cluster, name: &UnitName) -> bool {
    let hosts =
        cluster.placed_on(name).into_iter().chain(cluster.states.get(name).into_iter().flat_map(SmallMap::keys));
    hosts
        .filter(|host| cluster.machines.contains_key(*host))
        .any(|host| cluster.schedule.get(host).is_some_and(|assignments| assignments.contains_key(name)))
}

fn state(cluster: &Cluster, name: &UnitName, unit: &Unit, host: &MachineId) -> MemberState {
    let assignment = cluster.schedule.get(host).and_then(|assignments| assignments.get(name));
    let is_assigned = assignment
        .is_some_and(|assignment| assignment.value.hash == unit.hash && assignment.value.generation == unit.generation);
    let report = cluster.report(name, host);
    let Some(report) = report.filter(|report| is_assigned && is_about(report, unit)) else {
        return MemberState::Assigned(report.and_then(|report| report.error.clone()));
    };
    let ends = cluster.files.get(&unit.hash).is_some_and(|file| file.value.ends);
    of_report(report, cluster.hostname(host).unwrap_or(host.short()), name, ends)
}

/// Whether a unit, whose host has yet to carry out what is asked of it now, isn't stopped for that, and is as it should
/// be until then: it is asked for a file from which systemd reads the same, or for its own one anew.
fn goes_on(cluster: &Cluster, name: &UnitName, unit: &Unit, host: &MachineId) -> bool {
    let ends = cluster.files.get(&unit.hash).is_some_and(|file| file.value.ends);
    cluster.report(name, host).filter(|report| report.target == Target::Launched).is_some_and(|report| {
        let is_restarted = unit.restart.is_some_and(|restart| restart > report.generation);
        !is_restarted && report.is_healthy(ends) && stays_up(cluster, (name, host), &report.hash, &unit.hash)
    })
}

/// Whether a host has carried out what is asked of it now.
fn is_about(report: &UnitReport, unit: &Unit) -> bool {
    report.target == Target::Launched && report.generation >= unit.generation && report.hash == unit.hash
}

fn of_report(report: &UnitReport, host: &str, name: &UnitName, ends: bool) -> MemberState {
    if report.active == ActiveState::Failed {
        let why = report.failure.as_ref().map_or_else(|| report.sub.clone(), |failure| failure.sentence());
        return MemberState::Failed(format!("{name} failed on {host}: {why}"));
    }
    if report.restarts >= MAX_RESTARTS {
        let why = report.failure.as_ref().map_or(String::new(), |failure| format!(": {}", failure.sentence()));
        return MemberState::Failed(format!("{name} was started again {} times on {host}{why}", report.restarts));
    }
    if report.is_healthy(ends) {
        return MemberState::Healthy;
    }
    match &report.error {
        // It has tried to, and can't.
        Some(error) => MemberState::Assigned(Some(error.clone())),
        None => MemberState::Pending(report.health.clone()),
    }
}

/// Whether a unit fits its host with the new file, or some other host.
pub(super) fn fits(cluster: &Cluster, member: &Member, file: &Arc<Constraints>) -> Result<(), String> {
    let name = &member.name.unit;
    let constraints = Constraints::resolve(file, name);
    let mut reasons = Vec::new();
    let own = member.host.iter().map(|host| (host, Stance::Renewed));
    let others = cluster.machines.keys().filter(|host| Some(*host) != member.host.as_ref());
    for (host, stance) in own.chain(others.map(|host| (host, Stance::Arrive))) {
        let question = Question { unit: name, constraints: &constraints, host, stance, with: &[] };
        let Some(misfit) = first_misfit(cluster, &question) else { return Ok(()) };
        reasons.push(format!("{}: {misfit}", cluster.hostname(host).unwrap_or(host.short())));
    }
    Err(format!("{name} fits no host with its new file ({})", reasons.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_systemd_starts_again_and_again_has_failed() {
        let report = |active: &str, restarts: u32| -> UnitReport {
            serde_json::from_value(serde_json::json!({
                "generation": 1, "target": "launched", "hash": "0", "load": "loaded", "active": active, "sub": "x",
                "since": 0, "restarts": restarts, "result": "done", "ready": active == "active",
            }))
            .unwrap()
        };
        let name: UnitName = "web@1.service".parse().unwrap();
        let failed = |times: u32| MemberState::Failed(format!("web@1.service was started again {times} times on n1"));
        for (active, restarts, expected) in [
            ("active", 0, MemberState::Healthy),
            ("active", 2, MemberState::Healthy),
            ("active", 3, failed(3)),
            ("activating", 2, MemberState::Pending(None)),
            ("activating", 7, failed(7)),
            ("failed", 1, MemberState::Failed("web@1.service failed on n1: x".into())),
        ] {
            assert_eq!(of_report(&report(active, restarts), "n1", &name, false), expected, "{active} {restarts}");
        }
        // Its host has tried to start it, and can't: that counts more than that others have yet to be started.
        let report = UnitReport { error: Some("it has a bad setting".into()), ..report("inactive", 0) };
        let expected = MemberState::Assigned(Some("it has a bad setting".into()));
        assert_eq!(of_report(&report, "n1", &name, false), expected);
    }
}
