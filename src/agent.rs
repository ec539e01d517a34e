//! The agent: reconciles one host with its assignments and reports the state of its units.
//!
//! Owns the loop, the host's presence and its reports. It must never look at another host's assignments, never decide
//! where a unit goes, and never touch a unit because the store, the leader or the daemon went away: only because an
//! assignment says so.
//!
//! One task. It waits for a change of the assignments, a signal of systemd or a timer, observes the units concerned,
//! asks [`converge`](crate::plan::converge) what is needed, does it, and publishes what has changed. It never waits for
//! a job.

mod boot_state;
mod inspect;
mod pass;
mod presence;
mod publish;
mod shutdown;
mod unit;
mod units;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::{LeaseOf, Metrics};
use crate::model::machine::Machine;
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::reconcile::{Backoff, Heartbeat, Outage};
use crate::registry::keys;
use crate::registry::mirror::Mirror;
use crate::store::lease::Lease;
use crate::store::{self, Store};
use crate::systemd::{self, Event, Systemd};

pub use inspect::Inspector;
use inspect::Question;
use units::Units;

/// What comes close together is looked at together: a batch arrives in several commits, and its jobs end one after the
/// other. The more is under way, the longer the next signal is waited for: a millisecond for each unit, between these
/// two. systemd needs more than that for a unit, so it isn't kept waiting; and what it needs for each pass, however
/// small, is needed less often.
const COALESCE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// But nothing waits longer for what may come behind it: a host can be busy for minutes.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often everything is compared with the disk and with systemd, in case a signal was lost after all.
const FULL_CHECK: Duration = Duration::from_secs(300);

/// How long a unit whose file could not be written or removed is left alone.
const HOLD: Duration = Duration::from_secs(30);

/// What an agent is given once.
#[derive(Debug, Clone)]
pub struct Options {
    /// The host, as it presents itself to the cluster.
    pub machine: Machine,
    /// How long the host may be silent before the cluster takes it for dead.
    pub ttl: Duration,
    /// The time.
    pub clock: Clock,
}

/// How the agent stands, for the API's readiness and the status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The host isn't registered.
    Away {
        /// Why, in a sentence.
        why: String,
        /// What it takes.
        cause: Cause,
    },
    /// The host is registered.
    Present {
        /// Units that are assigned to it.
        units: usize,
        /// Whether nothing is under way.
        settled: bool,
        /// What doesn't work at present. Units keep running.
        unreachable: Option<Unreachable>,
    },
    /// The whole system goes down, and this many units are still up.
    Leaving {
        /// Units that haven't stopped yet.
        units: usize,
    },
}

/// What doesn't work, and since when: ms since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// The store.
    Store(u64),
    /// This host's systemd.
    Systemd(u64),
    /// The daemon's own files, under `/run/fleet`.
    Files(u64),
}

/// Why a host isn't registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It is about to be.
    Starting,
    /// The store can't be asked, or refuses.
    Store,
    /// This host's systemd doesn't answer.
    Systemd,
    /// Another live host has its machine id.
    Duplicate,
}

/// How soon to look again whether the host is still known to be part of the cluster.
const UNSURE: Duration = Duration::from_millis(500);

/// How far a pass got.
enum Progress {
    /// To its end.
    Done,
    /// It left things as they are: for all this host knows the cluster may have taken it for dead.
    Unsure,
}

/// Why a pass could not be finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Store(#[from] store::Error),
    #[error("{0}")]
    Systemd(systemd::Error),
    /// The daemon's own files can't be read or written; systemd has no part in it.
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
    /// Whose fault it is, for metrics.
    fn class(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Systemd(_) => "systemd",
            Self::Files(_) => "files",
        }
    }
}

/// Why serving ended.
enum End {
    /// The daemon stops.
    Stopped,
    /// The host's presence is gone: register again.
    Lost,
}

