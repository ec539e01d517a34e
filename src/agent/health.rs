//! Probes the units of this host. Owns the tasks and their timers, and how many probes are made at a time. Commands are
//! run by the host's systemd, never by this process. Decides nothing: `plan::host` says which units are probed, and
//! `plan::health` when, and what follows from a result.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::Metrics;
use crate::model::name::UnitName;
use crate::model::probe::{HTTP, Probe, words};
use crate::model::span;
use crate::plan::health::{self, Act, Outcome, Stand, Standing};
use crate::plan::host::Input;
use crate::plan::host::health::Probing;
use crate::probe::{self, Endpoint};
use crate::systemd::{ExecProbe, ProbeEnd, Systemd};

/// The most connections and requests at a time. Each ends within its timeout.
const AT_A_TIME: usize = 64;

/// The most commands at a time: each is a unit of systemd's, and processes. Those that take long delay others.
const COMMANDS_AT_A_TIME: usize = 8;

/// Where a probe without a host connects to.
const LOCAL: &str = "127.0.0.1";

/// The changed stands of units, each with the number of the instructions that it follows from, until they are taken.
type Stands = BTreeMap<UnitName, (u64, Stand)>;

/// The result of a connection or a request: why it failed, in a few words.
pub type ProbeResult = Result<(), String>;

/// How the connections and requests of probes are made. Tests have one of their own.
pub trait Network: fmt::Debug + Send + Sync {
    /// Make the probe of a unit, which takes `limit` at most.
    fn probe<'a>(&'a self, unit: &'a UnitName, probe: &'a Probe, limit: Duration) -> BoxFuture<'a, ProbeResult>;
}

/// The network of this host.
#[derive(Debug)]
struct Sockets;

impl Network for Sockets {
    fn probe<'a>(&'a self, _unit: &'a UnitName, probe: &'a Probe, limit: Duration) -> BoxFuture<'a, ProbeResult> {
        Box::pin(async move {
            match probe {
                Probe::Tcp(target) => probe::tcp(&Endpoint::of(target, LOCAL, HTTP), limit).await,
                Probe::Http { target, path } => probe::http(&Endpoint::of(target, LOCAL, HTTP), path, limit).await,
                Probe::Exec(_) | Probe::Shell(_) => Err("it is no connection".into()),
            }
        })
    }
}

/// The probes of this host's units.
#[derive(Debug)]
pub(super) struct Probes<H> {
    shared: Shared<H>,
    changed: watch::Receiver<Stands>,
    tasks: BTreeMap<UnitName, AbortOnDropHandle<()>>,
}

/// What all tasks share.
#[derive(Debug, Clone)]
struct Shared<H> {
    host: H,
    network: Arc<dyn Network>,
    stands: watch::Sender<Stands>,
    permits: Arc<Semaphore>,
    /// Those for commands.
    command_permits: Arc<Semaphore>,
    metrics: Metrics,
    /// The instant from which the moments of probes are counted.
    begun: Instant,
}

impl<H: Systemd> Probes<H> {
    /// None yet; `host` runs those that are commands.
    pub(super) fn new(host: H) -> Self {
        let (stands, changed) = watch::channel(Stands::new());
        let shared = Shared {
            host,
            network: Arc::new(Sockets),
            stands,
            permits: Arc::new(Semaphore::new(AT_A_TIME)),
            command_permits: Arc::new(Semaphore::new(COMMANDS_AT_A_TIME)),
            metrics: Metrics::default(),
            begun: Instant::now(),
        };
        Self { shared, changed, tasks: BTreeMap::new() }
    }

    /// Count the probes in `metrics`.
    pub(super) fn measured(&mut self, metrics: Metrics) {
        self.shared.metrics = metrics;
    }

    /// Make connections and requests in `network`.
    pub(super) fn in_network(&mut self, network: Arc<dyn Network>) {
        self.shared.network = network;
    }

    /// Carry out [`Action::Probe`](crate::plan::host::Action::Probe).
    pub(super) fn follow(&mut self, asked: Vec<(UnitName, Option<Probing>)>) {
        for (name, probing) in asked {
            // Ends the earlier task.
            self.tasks.remove(&name);
            let Some(probing) = probing else { continue };
            let task = Task::new(name.clone(), probing, self.shared.clone());
            self.tasks.insert(name, AbortOnDropHandle::new(tokio::spawn(task.run())));
        }
    }

    /// Wait until the stand of a unit has changed. Cancel-safe: nothing is taken before it returns.
    pub(super) async fn next(&mut self) -> Input {
        // The sender lives as long as this receiver.
        drop(self.changed.changed().await);
        let mut taken = Stands::new();
        self.shared.stands.send_if_modified(|stands| {
            taken = std::mem::take(stands);
            false
        });
        Input::Probed(taken)
    }
}

