//! FleetLock: the protocol by which programs such as Zincati ask before they reboot their host. Owns its requests,
//! answers and words; `registry::reboots::program` decides. It has a socket of its own, on loopback: whoever connects
//! asks for this host.
//!
//! Source: <https://coreos.github.io/zincati/development/fleetlock/protocol/>.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::model::cluster::Cluster;
use crate::model::name::UnitName;
use crate::model::reboot::{Group, Holder, NotAGroup};
use crate::model::text::without_os_error;
use crate::registry::keys;
use crate::registry::reboots::Refusal;
use crate::registry::reboots::program::{Denied, Program, pre_reboot, steady_state};
use crate::registry::scope::Scope;
use crate::store::Store;

use super::limits;
use super::places::{Kind, Seat};
use super::router::{Route, for_this_host};
use super::state::Api;
use super::views;

/// Must be sent, so that no request comes here by mistake.
const HEADER: &str = "fleet-lock-protocol";

/// The longest name by which a program may call its host, in bytes.
const LONGEST_NAME: usize = 256;

/// How many units are named that are still to leave.
const NAMED: usize = 3;

/// The routes.
pub(super) fn router<S: Store>(api: Api<S>) -> Router {
    let methods = |refusal: Refused| move || async move { refusal };
    let only_post = methods(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "bad_request", "only POST is supported here"));
    let nothing = Refused::new(StatusCode::NOT_FOUND, "bad_request", "there are /v1/pre-reboot and /v1/steady-state");
    let shared = Shared { api: api.clone(), turn: Arc::default() };
    Router::new()
        .route("/v1/pre-reboot", post(pre::<S>).fallback(only_post.clone()))
        .route("/v1/steady-state", post(steady::<S>).fallback(only_post))
        .fallback(methods(nothing))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(api, every_request::<S>))
        .with_state(shared)
}

#[derive(Clone)]
struct Shared<S> {
    api: Api<S>,
    /// One request at a time: each may look at the whole cluster.
    turn: Arc<Mutex<()>>,
}

/// The body of both requests.
#[derive(Debug, Deserialize)]
struct Body {
    client_params: Client,
}

#[derive(Debug, Deserialize)]
struct Client {
    /// How the program calls its host.
    id: String,
    /// The group of hosts whose slots it takes.
    group: String,
}

/// Why a request isn't granted. There are few `kind`s, since programs count them.
#[derive(Debug, Clone, Serialize)]
struct Refused {
    #[serde(skip)]
    status: StatusCode,
    kind: &'static str,
    value: String,
}

impl Refused {
    fn new(status: StatusCode, kind: &'static str, value: impl Into<String>) -> Self {
        Self { status, kind, value: value.into() }
    }

    fn bad_request(value: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", value)
    }

    fn conflict(kind: &'static str, value: String) -> Self {
        Self::new(StatusCode::CONFLICT, kind, value)
    }

    fn unavailable(value: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", value)
    }
}

impl IntoResponse for Refused {
    fn into_response(mut self) -> Response {
        self.value = without_os_error(&self.value).into_owned();
        (self.status, Json(self)).into_response()
    }
}