/// The agent of one host.
#[derive(Debug)]
pub struct Agent<S, H> {
    store: S,
    host: H,
    options: Options,
    status: watch::Sender<Status>,
    units: Units,
    /// The revision of the host's key as this daemon wrote it last; `None` before, and while an earlier request may yet
    /// be done.
    claimed: Option<Revision>,
    pulse: Heartbeat,
    questions: (mpsc::Sender<Question>, mpsc::Receiver<Question>),
    metrics: Metrics,
}

impl<S: Store, H: Systemd> Agent<S, H> {
    /// An agent, and how it stands from now on.
    pub fn new(store: S, host: H, options: Options) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(Status::Away { why: "starting".into(), cause: Cause::Starting });
        let units = Units::new(options.clock);
        let (pulse, questions, metrics) = (Heartbeat::default(), mpsc::channel(1), Metrics::default());
        (Self { store, host, options, status, units, claimed: None, pulse, questions, metrics }, receiver)
    }

    /// Count what it does in `metrics`.
    #[must_use]
    pub fn measured(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Its sign of life.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        self.pulse.clone()
    }

    /// For whoever wants to look inside while it runs.
    #[must_use]
    pub fn inspector(&self) -> Inspector {
        Inspector::new(self.questions.0.clone())
    }

    /// Run until `stop`. Units and presence are left as they are: whoever comes back goes on with them. Only when the
    /// whole system is going down this waits until its units have stopped, and gives the presence back: nobody will
    /// come back in time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut events = self.host.events();
        *self.units.history() = boot_state::read_history(&self.host).await;
        loop {
            let (lease, ended) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Cancel-safe enough: a lease granted and not noted runs out by itself.
                registered = draining(self.register(), &mut events) => registered,
            };
            for event in ended.into_values() {
                self.units.on_event(&event);
            }
            self.metrics.lease_held(LeaseOf::Presence, true);
            self.units.begin();
            match self.serve(&lease, &mut events, &stop).await {
                End::Stopped => return self.drain_for_shutdown(lease, &mut events).await,
                End::Lost => {
                    self.metrics.lease_lost(LeaseOf::Presence);
                    tracing::warn!("the cluster took this host for dead; registering again");
                    self.status.send_replace(Status::Away { why: "registering again".into(), cause: Cause::Starting });
                }
            }
        }
    }

    async fn serve(
        &mut self,
        lease: &Lease<S>,
        events: &mut mpsc::UnboundedReceiver<Event>,
        stop: &CancellationToken,
    ) -> End {
        let id = self.options.machine.id.clone();
        let mut mirror = Mirror::new(self.store.clone(), &keys::assignments_of(&id));
        let mut backoff = Backoff::new(self.options.ttl, id.as_str());
        // Between passes, each of which shows whether what failed works again; assignments may not change for days.
        let mut retries = backoff.clone();
        let mut store_outage = Outage::new("the store", self.options.clock);
        let mut host_outage = Outage::new("systemd", self.options.clock);
        let mut files_outage = Outage::of_files("/run/fleet", self.options.clock);
        // A new presence begins with a look at everything.
        let mut full_check = Instant::now();
        let mut follow_at = Instant::now();
        let mut retry_at: Option<Instant> = None;
        // While the store doesn't answer: how long the lease lived then, as far as was known. One that lives longer was
        // renewed.
        let mut cut_off: Option<Instant> = None;
        loop {
            self.pulse.beat();
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                () = lease.lost() => return End::Lost,
                () = lease.failing(), if cut_off.is_none() => {
                    store_outage.failed(&"it doesn't answer to keep-alives");
                    cut_off = Some(lease.lives_until());
                    self.tell([&store_outage, &host_outage, &files_outage], retry_at.is_none());
                    continue;
                }
                () = async { lease.renewed_beyond(cut_off.unwrap_or_else(Instant::now)).await },
                    if cut_off.is_some() =>
                {
                    store_outage.works();
                    cut_off = None;
                    self.tell([&store_outage, &host_outage, &files_outage], retry_at.is_none());
                    continue;
                }
                // Both halves are cancel-safe: the wait is to a point in time, and a mirror goes on where it was.
                update = async { tokio::time::sleep_until(follow_at).await; mirror.next().await } => match update {
                    Ok(update) => {
                        store_outage.works();
                        cut_off = None;
                        backoff.reset();
                        self.units.follow(update);
                    }
                    Err(error) => {
                        store_outage.failed(&error);
                        cut_off.get_or_insert(lease.lives_until());
                        follow_at = Instant::now() + backoff.next_wait();
                    }
                },
                // `recv` is cancel-safe; a closed channel would be a dead adapter, which the full check bridges. After
                // the mirror: events are taken below in any case, and a host where something happens all the time must
                // still hear what it is told.
                Some(event) = events.recv() => self.units.on_event(&event),
                Some(question) = self.questions.1.recv() => {
                    question.answer(&self.units);
                    continue;
                }
                () = self.pulse.due() => continue,
                () = tokio::time::sleep_until(retry_at.unwrap_or(full_check)) => {
                    if full_check <= Instant::now() {
                        full_check = Instant::now() + FULL_CHECK;
                        self.units.check_all();
                    }
                }
            }
            let patience = Instant::now() + PATIENCE;
            loop {
                let busy = u32::try_from(self.units.under_way()).unwrap_or(u32::MAX);
                let quiet = Duration::from_millis(1).saturating_mul(busy).clamp(COALESCE.0, COALESCE.1);
                let quiet = patience.min(Instant::now() + quiet);
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(quiet) => break,
                    Some(event) = events.recv() => self.units.on_event(&event),
                    // A failure here is met again by whoever follows next, who counts it.
                    Ok(update) = mirror.next(), if follow_at <= Instant::now() => self.units.follow(update),
                }
            }
            let began = Instant::now();
            let passed = self.pass(lease).await;
            self.metrics.passed(began.elapsed(), passed.as_ref().err().map(Trouble::class));
            self.metrics.queues(self.units.dirty(), self.units.jobs(), events.len());
            retry_at = match passed {
                Ok(Progress::Done) => {
                    host_outage.works();
                    files_outage.works();
                    retries.reset();
                    self.units.next_look().map(|wait| Instant::now() + wait)
                }
                Ok(Progress::Unsure) => Some(Instant::now() + UNSURE),
                Err(Trouble::Store(store::Error::LeaseLost | store::Error::Conflict)) => return End::Lost,
                Err(Trouble::Store(error)) => {
                    store_outage.failed(&error);
                    cut_off.get_or_insert(lease.lives_until());
                    Some(Instant::now() + retries.next_wait())
                }
                Err(Trouble::Systemd(error)) => {
                    host_outage.failed(&error);
                    Some(Instant::now() + retries.next_wait())
                }
                // A pass reads them before it asks systemd anything, and writes them at its end: of systemd this says
                // nothing.
                Err(Trouble::Files(error)) => {
                    files_outage.failed(&error);
                    Some(Instant::now() + retries.next_wait())
                }
            };
            self.tell([&store_outage, &host_outage, &files_outage], retry_at.is_none());
        }
    }

    fn tell(&self, [store, host, files]: [&Outage; 3], done: bool) {
        let unreachable = store.since().map(Unreachable::Store);
        let unreachable = unreachable.or(host.since().map(Unreachable::Systemd));
        let unreachable = unreachable.or(files.since().map(Unreachable::Files));
        let now = Status::Present { units: self.units.len(), settled: done && self.units.is_settled(), unreachable };
        self.status.send_if_modified(|status| {
            let changed = *status != now;
            *status = now;
            changed
        });
    }
}

/// Do `work`, which may take days, and meanwhile don't let `events` pile up. What is left of them is how each unit's
/// last job ended: all else is looked at anyway when a presence begins.
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
