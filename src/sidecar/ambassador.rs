//! `ambassador`: listens on this host and forwards connections to the instances of a service. Owns how connections are
//! accepted, held while no instance is up, and limited in number; `pool` chooses the backend, and `forward` copies the
//! bytes.

pub(super) mod balance;
mod forward;
mod pool;
mod tcp_ack;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::notify::Notifier;
use super::{Api, args, file, service_watch};
use crate::model::service::ServiceName;
use pool::{Counted, Pool};

/// The length of the listen backlog.
const BACKLOG: u32 = 4096;

/// Open files reserved for everything except connections: listeners, the API, the log.
const SPARE_FILES: u64 = 64;

/// How often the number of connections is reported.
const PACE: Duration = Duration::from_secs(1);

/// Forward until `stop`, and then until open connections have ended or the drain timeout is over.
pub(super) async fn run(api: Api, options: args::Ambassador, stop: CancellationToken) -> Result<()> {
    let listeners = listeners(&options.listen)?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<Vec<_>>>()?;
    let notifier = Notifier::new();
    let live = service_watch::follow(&api, std::slice::from_ref(&options.service));
    let pool = Pool::new(options.balance, options.connect_timeout);
    if let (Some(path), Some(first)) = (&options.env, addresses.first()) {
        write_env(path, &options.service, *first)?;
    }
    let most = options.max_connections.map_or_else(affordable, |most| most as usize);
    let frontend = Frontend {
        pool: pool.clone(),
        service: options.service.clone(),
        hold: options.hold,
        limit: options.connect_timeout,
        places: Arc::new(Semaphore::new(most)),
        seats: Arc::new(Semaphore::new(options.hold_max)),
        figures: watch::Sender::new(Figures::default()),
        tracker: TaskTracker::new(),
        closing: CancellationToken::new(),
    };
    let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    tracing::info!("listening on {} for {}, at most {most} connections", shown.join(", "), options.service);

    if let Some(Err(error)) = addresses.first().map(|address| tcp_ack::possible(*address)) {
        tracing::warn!(
            "this kernel doesn't report the state of connections: {error}; one to a host that died while data was in \
             transit ends when the kernel gives up (net.ipv4.tcp_retries2)"
        );
    }

    let accepting = futures_util::future::join_all(listeners.into_iter().map(|listener| frontend.accept_all(listener)));
    tokio::select! {
        _ = accepting => {}
        () = follow(live.clone(), &pool) => bail!("the watch of the services has ended"),
        () = report(live, &frontend, &notifier) => {}
        () = stop.cancelled() => {}
    }
    // The listeners are closed now.
    frontend.tracker.close();
    frontend.closing.cancel();
    notifier.status(format!("stopping; {} connections are open", frontend.tracker.len()));
    if timeout(options.drain, frontend.tracker.wait()).await.is_err() {
        tracing::info!("{} connections were closed", frontend.tracker.len());
    }
    Ok(())
}

/// Keep the pool up to date with what is announced.
async fn follow(mut live: watch::Receiver<service_watch::Live>, pool: &Pool) {
    loop {
        let instances = Arc::clone(&live.borrow_and_update().instances);
        pool.update(&instances);
        if live.changed().await.is_err() {
            return;
        }
    }
}

/// Report the status to systemd: ready with the first backend, and a status line whenever something in it changes.
async fn report(mut live: watch::Receiver<service_watch::Live>, frontend: &Frontend, notifier: &Notifier) {
    let (mut counts, mut figures) = (frontend.pool.counts(), frontend.figures.subscribe());
    let mut ready = false;
    loop {
        let (count, figures_now) = (*counts.borrow_and_update(), *figures.borrow_and_update());
        let (heard, trouble) = {
            let live = live.borrow_and_update();
            (live.heard, live.trouble.clone())
        };
        notifier.status(line(&frontend.service, count, figures_now, heard, trouble.as_deref()));
        if count.up > 0 && !std::mem::replace(&mut ready, true) {
            notifier.ready();
        }
        let changed = async {
            tokio::select! {
                changed = counts.changed() => changed.is_ok(),
                // These may change many times a second, and the line is for people.
                changed = async {
                    let changed = figures.changed().await;
                    sleep(PACE).await;
                    changed
                } => changed.is_ok(),
                changed = live.changed() => changed.is_ok(),
            }
        };
        if !changed.await {
            return std::future::pending().await;
        }
    }
}

/// `2 of 3 instances of web take connections; 12 open`.
fn line(service: &ServiceName, count: pool::Count, figures: Figures, heard: bool, trouble: Option<&str>) -> String {
    let mut line = match (count.up, count.all) {
        (0, 0) if !heard => format!("waiting for the instances of {service}"),
        (0, 0) => format!("waiting for {service} to be announced"),
        (0, all) => format!("none of {all} instances of {service} can be reached"),
        (up, all) if up == all => format!("{all} instances of {service} take connections"),
        (up, all) => format!("{up} of {all} instances of {service} take connections"),
    };
    line.push_str(&format!("; {} open", figures.open));
    if figures.held > 0 {
        line.push_str(&format!(", {} held", figures.held));
    }
    if let Some(trouble) = trouble {
        line.push_str(&format!("; {trouble}"));
    }
    line
}

/// The number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Figures {
    open: usize,
    held: usize,
}

