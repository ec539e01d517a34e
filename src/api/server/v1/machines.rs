//! v1: hosts, and their dynamic metadata.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::{Extension, Json};

use crate::api::server::caller::Caller;
use crate::api::server::error::Failure;
use crate::api::server::extract::query;
use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::v1::{Machine, Machines, MetadataChange, MetadataValue};
use crate::model::machine::{BUILT_IN, check_key};
use crate::model::name::MachineId;
use crate::registry::scope::Scope;
use crate::registry::{keys, metadata};
use crate::store::Store;

use super::page::Page;

pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<Machines>, Failure> {
    let page = Page::of(&query(&uri)?, api.page_limit())?;
    let cluster = api.reader.cluster(&[keys::MACHINES, keys::METADATA], &Scope::All).await;
    let all = views::machines(&cluster.map_err(|error| api.failed(&error))?);
    let (machines, next_page_token) = page.cut(all.into_iter().map(|machine| Machine {
        id: machine.id.to_string(),
        metadata: machine.metadata,
        primary_ip: machine.ip,
    }));
    Ok(Json(Machines { machines, next_page_token }))
}

pub(super) async fn patch<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    let changes: Vec<MetadataChange> = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request(format!("unable to decode body: {error}")))?;
    // The last change of a key counts; a commit names a key at most once.
    let mut values = metadata::Values::new();
    for change in changes {
        let (id, key, value) = read(change)?;
        values.insert((id, key), value);
    }
    metadata::set(&api.reader, &values).await.map_err(|refusal| api.metadata_refused(refusal))?;
    let by = api.author(&caller);
    for ((machine, key), value) in &values {
        tracing::info!(%machine, %by, "metadata changed: {key}={value}");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Which metadata get which value; an empty one hides the value in the host's configuration.
fn read(change: MetadataChange) -> Result<(MachineId, String, String), Failure> {
    if !["add", "remove", "replace"].contains(&change.op.as_str()) {
        return Err(Failure::bad_request("invalid op: expect add, remove, or replace"));
    }
    let invalid = || Failure::bad_request("machine metadata path invalid");
    let (id, key) = change.path.strip_prefix('/').and_then(|path| path.split_once("/metadata/")).ok_or_else(invalid)?;
    let id: MachineId = id.parse().map_err(|_| invalid())?;
    check_key(key).map_err(|why| if key.starts_with(BUILT_IN) { Failure::bad_request(why) } else { invalid() })?;
    let value = match change.value {
        Some(MetadataValue::Plain(value) | MetadataValue::Wrapped { value }) => value,
        None => String::new(),
    };
    match (change.op.as_str(), value.is_empty()) {
        ("remove", _) => Ok((id, key.into(), String::new())),
        (_, true) => Err(Failure::bad_request("invalid value: add and replace require a value")),
        (_, false) => Ok((id, key.into(), value)),
    }
}
