//! CoreOS fleet's API, `/fleet/v1` and `/v1-alpha`: paths, status codes and messages as its clients know them. Owns no
//! rules of the cluster: v1 refuses what v2 refuses.

mod discovery;
mod machines;
mod page;
mod states;
mod units;

use axum::Router;
use axum::routing::get;

use crate::store::Store;

pub(super) use discovery::discovery;

use super::extract::allow_methods;
use super::state::Api;

pub(super) fn routes<S: Store>() -> Router<Api<S>> {
    let one = get(units::get::<S>).put(units::put::<S>).delete(units::delete::<S>);
    Router::new()
        .route("/units", allow_methods(get(units::list::<S>), "GET"))
        .route("/units/{name}", allow_methods(one, "GET, PUT and DELETE"))
        .route("/state", allow_methods(get(states::list::<S>), "GET"))
        .route("/state/{name}", allow_methods(get(states::get::<S>), "GET"))
        .route("/machines", allow_methods(get(machines::list::<S>).patch(machines::patch::<S>), "GET and PATCH"))
}
