//! v2: hosts, those that are gone, what is asked of them, and the whole cluster at once. Owns which records these are
//! read from.

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
use crate::api::wire::{AskHosts, AskedHost, AskedHosts, ClusterView, DrainOptions, HostAsk, MachineList};
use crate::model::cluster::Cluster;
use crate::model::maintenance::Drain;
use crate::model::name::MachineId;
use crate::registry::forget::{Forgotten, forget as forget_host};
use crate::registry::maintenance::{self, Asked, Options, Refusal, Request};
use crate::registry::reader::Damaged;
use crate::registry::records::leader::LeaderRecord;
use crate::registry::scope::Scope;
use crate::registry::summaries::FileSummaries;
use crate::registry::{decode, keys, metadata, point};
use crate::store::{Error, MAX_OPS, Store};

use super::units::joined;
use super::{check_why, no_parameters, offline, reboots, split_offline, unknown};

pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<MachineList>, Failure> {
    let (offline, rest) = split_offline(&uri)?;
    if let Some((key, _)) = rest.first() {
        return Err(unknown(key, "; `offline` is known"));
    }
    if offline {
        return offline::machines(&api).await.map(Json);
    }
    let families = [keys::MACHINES, keys::ROSTER, keys::METADATA, keys::HOSTS];
    let cluster = api.reader.cluster(&families, &Scope::All).await.map_err(|error| api.failed(&error))?;
    Ok(Json(machines(&api, &cluster)))
}

/// Ask something of hosts: all or none.
pub(super) async fn ask<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<AskedHosts>, Failure> {
    no_parameters(&uri)?;
    let asked = json_body(&headers, &body, "what is asked")?;
    let ((hosts, request), by) = (request(asked)?, api.author(&caller));
    let asked = maintenance::ask(&api.reader, &hosts, &request, &by, api.clock.now_ms()).await;
    let asked = asked.map_err(|refusal| refused(&api, refusal))?;
    for Asked { host, now, .. } in asked.iter().filter(|asked| asked.changed) {
        let now = now.closed().unwrap_or_else(|| "neither cordoned nor drained any more".into());
        tracing::info!(machine = %host, %by, "the host is {now}");
    }
    let view = |Asked { host, now, changed }| AskedHost { id: host, changed, cordon: now.cordon, drain: now.drain };
    Ok(Json(AskedHosts { hosts: asked.into_iter().map(view).collect() }))
}

/// What is asked of which hosts.
pub(super) fn request(asked: AskHosts) -> Result<(BTreeSet<MachineId>, Request), Failure> {
    let AskHosts { ask, hosts, why, options } = asked;
    check_why(&why)?;
    let request = match ask {
        HostAsk::Cordon => Request::Cordon { why },
        HostAsk::Uncordon => Request::Uncordon,
        HostAsk::Drain => Request::Drain(drain_options(options, why)),
        HostAsk::Undrain => {
            let parallel = options.parallel.unwrap_or_else(Drain::parallel).max(1);
            Request::Undrain { restore: options.restore.then_some(parallel) }
        }
    };
    Ok((BTreeSet::from_iter(hosts), request))
}

/// With what holds unless it is said.
fn drain_options(options: DrainOptions, why: String) -> Options {
    let DrainOptions { parallel, deadline, globals, force, .. } = options;
    let parallel = parallel.unwrap_or_else(Drain::parallel).max(1);
    Options { parallel, deadline: deadline.unwrap_or_else(Drain::deadline), globals, force, why }
}

/// Why nothing was asked of hosts.
pub(super) fn refused<S: Store>(api: &Api<S>, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Unknown(id) => Failure::new(StatusCode::NOT_FOUND, format!("no host {id} is known")),
        Refusal::TooMany => {
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {MAX_OPS} hosts can be changed at once"))
        }
        Refusal::Contended => {
            let message = "others change the same hosts all the time; nothing was asked. Try again";
            Failure::new(StatusCode::CONFLICT, message)
        }
        Refusal::Store(error) => api.failed(&error),
        Refusal::Lost(error) => api.failed_maybe(&error),
    }
}

