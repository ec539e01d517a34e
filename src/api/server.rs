//! The API's server: routes and connections. Owns what holds for every request, whichever
//! version of the API it is for: errors are JSON, nothing hangs, nothing is answered before the daemon is registered.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Query, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, HOST, SERVER};
use axum::http::uri::Authority;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::{self, Metrics};
use crate::store::{Error as StoreError, Store};

use super::error::Failure;
use super::listen::Listener;
use super::state::Api;
use super::{intake, v1, v2};

/// Connections at once; more wait to be accepted. What a daemon can be made to hold must have an end.
const CONNECTIONS: usize = 1024;

/// A connection that was accepted just before the daemon stops has so long to send its request, which is then answered.
/// What nobody has accepted yet waits in the socket, for the next daemon if systemd holds it.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// `Server: fleetd/<version>`
const SERVER_NAME: HeaderValue = HeaderValue::from_static(concat!("fleetd/", env!("CARGO_PKG_VERSION")));

/// What the API says of itself, for machines. A test holds it to the types and to what is answered.
const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// What is answered whatever state the cluster is in: it doesn't ask it anything, and is wanted most when something is
/// wrong.
const ALWAYS: [&str; 2] = ["/metrics", "/fleet/openapi.json"];

/// All routes.
pub fn router<S: Store>(api: Api<S>) -> Router {
    // There, and for nothing: no method is allowed.
    let none = || any(|| async { ([(ALLOW, "")], Failure::new(StatusCode::METHOD_NOT_ALLOWED, "")) });
    let json = [(CONTENT_TYPE, "application/json")];
    Router::new()
        .route("/", none())
        .route("/metrics", only(get(metrics::<S>), "GET"))
        .route("/fleet/openapi.json", only(get(move || async move { (json, OPENAPI) }), "GET"))
        .route("/discovery", any(v1::discovery))
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

/// `methods`, and for others 405 with `allowed` (CoreOS fleet's sentences).
pub(super) fn only<S: Clone + Send + Sync + 'static>(
    methods: MethodRouter<S>,
    allowed: &'static str,
) -> MethodRouter<S> {
    let refuse = move || async move {
        let message = format!("only {allowed} supported against this resource");
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, message)
    };
    methods.fallback(refuse)
}

/// The query's parameters, in order.
pub(super) fn query(uri: &Uri) -> Result<Vec<(String, String)>, Failure> {
    Query::try_from_uri(uri).map(|Query(pairs)| pairs).map_err(|error| Failure::bad_request(error.to_string()))
}

async fn metrics<S: Store>(State(api): State<Api<S>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], api.metrics.text())
}

async fn every_request<S: Store>(State(api): State<Api<S>>, request: Request, next: Next) -> Response {
    let mut route = Extensions::new();
    if let Some(path) = request.extensions().get::<MatchedPath>() {
        route.insert(Route(path.clone()));
    }
    let answer = async {
        if !ALWAYS.contains(&request.uri().path()) {
            api.settled().await;
            if let Some(why) = api.waiting() {
                return Err(why.into_response());
            }
        }
        let request = intake::whole(&api.settings, request).await?;
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        tokio::time::timeout(api.settings.request_timeout, next.run(request)).await.map_err(|_| {
            let why = StoreError::Unavailable(format!("no answer within {:?}", api.settings.request_timeout));
            (if changes { api.failed_maybe(&why) } else { api.failed(&why) }).into_response()
        })
    };
    let mut response = answer.await.map_or_else(|refusal| refusal, as_json);
    response.headers_mut().insert(SERVER, SERVER_NAME);
    response.extensions_mut().extend(route);
    response
}

/// Count each answer by its route: by the pattern, since names of units are many.
async fn measure(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let asked = Instant::now();
    let method = request.method().clone();
    // Methods of somebody's invention must not become series.
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(&method);
    let response = next.run(request).await;
    let route = response.extensions().get::<Route>().map_or("other", |route| route.0.as_str());
    let method = if known { method.as_str() } else { "other" };
    metrics.answered(route, method, response.status().as_u16(), asked.elapsed());
    response
}

/// The pattern of the path that an answer is for.
#[derive(Clone)]
struct Route(MatchedPath);

/// A web page in somebody's browser can send requests to loopback too, under a name of its own that it lets point
/// there. Such a request names that host; ours name this one.
async fn from_this_host(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.parse::<Authority>().ok().map(|authority| authority.host().to_owned()).unwrap_or_default();
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    if name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback()) {
        return next.run(request).await;
    }
    let message =
        format!("`Host: {host}` isn't this host: over TCP the API answers to localhost, 127.0.0.1 and [::1] only");
    Failure::new(StatusCode::FORBIDDEN, message).into_response()
}

