//! CoreOS fleet's API, `/fleet/v1` and `/v1-alpha`: paths, status codes and messages as its clients know them. Owns no
//! rules of the cluster: v1 refuses what v2 refuses.

mod discovery;
mod machines;
mod page;
mod states;
mod units;

use axum::Router;
use axum::routing::{delete, get, patch, put};

use crate::model::role::Operation::{Administer, Discover, Operate, Read, Submit};
use crate::store::Store;

pub(super) use discovery::discovery;

use super::extract::allow_methods;
use super::state::Api;

pub(super) fn routes<S: Store>() -> Router<Api<S>> {
    let unit = [(Read, get(units::get::<S>)), (Operate, put(units::put::<S>)), (Submit, delete(units::delete::<S>))];
    let machines = [(Discover, get(machines::list::<S>)), (Administer, patch(machines::patch::<S>))];
    Router::new()
        .route("/units", allow_methods([(Read, get(units::list::<S>))], "GET"))
        .route("/units/{name}", allow_methods(unit, "GET, PUT and DELETE"))
        .route("/state", allow_methods([(Read, get(states::list::<S>))], "GET"))
        .route("/state/{name}", allow_methods([(Read, get(states::get::<S>))], "GET"))
        .route("/machines", allow_methods(machines, "GET and PATCH"))
}
