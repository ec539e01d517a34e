//! v2: rollouts, and what is asked of them. Owns which records they are read from, and how members are shown; the
//! leader decides how they go on.

mod riding;
pub(super) mod watch;

use std::borrow::Cow;
use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::{Extension, Json};

use crate::api::server::caller::Caller;
use crate::api::server::error::Failure;
use crate::api::server::extract::json_body;
use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::{
    AskRollout, AskView, FileOutcomeView, OvertakenView, RolloutHook, RolloutList, RolloutMember, RolloutView,
};
use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::rollout::{HookRun, Rollout};
use crate::model::unit::{Desired, Placement, Target, Unit, UnitReport};
use crate::plan::gate::hosts::launched_on;
use crate::plan::gate::{instances, spares_of};
use crate::registry::ask::Refusal;
use crate::registry::keys::{self, Key};
use crate::registry::scope::Scope;
use crate::registry::summaries::FileSummaries;
use crate::store::{Error, Store};

use super::{names, no_parameters, sets, units};

pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<RolloutList>, Failure> {
    let scope = Scope::of(names(&uri)?);
    rollouts(&api, &scope).await.map(Json).map_err(|error| api.failed(&error))
}

pub(super) async fn get<S: Store>(
    State(api): State<Api<S>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<RolloutView>, Failure> {
    no_parameters(&uri)?;
    let name: UnitName = name.parse().map_err(|_| Failure::no_such_unit())?;
    let found = rollouts(&api, &Scope::One(name.clone())).await.map_err(|error| api.failed(&error))?;
    found.rollouts.into_iter().next().map(Json).ok_or_else(|| none(&name))
}

/// Ask something of a rollout.
pub(super) async fn post<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    no_parameters(&uri)?;
    let name: UnitName = name.parse().map_err(|_| Failure::no_such_unit())?;
    let request: AskRollout = json_body(&headers, &body, "what is asked")?;
    caller.check_name(&name)?;
    api.ask(&name, request.ask, &caller).await.map_err(|refusal| refused(&api, &name, refusal))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Why nothing is asked of the rollout `name`.
pub(super) fn refused<S: Store>(api: &Api<S>, name: &UnitName, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Unknown => Failure::no_such_unit(),
        Refusal::Damaged(why) => Failure::damaged(name, &why),
        Refusal::Pointless(why) => Failure::new(StatusCode::CONFLICT, why),
        Refusal::Contended => {
            Failure::new(StatusCode::CONFLICT, "others change the same unit all the time; nothing was asked. Try again")
        }
        Refusal::Store(error) => api.failed(&error),
        Refusal::Lost(error) => api.failed_maybe(&error),
    }
}

fn none(name: &UnitName) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, format!("{name} has had no rollout"))
}

/// The rollouts in `scope`, with their members.
async fn rollouts<S: Store>(api: &Api<S>, scope: &Scope) -> Result<RolloutList, Error> {
    let known = api.reader.cluster(&[keys::ROLLOUTS], scope).await?;
    let mut rollouts = known.rollouts;
    rollouts.retain(|name, _| scope.has(name));
    if rollouts.is_empty() {
        return Ok(RolloutList { revision: known.revision, rollouts: Vec::new() });
    }
    let names: BTreeSet<UnitName> = rollouts.keys().cloned().collect();
    let riders = rollouts.values().flat_map(|rollout| rollout.value.riders.keys());
    let units: BTreeSet<UnitName> = names.iter().chain(riders).cloned().collect();
    loop {
        let (mut cluster, summaries, _) = units::joined(api, &sets::with_members(&units)).await?;
        let keys = names.iter().cloned().map(Key::Rollout).collect();
        match add(api, &mut cluster, &keys).await {
            // The revision of the first read was compacted: start over with a new one.
            Err(Error::Compacted) => {}
            Err(error) => return Err(error),
            Ok(()) => {
                let view = |name| Some(view(&cluster, &summaries, name, &cluster.rollouts.get(name)?.value));
                return Ok(RolloutList {
                    revision: cluster.revision,
                    rollouts: names.iter().filter_map(view).collect(),
                });
            }
        }
    }
}

