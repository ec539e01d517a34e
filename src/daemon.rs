//! The daemon: one agent, one engine and one API on one store and one systemd. Owns which adapters they use, the order
//! in which they start and stop, and the reaction to signals. If one of them ends by itself the daemon ends: a restart,
//! which affects no unit, is better than a daemon without one of its parts.

pub mod check;
mod dump;
mod host;
mod notify;
mod roles;
pub mod signals;
mod status;
mod watchdog;

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent;
use crate::api::server;
use crate::api::server::health::{self, Health, Remedy};
use crate::api::server::listen::Listener;
use crate::api::server::state::{self, Api, AskHost, Own};
use crate::clock::Clock;
use crate::config::{Changes, ConfigError, EtcdSettings, Settings, StoreSettings};
use crate::engine::Brake;
use crate::metrics::Metrics;
use crate::model::machine::Machine;
use crate::store::embedded::Embedded;
use crate::store::etcd::{self, Etcd};
use crate::store::measured::Measured;
use crate::systemd;
use crate::systemd::dbus::{self, Dbus};
use crate::telemetry::LogLevel;

use notify::Followed;
use roles::{RoleConfig, Roles, Shared};
use signals::Request;
use watchdog::Watched;

/// How long requests in progress may take to finish on shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What the daemon needs of its process.
pub struct ProcessHandles {
    /// Requests of the operator. The daemon ends when this is closed.
    pub requests: mpsc::UnboundedReceiver<Request>,
    /// Reads the configuration again.
    pub load: Box<dyn Fn() -> Result<Settings, ConfigError> + Send>,
    /// The log level.
    pub log_level: LogLevel,
    /// Prints on stdout.
    pub print: fn(&str),
}

/// The configured store.
enum Configured {
    Etcd(Etcd),
    Embedded(Embedded),
}

impl Configured {
    /// Its name in the status line.
    fn name(&self) -> &'static str {
        match self {
            Self::Etcd(_) => "etcd",
            Self::Embedded(_) => "the store",
        }
    }

    /// The store as everything else of the daemon sees it: its requests are counted.
    fn measured(&self, metrics: &Metrics) -> Measured {
        match self {
            Self::Etcd(store) => Measured::new(store.clone(), metrics.clone()),
            Self::Embedded(store) => Measured::new(store.clone(), metrics.clone()),
        }
    }

    /// Apply another configuration, as far as that is possible without a restart.
    fn reconfigure(&self, settings: &StoreSettings) -> Result<()> {
        match (self, settings) {
            (Self::Etcd(store), StoreSettings::Etcd(etcd)) => Ok(store.reconfigure(&options(etcd))?),
            _ => Ok(()),
        }
    }
}

fn options(etcd: &EtcdSettings) -> etcd::Options {
    etcd::Options {
        endpoints: etcd.endpoints.clone(),
        prefix: etcd.prefix.clone(),
        user: etcd.user.clone(),
        ca: etcd.cafile.clone(),
        identity: etcd.certfile.clone().zip(etcd.keyfile.clone()),
        request_timeout: etcd.request_timeout,
    }
}

/// Run until stopped. Units and presence stay as they are, unless the whole system is shutting down.
///
/// # Errors
/// Whatever prevents the start (no machine id, a socket that is in use, a store that is locked), and any role that
/// ended by itself.
pub async fn run(settings: Settings, process: ProcessHandles) -> Result<()> {
    log_warnings(&settings);
    match settings.store.clone() {
        StoreSettings::Etcd(etcd) => {
            tracing::info!(endpoints = etcd.endpoints.join(","), prefix = etcd.prefix, "the store is etcd");
            let store = Etcd::new(&options(&etcd)).context("the configuration of etcd can't be used")?;
            assemble(settings, Configured::Etcd(store), process).await
        }
        StoreSettings::Standalone { directory } => {
            std::fs::create_dir_all(&directory)
                .with_context(|| format!("can't make the state directory {}", directory.display()))?;
            let file = directory.join("store.redb");
            tracing::info!(file = %file.display(), "standalone: this host is the whole cluster");
            // After a power failure the file may have to be repaired first.
            let store = notify::extending(Embedded::open(&file)).await.map_err(|error| anyhow!("{error}"))?;
            assemble(settings, Configured::Embedded(store), process).await
        }
    }
}

