//! Joins a cluster's records into the views that clients see. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::utc_minute;
use crate::model::cluster::{Cluster, Versioned};
use crate::model::machine::{KnownHost, Machine, Metadata};
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::progress::Operation;
use crate::model::rollout::policy::Promote;
use crate::model::rollout::{Phase, Rollout};
use crate::model::systemd::JobResult;
use crate::model::unit::{Assignment, Placement, Target, Unit, UnitReport};
use crate::plan::gate::is_previewed;
use crate::plan::progress::{Expectation, progress};
use crate::plan::reschedule::{Outlook, outlook};
use crate::registry::keys::{self, Key};
use crate::registry::reader::Damaged;
use crate::registry::records::leader::LeaderRecord;
use crate::registry::summaries::FileSummaries;

use crate::api::wire::{
    DamagedUnit, HostOrder, LeaderView, MachineRef, MachineView, OpenRollout, RetryView, StateView, UnitView,
};

/// The families of keys from which a [`UnitView`] is made. It names hosts as well, and tells of the rollouts that units
/// behind gates wait for.
pub(super) const FAMILIES: [&str; 4] = [keys::UNITS, keys::PLACEMENTS, keys::STATES, keys::GATES];

/// The same with all hosts.
pub(super) const WITH_HOSTS: [&str; 5] = [keys::UNITS, keys::PLACEMENTS, keys::STATES, keys::GATES, keys::MACHINES];

/// The files of all units of `cluster`.
pub(super) fn hashes(cluster: &Cluster) -> impl Iterator<Item = &UnitHash> {
    cluster.units.values().map(|unit| &unit.hash)
}

/// A unit in the whole cluster; its progress is that of `operation`, or else of the one that leads to its desired
/// state.
pub(super) fn unit(
    cluster: &Cluster,
    summaries: &FileSummaries,
    name: &UnitName,
    unit: &Unit,
    operation: Option<Operation>,
) -> UnitView {
    let summary = summaries.get(&unit.hash);
    let global = summary.is_some_and(|summary| summary.constraints.global);
    // Each question to the cluster is a search among all units, and there may be thousands of views.
    let placement = cluster.placements.get(name).map(|placement| &placement.value);
    let host = placement.and_then(Placement::host);
    let done = placement.filter(|placement| placement.done().is_some()).and_then(|_| cluster.done(name));
    let states: Vec<StateView> =
        cluster.reports(name).map(|(host, state)| state_view(cluster, name, host, state)).collect();
    let state = states.iter().find(|state| Some(&state.machine.id) == host).map(|state| &state.report);
    let operation = operation.unwrap_or_else(|| Operation::towards(unit.desired));
    UnitView {
        name: name.clone(),
        hash: unit.hash.clone(),
        description: summary.map(|summary| summary.description.clone().into()).unwrap_or_default(),
        global,
        replicas: unit.replicas,
        desired: unit.desired,
        current: if global { String::new() } else { current_by(done.is_some(), state).into() },
        generation: unit.generation,
        machine: host.or(done.map(|(done, _)| &done.host)).map(|host| machine_ref(cluster, host)),
        done: done.map(|(_, since)| since),
        hosts: if global { orders(cluster, name) } else { Vec::new() },
        waiting: placement.and_then(|placement| match placement {
            Placement::Waiting { why, .. } => Some(why.clone()),
            Placement::On { .. } | Placement::Done { .. } => None,
        }),
        retry: summary.and_then(|summary| outlook(cluster, name, &summary.constraints)).map(|it| retry(cluster, &it)),
        states,
        progress: Some(progress(cluster, &Expectation { unit: name, operation, global })),
    }
}

fn retry(cluster: &Cluster, outlook: &Outlook) -> Box<RetryView> {
    let failed_on = outlook.hosts.iter().map(|host| machine_ref(cluster, host)).collect();
    Box::new(RetryView { at: outlook.at, failed_on, stays: outlook.stays() })
}

