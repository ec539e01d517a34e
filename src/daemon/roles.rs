//! The roles of a daemon: agent and engine, and what reboots the host. They are started, watched, and restarted with
//! another configuration while everything else continues. Owns their order: an engine is a candidate for leadership,
//! and a host is rebooted, only while it is registered.
//!
//! A new agent takes over the lease and the units of the previous one, like the agent of a restarted daemon: neither
//! units nor presence are interrupted.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent::{self, Agent, Cause, Inspector, Unreachable};
use crate::clock::Clock;
use crate::engine::{self, Brake, Engine, Sight};
use crate::metrics::Metrics;
use crate::model::machine::Machine;
use crate::reboot::{self, Rebooter};
use crate::store::Store;
use crate::systemd::Systemd;

use super::notify::extending;
use super::watchdog::Watched;

/// How long a role may take to stop, unless it waits for units.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The configuration of agent and engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoleConfig {
    pub(super) machine: Machine,
    pub(super) ttl: Duration,
    pub(super) brake: Brake,
    /// Whether this host is the whole cluster.
    pub(super) alone: bool,
    /// Whether this host may lead.
    pub(super) leads: bool,
}

/// What agent and engine share with the rest of the daemon, independently of their configuration.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) watched: Watched,
    pub(super) metrics: Metrics,
    /// What the engine knows of the cluster while the store is unreachable.
    pub(super) sight: watch::Sender<Sight>,
}

/// A running role.
struct Role {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// All of them.
pub(super) struct Roles<S, H> {
    store: S,
    host: H,
    shared: Shared,
    config: RoleConfig,
    agent: Option<Role>,
    engine: Option<Role>,
    rebooter: Option<Role>,
    inspector: Option<Inspector>,
    agent_status: watch::Sender<agent::Status>,
    engine_status: watch::Sender<Option<engine::Status>>,
}

impl<S: Store, H: Systemd> Roles<S, H> {
    /// Start all.
    pub(super) fn begin(store: S, host: H, shared: Shared, config: RoleConfig) -> Self {
        let (agent_status, _) = watch::channel(agent::Status::Away { why: "starting".into(), cause: Cause::Starting });
        let (engine_status, _) = watch::channel(None);
        let (agent, engine, rebooter, inspector) = (None, None, None, None);
        let mut roles =
            Self { store, host, shared, config, agent, engine, rebooter, inspector, agent_status, engine_status };
        roles.begin_agent();
        roles.begin_engine();
        roles.begin_rebooter();
        roles
    }

    pub(super) fn agent_status(&self) -> watch::Receiver<agent::Status> {
        self.agent_status.subscribe()
    }

    pub(super) fn engine_status(&self) -> watch::Receiver<Option<engine::Status>> {
        self.engine_status.subscribe()
    }

    /// The handle for inspecting the current agent.
    pub(super) fn inspector(&self) -> Option<Inspector> {
        self.inspector.clone()
    }

    fn begin_agent(&mut self) {
        let RoleConfig { machine, ttl, alone, .. } = self.config.clone();
        let options = agent::Options { machine, ttl, alone, clock: self.shared.clock };
        let (agent, status) = Agent::new(self.store.clone(), self.host.clone(), options);
        self.shared.watched.watch("agent", agent.heartbeat());
        self.inspector = Some(agent.inspector());
        let (stop, to) = (CancellationToken::new(), self.agent_status.clone());
        let run = agent.measured(self.shared.metrics.clone()).run(stop.clone());
        let task = tokio::spawn(async move {
            let ((), ()) = tokio::join!(run, forward(status, to, Clone::clone));
        });
        self.agent = Some(Role { stop, task });
    }

    fn begin_engine(&mut self) {
        if !self.config.leads {
            self.engine_status.send_replace(None);
            return;
        }
        let RoleConfig { machine, ttl, brake, .. } = self.config.clone();
        let options = engine::Options { machine, ttl, brake, clock: self.shared.clock };
        let (engine, status) = Engine::new(self.store.clone(), options);
        let (stop, to) = (CancellationToken::new(), self.engine_status.clone());
        let engine = engine.measured(self.shared.metrics.clone()).showing(self.shared.sight.clone());
        let run = lead(engine, self.agent_status(), self.shared.watched.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let ((), ()) = tokio::join!(run, forward(status, to, |status| Some(status.clone())));
        });
        self.engine = Some(Role { stop, task });
    }

