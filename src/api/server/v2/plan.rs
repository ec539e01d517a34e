//! v2: what a batch, or what is asked of rollouts, would lead to. Owns that it is computed beside the runtime, one
//! request at a time, and how it is shown; `registry` decides what the batch changes, and `plan::forecast` what
//! follows. Changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::{Extension, Json};

use crate::api::server::caller::Caller;
use crate::api::server::error::Failure;
use crate::api::server::extract::json_body;
use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::{
    AppliedUnit, Apply, MachineRef, Outcome, Plan, PlanAsk, PlanRequest, PlannedEffect, PlannedRollout, PlannedUnit,
};
use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::role::Operation::Administer;
use crate::model::rollout::{MemberName, Request};
use crate::plan::forecast::{Course, Effect, Forecast, Present, forecast};
use crate::registry::apply::{Applied, Trial, trial_of_asks, trial_of_hosts};
use crate::registry::maintenance::Request as HostRequest;
use crate::registry::moves::Request as MoveRequest;
use crate::registry::units::Intent;
use crate::store::Store;

use super::{apply, hosts, moves, no_parameters, rollouts};

pub(super) async fn post<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Plan>, Failure> {
    no_parameters(&uri)?;
    let PlanRequest { units, asks, hosts, moves } = json_body(&headers, &body, "the batch")?;
    let change = match (units, asks, hosts, moves) {
        (Some(units), None, None, None) => Asked::Units(apply::checked(&api, &Apply { units }).await?),
        (None, None, Some(ask), None) => {
            caller.check(Administer)?;
            Asked::Hosts(hosts::request(ask)?)
        }
        (None, Some(asks), None, None) => {
            asks.iter().try_for_each(|ask| caller.check_name(&ask.name))?;
            Asked::Rollouts(asks.into_iter().map(|PlanAsk { name, ask }| (name, ask)).collect())
        }
        (None, None, None, Some(asked)) => Asked::Moves(moves::request(asked, &caller)?),
        _ => {
            let message = "can't read the batch: it has either `units`, `asks`, `hosts` or `moves`";
            return Err(Failure::bad_request(message));
        }
    };
    // Each takes a copy of the cluster, and time of a processor.
    let turn = Arc::clone(&api.planning).lock_owned().await;
    let Trial { applied, changes, cluster, unreadable } = match change {
        Asked::Units(intents) => api.trial(&intents, &caller).await?,
        Asked::Rollouts(asks) => {
            let trial = trial_of_asks(&api.reader, &asks).await.map_err(|error| api.failed(&error))?;
            trial.map_err(|(name, refusal)| rollouts::refused(&api, &name, refusal))?
        }
        Asked::Hosts((ids, request)) => {
            let by = api.author(&caller);
            let trial = trial_of_hosts(&api.reader, &ids, &request, &by, api.clock.now_ms()).await;
            trial.map_err(|refusal| hosts::refused(&api, refusal))?
        }
        Asked::Moves(request) => {
            let (trial, now) = (moves::trial(&api, &request).await?, api.clock.now_ms());
            let copy = trial.clone();
            let judged = tokio::task::spawn_blocking(move || moves::judge(copy, &request, now).map(drop));
            judged.await.map_err(|error| Failure::unavailable(error.to_string()))??;
            trial
        }
    };
    let names = Cluster { machines: cluster.machines.clone(), roster: cluster.roster.clone(), ..Cluster::default() };
    let present = Present { cluster, unreadable, brake: api.settings.brake, now: api.clock.now_ms() };
    // The runtime's thread renews leases. The turn ends with the work, also if nobody waits for the answer any more.
    let work = move || (forecast(present, changes), turn);
    let failed = |error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the plan failed: {error}"));
    let (forecast, _) = tokio::task::spawn_blocking(work).await.map_err(failed)?;
    Ok(Json(plan(&names, applied, forecast)))
}

/// What is planned.
enum Asked {
    Units(Vec<Intent>),
    Rollouts(Vec<(UnitName, Request)>),
    Hosts((BTreeSet<MachineId>, HostRequest)),
    Moves(MoveRequest),
}

/// The answer; `hosts` has the names of hosts.
fn plan(hosts: &Cluster, applied: Applied, forecast: Forecast) -> Plan {
    let Forecast { units: mut effects, rollouts, is_complete } = forecast;
    let revision = applied.revision;
    let is_change = |unit: &AppliedUnit| {
        let stays = [Outcome::Unchanged, Outcome::Differs, Outcome::Leaving, Outcome::Absent];
        unit.comments || !stays.contains(&unit.outcome)
    };
    let shown = |effects: Vec<Effect>| effects.iter().map(|one| effect(hosts, one)).collect();
    let mut units = Vec::new();
    for done in applied.units {
        let (name, effects) = (done.name.clone(), effects.remove(&done.name).unwrap_or_default());
        let applied = apply::applied_unit(done);
        if !effects.is_empty() || !matches!(applied.outcome, Outcome::Unchanged | Outcome::Absent) || applied.comments {
            units.push(PlannedUnit { name, applied: Some(applied), effects: shown(effects) });
        }
    }
    let named: BTreeSet<UnitName> = units.iter().map(|unit| unit.name.clone()).collect();
    let others = effects.into_iter().filter(|(name, _)| !named.contains(name));
    units.extend(others.map(|(name, effects)| PlannedUnit { name, applied: None, effects: shown(effects) }));
    let changes = |unit: &PlannedUnit| !unit.effects.is_empty() || unit.applied.as_ref().is_some_and(is_change);
    Plan {
        revision,
        changes: !rollouts.is_empty() || units.iter().any(changes),
        complete: is_complete,
        rollouts: rollouts.into_iter().map(|(name, course)| rollout(hosts, name, course)).collect(),
        units,
    }
}

fn effect(hosts: &Cluster, effect: &Effect) -> PlannedEffect {
    let host = |host: &Option<_>| host.as_ref().map(|host| views::machine_ref(hosts, host));
    let (machine, from) = (host(&effect.host), host(&effect.from));
    PlannedEffect { what: effect.what, machine, from, why: effect.why.clone() }
}

fn rollout(hosts: &Cluster, name: UnitName, course: Course) -> PlannedRollout {
    let Course { target, before, steps, after, held, parallel, canaries, least_ready, phase, why, longest } = course;
    let units = |members: &[MemberName]| members.iter().map(|member| member.unit.clone()).collect();
    let machines = |members: &[MemberName]| -> Vec<MachineRef> {
        members.iter().filter_map(|member| Some(views::machine_ref(hosts, member.host.as_ref()?))).collect()
    };
    let mut step_machines: Vec<Vec<MachineRef>> = steps.iter().map(|step| machines(step)).collect();
    if step_machines.iter().all(Vec::is_empty) {
        step_machines.clear();
    }
    PlannedRollout {
        name,
        target,
        before,
        steps: steps.iter().map(|step| units(step)).collect(),
        step_machines,
        after,
        held_machines: machines(&held),
        held: units(&held),
        parallel,
        canaries,
        least_ready,
        phase,
        why,
        longest: longest.map(|longest| longest.as_secs()),
    }
}