/// Refuse a body that isn't declared as JSON: a browser sends such a one for any web page, without asking.
pub(super) fn must_be_json(headers: &HeaderMap) -> Result<(), Failure> {
    let refuse = |message: String| Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    let kinds: Vec<_> = headers.get_all(CONTENT_TYPE).iter().collect();
    let [kind] = kinds[..] else { return refuse(format!("expected 1 Content-Type, got {}", kinds.len())) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return refuse("only acceptable Content-Type is application/json".into());
    }
    Ok(())
}

/// What the framework refuses by itself (a path that is no UTF-8, say) is plain text: give it the form of all errors.
fn as_json(response: Response) -> Response {
    let json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let status = response.status();
    if json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    Failure::new(status, status.canonical_reason().unwrap_or_default().to_lowercase()).into_response()
}

/// Answer requests on `listeners` until `shutdown`; then finish those under way, for a short while, and end.
pub async fn serve<S: Store>(listeners: Vec<Listener>, api: Api<S>, shutdown: impl Future<Output = ()> + Send) {
    let (stop, tracker, places) = (api.stop.clone(), TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    let (metrics, head_timeout, grace) = (api.metrics.clone(), api.settings.head_timeout, api.settings.grace);
    let router = router(api);
    for listener in listeners {
        let router = match listener {
            Listener::Unix(..) => router.clone(),
            Listener::Tcp(_) => router.clone().layer(middleware::from_fn(from_this_host)),
        };
        let router = router.layer(middleware::from_fn_with_state(metrics.clone(), measure));
        let (stop, tracker, places) = (stop.clone(), tracker.clone(), Arc::clone(&places));
        let connections = Connections { router, stop, tracker: tracker.clone(), places, head_timeout };
        tracker.spawn(connections.accept_all(listener));
    }
    shutdown.await;
    stop.cancel();
    tracker.close();
    if tokio::time::timeout(grace, tracker.wait()).await.is_err() {
        tracing::debug!(connections = tracker.len(), "connections were cut off while a request was under way");
    }
}

/// What it takes to serve a connection.
#[derive(Debug, Clone)]
struct Connections {
    router: Router,
    stop: CancellationToken,
    tracker: TaskTracker,
    places: Arc<Semaphore>,
    head_timeout: Duration,
}

impl Connections {
    async fn accept_all(self, listener: Listener) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.accept_loop(&listener) => {}
        }
        if let Listener::Unix(_, Some(path)) = listener {
            let _ = std::fs::remove_file(path);
        }
    }

    async fn accept_loop(self, listener: &Listener) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let accepted = match listener {
                Listener::Unix(unix, _) => unix.accept().await.map(|(stream, _)| {
                    self.tracker.spawn(self.clone().serve(stream, place));
                }),
                Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| {
                    let _ = stream.set_nodelay(true);
                    self.tracker.spawn(self.clone().serve(stream, place));
                }),
            };
            if let Err(error) = accepted {
                pause_after(&error).await;
            }
        }
    }

    async fn serve<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: I, place: OwnedSemaphorePermit) {
        let (asked, mut first) = watch::channel(false);
        let routes = TowerToHyperService::new(self.router);
        let service = service_fn(move |request| {
            asked.send_replace(true);
            routes.call(request)
        });
        let mut connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .serve_connection(TokioIo::new(stream), service);
        // What goes wrong on a connection is its client's affair: it went away, or doesn't speak HTTP.
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = self.stop.cancelled() => {
                // A new connection without a request would be closed at once, and its client has one on the way.
                let first = async { drop(tokio::time::timeout(FIRST_REQUEST, first.wait_for(|asked| *asked)).await) };
                tokio::select! {
                    ended = &mut connection => ended,
                    () = first => {
                        Pin::new(&mut connection).graceful_shutdown();
                        (&mut connection).await
                    }
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the API ended early");
            let rest = connection.into_parts();
            // Idle connections are closed without a word; one that has begun a request and doesn't end it hears why.
            if error.is_timeout() && !rest.read_buf.is_empty() {
                let answer = intake::late_head(self.head_timeout);
                let _ =
                    tokio::time::timeout(self.head_timeout, rest.io.into_inner().write_all(answer.as_bytes())).await;
            }
        }
        drop(place);
    }
}

/// A connection that was given up before it was accepted is nothing; without file descriptors, trying on at once would
/// spin.
async fn pause_after(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(%error, "can't accept connections to the API");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
