//! The agent: reconciles one host with its assignments and reports the state of its units.
//!
//! Owns the loop, the host's presence and its reports. It must never read another host's assignments, decide where a
//! unit goes, or touch a unit because the store, the leader or the daemon went away: a unit changes only when its
//! assignment changes.
//!
//! It is one task. `serve` waits for a change of the assignments, a systemd signal or a timer; `pass` then carries out
//! the actions that [`plan::host`](crate::plan::host) decides on, one after the other. It decides nothing itself and
//! never waits for a job.

mod assignments;
mod boot_state;
mod deadlines;
mod diagnosis;
mod fetch;
mod followed;
mod format;
mod health;
mod inspect;
mod log;
mod look;
mod pass;
mod presence;
mod publish;
mod serve;
mod shutdown;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::{LeaseOf, Metrics};
use crate::model::format::Format;
use crate::model::machine::Machine;
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::plan::host::{HostState, Input};
use crate::reconcile::Heartbeat;
use crate::registry::damage::Damage;
use crate::store::{self, Store};
use crate::systemd::{self, Event, Systemd};

use deadlines::Keeper;
use diagnosis::Journals;
use health::Probes;
pub use health::{Network, ProbeResult};
pub use inspect::Inspector;
use inspect::Question;
pub use look::look;
use publish::OtherKeys;

/// What an agent is created with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The host, as it presents itself to the cluster.
    pub machine: Machine,
    /// The TTL of the host's lease: without a renewal for this long, the cluster treats the host as dead.
    pub ttl: Duration,
    /// Whether this host is the whole cluster: its units run nowhere else, however long its lease isn't renewed.
    pub alone: bool,
    /// The wall clock.
    pub clock: Clock,
}

/// The agent's status, for the API's readiness check and systemd's status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The host isn't registered.
    Away {
        /// Why, as a sentence.
        why: String,
        /// The kind of obstacle.
        cause: Cause,
    },
    /// The host is registered.
    Present {
        /// Units that are assigned to it.
        units: usize,
        /// Whether nothing is under way.
        settled: bool,
        /// What is unreachable at present. Units keep running.
        unreachable: Option<Unreachable>,
    },
    /// The whole system is shutting down, and units are still running.
    Leaving {
        /// Units that haven't stopped yet.
        units: usize,
    },
}

/// What is unreachable, and since when, in ms since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// The store.
    Store(u64),
    /// This host's systemd.
    Systemd(u64),
    /// The daemon's own files, under `/run/fleet`.
    Files {
        /// Since when, ms since the epoch.
        since: u64,
        /// The file, and what is wrong with it: `cannot write /run/fleet/units.json: No space left on device`.
        why: String,
    },
}

/// Why a host isn't registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It is about to register.
    Starting,
    /// The store is unreachable or refuses the request.
    Store,
    /// This host's systemd doesn't answer.
    Systemd,
    /// Another live host has the same machine id.
    Duplicate,
}

/// Why a pass could not be completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Store(#[from] store::Error),
    #[error("{0}")]
    Systemd(systemd::Error),
    /// The daemon's own files can't be read or written. systemd is not involved.
    #[error("{0}")]
    Files(systemd::Error),
}

impl From<systemd::Error> for Trouble {
    fn from(error: systemd::Error) -> Self {
        match error {
            systemd::Error::Io(_) => Self::Files(error),
            _ => Self::Systemd(error),
        }
    }
}

impl Trouble {
    /// Its class, for metrics.
    fn class(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Systemd(_) => "systemd",
            Self::Files(_) => "files",
        }
    }
}

/// Why a presence ended.
enum End {
    /// The daemon stops.
    Stopped,
    /// The host's lease has expired, so the host must register again.
    Lost,
}

/// The agent of one host.
#[derive(Debug)]
pub struct Agent<S, H> {
    store: S,
    host: H,
    options: Options,
    status: watch::Sender<Status>,
    state: HostState,
    /// The format in which this host writes to the store.
    format: Format,
    /// Which units may also be reported under keys in another form than that of this format.
    other_keys: OtherKeys,
    /// Whether the store may have reports of this host that this daemon knows nothing of, because an earlier one could
    /// not save that it had the unit, or because the store was restored.
    unlisted: bool,
    /// The instant from which the state machine counts its time.
    begun: Instant,
    /// The revision of the host's key as this daemon last wrote it; `None` before the first write, and while an earlier
    /// request may still be carried out.
    claimed: Option<Revision>,
    heartbeat: Heartbeat,
    questions: (mpsc::Sender<Question>, mpsc::Receiver<Question>),
    journals: Journals,
    probes: Probes<H>,
    damage: Damage,
    metrics: Metrics,
}