/// Probes one unit.
struct Task<H> {
    name: UnitName,
    probing: Probing,
    shared: Shared<H>,
    standing: Standing,
    /// When the unit became active.
    started: Duration,
    seed: u64,
}

impl<H: Systemd> Task<H> {
    fn new(name: UnitName, probing: Probing, shared: Shared<H>) -> Self {
        let seed = health::seed(name.as_str());
        let standing = Standing::new(&probing.health, probing.ready);
        let started = shared.begun.elapsed();
        Self { name, probing, shared, standing, started, seed }
    }

    async fn run(mut self) {
        let first = |at| health::first(&self.probing.health, &self.standing, at, self.started, self.seed);
        // When each of its probes is due.
        let mut due: Vec<Duration> = (0..self.probing.health.probes().count()).map(first).collect();
        loop {
            let Some(next) = due.iter().min() else { return };
            sleep_until(self.shared.begun + *next).await;
            let begun = self.shared.begun.elapsed();
            let now: Vec<usize> = (0..due.len()).filter(|at| due[*at] <= begun).collect();
            let outcomes = self.make_all(&now).await;
            for (at, outcome) in now.into_iter().zip(outcomes) {
                self.apply(at, outcome).await;
                // If it took longer than its interval, because many wait, it is made again at once.
                due[at] = health::next(&self.probing.health, &self.standing, at, begun, self.age(), self.seed);
            }
        }
    }

    /// How long the unit has been active.
    fn age(&self) -> Duration {
        self.probing.age + self.shared.begun.elapsed().saturating_sub(self.started)
    }

    /// Make the probes at these positions; those that are the same, once.
    async fn make_all(&self, positions: &[usize]) -> Vec<Outcome> {
        let probes: Vec<&Probe> = self.probing.health.probes().collect();
        let probes: Vec<&Probe> = positions.iter().map(|at| probes[*at]).collect();
        let mut distinct: Vec<&Probe> = Vec::new();
        for probe in &probes {
            if !distinct.contains(probe) {
                distinct.push(probe);
            }
        }
        let outcomes = join_all(distinct.iter().map(|probe| self.make(probe))).await;
        let made: Vec<(&Probe, Outcome)> = distinct.into_iter().zip(outcomes).collect();
        probes.iter().filter_map(|probe| made.iter().find(|(of, _)| of == probe)).map(|(_, end)| end.clone()).collect()
    }

    async fn make(&self, probe: &Probe) -> Outcome {
        let outcome = if let Probe::Exec(command) = probe {
            self.run_command(command).await
        } else {
            // Never closed.
            let _permit = self.shared.permits.acquire().await;
            let result = self.shared.network.probe(&self.name, probe, self.probing.health.timeout).await;
            result.map_or_else(Outcome::Failed, |()| Outcome::Passed)
        };
        self.shared.metrics.probed(outcome.word());
        outcome
    }

    async fn run_command(&self, command: &str) -> Outcome {
        let timeout = self.probing.health.timeout;
        // The section has been read, so it has words.
        let command = words(command).unwrap_or_default();
        let _permit = self.shared.command_permits.acquire().await;
        match self.shared.host.probe(ExecProbe { unit: self.name.clone(), command, timeout }).await {
            Ok(ProbeEnd::Passed) => Outcome::Passed,
            Ok(ProbeEnd::Failed(why)) => Outcome::Failed(why),
            Ok(ProbeEnd::TimedOut) => Outcome::Failed(format!("no end within {}", span::shown(timeout))),
            Ok(ProbeEnd::NotRun(why)) => Outcome::NotRun(why),
            Err(error) => Outcome::NotRun(error.to_string()),
        }
    }

    async fn apply(&mut self, at: usize, outcome: Outcome) {
        let (standing, act) = health::step(&self.probing.health, &self.standing, at, outcome, self.age());
        self.standing = standing;
        let (stand, ends) = match act {
            None => return,
            Some(Act::Tell(stand)) => (stand, false),
            Some(Act::End(stand)) => (stand, true),
        };
        let (name, id, why) = (self.name.clone(), self.probing.id, stand.not_alive.clone());
        self.shared.stands.send_modify(|stands| {
            stands.insert(name, (id, stand));
        });
        if ends {
            self.end(&why.unwrap_or_default()).await;
        }
    }

    /// Have systemd end the unit. What follows is up to its `Restart=`; the next start has instructions of its own.
    async fn end(&self, why: &str) {
        match self.shared.host.not_alive(&self.name).await {
            Ok(true) => tracing::warn!(unit = %self.name, why, "no longer works; ended as by a watchdog"),
            Ok(false) => tracing::debug!(unit = %self.name, why, "no longer works, and ends already or isn't up"),
            Err(error) => tracing::warn!(unit = %self.name, why, %error, "no longer works, and can't be ended"),
        }
    }
}