fn log_warnings(settings: &Settings) {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
}

async fn assemble(settings: Settings, store: Configured, mut process: ProcessHandles) -> Result<()> {
    let (clock, metrics) = (Clock::system(), Metrics::default());
    metrics.version(env!("CARGO_PKG_VERSION"));
    // Requests go through this, so that they are counted; reconfiguration uses the store directly.
    let counted = store.measured(&metrics);
    let config = role_config(&settings)?;
    // The socket comes first: a second fleetd on this host must fail before it takes anything over.
    let listeners = listeners(&settings).await?;
    let systemd = host_of(&settings, &metrics);
    let waiting = Health::Waiting { what: "is starting".into(), since: clock.now_ms(), remedy: Remedy::Time };
    let (health, asked) = health::channel(waiting);
    let page_limit = settings.token_limit;
    let api_settings = state::Settings { page_limit, brake: brake(&settings), ..state::Settings::default() };
    let api = Api::new(counted.clone(), clock, &config.machine.hostname, asked.clone(), api_settings);
    let api = api.on(config.machine.id.clone()).measured(metrics.clone());
    let (machine, outage) = (watch::Sender::new(config.machine.clone()), watch::Sender::new(None));
    let api = api.asking_host(ask_host(systemd.clone(), machine.subscribe(), outage.subscribe(), clock));
    let (stop, watched, sight) = (CancellationToken::new(), Watched::default(), watch::Sender::default());
    let api = api.with_sight(sight.subscribe());
    let shared = Shared { clock, watched: watched.clone(), metrics, sight };
    let mut roles = Roles::begin(counted, systemd, shared, config);
    let mut served = tokio::spawn(server::serve(listeners, api.clone(), stop.clone().cancelled_owned()));
    let mut daemon = Daemon { settings, store, api, clock, machine, refused: watch::Sender::new(None) };
    let (agent, engine, refusal) = (roles.agent_status(), roles.engine_status(), daemon.refused.subscribe());
    let store = daemon.store.name();
    let followed = Followed { store, agent, engine, refusal, health, outage, watched: watched.clone(), clock };
    let notifying = tokio::spawn(notify::follow(followed, stop.clone()));
    notify::ready();

    let ended = loop {
        tokio::select! {
            request = process.requests.recv() => match request {
                Some(Request::Stop) | None => break None,
                Some(Request::Reload) => daemon.reload(&mut roles, &process).await,
                Some(Request::Dump) => {
                    // Cloned before the call: a borrow would hold the lock until the answer, and the writer would then
                    // deadlock on this single thread.
                    let health = asked.borrow().clone();
                    let text = dump::text(&daemon.settings, &roles, &health, &watched).await;
                    (process.print)(&format!("{text}\n"));
                }
            },
            (name, ended) = roles.ended() => break Some((name, ended)),
            ended = &mut served => break Some(("API", ended)),
        }
    };
    notify::stopping();
    stop.cancel();
    roles.end().await;
    if ended.is_none() && tokio::time::timeout(DRAIN_TIMEOUT, served).await.is_err() {
        tracing::warn!("requests in progress didn't end within {} s; abandoning them", DRAIN_TIMEOUT.as_secs());
    }
    notifying.abort();
    match ended {
        None => Ok(()),
        Some((name, Ok(()))) => bail!("the {name} ended by itself"),
        Some((name, Err(error))) => Err(anyhow!(error).context(format!("the {name} has failed"))),
    }
}

fn brake(settings: &Settings) -> Brake {
    Brake::new(settings.mass_loss_share, settings.mass_loss_grace, settings.agent_ttl)
}

fn role_config(settings: &Settings) -> Result<RoleConfig> {
    let ttl = settings.agent_ttl;
    let brake = brake(settings);
    let alone = matches!(settings.store, StoreSettings::Standalone { .. });
    Ok(RoleConfig { machine: host::machine(settings)?, ttl, brake, alone, leads: !settings.disable_engine })
}