impl<S: Store, H: Systemd> Agent<S, H> {
    /// An agent, and a receiver of its status.
    pub fn new(store: S, host: H, options: Options) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(Status::Away { why: "starting".into(), cause: Cause::Starting });
        let (state, begun) = (HostState::new(options.machine.id.clone(), options.ttl), Instant::now());
        let (heartbeat, questions, metrics) = (Heartbeat::default(), mpsc::channel(1), Metrics::default());
        let (format, claimed, journals, probes) = (Format::FIRST, None, Journals::default(), Probes::new(host.clone()));
        let agent = Self {
            store,
            host,
            options,
            status,
            state,
            format,
            other_keys: OtherKeys::unknown(),
            unlisted: true,
            begun,
            claimed,
            heartbeat,
            questions,
            journals,
            probes,
            damage: Damage::default(),
            metrics,
        };
        (agent, receiver)
    }

    /// Report to `metrics`.
    #[must_use]
    pub fn measured(mut self, metrics: Metrics) -> Self {
        self.probes.measured(metrics.clone());
        Self { metrics, ..self }
    }

    /// Make the connections and requests of probes in `network`, in place of the host's.
    #[must_use]
    pub fn in_network(mut self, network: Arc<dyn Network>) -> Self {
        self.probes.in_network(network);
        self
    }

    /// The heartbeat that the watchdog checks.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// A handle to inspect the agent while it runs.
    #[must_use]
    pub fn inspector(&self) -> Inspector {
        Inspector::new(self.questions.0.clone())
    }

    /// Run until `stop`. Units and presence are left as they are, for the next daemon to continue with. Only when the
    /// whole system is shutting down does this wait until the units have stopped and then revoke the lease, since no
    /// daemon comes back in time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut events = self.host.events();
        self.apply(Input::History(boot_state::history(&self.host).await));
        loop {
            let (lease, ended) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Cancel-safe: a lease that was granted and not saved expires by itself.
                registered = draining(self.register(), &mut events) => registered,
            };
            self.apply(Input::Registered);
            for event in ended.into_values() {
                self.apply(Input::Event(event));
            }
            self.metrics.lease_held(LeaseOf::Presence, true);
            // Lives as long as the lease, also while the system shuts down.
            let keeper = Keeper::begin(&self.host, &lease, self.options.ttl);
            match self.serve(&lease, &keeper, &mut events, &stop).await {
                End::Stopped => return self.drain_for_shutdown(lease, &mut events).await,
                End::Lost => {
                    self.metrics.lease_lost(LeaseOf::Presence);
                    tracing::warn!(
                        "the lease of this host has expired, so the cluster treats it as dead; registering again"
                    );
                    self.status.send_replace(Status::Away { why: "registering again".into(), cause: Cause::Starting });
                }
            }
        }
    }
}

/// Do `work`, which may take days, and drain `events` meanwhile. Only the end of each unit's last job is kept:
/// everything else is observed when a presence begins.
async fn draining<T>(
    work: impl Future<Output = T>,
    events: &mut mpsc::UnboundedReceiver<Event>,
) -> (T, BTreeMap<UnitName, Event>) {
    let mut work = std::pin::pin!(work);
    let mut ended = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, ended),
            Some(event) = events.recv() => {
                if let Event::JobDone { unit, .. } = &event {
                    ended.insert(unit.clone(), event);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn events_dont_pile_up_while_a_host_registers() {
        let (sender, mut events) = mpsc::unbounded_channel();
        let unit: UnitName = "a.service".parse().unwrap();
        let done = |result: &str| Event::JobDone { unit: unit.clone(), result: result.into() };
        let registering = async {
            for _ in 0..1000 {
                sender.send(Event::Changed(unit.clone())).unwrap();
                sender.send(done("failed")).unwrap();
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            sender.send(done("done")).unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        };
        let ((), ended) = draining(registering, &mut events).await;
        assert_eq!((events.len(), ended), (0, BTreeMap::from([(unit.clone(), done("done"))])));
    }
}