    fn begin_rebooter(&mut self) {
        let RoleConfig { machine, ttl, .. } = &self.config;
        let (id, boot, clock) = (machine.id.clone(), machine.boot_id.clone(), self.shared.clock);
        let options = reboot::Options { id, boot, ttl: *ttl, clock };
        let (store, host, stop) = (self.store.clone(), self.host.clone(), CancellationToken::new());
        let (agent, until) = (self.agent_status(), stop.clone());
        let metrics = self.shared.metrics.clone();
        let rebooter = move || Rebooter::new(store.clone(), host.clone(), options.clone()).measured(metrics.clone());
        let run = move |until| rebooter().run(until);
        let task = tokio::spawn(while_registered(agent, until, run));
        self.rebooter = Some(Role { stop, task });
    }

    /// Apply another configuration. Restarts only the roles that it affects.
    pub(super) async fn reconfigure(&mut self, config: RoleConfig) {
        let before = std::mem::replace(&mut self.config, config);
        let ttl = before.ttl != self.config.ttl;
        if ttl || before.brake != self.config.brake || before.leads != self.config.leads {
            self.end_engine().await;
            self.begin_engine();
        }
        if ttl || before.machine != self.config.machine {
            self.end_agent().await;
            self.begin_agent();
        }
    }

    /// Resolves when a role has ended by itself, with its name.
    pub(super) async fn ended(&mut self) -> (&'static str, Result<(), tokio::task::JoinError>) {
        let wait = async |role: &mut Option<Role>| match role {
            Some(role) => (&mut role.task).await,
            None => std::future::pending().await,
        };
        tokio::select! {
            ended = wait(&mut self.agent) => ("agent", ended),
            ended = wait(&mut self.engine) => ("engine", ended),
            ended = wait(&mut self.rebooter) => ("role for reboots", ended),
        }
    }

    /// Stop all, the engine before the agent, so that another host leads when this host's units must be placed.
    pub(super) async fn end(&mut self) {
        if let Some(role) = self.rebooter.take() {
            role.stop.cancel();
            end("role for reboots", role.task, async || true).await;
        }
        self.end_engine().await;
        self.end_agent().await;
    }

    async fn end_engine(&mut self) {
        self.shared.watched.forget("engine");
        let Some(role) = self.engine.take() else { return };
        role.stop.cancel();
        end("engine", role.task, async || true).await;
    }

    async fn end_agent(&mut self) {
        self.shared.watched.forget("agent");
        let Some(role) = self.agent.take() else { return };
        role.stop.cancel();
        let status = self.agent_status();
        let idle = async || !matches!(*status.borrow(), agent::Status::Leaving { .. });
        extending(end("agent", role.task, idle)).await;
    }
}

/// Wait until `task` has ended. If it takes too long it is aborted, unless it isn't `idle` because it waits for units.
async fn end(name: &str, mut task: JoinHandle<()>, idle: impl AsyncFn() -> bool) {
    loop {
        if tokio::time::timeout(STOP_TIMEOUT, &mut task).await.is_ok() {
            return;
        }
        if idle().await {
            tracing::warn!("the {name} didn't end within {} s; aborting it", STOP_TIMEOUT.as_secs());
            task.abort();
            return;
        }
    }
}

/// Forward each value of `from` until it is closed.
async fn forward<T, U>(mut from: watch::Receiver<T>, to: watch::Sender<U>, into: impl Fn(&T) -> U) {
    loop {
        let now = into(&from.borrow_and_update());
        to.send_replace(now);
        if from.changed().await.is_err() {
            return;
        }
    }
}

/// The engine is a candidate for leadership while its host is registered.
async fn lead<S: Store>(
    engine: Engine<S>,
    agent: watch::Receiver<agent::Status>,
    watched: Watched,
    stop: CancellationToken,
) {
    let engine = Arc::new(engine);
    let candidate = |until: CancellationToken| {
        let (engine, watched, stop) = (engine.clone(), watched.clone(), stop.clone());
        async move {
            watched.watch("engine", engine.heartbeat());
            engine.run(until).await;
            if !stop.is_cancelled() {
                watched.forget("engine");
                tracing::warn!("not a candidate for leadership: this host isn't registered");
            }
        }
    };
    while_registered(agent, stop.clone(), candidate).await;
}

/// Run `role` once this host is registered, and end it when the host is refused (its machine id belongs to another
/// host), since it must not decide for the cluster then, nor act for the other. If the host only waits for the store,
/// the role goes on: without the store it can do nothing anyway.
async fn while_registered<F: Future<Output = ()> + Send>(
    mut agent: watch::Receiver<agent::Status>,
    stop: CancellationToken,
    role: impl Fn(CancellationToken) -> F,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            present = agent.wait_for(|status| matches!(status, agent::Status::Present { .. })) => {
                // If the agent has ended, the daemon ends too.
                if present.is_err() {
                    return;
                }
            }
        }
        let until = stop.child_token();
        let refused = async {
            let refused =
                |status: &agent::Status| matches!(status, agent::Status::Away { cause: Cause::Duplicate, .. });
            let _ = agent.wait_for(refused).await;
            until.cancel();
        };
        tokio::join!(role(until.clone()), async {
            tokio::select! {
                () = refused => {}
                () = stop.cancelled() => {}
            }
        });
        if stop.is_cancelled() {
            return;
        }
    }
}