/// Units whose records can't be decoded: what other records say about them.
pub(super) fn damaged(cluster: &Cluster, damaged: Damaged) -> Vec<DamagedUnit> {
    let view = |(name, why): (UnitName, String)| DamagedUnit {
        machine: cluster.placed_on(&name).map(|host| machine_ref(cluster, host)),
        states: cluster.reports(&name).map(|(host, state)| state_view(cluster, &name, host, state)).collect(),
        name,
        why,
    };
    damaged.into_iter().map(view).collect()
}

/// The assignments of a global unit.
fn orders(cluster: &Cluster, name: &UnitName) -> Vec<HostOrder> {
    let order = |(host, assignments): (&MachineId, &BTreeMap<UnitName, Versioned<Assignment>>)| {
        let entry = &assignments.get(name)?.value;
        let machine = machine_ref(cluster, host);
        Some(HostOrder { machine, generation: entry.generation, target: entry.target })
    };
    cluster.schedule.iter().filter_map(order).collect()
}

/// The global units among these.
pub(super) fn globals(cluster: &Cluster, summaries: &FileSummaries) -> BTreeSet<UnitName> {
    let global = |unit: &Unit| summaries.get(&unit.hash).is_some_and(|summary| summary.constraints.global);
    cluster.units.iter().filter(|(_, unit)| global(unit)).map(|(name, _)| name.clone()).collect()
}

/// The keys of the hosts that the units are placed on and reported by.
pub(super) fn hosts_wanted(cluster: &Cluster) -> BTreeSet<Key> {
    cluster.named_hosts().cloned().map(Key::Machine).collect()
}

/// What is remembered of those of them that aren't registered, as far as `cluster` has read that.
pub(super) fn absent_wanted(cluster: &Cluster) -> BTreeSet<Key> {
    let absent = cluster.named_hosts().filter(|host| !cluster.machines.contains_key(*host));
    absent.cloned().map(Key::Roster).collect()
}

/// The current state of a unit that isn't global: the target that its host has reported, `inactive` without a report.
/// One that is done was launched, as a oneshot is that has ended and that a host still has.
pub(super) fn current(cluster: &Cluster, name: &UnitName) -> &'static str {
    let state = cluster.placed_on(name).and_then(|host| cluster.report(name, host));
    current_by(cluster.done(name).is_some(), state)
}

/// The same of a unit that is done, or of which its host reports this.
fn current_by(is_done: bool, state: Option<&UnitReport>) -> &'static str {
    let target = state.map_or(Target::Removed, |state| state.target);
    if is_done { Target::Launched.as_state() } else { target.as_state() }
}

/// A host, as tables show it.
pub(super) fn machine_ref(cluster: &Cluster, id: &MachineId) -> MachineRef {
    let ip = cluster.machines.get(id).map(|machine| machine.ip.clone());
    let hostname = cluster.hostname(id).map(str::to_owned);
    MachineRef { id: id.clone(), ip: ip.unwrap_or_default(), hostname: hostname.unwrap_or_default() }
}

/// The leader, as its record names it.
pub(super) fn leader(leader: LeaderRecord) -> LeaderView {
    let LeaderRecord { machine, hostname, ip, since, .. } = leader;
    LeaderView { machine: MachineRef { id: machine, ip, hostname }, since }
}

/// The hosts that are alive, by id.
pub(super) fn machines(cluster: &Cluster) -> Vec<MachineView> {
    let view = |(id, machine): (&MachineId, &Machine)| MachineView {
        id: id.clone(),
        ip: machine.ip.clone(),
        hostname: machine.hostname.clone(),
        metadata: cluster.effective_metadata(id),
        builtin: machine.builtin.clone(),
        version: machine.version.clone(),
        since: machine.since,
        gone: None,
        cordon: cluster.asked_of(id).and_then(|asked| asked.cordon.clone()),
        drain: cluster.asked_of(id).and_then(|asked| asked.drain.clone()),
    };
    cluster.machines.iter().map(view).collect()
}