/// This host's systemd.
fn host_of(settings: &Settings, metrics: &Metrics) -> Host {
    let systemd = Dbus::new(dbus::Options {
        units_directory: settings.units_directory.clone(),
        boot_directory: settings.runtime_directory.clone(),
        user: settings.systemd_user,
        ..dbus::Options::default()
    });
    Host::new(systemd, metrics.clone())
}

/// What the API asks while the store is away: this host, which is now as `machine` says.
fn ask_host(
    systemd: Host,
    machine: watch::Receiver<Machine>,
    outage: watch::Receiver<Option<u64>>,
    clock: Clock,
) -> AskHost {
    AskHost::new(move || {
        let (systemd, machine) = (systemd.clone(), machine.borrow().clone());
        let (at, since) = (clock.now_ms(), *outage.borrow());
        async move {
            let view = agent::look(&systemd, machine, at).await.map_err(|error| error.to_string())?;
            Ok(Own { view, at, since })
        }
    })
}

/// The state that a reload changes.
struct Daemon {
    settings: Settings,
    store: Configured,
    api: Api<Measured>,
    clock: Clock,
    /// This host, as it presents itself to the cluster.
    machine: watch::Sender<Machine>,
    /// What the status line says of a configuration that was refused, until one is accepted.
    refused: watch::Sender<Option<String>>,
}

type Host = systemd::measured::Measured<Dbus>;

impl Daemon {
    /// Reload the configuration and apply what has changed; if it has an error, apply nothing.
    async fn reload(&mut self, roles: &mut Roles<Measured, Host>, process: &ProcessHandles) {
        notify::reloading();
        let refusal = self.take_up(roles, process).await.err().map(|error| {
            let error = format!("{error:#}");
            for line in error.lines() {
                tracing::error!("not reloaded, the old configuration remains in force: {line}");
            }
            status::refused(&error, self.clock.now_ms())
        });
        self.refused.send_replace(refusal);
        notify::ready();
    }

    async fn take_up(&mut self, roles: &mut Roles<Measured, Host>, process: &ProcessHandles) -> Result<()> {
        let read = (process.load)()?;
        let changes = Changes::between(&self.settings, &read);
        log_warnings(&read);
        let settings = read.taken_up_by(&self.settings);
        let config = role_config(&settings)?;
        // A renewed certificate has the same file name.
        if settings.store != self.settings.store || settings.store.has_certificates() {
            self.store.reconfigure(&settings.store).context("the configuration of etcd can't be used")?;
        }
        process.log_level.set(settings.verbosity);
        self.api.set_page_limit(settings.token_limit);
        // Even if the file is unchanged: the host's own address may have changed.
        self.machine.send_replace(config.machine.clone());
        roles.reconfigure(config).await;
        self.settings = settings;
        match changes.live.join(", ") {
            changed if changed.is_empty() => tracing::info!("configuration reloaded"),
            changed => tracing::info!(changed, "configuration reloaded"),
        }
        if !changes.restart.is_empty() {
            let keys = changes.restart.join(", ");
            tracing::warn!("{keys}: changed in the configuration, and takes effect with `systemctl restart fleetd`");
        }
        Ok(())
    }
}

/// The sockets that systemd passes, or the configured ones, and that of FleetLock.
async fn listeners(settings: &Settings) -> Result<Vec<Listener>> {
    let mut listeners = Listener::inherited()?;
    if listeners.is_empty() {
        for listen in &settings.listen {
            listeners.push(Listener::open(listen).await?);
        }
    }
    for Listener { name, grant, .. } in &listeners {
        tracing::info!("the API listens on {name} ({grant})");
    }
    if let Some(address) = settings.fleetlock {
        let listener = Listener::fleetlock(address).await?;
        tracing::info!("programs ask on {} before they reboot this host (FleetLock)", listener.name);
        listeners.push(listener);
    }
    Ok(listeners)
}