/// What applies to every request: nothing is answered before the daemon is registered, a body has its limits, and
/// errors are those of the protocol.
async fn every_request<S: Store>(
    State(api): State<Api<S>>,
    Extension(seat): Extension<Seat>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned().map(Route);
    let answer = async {
        for_this_host(&request).map_err(|why| Refused::new(StatusCode::FORBIDDEN, "bad_request", why))?;
        api.ready().await.map_err(|why| Refused::unavailable(why.message))?;
        let (request, _held) = limits::whole(&api.settings, &seat, request).await.map_err(|refusal| {
            let reason = refusal.status().canonical_reason().unwrap_or_default().to_lowercase();
            Refused::new(refusal.status(), "bad_request", reason)
        })?;
        let _place = seat.take(Kind::Request).map_err(Refused::unavailable)?;
        let timeout = api.settings.request_timeout;
        let answered = tokio::time::timeout(timeout, next.run(request)).await;
        answered.map_err(|_| Refused::unavailable(format!("no answer within {timeout:?}; ask again")))
    };
    let mut response = answer.await.unwrap_or_else(IntoResponse::into_response);
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

async fn pre<S: Store>(
    State(Shared { api, turn }): State<Shared<S>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refused> {
    let program = asked(&api, &headers, &body)?;
    let _turn = turn.lock().await;
    match pre_reboot(&api.reader, &program, api.clock).await {
        Ok(()) => Ok(StatusCode::OK),
        Err(denied) => Err(refused(&api, &program.group, denied).await),
    }
}

async fn steady<S: Store>(
    State(Shared { api, turn }): State<Shared<S>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refused> {
    let program = asked(&api, &headers, &body)?;
    let _turn = turn.lock().await;
    steady_state(&api.reader, &program.host).await.map_err(|refusal| failed(&api, refusal))?;
    Ok(StatusCode::OK)
}

/// Who asks.
fn asked<S: Store>(api: &Api<S>, headers: &HeaderMap, body: &[u8]) -> Result<Program, Refused> {
    if headers.get(HEADER).is_none_or(|value| value != "true") {
        return Err(Refused::bad_request(format!("the header `{HEADER}: true` is missing")));
    }
    // The type of the body isn't checked: the protocol has none. The header protects from forged requests.
    let Body { client_params: client } = serde_json::from_slice(body)
        .map_err(|error| Refused::bad_request(format!("can't read the parameters of the client: {error}")))?;
    if client.id.is_empty() || client.id.len() > LONGEST_NAME {
        return Err(Refused::bad_request(format!("`id` must have 1 to {LONGEST_NAME} bytes")));
    }
    let group = client.group.parse().map_err(|error: NotAGroup| Refused::bad_request(error.to_string()))?;
    let host = api.here().0.ok_or_else(|| Refused::unavailable("this fleetd doesn't know its host"))?;
    Ok(Program { host, group, name: client.id })
}

/// Why it may not reboot its host yet.
async fn refused<S: Store>(api: &Api<S>, group: &Group, denied: Denied) -> Refused {
    match denied {
        Denied::Leaves(units) => Refused::conflict("failed_lock_draining", leaving(&units)),
        Denied::Returns => {
            let value = "the units of this host are still coming back from its last reboot";
            Refused::conflict("failed_lock_draining", value.into())
        }
        Denied::Asked => {
            let value = "a person has asked for the reboot of this host, which comes by itself";
            Refused::conflict("failed_lock_asked", value.into())
        }
        Denied::Stuck(why) => Refused::conflict("failed_lock_stuck", why),
        Denied::Closed(next) => {
            let value = format!("no window for reboots is open (reboot-windows): {next}");
            Refused::conflict("failed_lock_outside_window", value)
        }
        Denied::Full(holders) if holders.is_empty() => {
            let value = "no host may reboot (reboot-slots=0)";
            Refused::conflict("failed_lock_semaphore_full", value.into())
        }
        Denied::Full(holders) => match hosts(api).await {
            Ok(cluster) => Refused::conflict("failed_lock_semaphore_full", held(&cluster, group, &holders)),
            Err(refused) => refused,
        },
        Denied::After(other) => match hosts(api).await {
            Ok(cluster) => {
                let name = views::machine_ref(&cluster, &other).name();
                let value = format!("{name} is to take the slot first: a person has asked for its reboot");
                Refused::conflict("failed_lock_semaphore_full", value)
            }
            Err(refused) => refused,
        },
        Denied::Failed(refusal) => failed(api, refusal),
    }
}

/// `3 units still to leave: a.service, b.service, c.service`
fn leaving(units: &[UnitName]) -> String {
    if units.is_empty() {
        return "the units of this host have left, which is being verified".into();
    }
    let named: Vec<&str> = units.iter().take(NAMED).map(UnitName::as_str).collect();
    let more = if units.len() > NAMED { ", …" } else { "" };
    let unit = if units.len() == 1 { "unit" } else { "units" };
    format!("{} {unit} still to leave: {}{more}", units.len(), named.join(", "))
}

/// `the slot of the group default is held by n2 since 01:10 UTC, away since 01:14 UTC; …`
fn held(cluster: &Cluster, group: &Group, holders: &[Holder]) -> String {
    let one = |holder: &Holder| {
        let name = views::machine_ref(cluster, &holder.host).name();
        let since = views::since(holder.since);
        match views::away(cluster, &holder.host).map(views::since) {
            Some(away) => format!("{name}{since}, away{away} (`fleetctl forget {name}` gives the slot up)"),
            None => format!("{name}{since}"),
        }
    };
    let (slot, is) = if holders.len() == 1 { ("slot", "is") } else { ("slots", "are") };
    let holders: Vec<String> = holders.iter().map(one).collect();
    format!("the {slot} of the group {group} {is} held by {}", holders.join(", "))
}

/// The hosts, by which they are named for people.
async fn hosts<S: Store>(api: &Api<S>) -> Result<Cluster, Refused> {
    let found = api.reader.cluster(&[keys::MACHINES, keys::ROSTER], &Scope::All).await;
    found.map_err(|error| failed(api, Refusal::Store(error)))
}

/// What went wrong.
fn failed<S: Store>(api: &Api<S>, refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Damaged(corrupt) => Refused::unavailable(format!("it isn't known who reboots: {corrupt}")),
        Refusal::Store(error) | Refusal::Lost(error) => Refused::unavailable(api.failed_maybe(&error).message),
        Refusal::Away(_) | Refusal::TooMany | Refusal::Contended => {
            Refused::unavailable("others change the reboots all the time; ask again")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_of_the_units_are_named_that_are_still_to_leave() {
        let units = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<UnitName>>();
        let text = leaving(&units(&["a.service"]));
        assert_eq!(text, "1 unit still to leave: a.service");
        let text = leaving(&units(&["a.service", "b.service", "c.service", "d.service"]));
        assert_eq!(text, "4 units still to leave: a.service, b.service, c.service, …");
        assert_eq!(leaving(&[]), "the units of this host have left, which is being verified");
    }
}