/// Accepts connections.
#[derive(Debug, Clone)]
struct Frontend {
    pool: Pool,
    service: ServiceName,
    hold: Duration,
    limit: Duration,
    /// Limits all connections.
    places: Arc<Semaphore>,
    /// Limits those that wait for a backend.
    seats: Arc<Semaphore>,
    figures: watch::Sender<Figures>,
    tracker: TaskTracker,
    closing: CancellationToken,
}

impl Frontend {
    async fn accept_all(&self, listener: TcpListener) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((client, _)) => drop(self.tracker.spawn(self.clone().serve(client, place))),
                // The client gave up before the connection was accepted.
                Err(error) if matches!(error.kind(), std::io::ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    tracing::warn!("can't accept connections: {error}");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn serve(self, mut client: TcpStream, place: OwnedSemaphorePermit) {
        forward::keep_alive(&client);
        self.figures.send_modify(|figures| figures.open += 1);
        match self.connect(&client).await {
            Some((mut server, backend)) => {
                if let Err(error) = forward::forward(&mut client, &mut server, backend.gone()).await {
                    tracing::debug!("a connection to {} ended early: {error}", backend.name());
                }
            }
            // Reset the connection: a regular end would look like an empty answer to the client.
            None => drop(client.set_zero_linger()),
        }
        drop(client);
        self.figures.send_modify(|figures| figures.open -= 1);
        drop(place);
    }

    /// Connect to the first backend that is reachable; `None` if none is for too long, or `client` has disconnected.
    async fn connect(&self, client: &TcpStream) -> Option<(TcpStream, Counted)> {
        let mut counts = self.pool.counts();
        let mut seat = None;
        let deadline = Instant::now() + self.hold;
        loop {
            while let Some(backend) = self.pool.pick() {
                let counted = backend.count();
                match backend.connect(self.limit).await {
                    Ok(stream) => return Some((stream, counted)),
                    Err(why) => self.pool.failed(&backend, &why),
                }
            }
            if seat.is_none() {
                seat = Some(Seat::take(self)?);
            }
            tokio::select! {
                up = timeout_at(deadline, counts.wait_for(|count| count.up > 0)) => drop(up.ok()?.ok()?),
                () = self.closing.cancelled() => return None,
                () = hung_up(client) => return None,
            }
        }
    }
}

/// Wait until a client has disconnected: it reset the connection, or ended it before sending anything. A client that
/// sent data and closed its side may still wait for the answer, which can't be distinguished from a disconnect.
/// Consumes none of its data.
async fn hung_up(client: &TcpStream) {
    if let Ok(1..) = client.peek(&mut [0]).await {
        let _ = client.ready(Interest::ERROR).await;
    }
}

/// A permit to wait for a backend.
struct Seat {
    figures: watch::Sender<Figures>,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    fn take(frontend: &Frontend) -> Option<Self> {
        let Ok(permit) = Arc::clone(&frontend.seats).try_acquire_owned() else {
            tracing::debug!("too many connections are waiting already");
            return None;
        };
        frontend.figures.send_modify(|figures| figures.held += 1);
        Some(Self { figures: frontend.figures.clone(), _permit: permit })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.figures.send_modify(|figures| figures.held -= 1);
    }
}

/// The sockets to listen on: the configured ones, or else those that systemd passes.
fn listeners(asked: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    if !asked.is_empty() {
        let listen = |address: &SocketAddr| listen(*address).with_context(|| format!("can't listen on {address}"));
        return asked.iter().map(listen).collect();
    }
    let mut handed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..handed.len() {
        let taken = handed.take_tcp_listener(index).with_context(|| {
            format!("can't use socket {index} from systemd: it must be a ListenStream= with an address and a port")
        })?;
        if let Some(listener) = taken {
            listener.set_nonblocking(true)?;
            listeners.push(TcpListener::from_std(listener)?);
        }
    }
    if listeners.is_empty() {
        bail!("no address to listen on: use --listen PORT, or start it from a socket unit");
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The number of connections, of two files each, that the limit of open files allows after raising it to its maximum.
fn affordable() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let files = files.unwrap_or(u64::from(u32::MAX));
    usize::try_from(files.saturating_sub(SPARE_FILES) / 2).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS)
}

/// `WEB_HOST=127.0.0.1` and `WEB_PORT=8080`: the address of the service for clients on this host.
fn write_env(path: &Path, service: &ServiceName, address: SocketAddr) -> Result<()> {
    let name: String = service
        .as_str()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let text = format!("{name}_HOST={host}\n{name}_PORT={}\n", address.port());
    file::replace(path, text.as_bytes(), 0o644).with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_says_what_matters() {
        let web: ServiceName = "web".parse().unwrap();
        let figures = |open, held| Figures { open, held };
        let said =
            |all, up, open, held, trouble| line(&web, pool::Count { all, up }, figures(open, held), true, trouble);
        assert_eq!(said(3, 2, 12, 0, None), "2 of 3 instances of web take connections; 12 open");
        assert_eq!(
            said(0, 0, 1, 1, Some("can't reach fleetd")),
            "waiting for web to be announced; 1 open, 1 held; can't reach fleetd"
        );
        assert_eq!(said(2, 0, 0, 0, None), "none of 2 instances of web can be reached; 0 open");
    }

    #[test]
    fn variables_are_for_clients_on_this_host() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        write_env(&path, &"my-db.main".parse().unwrap(), "0.0.0.0:5432".parse().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "MY_DB_MAIN_HOST=127.0.0.1\nMY_DB_MAIN_PORT=5432\n");
    }
}
