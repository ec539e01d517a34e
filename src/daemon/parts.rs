//! Agent and engine of one daemon: begun, watched, and begun anew with other settings while everything else goes on.
//! Owns their order: an engine stands for leadership only while its host belongs to the cluster.
//!
//! A new agent takes up lease and units of the one before, as that of a restarted daemon does: no unit and no presence
//! notices.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent::{self, Agent, Cause, Inspector, Unreachable};
use crate::clock::Clock;
use crate::engine::{self, Engine};
use crate::metrics::Metrics;
use crate::model::machine::Machine;
use crate::store::Store;
use crate::systemd::Systemd;

use super::notify::extending;
use super::watchdog::Loops;

/// How long a part may take to end once it is told to, unless it has units to wait for.
const FAREWELL: Duration = Duration::from_secs(5);

/// What agent and engine are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Orders {
    pub(super) machine: Machine,
    pub(super) ttl: Duration,
    /// Whether this host may lead.
    pub(super) leads: bool,
}

/// What agent and engine have around them, whatever their orders.
#[derive(Debug, Clone)]
pub(super) struct Around {
    pub(super) clock: Clock,
    pub(super) loops: Loops,
    pub(super) metrics: Metrics,
}

/// A running part.
struct Part {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Agent and engine.
pub(super) struct Parts<S, H> {
    store: S,
    host: H,
    around: Around,
    orders: Orders,
    agent: Option<Part>,
    engine: Option<Part>,
    inspector: Option<Inspector>,
    agent_status: watch::Sender<agent::Status>,
    engine_status: watch::Sender<Option<engine::Status>>,
}

impl<S: Store, H: Systemd> Parts<S, H> {
    /// Begin both.
    pub(super) fn begin(store: S, host: H, around: Around, orders: Orders) -> Self {
        let (agent_status, _) = watch::channel(agent::Status::Away { why: "starting".into(), cause: Cause::Starting });
        let (engine_status, _) = watch::channel(None);
        let (agent, engine, inspector) = (None, None, None);
        let mut parts = Self { store, host, around, orders, agent, engine, inspector, agent_status, engine_status };
        parts.begin_agent();
        parts.begin_engine();
        parts
    }

    pub(super) fn agent_status(&self) -> watch::Receiver<agent::Status> {
        self.agent_status.subscribe()
    }

    pub(super) fn engine_status(&self) -> watch::Receiver<Option<engine::Status>> {
        self.engine_status.subscribe()
    }

    /// To look inside the agent of now.
    pub(super) fn inspector(&self) -> Option<Inspector> {
        self.inspector.clone()
    }

    fn begin_agent(&mut self) {
        let Orders { machine, ttl, .. } = self.orders.clone();
        let options = agent::Options { machine, ttl, clock: self.around.clock };
        let (agent, status) = Agent::new(self.store.clone(), self.host.clone(), options);
        self.around.loops.watch("agent", agent.pulse());
        self.inspector = Some(agent.inspector());
        let (stop, to) = (CancellationToken::new(), self.agent_status.clone());
        let run = agent.measured(self.around.metrics.clone()).run(stop.clone());
        let task = tokio::spawn(async move {
            let ((), ()) = tokio::join!(run, forward(status, to, Clone::clone));
        });
        self.agent = Some(Part { stop, task });
    }

    fn begin_engine(&mut self) {
        if !self.orders.leads {
            self.engine_status.send_replace(None);
            return;
        }
        let options =
            engine::Options { machine: self.orders.machine.clone(), ttl: self.orders.ttl, clock: self.around.clock };
        let (engine, status) = Engine::new(self.store.clone(), options);
        let (stop, to) = (CancellationToken::new(), self.engine_status.clone());
        let engine = engine.measured(self.around.metrics.clone());
        let run = lead(engine, self.agent_status(), self.around.loops.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let ((), ()) = tokio::join!(run, forward(status, to, |status| Some(status.clone())));
        });
        self.engine = Some(Part { stop, task });
    }

    /// Take up other orders: begin anew whom they concern, and only them.
    pub(super) async fn obey(&mut self, orders: Orders) {
        let before = std::mem::replace(&mut self.orders, orders);
        let ttl = before.ttl != self.orders.ttl;
        if ttl || before.leads != self.orders.leads {
            self.end_engine().await;
            self.begin_engine();
        }
        if ttl || before.machine != self.orders.machine {
            self.end_agent().await;
            self.begin_agent();
        }
    }

    /// Resolves, with its name, when one has ended that wasn't told to.
    pub(super) async fn ended(&mut self) -> (&'static str, Result<(), tokio::task::JoinError>) {
        let wait = async |part: &mut Option<Part>| match part {
            Some(part) => (&mut part.task).await,
            None => std::future::pending().await,
        };
        tokio::select! {
            ended = wait(&mut self.agent) => ("agent", ended),
            ended = wait(&mut self.engine) => ("engine", ended),
        }
    }

