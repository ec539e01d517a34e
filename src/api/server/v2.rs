//! The API for what v1 can't express: batches, reasons, streams of changes. Owns its paths; its JSON belongs to `wire`.

mod apply;
mod lines;
mod services;
mod units;
mod watch;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};

use crate::model::glob::Glob;
use crate::model::name::MachineId;
use crate::model::role::Operation::{Administer, Announce, Discover, Operate, Read};
use crate::registry::scope::Scope;
use crate::registry::{keys, metadata};
use crate::store::Store;

use super::error::Failure;
use super::extract::{allow_methods, query};
use super::state::Api;
use super::views;
use crate::api::wire::MachineList;

pub(super) fn routes<S: Store>() -> Router<Api<S>> {
    let units = [(Read, get(units::list::<S>)), (Operate, post(apply::post::<S>))];
    let metadata = [(Administer, delete(forget_metadata::<S>))];
    let instance = [(Announce, put(services::put::<S>)), (Announce, delete(services::delete::<S>))];
    let keep_alive = [(Announce, post(services::keep_alive::<S>))];
    Router::new()
        .route("/units", allow_methods(units, "GET and POST"))
        .route("/units/{name}", allow_methods([(Read, get(units::get::<S>))], "GET"))
        .route("/machines", allow_methods([(Discover, get(machines::<S>))], "GET"))
        .route("/machines/{id}/metadata", allow_methods(metadata, "DELETE"))
        .route("/watch", allow_methods([(Read, get(watch::get::<S>))], "GET"))
        .route("/services", allow_methods([(Discover, get(services::list::<S>))], "GET"))
        .route("/services/{name}", allow_methods([(Discover, get(services::get::<S>))], "GET"))
        .route("/services/{name}/{instance}", allow_methods(instance, "PUT and DELETE"))
        .route("/services/{name}/{instance}/keep-alive", allow_methods(keep_alive, "POST"))
        .route("/watch/services", allow_methods([(Discover, get(services::watch::get::<S>))], "GET"))
}

async fn machines<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<MachineList>, Failure> {
    no_parameters(&uri)?;
    let cluster = api.reader.cluster(&[keys::MACHINES, keys::METADATA], &Scope::All).await;
    let machines = views::machines(&cluster.map_err(|error| api.failed(&error))?);
    Ok(Json(MachineList { here: api.here().0, machines }))
}

/// The metadata that the API has set for a host, registered or not; after this, those in its configuration apply again.
async fn forget_metadata<S: Store>(
    State(api): State<Api<S>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<StatusCode, Failure> {
    no_parameters(&uri)?;
    let none = || Failure::new(StatusCode::NOT_FOUND, "no dynamic metadata of such a host");
    let id: MachineId = id.parse().map_err(|_| none())?;
    let found = metadata::forget(&api.reader, &id).await.map_err(|refusal| api.metadata_refused(refusal))?;
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(none()) }
}

/// The units that `?name=GLOB&name=…` selects; all of them without it.
fn scope(uri: &Uri) -> Result<Scope, Failure> {
    Ok(Scope::of(names(uri)?))
}

/// The patterns of `?name=GLOB&name=…`, the only parameter.
fn names(uri: &Uri) -> Result<Vec<Glob>, Failure> {
    globs(query(uri)?, "; `name` is known")
}

/// The patterns of `parameters`, which may contain nothing else; `hint` names the other known parameters.
fn globs(parameters: Vec<(String, String)>, hint: &str) -> Result<Vec<Glob>, Failure> {
    let glob = |(key, value): (String, String)| match key.as_str() {
        "name" => value.parse::<Glob>().map_err(|error| Failure::bad_request(error.to_string())),
        other => Err(unknown(other, hint)),
    };
    parameters.into_iter().map(glob).collect()
}

fn no_parameters(uri: &Uri) -> Result<(), Failure> {
    query(uri)?.first().map_or(Ok(()), |(key, _)| Err(unknown(key, "")))
}

fn unknown(key: &str, hint: &str) -> Failure {
    Failure::bad_request(format!("unknown query parameter `{key}`{hint}"))
}
