//! The routes, and what applies to every request of either version: errors are JSON, every request has a deadline, and
//! nothing that needs the cluster is answered before the daemon is registered.

use std::net::IpAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, MatchedPath, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, HOST, SERVER};
use axum::http::uri::Authority;
use axum::http::{Extensions, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use crate::metrics::{self, Metrics};
use crate::model::role::Operation;
use crate::store::{Error as StoreError, Store};

use super::caller::only_for;
use super::error::Failure;
use super::extract::allow_methods;
use super::places::{Kind, Place, Seat};
use super::state::Api;
use super::{limits, v1, v2};

/// `Server: fleetd/<version>`
const SERVER_NAME: HeaderValue = HeaderValue::from_static(concat!("fleetd/", env!("CARGO_PKG_VERSION")));

/// The description of the API for programs. A test compares it with the types and with the answers.
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// Paths that are answered in any state of the cluster: they don't need it, and matter most when something is wrong.
const ALWAYS: [&str; 3] = ["/metrics", "/fleet/openapi.json", "/fleet/v2/store"];

/// Questions that come with a body.
const QUESTIONS: [&str; 2] = ["/fleet/v2/plan", "/fleet/v2/what-if"];

/// All routes.
pub(super) fn router<S: Store>(api: Api<S>) -> Router {
    // These paths exist and allow no method.
    let none = || any(|| async { ([(ALLOW, "")], Failure::new(StatusCode::METHOD_NOT_ALLOWED, "")) });
    let openapi = async || ([(CONTENT_TYPE, "application/json")], OPENAPI);
    Router::new()
        .route("/", none())
        .route("/metrics", allow_methods([(Operation::Read, get(metrics::<S>))], "GET"))
        .route("/fleet/openapi.json", allow_methods([(Operation::Describe, get(openapi))], "GET"))
        .route("/discovery", only_for(Operation::Describe, any(v1::discovery)))
        .route("/fleet/v1", none())
        .nest("/fleet/v1", v1::routes())
        .route("/v1-alpha", none())
        .nest("/v1-alpha", v1::routes())
        .route("/fleet/v2", none())
        .nest("/fleet/v2", v2::routes())
        .fallback(|uri: Uri| async move {
            Failure::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
        })
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(api.clone(), every_request::<S>))
        .with_state(api)
}

async fn metrics<S: Store>(State(api): State<Api<S>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], api.metrics.text())
}

async fn every_request<S: Store>(
    State(api): State<Api<S>>,
    Extension(seat): Extension<Seat>,
    request: Request,
    next: Next,
) -> Response {
    let mut route = Extensions::new();
    if let Some(path) = request.extensions().get::<MatchedPath>() {
        route.insert(Route(path.clone()));
    }
    let answer = async {
        let without_store =
            ALWAYS.contains(&request.uri().path()) || (reads(&request) && v2::is_offline(request.uri()));
        if !without_store {
            api.ready().await.map_err(IntoResponse::into_response)?;
        }
        let kind = kind(request.uri());
        let (request, _held) = limits::whole(&api.settings, &seat, request).await?;
        let place = seat.take(kind).map_err(|why| Failure::unavailable(why).into_response())?;
        let changes = !reads(&request) && !QUESTIONS.contains(&request.uri().path());
        let answered = tokio::time::timeout(api.settings.request_timeout, next.run(request)).await;
        let lasts = |answer: &Response| kind.is_stream() && answer.status().is_success();
        let answered = answered.map(|answer| if lasts(&answer) { lasting(answer, place) } else { answer });
        answered.map_err(|_| {
            let why = StoreError::Unavailable(format!("no answer within {:?}", api.settings.request_timeout));
            (if changes { api.failed_maybe(&why) } else { api.failed(&why) }).into_response()
        })
    };
    let mut response = answer.await.map_or_else(|refusal| refusal, as_json);
    response.headers_mut().insert(SERVER, SERVER_NAME);
    response.extensions_mut().extend(route);
    response
}

fn reads(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

/// How a request is counted.
fn kind(uri: &Uri) -> Kind {
    let names_host = || uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("host=")));
    match uri.path() {
        "/metrics" => Kind::Metrics,
        "/fleet/v2/watch/services" => Kind::SidecarWatch,
        "/fleet/v2/watch" if names_host() => Kind::SidecarWatch,
        "/fleet/v2/watch" | "/fleet/v2/watch/rollouts" => Kind::Watch,
        _ => Kind::Request,
    }
}

/// The answer, which holds the place of its request as long as it lasts.
fn lasting(answer: Response, place: Place) -> Response {
    answer.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let _kept = &place;
            chunk
        }))
    })
}

/// Count each answer by the pattern of its route: counted by path there would be a series for each unit.
pub(super) async fn measure(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let asked = Instant::now();
    let method = request.method().clone();
    // A client could create any number of series by inventing methods.
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(&method);
    let response = next.run(request).await;
    let route = response.extensions().get::<Route>().map_or("other", |route| route.0.as_str());
    let method = if known { method.as_str() } else { "other" };
    metrics.answered(route, method, response.status().as_u16(), asked.elapsed());
    response
}

/// The pattern that matched the path of a request.
#[derive(Clone)]
pub(super) struct Route(pub(super) MatchedPath);

/// Refuse a request over TCP that isn't [`for_this_host`].
pub(super) async fn from_this_host(request: Request, next: Next) -> Response {
    match for_this_host(&request) {
        Ok(()) => next.run(request).await,
        Err(message) => Failure::new(StatusCode::FORBIDDEN, message).into_response(),
    }
}

/// Refuse a request whose `Host` isn't loopback. A web page can make a browser send requests to loopback under a name
/// that its owner's DNS points there (DNS rebinding); such a request carries that name.
///
/// # Errors
/// What is wrong with it.
pub(super) fn for_this_host(request: &Request) -> Result<(), String> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.parse::<Authority>().ok().map(|authority| authority.host().to_owned()).unwrap_or_default();
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    if name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback()) {
        return Ok(());
    }
    Err(format!("`Host: {host}` isn't this host: over TCP the API answers to localhost, 127.0.0.1 and [::1] only"))
}

/// Errors of the framework itself (such as for a path that isn't UTF-8) are plain text: convert them to JSON.
fn as_json(response: Response) -> Response {
    let json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let status = response.status();
    if json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    Failure::new(status, status.canonical_reason().unwrap_or_default().to_lowercase()).into_response()
}