/// Add the records of these rollouts, and what they show of their hooks.
async fn add<S: Store>(api: &Api<S>, cluster: &mut Cluster, rollouts: &BTreeSet<Key>) -> Result<(), Error> {
    api.reader.add(cluster, rollouts).await?;
    let running = cluster.rollouts.values().filter_map(|rollout| rollout.value.running());
    let placements: BTreeSet<Key> = running.map(|run| Key::Placement(run.unit.clone())).collect();
    if !placements.is_empty() {
        api.reader.add(cluster, &placements).await?;
    }
    let runs = || cluster.rollouts.values().flat_map(|rollout| &rollout.value.hooks);
    let hosts: BTreeSet<Key> = runs().filter_map(|run| hook_host(cluster, run)).cloned().map(Key::Machine).collect();
    if hosts.is_empty() { Ok(()) } else { api.reader.add(cluster, &hosts).await }
}

/// The host on which a hook runs or has run.
fn hook_host<'a>(cluster: &'a Cluster, run: &'a HookRun) -> Option<&'a MachineId> {
    let ran = || cluster.placements.get(&run.unit)?.value.done().map(|done| &done.host);
    run.host.as_ref().or_else(|| cluster.placed_on(&run.unit)).or_else(ran)
}

fn hook(cluster: &Cluster, run: &HookRun) -> RolloutHook {
    let machine = hook_host(cluster, run).map(|host| views::machine_ref(cluster, host));
    let HookRun { unit, after, since, took, .. } = run;
    RolloutHook { name: unit.clone(), after: *after, machine, since: *since, took: *took }
}

fn view(cluster: &Cluster, summaries: &FileSummaries, name: &UnitName, rollout: &Rollout) -> RolloutView {
    let ask = cluster.units.get(name).and_then(|unit| unit.ask.as_deref());
    let ask = ask.map(|ask| AskView {
        what: ask.what,
        heeded: ask.generation <= rollout.heeded,
        by: ask.by.as_deref().cloned(),
    });
    let member = |(unit, record): (_, Cow<'_, Unit>)| member(cluster, summaries, (name, rollout), (unit, &record));
    let (own, riding): (Vec<RolloutMember>, Vec<RolloutMember>) =
        candidates(cluster, name, rollout).filter_map(member).partition(|member| is_own(name, member));
    let mut members = riding::joined(own, riding);
    members.extend(
        launched_on(cluster, name).map(|(host, assignment)| on_host(cluster, summaries, name, host, &assignment.hash)),
    );
    members.sort_by(|a, b| (a.name.number(), &a.name).cmp(&(b.name.number(), &b.name)));
    RolloutView {
        name: name.clone(),
        target: rollout.target.clone(),
        from: rollout.from.hash.clone(),
        riders: rollout.riders.iter().map(riding::rider).collect(),
        phase: rollout.phase,
        since: rollout.since,
        began: rollout.began,
        why: rollout.why.clone(),
        failed: rollout.failed.clone(),
        failed_on: rollout.failed_on.as_ref().map(|host| views::machine_ref(cluster, host)),
        lines: rollout.lines.clone(),
        overtook: rollout.overtook.as_deref().cloned().map(OvertakenView::from),
        accepts: rollout.phase.accepts().to_vec(),
        ask,
        hooks: rollout.hooks.iter().map(|run| hook(cluster, run)).collect(),
        outcomes: rollout.outcomes.iter().cloned().map(FileOutcomeView::from).collect(),
        members,
    }
}

/// Whether a unit is the rollout's own, or a member of the set, and none of a rider.
fn is_own(name: &UnitName, member: &RolloutMember) -> bool {
    !name.is_template() || member.name.number_in(name).is_some()
}

/// The units that may take part in the rollout `name`, and its spares.
fn candidates<'a>(
    cluster: &'a Cluster,
    name: &'a UnitName,
    rollout: &'a Rollout,
) -> impl Iterator<Item = (&'a UnitName, Cow<'a, Unit>)> {
    let alone = (!name.is_template()).then(|| cluster.units.get_key_value(name)).flatten();
    let templates = name.is_template().then(|| std::iter::once(name).chain(rollout.riders.keys()));
    let templates: Vec<&UnitName> = templates.into_iter().flatten().collect();
    let numbered = templates.clone().into_iter().flat_map(|template| instances(cluster, template));
    let units = alone.into_iter().chain(numbered.filter_map(|name| cluster.units.get_key_value(name)));
    let spares = templates.into_iter().flat_map(|template| spares_of(cluster, template, name));
    let spares = spares.filter(|(spare, _)| !cluster.units.contains_key(*spare));
    let units = units.map(|(name, unit)| (name, Cow::Borrowed(unit)));
    units.chain(spares.map(|(name, gate)| (name, Cow::Owned(Unit::spare(gate)))))
}

