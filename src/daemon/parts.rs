//! Agent and engine of one daemon: begun, watched, and begun anew with other settings while everything else goes on. Owns their
//! order: an engine stands for leadership only while its host belongs to the cluster.
//!
//! A new agent takes up lease and units of the one before, as that of a restarted daemon does: no unit and no presence notices.

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
            engine::Options { machine: self.orders.machine.id.clone(), ttl: self.orders.ttl, clock: self.around.clock };
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

/// Wait until `task` has ended; break it off when it takes too long, unless it isn't `idle`: then it has something to wait for.
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

/// An engine stands for leadership once its host belongs to the cluster: one that is refused (its machine id is another's, say)
/// must not decide for the others.
async fn lead<S: Store>(
    engine: Engine<S>,
    mut agent: watch::Receiver<agent::Status>,
    loops: Loops,
    stop: CancellationToken,
) {
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
    engine.run(stop).await;
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
            };
            serde_json::json!({
                "registered": true, "units": units, "settled": settled, "unreachable": what, "unreachableSince": since,
            })
        }
        agent::Status::Leaving { units } => serde_json::json!({ "registered": true, "leaving": true, "units": units }),
    }
}
