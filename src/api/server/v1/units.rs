//! v1: units.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::{Extension, Json};

use crate::api::server::caller::Caller;
use crate::api::server::error::Failure;
use crate::api::server::extract::{must_be_json, query};
use crate::api::server::state::Api;
use crate::api::server::views::{self, FAMILIES};
use crate::api::wire::v1::{Unit, Units};
use crate::model::cluster::Cluster;
use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::unit::{Desired, Outcome, Unit as Record};
use crate::registry::keys::{self, Key};
use crate::registry::scope::Scope;
use crate::registry::units::{Intent, OnDifferentFile, UnitChange, check, file_problem};
use crate::store::{Error as StoreError, Store};

use super::page::Page;

pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<Units>, Failure> {
    let page = Page::of(&query(&uri)?, api.page_limit())?;
    loop {
        // A page needs the number of units before it, and the placements and reports of its own units. Nothing else is
        // read.
        let mut cluster = api.reader.first(keys::UNITS, page.reach()).await.map_err(|error| api.failed(&error))?;
        let (records, next_page_token) = page.cut(std::mem::take(&mut cluster.units).into_iter());
        match place(&api, &mut cluster, &records).await {
            // The revision of the first read was compacted: start over with a new one.
            Err(StoreError::Compacted) => continue,
            placed => placed.map_err(|error| api.failed(&error))?,
        }
        let records = records.iter().map(|(name, record)| (name, record)).collect();
        let units = views(&api, &cluster, records).await?;
        return Ok(Json(Units { next_page_token, units }));
    }
}

/// Add the placements and reports of `units` to `cluster`.
async fn place<S: Store>(api: &Api<S>, cluster: &mut Cluster, units: &[(UnitName, Record)]) -> Result<(), StoreError> {
    let placements = units.iter().map(|(name, _)| Key::Placement(name.clone())).collect();
    api.reader.add(cluster, &placements).await?;
    let placed = units.iter().filter_map(|(name, _)| Some((name, cluster.placed_on(name)?)));
    let states = placed.flat_map(|(name, host)| Key::states(host, name)).collect();
    api.reader.add(cluster, &states).await
}

pub(super) async fn get<S: Store>(State(api): State<Api<S>>, Path(name): Path<String>) -> Result<Json<Unit>, Failure> {
    let name: UnitName = name.parse().map_err(|_| Failure::no_such_unit())?;
    let cluster = api.reader.cluster(&FAMILIES, &Scope::One(name)).await.map_err(|error| api.failed(&error))?;
    let unit = views(&api, &cluster, cluster.units.iter().collect()).await?.pop();
    unit.map(Json).ok_or_else(Failure::no_such_unit)
}

async fn views<S: Store>(
    api: &Api<S>,
    cluster: &Cluster,
    records: Vec<(&UnitName, &Record)>,
) -> Result<Vec<Unit>, Failure> {
    let hashes = records.iter().map(|(_, record)| record.hash.clone()).collect();
    let mut files = std::collections::BTreeMap::new();
    let read = api.reader.files(&hashes, |hash, file| {
        let parsed = api.reader.parse(&hash, &file);
        files.extend(parsed.map(|parsed| (hash, parsed)));
    });
    read.await.map_err(|error| api.failed(&error))?;
    let view = |(name, record): (&UnitName, &Record)| Unit {
        current_state: views::current(cluster, name).into(),
        desired_state: record.desired.to_string(),
        machine_id: cluster.placed_on(name).map(ToString::to_string).unwrap_or_default(),
        name: name.to_string(),
        options: files.get(&record.hash).map(|file| file.written_options()).unwrap_or_default(),
    };
    Ok(records.into_iter().map(view).collect())
}

pub(super) async fn delete<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let name: UnitName = name.parse().map_err(|_| Failure::no_such_unit())?;
    match apply(&api, &caller, Intent { name, change: UnitChange::Destroy }).await? {
        // For clients of CoreOS fleet, a unit that is being removed doesn't exist any more.
        Outcome::Absent | Outcome::Leaving => Err(Failure::no_such_unit()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

pub(super) async fn put<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    Path(in_url): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    must_be_json(&headers)?;
    let unit = decode(&body)?;
    if !unit.name.is_empty() && unit.name != in_url {
        let message = format!("name in URL \"{in_url}\" differs from unit name in request body \"{}\"", unit.name);
        return Err(Failure::bad_request(message));
    }
    let name: UnitName = in_url.parse().map_err(|error: crate::model::name::NameError| bad(&error))?;
    let desired = match unit.desired_state.as_str() {
        "" => None,
        text => Some(text.parse::<Desired>().map_err(|error| bad(&error))?),
    };
    if unit.options.is_empty() {
        return set_desired(&api, &caller, name, desired).await;
    }
    let file = UnitFile::from_options(&unit.options)
        .map_err(|error| Failure::problems(vec![file_problem(name.as_str(), &error)]).of_one_unit())?;
    let problems = check(&name, &file);
    if !problems.is_empty() {
        return Err(Failure::problems(problems).of_one_unit());
    }
    let change = UnitChange::Ensure {
        file: Some(Arc::new(file)),
        desired,
        on_different_file: OnDifferentFile::Reset,
        replicas: None,
    };
    match apply(&api, &caller, Intent { name, change }).await? {
        Outcome::Created | Outcome::Replaced => Ok(StatusCode::CREATED),
        Outcome::Unchanged if desired.is_none() => Err(needs_desired()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

/// v1 doesn't create instances of templates by itself: without options, a unit must exist.
async fn set_desired<S: Store>(
    api: &Api<S>,
    caller: &Caller,
    name: UnitName,
    desired: Option<Desired>,
) -> Result<StatusCode, Failure> {
    let there = api.reader.cluster(&[keys::UNITS], &Scope::One(name.clone())).await;
    if there.map_err(|error| api.failed(&error))?.units.is_empty() {
        return Err(Failure::new(StatusCode::CONFLICT, "unit does not exist and options field empty"));
    }
    if desired.is_none() {
        return Err(needs_desired());
    }
    apply(
        api,
        caller,
        Intent {
            name,
            change: UnitChange::Ensure {
                file: None,
                desired,
                on_different_file: OnDifferentFile::Keep,
                replicas: None,
            },
        },
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn apply<S: Store>(api: &Api<S>, caller: &Caller, intent: Intent) -> Result<Outcome, Failure> {
    let applied = api.apply(&[intent], caller).await.map_err(Failure::of_one_unit)?;
    Ok(applied.units.first().map_or(Outcome::Unchanged, |done| done.outcome))
}

fn needs_desired() -> Failure {
    Failure::new(StatusCode::CONFLICT, "must provide DesiredState to update existing unit")
}

fn bad(error: &dyn std::fmt::Display) -> Failure {
    Failure::bad_request(error.to_string())
}

/// Fleet's clients may send `null` for missing fields.
fn decode(body: &[u8]) -> Result<Unit, Failure> {
    let value: serde_json::Value = serde_json::from_slice(body).map_err(|error| undecodable(&error))?;
    let serde_json::Value::Object(fields) = value else {
        return Err(Failure::bad_request("unable to decode body: it must be a JSON object"));
    };
    let said = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
    serde_json::from_value(said).map_err(|error| undecodable(&error))
}

fn undecodable(error: &serde_json::Error) -> Failure {
    Failure::bad_request(format!("unable to decode body: {error}"))
}
