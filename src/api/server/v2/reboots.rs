//! v2: hosts that are to reboot. Owns how they are shown; each host carries out its own (`reboot`).

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::{Extension, Json};

use crate::api::server::caller::Caller;
use crate::api::server::error::Failure;
use crate::api::server::extract::json_body;
use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::{AskReboots, AskedReboots, RebootList, RebootStage, RebootView};
use crate::model::cluster::Cluster;
use crate::model::maintenance::Drain;
use crate::model::name::MachineId;
use crate::model::reboot::{Group, Holder, MAX_QUEUE, Reboots, Request};
use crate::registry::keys;
use crate::registry::reboots::{self, Options, Refusal};
use crate::registry::scope::Scope;
use crate::store::{Error, Store};

use super::{check_why, no_parameters};

pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<RebootList>, Failure> {
    no_parameters(&uri)?;
    let found = async {
        let cluster = api.reader.cluster(&[keys::MACHINES, keys::ROSTER], &Scope::All).await?;
        shown(&api, &cluster).await
    };
    let reboots = found.await.map_err(|error| api.failed(&error))?;
    Ok(Json(RebootList { reboots }))
}

/// The hosts of `cluster` that are to reboot.
pub(super) async fn shown<S: Store>(api: &Api<S>, cluster: &Cluster) -> Result<Vec<RebootView>, Error> {
    let groups = reboots::all(&api.reader).await?;
    Ok(groups.iter().flat_map(|(group, all)| views_of(cluster, group, all)).collect())
}

/// Ask hosts to reboot: all or none.
pub(super) async fn post<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<AskedReboots>, Failure> {
    no_parameters(&uri)?;
    let asked: AskReboots = json_body(&headers, &body, "what is asked")?;
    let AskReboots { hosts, why, parallel, deadline, force } = asked;
    check_why(&why)?;
    let parallel = parallel.unwrap_or_else(Drain::parallel).max(1);
    let options = Options { parallel, deadline: deadline.unwrap_or_else(Drain::deadline), force, why };
    let by = api.author(&caller);
    let asked = reboots::ask(&api.reader, &hosts, &options, &by, api.clock.now_ms()).await;
    let hosts: Vec<MachineId> = asked.map_err(|refusal| refused(&api, refusal))?.into_iter().collect();
    for host in &hosts {
        tracing::info!(machine = %host, %by, why = options.why, "the host is to reboot");
    }
    Ok(Json(AskedReboots { hosts }))
}

/// A host is to reboot no longer: it waits no more, or gives up its slot, and takes units again.
pub(super) async fn cancel<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<StatusCode, Failure> {
    no_parameters(&uri)?;
    let none = || Failure::new(StatusCode::NOT_FOUND, "no such host is to reboot");
    let id: MachineId = id.parse().map_err(|_| none())?;
    let cancelled = reboots::forget(&api.reader, &id, true).await.map_err(|refusal| refused(&api, refusal))?;
    if !cancelled {
        return Err(none());
    }
    tracing::info!(machine = %id, by = %api.author(&caller), "the host is to reboot no longer");
    Ok(StatusCode::NO_CONTENT)
}

/// Why nothing was asked.
fn refused<S: Store>(api: &Api<S>, refusal: Refusal) -> Failure {
    let conflict = |message: String| Failure::new(StatusCode::CONFLICT, message);
    match refusal {
        Refusal::Away(id) => conflict(format!("the host {id} isn't registered; nothing was asked")),
        Refusal::TooMany => conflict(format!("at most {MAX_QUEUE} hosts can wait for their reboot; nothing was asked")),
        Refusal::Damaged(corrupt) => conflict(format!("it isn't known who reboots: {corrupt}; nothing was asked")),
        Refusal::Contended => conflict("others change the reboots all the time; nothing was asked. Try again".into()),
        Refusal::Store(error) => api.failed(&error),
        Refusal::Lost(error) => api.failed_maybe(&error),
    }
}

fn views_of(cluster: &Cluster, group: &Group, all: &Reboots) -> Vec<RebootView> {
    let view = |host: &MachineId, since: u64, request: Option<&Request>| RebootView {
        machine: views::machine_ref(cluster, host),
        group: group.clone(),
        stage: RebootStage::Waits,
        since,
        gone: views::away(cluster, host),
        why: request.map(|request| request.why.clone()).unwrap_or_default(),
        by: request.and_then(|request| request.by.clone()),
        program: String::new(),
        error: String::new(),
    };
    let holder = |holder: &Holder| RebootView {
        stage: stage(cluster, holder),
        program: holder.program.clone(),
        error: holder.error.clone(),
        ..view(&holder.host, holder.since, holder.request.as_deref())
    };
    let waiting = |request: &Request| view(&request.host, request.since, Some(request));
    all.holders.iter().map(holder).chain(all.queue.iter().map(waiting)).collect()
}

/// How far a host has got that has a slot.
fn stage(cluster: &Cluster, holder: &Holder) -> RebootStage {
    if !cluster.machines.contains_key(&holder.host) {
        return RebootStage::Away;
    }
    if holder.back { RebootStage::Returns } else { RebootStage::Leaves }
}