/// Since when a host isn't registered, in ms since the epoch: 0 if no leader has seen it go yet, or if it is forgotten.
pub(super) fn away(cluster: &Cluster, host: &MachineId) -> Option<u64> {
    let gone = cluster.roster.get(host).and_then(|known| known.value.gone.as_ref());
    (!cluster.machines.contains_key(host)).then(|| gone.map_or(0, |gone| gone.since))
}

/// ` since 01:10 UTC`, of a moment in ms since the epoch; empty if that is 0, which is to say unknown.
pub(super) fn since(at: u64) -> String {
    if at == 0 { String::new() } else { format!(" since {}", utc_minute(at)) }
}

/// The hosts that are remembered and not registered, by id. One that no leader has seen go yet is gone since 0.
pub(super) fn gone(cluster: &Cluster) -> Vec<MachineView> {
    let absent = cluster.roster.iter().filter(|(id, _)| !cluster.machines.contains_key(*id));
    let view = |(id, known): (&MachineId, &Versioned<KnownHost>)| MachineView {
        id: id.clone(),
        ip: known.value.ip.clone(),
        hostname: known.value.hostname.clone(),
        metadata: cluster.effective_metadata(id),
        builtin: Metadata::new(),
        version: known.value.version.clone(),
        since: 0,
        gone: Some(known.value.gone.unwrap_or_default()),
        cordon: cluster.asked_of(id).and_then(|asked| asked.cordon.clone()),
        drain: cluster.asked_of(id).and_then(|asked| asked.drain.clone()),
    };
    absent.map(view).collect()
}

/// The rollouts that aren't done, in short. Of one that went back, nothing is open any more once another file was asked
/// for.
pub(super) fn open_rollouts(cluster: &Cluster, summaries: &FileSummaries) -> Vec<OpenRollout> {
    let asked = |name: &UnitName| {
        let behind = cluster.gates.get(name).map(|gate| &gate.value.target);
        behind.or_else(|| cluster.units.get(name).map(|unit| &unit.hash))
    };
    let is_open = |name: &UnitName, rollout: &Rollout| match rollout.phase {
        Phase::Done => false,
        Phase::Reverted => asked(name) == Some(&rollout.target),
        // Its set or unit may have been destroyed, which the leader is about to see.
        _ => cluster.units.contains_key(name),
    };
    let promotes_itself = |rollout: &Rollout| {
        let policy = summaries.get(&rollout.target).and_then(|summary| summary.constraints.rollout.as_deref());
        policy.is_some_and(|policy| policy.promote != Promote::Manual)
    };
    let rollouts = cluster.rollouts.iter().map(|(name, rollout)| (name, &rollout.value));
    let view = |(name, rollout): (&UnitName, &Rollout)| OpenRollout {
        name: name.clone(),
        phase: rollout.phase,
        since: rollout.since,
        why: rollout.why.clone(),
        promotes_itself: promotes_itself(rollout),
    };
    rollouts.filter(|(name, rollout)| is_open(name, rollout)).map(view).collect()
}

fn state_view(cluster: &Cluster, name: &UnitName, host: &MachineId, report: &UnitReport) -> StateView {
    StateView {
        machine: machine_ref(cluster, host),
        report: report.clone(),
        preview: is_previewed(cluster, name, host),
    }
}

/// The errors that hosts report, host by host.
pub(super) fn trouble(unit: &UnitView) -> Option<String> {
    let complaints: Vec<String> = unit
        .states
        .iter()
        .filter_map(|state| {
            let host =
                if state.machine.hostname.is_empty() { state.machine.id.short() } else { &state.machine.hostname };
            let job = || {
                let result = state.report.result.as_ref().filter(|result| **result != JobResult::Done)?;
                Some(format!("its last job ended: {result}"))
            };
            state.report.error.clone().or_else(job).map(|what| format!("{host}: {what}"))
        })
        .collect();
    (!complaints.is_empty()).then(|| complaints.join("; "))
}