/// `unit` as a member of the rollout `name`, if it is one: it is behind its gate, or was asked to have the new file, or
/// is a spare.
fn member(
    cluster: &Cluster,
    summaries: &FileSummaries,
    (name, rollout): (&UnitName, &Rollout),
    (unit, record): (&UnitName, &Unit),
) -> Option<RolloutMember> {
    let gate = cluster.gates.get(unit).map(|gate| &gate.value).filter(|gate| gate.rollout == *name);
    let has_new = || {
        let takes_part = unit == name || unit.set().is_some_and(|set| has_file(cluster, &set, &record.hash));
        takes_part && record.hash == *rollout.target_of(unit) && record.desired == Desired::Launched
    };
    let spare = gate.is_some_and(|gate| gate.spare);
    if unit.is_template() || is_on_hosts(cluster, summaries, unit, record) || !(gate.is_some() || has_new()) {
        return None;
    }
    let hash = gate.map_or(&record.hash, |gate| &gate.hash).clone();
    let host = cluster.placed_on(unit);
    let waits = || match &cluster.placements.get(unit)?.value {
        Placement::Waiting { why, .. } if spare => Some(why.clone()),
        _ => None,
    };
    let shown = shown(cluster, summaries, unit, host, hash);
    let preview = rollout.previews(&shown.hash);
    Some(RolloutMember { spare, preview, why: shown.why.clone().or_else(waits), ..shown })
}

/// Whether a set has the file with this hash.
fn has_file(cluster: &Cluster, set: &UnitName, hash: &UnitHash) -> bool {
    cluster.units.get(set).is_some_and(|record| record.replicas.is_some() && record.hash == *hash)
}

/// Whether the members are the hosts of a unit, which is global.
fn is_on_hosts(cluster: &Cluster, summaries: &FileSummaries, unit: &UnitName, record: &Unit) -> bool {
    cluster.is_by_host(unit) || summaries.get(&record.hash).is_some_and(|summary| summary.constraints.global)
}

/// A global unit on `host`, which is told to run the file with this hash, as a member.
fn on_host(
    cluster: &Cluster,
    summaries: &FileSummaries,
    unit: &UnitName,
    host: &MachineId,
    hash: &UnitHash,
) -> RolloutMember {
    RolloutMember { global: true, ..shown(cluster, summaries, unit, Some(host), hash.clone()) }
}

/// A member that is to run the file with this hash on `host`, if it has one.
fn shown(
    cluster: &Cluster,
    summaries: &FileSummaries,
    unit: &UnitName,
    host: Option<&MachineId>,
    hash: UnitHash,
) -> RolloutMember {
    let report = host.and_then(|host| cluster.report(unit, host));
    let runs = |report: &&UnitReport| report.hash == hash && report.target == Target::Launched;
    let report = report.filter(runs);
    let ends = summaries.get(&hash).is_some_and(|summary| summary.constraints.ends);
    let is_healthy = cluster.done(unit).is_some() || report.is_some_and(|report| report.is_healthy(ends));
    RolloutMember {
        name: unit.clone(),
        spare: false,
        global: false,
        machine: host.map(|host| views::machine_ref(cluster, host)),
        ready: is_healthy,
        preview: false,
        since: report.map(|report| report.since),
        why: report.filter(|_| !is_healthy).and_then(|report| report.health.clone()),
        hash,
        riders: Vec::new(),
    }
}
