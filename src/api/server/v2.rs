//! The API for what v1 can't express: batches, reasons, streams of changes. Owns its paths; its JSON belongs to `wire`.

mod apply;
mod drain;
mod explain;
mod fits;
mod history;
mod hosts;
mod lines;
mod moves;
mod offline;
mod plan;
mod rebalance;
mod reboots;
mod resources;
mod rollouts;
mod services;
mod sets;
mod settings;
mod store;
mod units;
mod watch;
mod what_if;

use axum::Router;
use axum::http::Uri;
use axum::routing::{delete, get, post, put};

use crate::model::glob::Glob;
use crate::model::role::Operation::{Administer, Announce, Discover, Follow, Operate, Read};
use crate::store::Store;

use super::error::Failure;
use super::extract::{allow_methods, query};
use super::state::Api;

/// The longest reason for which something is asked of hosts, in bytes.
const MAX_WHY: usize = 256;

pub(super) fn routes<S: Store>() -> Router<Api<S>> {
    let units = [(Read, get(units::list::<S>)), (Operate, post(apply::post::<S>))];
    let machines = [(Discover, get(hosts::list::<S>)), (Administer, post(hosts::ask::<S>))];
    let reboots = [(Read, get(reboots::list::<S>)), (Administer, post(reboots::post::<S>))];
    let metadata = [(Administer, delete(hosts::forget_metadata::<S>))];
    let instance = [(Announce, put(services::put::<S>)), (Announce, delete(services::delete::<S>))];
    let keep_alive = [(Announce, post(services::keep_alive::<S>))];
    let moves = [(Read, get(moves::list::<S>)), (Operate, post(moves::post::<S>))];
    let rollout = [(Read, get(rollouts::get::<S>)), (Operate, post(rollouts::post::<S>))];
    let settings = [(Read, get(settings::list::<S>)), (Administer, post(settings::post::<S>))];
    Router::new()
        .route("/units", allow_methods(units, "GET and POST"))
        .route("/plan", allow_methods([(Operate, post(plan::post::<S>))], "POST"))
        .route("/units/{name}", allow_methods([(Read, get(units::get::<S>))], "GET"))
        .route("/units/{name}/history", allow_methods([(Read, get(history::get::<S>))], "GET"))
        .route("/explain", allow_methods([(Read, get(explain::get::<S>))], "GET"))
        .route("/what-if", allow_methods([(Read, post(what_if::post::<S>))], "POST"))
        .route("/sets", allow_methods([(Read, get(sets::list::<S>))], "GET"))
        .route("/rollouts", allow_methods([(Read, get(rollouts::list::<S>))], "GET"))
        .route("/rollouts/{name}", allow_methods(rollout, "GET and POST"))
        .route("/moves", allow_methods(moves, "GET and POST"))
        .route("/rebalance", allow_methods([(Read, get(rebalance::get::<S>))], "GET"))
        .route("/machines", allow_methods(machines, "GET and POST"))
        .route("/machines/{id}", allow_methods([(Administer, delete(hosts::forget::<S>))], "DELETE"))
        .route("/machines/{id}/drain", allow_methods([(Read, get(drain::get::<S>))], "GET"))
        .route("/machines/{id}/restore", allow_methods([(Read, get(drain::restore::<S>))], "GET"))
        .route("/machines/{id}/metadata", allow_methods(metadata, "DELETE"))
        .route("/reboots", allow_methods(reboots, "GET and POST"))
        .route("/reboots/{id}", allow_methods([(Administer, delete(reboots::cancel::<S>))], "DELETE"))
        .route("/resources", allow_methods([(Read, get(resources::list::<S>))], "GET"))
        .route("/settings", allow_methods(settings, "GET and POST"))
        .route("/store", allow_methods([(Read, get(store::get::<S>))], "GET"))
        .route("/status", allow_methods([(Read, get(hosts::status::<S>))], "GET"))
        .route("/watch", allow_methods([(Follow, get(watch::get::<S>))], "GET"))
        .route("/services", allow_methods([(Discover, get(services::list::<S>))], "GET"))
        .route("/services/{name}", allow_methods([(Discover, get(services::get::<S>))], "GET"))
        .route("/services/{name}/{instance}", allow_methods(instance, "PUT and DELETE"))
        .route("/services/{name}/{instance}/keep-alive", allow_methods(keep_alive, "POST"))
        .route("/watch/rollouts", allow_methods([(Follow, get(rollouts::watch::get::<S>))], "GET"))
        .route("/watch/services", allow_methods([(Discover, get(services::watch::get::<S>))], "GET"))
}

/// Whether `uri` has `offline=true`, which asks for what this host knows without the store; and the other parameters.
fn split_offline(uri: &Uri) -> Result<(bool, Vec<(String, String)>), Failure> {
    let (asked, rest): (Vec<_>, Vec<_>) = query(uri)?.into_iter().partition(|(key, _)| key == "offline");
    match asked.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>()[..] {
        [] => Ok((false, rest)),
        ["true"] => Ok((true, rest)),
        _ => Err(Failure::bad_request("`offline` is `true`, or left out")),
    }
}

/// Whether a request is answered without the store.
pub(super) fn is_offline(uri: &Uri) -> bool {
    let path = uri.path();
    let listed = path.starts_with("/fleet/v2/units") || ["/fleet/v2/machines", "/fleet/v2/status"].contains(&path);
    listed && split_offline(uri).is_ok_and(|(offline, _)| offline)
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

/// The words of a person, who gives a reason.
fn check_why(why: &str) -> Result<(), Failure> {
    if why.len() > MAX_WHY || why.contains(char::is_control) {
        let message = format!("`why` has at most {MAX_WHY} bytes, without line ends and control characters");
        return Err(Failure::bad_request(message));
    }
    Ok(())
}
