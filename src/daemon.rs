//! The daemon: one agent, one engine, one API, over one store and one systemd. Owns which adapters they get, the order in which they
//! come and go, and what the service manager hears of it. Any of them ending by itself ends the daemon: half of one is worse
//! than a restart, which no unit notices.

mod host;
mod notify;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::{self, Agent};
use crate::api::health::{self, Health};
use crate::api::listen::Listener;
use crate::api::server;
use crate::api::state::{self, Api};
use crate::clock::Clock;
use crate::config::{Settings, StoreSettings};
use crate::engine::{self, Engine};
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::etcd::{self, Etcd};
use crate::systemd::dbus::{self, Dbus};

/// How long the parts may take to end once they are told to.
const FAREWELL: Duration = Duration::from_secs(5);

/// Run until `shutdown`. Units and presence stay as they are.
///
/// # Errors
/// What makes a start impossible (no machine id, a socket that is taken, a store that is locked), and any part that ended by itself.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<()> {
    for remark in &settings.remarks {
        tracing::warn!("{remark}");
    }
    match settings.store.clone() {
        StoreSettings::Etcd(etcd) => {
            tracing::info!(endpoints = etcd.endpoints.join(","), prefix = etcd.prefix, "the store is etcd");
            let options = etcd::Options {
                endpoints: etcd.endpoints,
                prefix: etcd.prefix,
                user: etcd.user,
                ca: etcd.cafile,
                identity: etcd.certfile.zip(etcd.keyfile),
                request_timeout: etcd.request_timeout,
            };
            let store = Etcd::new(&options).context("the configuration of etcd can't be used")?;
            assemble(settings, store, shutdown).await
        }
        StoreSettings::Standalone { directory } => {
            std::fs::create_dir_all(&directory)
                .with_context(|| format!("can't make the state directory {}", directory.display()))?;
            let file = directory.join("store.redb");
            tracing::info!(file = %file.display(), "standalone: this host is the whole cluster");
            let store = Embedded::open(&file).await.map_err(|error| anyhow!("{error}"))?;
            assemble(settings, store, shutdown).await
        }
    }
}

async fn assemble<S: Store>(settings: Settings, store: S, shutdown: impl Future<Output = ()>) -> Result<()> {
    let clock = Clock::system();
    let machine = host::machine(&settings)?;
    let (hostname, id) = (machine.hostname.clone(), machine.id.clone());
    // First the socket: a second fleetd on this host must fail before it can take anything over.
    let listeners = listeners(&settings).await?;
    let systemd = Dbus::new(dbus::Options {
        units_directory: settings.units_directory.clone(),
        user: settings.systemd_user,
        ..dbus::Options::default()
    });
    let stop = CancellationToken::new();
    let mut parts: JoinSet<&'static str> = JoinSet::new();

    let options = agent::Options { machine, ttl: settings.agent_ttl, clock };
    let (agent, agent_status) = Agent::new(store.clone(), systemd, options);
    parts.spawn(part("agent", agent.run(stop.clone())));

    let mut engine_status = None;
    if !settings.disable_engine {
        let (engine, status) =
            Engine::new(store.clone(), engine::Options { machine: id, ttl: settings.agent_ttl, clock });
        parts.spawn(part("engine", lead(engine, agent_status.clone(), stop.clone())));
        engine_status = Some(status);
    }

    let waiting = Health::Waiting { what: "is starting".into(), since: clock.now_ms() };
    let (health, asked) = health::channel(waiting);
    let api_settings = state::Settings { page_limit: settings.token_limit, ..state::Settings::default() };
    let api = Api::new(store, clock, &hostname, asked, api_settings);
    parts.spawn(part("API", server::serve(listeners, api, stop.clone().cancelled_owned())));

    parts.spawn(part("status", notify::follow(agent_status, engine_status, health, clock, stop.clone())));
    notify::ready();

    let ended = tokio::select! {
        () = shutdown => None,
        ended = parts.join_next() => ended,
    };
    notify::stopping();
    stop.cancel();
    let farewell = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("not all parts ended in {} s; leaving them behind", FAREWELL.as_secs());
    }
    match ended {
        None => Ok(()),
        Some(Ok(name)) => bail!("the {name} ended by itself"),
        Some(Err(error)) => Err(anyhow!(error).context("a part of the daemon has failed")),
    }
}

/// An engine stands for leadership once its host belongs to the cluster: one that is refused (its machine id is another's, say)
/// must not decide for the others.
async fn lead<S: Store>(engine: Engine<S>, mut agent: watch::Receiver<agent::Status>, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        present = agent.wait_for(|status| matches!(status, agent::Status::Present { .. })) => {
            // An agent that has ended ends the daemon; there is nothing to lead for.
            if present.is_err() {
                return;
            }
        }
    }
    engine.run(stop).await;
}

async fn part(name: &'static str, run: impl Future<Output = ()>) -> &'static str {
    run.await;
    name
}

/// The sockets that systemd handed over, or those configured.
async fn listeners(settings: &Settings) -> Result<Vec<Listener>> {
    let inherited = Listener::inherited()?;
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    let mut listeners = Vec::new();
    for address in &settings.listen {
        let listener = if let Some(path) = address.strip_prefix("unix://") {
            Listener::unix(path.as_ref()).await?
        } else {
            let tcp = address.strip_prefix("tcp://").unwrap_or(address);
            let tcp: SocketAddr =
                tcp.parse().map_err(|_| anyhow!("listen={address}: must be unix:///PATH or tcp://127.0.0.1:PORT"))?;
            Listener::tcp(tcp).await?
        };
        listeners.push(listener);
    }
    Ok(listeners)
}