/// Forget a host that is gone, its dynamic metadata, and what was asked of it.
pub(super) async fn forget<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<StatusCode, Failure> {
    no_parameters(&uri)?;
    let none = || Failure::new(StatusCode::NOT_FOUND, "no such host is known");
    let id: MachineId = id.parse().map_err(|_| none())?;
    match forget_host(&api.reader, &id).await.map_err(|refusal| api.metadata_refused(refusal))? {
        Forgotten::Done => {
            tracing::info!(machine = %id, by = %api.author(&caller), "the host is forgotten");
            Ok(StatusCode::NO_CONTENT)
        }
        Forgotten::Unknown => Err(none()),
        Forgotten::Present => {
            let message = format!("the host {id} is registered; only a host that is gone can be forgotten");
            Err(Failure::new(StatusCode::CONFLICT, message))
        }
    }
}

/// The metadata that the API has set for a host, registered or not; after this, those in its configuration apply again.
pub(super) async fn forget_metadata<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<StatusCode, Failure> {
    no_parameters(&uri)?;
    let none = || Failure::new(StatusCode::NOT_FOUND, "no dynamic metadata of such a host");
    let id: MachineId = id.parse().map_err(|_| none())?;
    let found = metadata::forget(&api.reader, &id).await.map_err(|refusal| api.metadata_refused(refusal))?;
    if !found {
        return Err(none());
    }
    tracing::info!(machine = %id, by = %api.author(&caller), "its dynamic metadata are forgotten");
    Ok(StatusCode::NO_CONTENT)
}

/// Leader, hosts, units and rollouts at one revision, and the reboots as of a moment later.
pub(super) async fn status<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<ClusterView>, Failure> {
    let (offline, rest) = split_offline(&uri)?;
    if let Some((key, _)) = rest.first() {
        return Err(unknown(key, "; `offline` is known"));
    }
    if offline {
        return offline::status(&api).await.map(Json);
    }
    let (cluster, leader, summaries, damaged) = whole(&api).await.map_err(|error| api.failed(&error))?;
    let units = cluster.units.iter().map(|(name, unit)| views::unit(&cluster, &summaries, name, unit, None)).collect();
    let leader = leader.map(views::leader);
    let damaged = views::damaged(&cluster, damaged);
    let rollouts = views::open_rollouts(&cluster, &summaries);
    let reboots = reboots::shown(&api, &cluster).await.map_err(|error| api.failed(&error))?;
    Ok(Json(ClusterView { hosts: machines(&api, &cluster), leader, units, damaged, rollouts, reboots }))
}

async fn whole<S: Store>(api: &Api<S>) -> Result<(Cluster, Option<LeaderRecord>, FileSummaries, Damaged), Error> {
    loop {
        let (mut cluster, summaries, damaged) = joined(api, &Scope::All).await?;
        match complete(api, &mut cluster).await {
            // The revision of the first read was compacted: start over with a new one.
            Err(Error::Compacted) => {}
            Err(error) => return Err(error),
            Ok(leader) => return Ok((cluster, leader, summaries, damaged)),
        }
    }
}

/// Add what is known of hosts and of rollouts, and return the leader, at the revision that `cluster` shows.
async fn complete<S: Store>(api: &Api<S>, cluster: &mut Cluster) -> Result<Option<LeaderRecord>, Error> {
    api.reader.add_family(cluster, keys::ROSTER).await?;
    api.reader.add_family(cluster, keys::METADATA).await?;
    api.reader.add_family(cluster, keys::HOSTS).await?;
    api.reader.add_family(cluster, keys::ROLLOUTS).await?;
    let (_, leader) = point(api.reader.store(), keys::LEADER, Some(cluster.revision)).await?;
    // A damaged record is the next leader's to write again.
    Ok(leader.and_then(|kv| decode(&kv).ok()))
}

fn machines<S: Store>(api: &Api<S>, cluster: &Cluster) -> MachineList {
    MachineList { here: api.here().0, machines: views::machines(cluster), gone: views::gone(cluster), offline: None }
}