/// The agent's status as JSON.
pub(super) fn described(status: &agent::Status) -> serde_json::Value {
    match status {
        agent::Status::Away { why, .. } => serde_json::json!({ "registered": false, "why": why }),
        agent::Status::Present { units, settled, unreachable } => {
            let (what, since) = match unreachable {
                None => (None, None),
                Some(Unreachable::Store(since)) => (Some("store"), Some(since)),
                Some(Unreachable::Systemd(since)) => (Some("systemd"), Some(since)),
                Some(Unreachable::Files { since, .. }) => (Some("files"), Some(since)),
            };
            serde_json::json!({
                "registered": true, "units": units, "settled": settled, "unreachable": what, "unreachableSince": since,
            })
        }
        agent::Status::Leaving { units } => serde_json::json!({ "registered": true, "leaving": true, "units": units }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::keys::Key;
    use crate::registry::records::leader::LeaderRecord;
    use crate::registry::{decode, delete, put};
    use crate::store::embedded::Embedded;
    use crate::store::{Kv, Range, Txn};
    use crate::systemd::fake::Fake;

    const TTL: Duration = Duration::from_secs(10);

    /// A daemon on a host of this name; all of them have the same machine id.
    fn daemon(store: &Embedded, hostname: &str) -> Roles<Embedded, Fake> {
        let (clock, watched, metrics) = (Clock::simulated(0), Watched::default(), Metrics::default());
        let shared = Shared { clock, watched, metrics, sight: watch::Sender::default() };
        let config =
            RoleConfig { machine: machine(hostname), ttl: TTL, brake: Brake::off(), alone: false, leads: true };
        Roles::begin(store.clone(), Fake::default(), shared, config)
    }

    fn machine(hostname: &str) -> Machine {
        Machine::new("3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap(), hostname)
    }

    async fn held(store: &Embedded, key: &Key) -> Option<Kv> {
        let range = Range { prefix: key.to_string(), limit: 1, ..Range::default() };
        store.range(range).await.unwrap().kvs.pop()
    }

    async fn leader(store: &Embedded) -> Option<String> {
        held(store, &Key::Leader).await.map(|kv| decode::<LeaderRecord>(&kv).unwrap().hostname)
    }

    async fn wait(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_refused_no_longer_leads_until_it_is_registered_again() {
        let store = Embedded::in_memory();
        let _daemon = daemon(&store, "n1");
        wait(2).await;
        assert_eq!(leader(&store).await.as_deref(), Some("n1"));
        // Its presence is lost, and another host with the same id registers first.
        let key = Key::Machine(machine("").id);
        let lease = held(&store, &key).await.unwrap().lease.unwrap();
        let theirs = store.grant(TTL * 10).await.unwrap();
        let ops = vec![put(&key, &machine("n2"), Some(theirs))];
        store.commit(Txn { guards: vec![], ops }).await.unwrap();
        store.revoke(lease).await.unwrap();
        wait(2).await;
        assert_eq!(leader(&store).await, None);
        wait(30).await;
        assert_eq!(leader(&store).await, None);
        store.commit(Txn { guards: vec![], ops: vec![delete(&key)] }).await.unwrap();
        wait(5).await;
        assert_eq!(leader(&store).await.as_deref(), Some("n1"));
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_is_taken_over_at_once_on_the_same_host_and_never_from_another_with_its_id() {
        let engine = |store: &Embedded, hostname| {
            let options = engine::Options {
                machine: machine(hostname),
                ttl: TTL,
                brake: Brake::off(),
                clock: Clock::simulated(0),
            };
            let (engine, _) = Engine::new(store.clone(), options);
            tokio::spawn(async move { engine.run(CancellationToken::new()).await })
        };
        let store = Embedded::in_memory();
        let first = engine(&store, "n1");
        wait(1).await;
        let led = held(&store, &Key::Leader).await;
        let double = engine(&store, "n2");
        wait(60).await;
        assert_eq!(held(&store, &Key::Leader).await, led);
        double.abort();
        first.abort();
        engine(&store, "n1");
        wait(1).await;
        assert_ne!(held(&store, &Key::Leader).await, led);
        assert_eq!(leader(&store).await.as_deref(), Some("n1"));
    }
}