    /// End both: the engine first, so that another one leads when this host's units are to be placed.
    pub(super) async fn end(&mut self) {
        self.end_engine().await;
        self.end_agent().await;
    }

    async fn end_engine(&mut self) {
        self.around.loops.forget("engine");
        let Some(part) = self.engine.take() else { return };
        part.stop.cancel();
        end("engine", part.task, async || true).await;
    }

    async fn end_agent(&mut self) {
        self.around.loops.forget("agent");
        let Some(part) = self.agent.take() else { return };
        part.stop.cancel();
        let status = self.agent_status();
        let idle = async || !matches!(*status.borrow(), agent::Status::Leaving { .. });
        extending(end("agent", part.task, idle)).await;
    }
}

/// Wait until `task` has ended; break it off when it takes too long, unless it isn't `idle`: then it has something to
/// wait for.
async fn end(name: &str, mut task: JoinHandle<()>, idle: impl AsyncFn() -> bool) {
    loop {
        if tokio::time::timeout(FAREWELL, &mut task).await.is_ok() {
            return;
        }
        if idle().await {
            tracing::warn!("the {name} didn't end in {} s; breaking it off", FAREWELL.as_secs());
            task.abort();
            return;
        }
    }
}

/// Pass on what `from` tells for as long as it does.
async fn forward<T, U>(mut from: watch::Receiver<T>, to: watch::Sender<U>, into: impl Fn(&T) -> U) {
    loop {
        let now = into(&from.borrow_and_update());
        to.send_replace(now);
        if from.changed().await.is_err() {
            return;
        }
    }
}

/// An engine stands for leadership once its host belongs to the cluster, and no longer once it is refused (its machine
/// id is another's): it must not decide for the others. One whose host merely waits for the store goes on: without the
/// store nobody leads anyway.
async fn lead<S: Store>(
    engine: Engine<S>,
    mut agent: watch::Receiver<agent::Status>,
    loops: Loops,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            present = agent.wait_for(|status| matches!(status, agent::Status::Present { .. })) => {
                // An agent that has ended ends the daemon; there is nothing to lead for.
                if present.is_err() {
                    return;
                }
            }
        }
        loops.watch("engine", engine.pulse());
        let until = stop.child_token();
        let refused = async {
            let refused =
                |status: &agent::Status| matches!(status, agent::Status::Away { cause: Cause::Duplicate, .. });
            let _ = agent.wait_for(refused).await;
            until.cancel();
        };
        tokio::join!(engine.run(until.clone()), async {
            tokio::select! {
                () = refused => {}
                () = stop.cancelled() => {}
            }
        });
        if stop.is_cancelled() {
            return;
        }
        loops.forget("engine");
        tracing::warn!("not standing for leadership: this host isn't registered");
    }
}

/// How an agent stands, for programs.
pub(super) fn described(status: &agent::Status) -> serde_json::Value {
    match status {
        agent::Status::Away { why, .. } => serde_json::json!({ "registered": false, "why": why }),
        agent::Status::Present { units, settled, unreachable } => {
            let (what, since) = match unreachable {
                None => (None, None),
                Some(Unreachable::Store(since)) => (Some("store"), Some(since)),
                Some(Unreachable::Systemd(since)) => (Some("systemd"), Some(since)),
                Some(Unreachable::Files(since)) => (Some("files"), Some(since)),
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
    use crate::registry::keys::{Key, LeaderRecord};
    use crate::registry::{decode, delete, put};
    use crate::store::embedded::Embedded;
    use crate::store::{Kv, Range, Txn};
    use crate::systemd::fake::Fake;

    const TTL: Duration = Duration::from_secs(10);

    /// A daemon on a host of that name; all of them have one machine id.
    fn daemon(store: &Embedded, hostname: &str) -> Parts<Embedded, Fake> {
        let around = Around { clock: Clock::simulated(0), loops: Loops::default(), metrics: Metrics::default() };
        let orders = Orders { machine: machine(hostname), ttl: TTL, leads: true };
        Parts::begin(store.clone(), Fake::default(), around, orders)
    }

    fn machine(hostname: &str) -> Machine {
        let (ip, metadata, version, boot_id, since) = Default::default();
        let id = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        Machine { id, ip, hostname: hostname.into(), metadata, version, boot_id, since }
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
        // Its presence is lost, and another host with its id is faster.
        let key = Key::Machine(machine("").id);
        let lease = held(&store, &key).await.unwrap().lease.unwrap();
        let ops = vec![put(&key, &machine("n2"), None)];
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
            let options = engine::Options { machine: machine(hostname), ttl: TTL, clock: Clock::simulated(0) };
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
