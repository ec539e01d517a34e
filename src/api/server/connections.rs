//! Connections: accepts them, bounds how many there are and how long a client may take to send a request's head, and
//! lets requests that are under way finish when the daemon stops. Must never know a route.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::listen::{Listen, Place};
use crate::store::Store;

use super::caller::{Caller, Sockets};
use super::listen::{Listener, Serves, Socket};
use super::peer::Peer;
use super::places::{Places, Seat};
use super::router::{from_this_host, measure, router};
use super::state::Api;
use super::{fleetlock, limits};

/// How long a connection that was accepted just before the daemon stops may take to send its request, which is then
/// answered. Connections that aren't accepted yet wait in the socket, for the next daemon if systemd holds it.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// Answer requests on `listeners` until `shutdown`; then let requests in progress finish within [`Settings::grace`].
///
/// [`Settings::grace`]: super::state::Settings::grace
pub async fn serve<S: Store>(listeners: Vec<Listener>, api: Api<S>, shutdown: impl Future<Output = ()> + Send) {
    let (stop, tracker, grace) = (api.stop.clone(), TaskTracker::new(), api.settings.grace);
    // A role is for the API, and so is the index of its socket.
    let (of_api, others): (Vec<_>, Vec<_>) = listeners.into_iter().partition(|it| it.serves == Serves::Api);
    let sockets = Sockets::new(of_api.iter().map(|listener| (listener.name.clone(), listener.grant.clone())));
    for (index, Listener { socket, serves, .. }) in of_api.into_iter().chain(others).enumerate() {
        let is_tcp = matches!(socket, Socket::Tcp(_));
        let connections = Connections::new(&api, (serves, is_tcp), tracker.clone(), Arc::clone(&sockets), index);
        tracker.spawn(connections.accept_all(socket));
    }
    shutdown.await;
    stop.cancel();
    tracker.close();
    if tokio::time::timeout(grace, tracker.wait()).await.is_err() {
        tracing::debug!(connections = tracker.len(), "connections were closed while a request was in progress");
    }
}

/// Answer the requests on `stream`, as [`serve`] does for each connection that it accepts on a socket like `listen`,
/// until it ends. Of a process on a Unix socket nothing is known.
pub async fn serve_stream<S, I>(stream: I, listen: &Listen, api: &Api<S>)
where
    S: Store,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let sockets = Sockets::new([(listen.place.to_string(), listen.grant.clone())]);
    let (is_tcp, peer) = match &listen.place {
        Place::Unix { .. } => (false, Peer::Unix(None)),
        Place::Tcp(address) => (true, Peer::Tcp(address.ip())),
    };
    let connections = Connections::new(api, (Serves::Api, is_tcp), TaskTracker::new(), sockets, 0);
    let seat = connections.places.enter();
    connections.serve(stream, peer, seat).await;
}

/// What is needed to serve a connection.
#[derive(Debug, Clone)]
struct Connections {
    router: Router,
    stop: CancellationToken,
    tracker: TaskTracker,
    places: Arc<Places>,
    head_timeout: Duration,
    sockets: Arc<Sockets>,
    /// Of the socket that they come from.
    index: usize,
}

impl Connections {
    /// Those of the socket with this index.
    fn new<S: Store>(
        api: &Api<S>,
        (serves, is_tcp): (Serves, bool),
        tracker: TaskTracker,
        sockets: Arc<Sockets>,
        index: usize,
    ) -> Self {
        let router = match serves {
            Serves::Api if is_tcp => router(api.clone()).layer(middleware::from_fn(from_this_host)),
            Serves::Api => router(api.clone()),
            Serves::FleetLock => fleetlock::router(api.clone()),
        };
        let router = router.layer(middleware::from_fn_with_state(api.metrics.clone(), measure));
        let (places, head_timeout) = (Places::new(api.settings.limits), api.settings.head_timeout);
        Self { router, stop: api.stop.clone(), tracker, places, head_timeout, sockets, index }
    }

    async fn accept_all(self, socket: Socket) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.accept_loop(&socket) => {}
        }
        if let Socket::Unix(_, Some(path)) = socket {
            let _ = std::fs::remove_file(path);
        }
    }

    async fn accept_loop(self, socket: &Socket) {
        loop {
            let accepted = match socket {
                Socket::Unix(unix, _) => unix.accept().await.map(|(stream, _)| {
                    let peer = Peer::of(&stream);
                    self.tracker.spawn(self.clone().serve(stream, peer, self.places.enter()));
                }),
                Socket::Tcp(tcp) => tcp.accept().await.map(|(stream, address)| {
                    let _ = stream.set_nodelay(true);
                    self.tracker.spawn(self.clone().serve(stream, Peer::Tcp(address.ip()), self.places.enter()));
                }),
            };
            if let Err(error) = accepted {
                pause_after(&error).await;
            }
        }
    }

    async fn serve<I>(self, stream: I, peer: Peer, seat: Seat)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let caller = Caller::new(peer, &self.sockets, self.index);
        let (asked, mut first) = watch::channel(false);
        let routes = TowerToHyperService::new(self.router);
        let service_seat = seat.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            asked.send_replace(true);
            request.extensions_mut().insert(service_seat.clone());
            request.extensions_mut().insert(caller.clone());
            routes.call(request)
        });
        let mut connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .serve_connection(TokioIo::new(stream), service);
        // Errors of a connection are caused by its client: it has disconnected, or doesn't speak HTTP.
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = seat.closed() => {
                tracing::debug!("a connection to the API was closed for a newer one");
                return;
            }
            () = self.stop.cancelled() => {
                // A graceful shutdown closes a connection without a request at once, although one may be on its way.
                let first = async {
                    drop(tokio::time::timeout(FIRST_REQUEST_TIMEOUT, first.wait_for(|asked| *asked)).await);
                };
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
            // Idle connections are closed silently; a client that has begun a request is told why.
            if error.is_timeout() && !rest.read_buf.is_empty() {
                let answer = limits::late_head(self.head_timeout);
                let _ =
                    tokio::time::timeout(self.head_timeout, rest.io.into_inner().write_all(answer.as_bytes())).await;
            }
        }
    }
}

/// Pause after an error that would come again at once, such as the lack of file descriptors. A connection that was
/// aborted before it was accepted is no such error.
async fn pause_after(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(%error, "can't accept connections to the API");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
