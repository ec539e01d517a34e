//! v1: what hosts report of units.

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::Uri;

use crate::api::server::error::Failure;
use crate::api::server::extract::query;
use crate::api::server::state::Api;
use crate::api::wire::v1::{State, States};
use crate::model::cluster::Cluster;
use crate::model::name::UnitName;
use crate::registry::keys;
use crate::registry::scope::Scope;
use crate::store::Store;

use super::page::Page;

pub(super) async fn list<S: Store>(Shared(api): Shared<Api<S>>, uri: Uri) -> Result<Json<States>, Failure> {
    let query = query(&uri)?;
    let page = Page::of(&query, api.page_limit())?;
    let filter = |key: &str| query.iter().find(|(k, v)| k == key && !v.is_empty()).map(|(_, value)| value.as_str());
    let (unit, machine) = (filter("unitName"), filter("machineID"));
    let scope = match unit.map(str::parse::<UnitName>) {
        None => Scope::All,
        Some(Ok(name)) => Scope::One(name),
        Some(Err(_)) => return Ok(Json(States::default())),
    };
    let cluster = api.reader.cluster(&[keys::STATES], &scope).await.map_err(|error| api.failed(&error))?;
    let wanted = states(&cluster).filter(|state| machine.is_none_or(|machine| state.machine_id == machine));
    let (states, next_page_token) = page.cut(wanted);
    Ok(Json(States { next_page_token, states }))
}

pub(super) async fn get<S: Store>(
    Shared(api): Shared<Api<S>>,
    Path(name): Path<String>,
) -> Result<Json<State>, Failure> {
    let name: UnitName = name.parse().map_err(|_| Failure::no_such_unit())?;
    let cluster = api.reader.cluster(&[keys::STATES], &Scope::One(name)).await.map_err(|error| api.failed(&error))?;
    let first = states(&cluster).next();
    first.map(Json).ok_or_else(Failure::no_such_unit)
}

/// By name, then by machine.
fn states(cluster: &Cluster) -> impl Iterator<Item = State> {
    cluster.states.keys().flat_map(|name| cluster.reports(name).map(move |state| (name, state))).map(
        |(name, (host, state))| State {
            hash: state.hash.to_string(),
            machine_id: host.to_string(),
            name: name.to_string(),
            systemd_active_state: state.active.to_string(),
            systemd_load_state: state.load.to_string(),
            systemd_sub_state: state.sub.clone(),
        },
    )
}
