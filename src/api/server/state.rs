//! What all requests share: the store's reader, the clock, the daemon's health. Owns how failures are presented to a
//! client.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::author::Author;
use crate::model::name::{MachineId, UnitName};
use crate::model::rollout::Request;
use crate::model::unit::Outcome;
use crate::plan::host::local::HostView;
use crate::plan::schedule::Brake;
use crate::registry::apply::{self, Applied, Trial, Why};
use crate::registry::ask::{self, Refusal as AskRefusal};
use crate::registry::metadata::Refusal;
use crate::registry::reader::Reader;
use crate::registry::records::leader::LeaderRecord;
use crate::registry::sight::{LastSeen, Sight};
use crate::registry::units::Intent;
use crate::registry::watch::shared::Shared;
use crate::store::{Error as StoreError, Store};

use super::caller::Caller;
use super::error::Failure;
use super::health::{self, Health, Remedy};
use super::places::Limits;
use crate::api::wire::BODY_LIMIT;

/// Others were faster, again and again.
const CONTENDED: &str = "others change the same units all the time; nothing more was changed. Try again";

/// Settings that operators and tests may change.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// v1: items on a page (fleet's `token_limit`).
    pub page_limit: u16,
    /// The deadline for an answer, counted from when the body has arrived; after it the answer is 503.
    pub request_timeout: Duration,
    /// v2: the interval of heartbeats on an idle watch.
    pub heartbeat: Duration,
    /// The most bytes of a request's body.
    pub body_limit: usize,
    /// The time within which a body must have arrived (408).
    pub body_timeout: Duration,
    /// The time within which a request's head must have arrived (408 once it has begun); an idle connection is closed
    /// after it.
    pub head_timeout: Duration,
    /// v2: how long the shared copy of the cluster is kept after its last watcher.
    pub linger: Duration,
    /// v2: a watch whose client reads nothing for this long is closed.
    pub patience: Duration,
    /// How long requests in progress may take to finish when the daemon stops.
    pub grace: Duration,
    /// How much may be in progress at once on each listener.
    pub limits: Limits,
    /// v2: when the leader holds the units of hosts that are gone, for plans.
    pub brake: Brake,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            page_limit: 100,
            request_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            linger: Duration::from_secs(60),
            body_limit: BODY_LIMIT,
            body_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            grace: Duration::from_secs(3),
            limits: Limits::default(),
            brake: Brake::off(),
        }
    }
}

/// What this host knows without the store, and when.
#[derive(Debug, Clone)]
pub struct Own {
    /// The host and its units.
    pub view: HostView,
    /// ms since the epoch.
    pub at: u64,
    /// Since when the store has been unreachable, ms since the epoch.
    pub since: Option<u64>,
}

/// Asks this host for [`Own`]; the error is a sentence. Costs nothing until it is called.
#[derive(Clone)]
pub struct AskHost(Arc<dyn Fn() -> Asking + Send + Sync>);

type Asking = Pin<Box<dyn Future<Output = Result<Own, String>> + Send>>;

impl AskHost {
    /// Asks the host by calling `ask`.
    pub fn new<F: Future<Output = Result<Own, String>> + Send + 'static>(
        ask: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move || Box::pin(ask())))
    }
}

impl fmt::Debug for AskHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskHost").finish_non_exhaustive()
    }
}

/// What all requests share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api<S> {
    pub(super) reader: Reader<S>,
    pub(super) shared: Shared<S>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    /// v2: held by the plan that is being computed.
    pub(super) planning: Arc<Mutex<()>>,
    host: Arc<str>,
    machine: Option<MachineId>,
    ask_host: Option<AskHost>,
    sight: watch::Receiver<Sight>,
    health: watch::Receiver<Health>,
    /// Initially as in `settings`; may be changed later.
    page_limit: Arc<AtomicU16>,
    /// Cancelled when the server stops, since streams don't end by themselves.
    pub(super) stop: CancellationToken,
}

impl<S: Store> Api<S> {
    /// The API of the `fleetd` on `host` over `store`, which answers while `health` is [`Health::Ready`].
    #[must_use]
    pub fn new(store: S, clock: Clock, host: &str, health: watch::Receiver<Health>, settings: Settings) -> Self {
        // Empty pages would never end.
        let page_limit = Arc::new(AtomicU16::new(settings.page_limit.max(1)));
        let (reader, stop) = (Reader::new(store), CancellationToken::new());
        let shared = Shared::new(reader.clone(), settings.linger, clock);
        let (host, metrics, machine, ask_host) = (host.into(), Metrics::default(), None, None);
        let sight = watch::Sender::default().subscribe();
        let planning = Arc::default();
        Self {
            reader,
            shared,
            clock,
            settings,
            metrics,
            planning,
            host,
            machine,
            ask_host,
            sight,
            health,
            page_limit,
            stop,
        }
    }

    /// Count answers in `metrics`, and serve these metrics.
    #[must_use]
    pub fn measured(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same, for the host with this machine id.
    #[must_use]
    pub fn on(self, machine: MachineId) -> Self {
        Self { machine: Some(machine), ..self }
    }

    /// The same, which can also answer for its own host without the store.
    #[must_use]
    pub fn asking_host(self, ask: AskHost) -> Self {
        Self { ask_host: Some(ask), ..self }
    }

    /// The same, which can also show what this host's engine saw last of the cluster.
    #[must_use]
    pub fn with_sight(self, sight: watch::Receiver<Sight>) -> Self {
        Self { sight, ..self }
    }

    /// The cluster as this daemon saw it last, if the store is unreachable and something of this daemon had a copy of
    /// the cluster then: its engine, if it leads, or its watchers.
    pub(super) fn last_seen(&self) -> Option<LastSeen> {
        let of_engine = self.sight.borrow().cluster.clone();
        of_engine.or_else(|| self.shared.last_seen())
    }

    /// The leader, as this daemon's engine has seen it last.
    pub(super) fn last_leader(&self) -> Option<LeaderRecord> {
        self.sight.borrow().leader.clone()
    }

    /// What this host knows without the store.
    pub(super) async fn own(&self) -> Result<Own, Failure> {
        let Some(AskHost(ask)) = &self.ask_host else {
            return Err(Failure::unavailable(format!("fleetd on {} knows nothing without the store", self.host)));
        };
        ask().await.map_err(|why| Failure::unavailable(format!("fleetd on {} can't ask its host: {why}", self.host)))
    }

    /// The host of this `fleetd`: its machine id and its name.
    pub(super) fn here(&self) -> (Option<MachineId>, String) {
        (self.machine.clone(), self.host.to_string())
    }

    /// v1: items on a page.
    pub(super) fn page_limit(&self) -> u16 {
        self.page_limit.load(Ordering::Relaxed)
    }

    /// Change it for subsequent requests, in all clones.
    pub fn set_page_limit(&self, limit: u16) {
        self.page_limit.store(limit.max(1), Ordering::Relaxed);
    }

    /// Wait for a short while until the daemon is registered. Fails with the reason why it can't answer requests yet.
    pub(super) async fn ready(&self) -> Result<(), Failure> {
        health::settled(&self.health, self.clock).await;
        self.not_ready().map_or(Ok(()), |(why, remedy)| {
            Err(Failure::unavailable(format!("{why}\n{}", health::nothing_changed(remedy))))
        })
    }

    /// The error for a failure of the store before anything was changed.
    pub(super) fn failed(&self, error: &StoreError) -> Failure {
        self.store_failure(error, &health::nothing_changed(Remedy::Store))
    }

    /// The error for a failure of the store after which a change may have been made.
    pub(super) fn failed_maybe(&self, error: &StoreError) -> Failure {
        self.store_failure(error, health::MAYBE_CHANGED)
    }

    /// The error for a refused change of metadata.
    pub(super) fn metadata_refused(&self, refusal: Refusal) -> Failure {
        match refusal {
            Refusal::TooLarge(message) => Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message),
            Refusal::TooMuch(message) => Failure::bad_request(message),
            Refusal::Store(error) => self.failed(&error),
            Refusal::Unknown(error) => self.failed_maybe(&error),
        }
    }

    fn store_failure(&self, error: &StoreError, then: &str) -> Failure {
        match error {
            StoreError::Unavailable(why) => {
                let first = self.not_ready().map_or_else(
                    || format!("fleetd on {} can't reach its store: {why}", self.host),
                    |(first, _)| first,
                );
                Failure::unavailable(format!("{first}\n{then}"))
            }
            StoreError::Refused(why) => Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the store of fleetd on {} refuses: {why}", self.host),
            ),
            other => Failure::new(StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
        }
    }

    /// Whether this daemon is registered, and what it waits for if it isn't.
    pub(super) fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    fn not_ready(&self) -> Option<(String, Remedy)> {
        match &*self.health.borrow() {
            Health::Ready => None,
            Health::Waiting { what, since, remedy } => {
                Some((health::sentence(&self.host, what, *since, self.clock.now_ms()), *remedy))
            }
        }
    }

    /// What `intents` would do at the request of `caller`.
    pub(super) async fn dry_run(&self, intents: &[Intent], caller: &Caller) -> Result<Applied, Failure> {
        caller.check_changes(intents)?;
        let outcome = apply::dry_run(&self.reader, intents).await.map_err(|error| self.failed(&error))?;
        outcome.map_err(Failure::problems)
    }

    /// What `intents` would change at the request of `caller`, and the cluster that they would change.
    pub(super) async fn trial(&self, intents: &[Intent], caller: &Caller) -> Result<Trial, Failure> {
        caller.check_changes(intents)?;
        apply::trial(&self.reader, intents, self.clock.now_ms()).await.map_err(|why| self.not_tried(why))
    }

    /// Why it isn't known what a batch would change.
    pub(super) fn not_tried(&self, why: Why) -> Failure {
        match why {
            Why::Problems(problems) => Failure::problems(problems),
            Why::Store(error) | Why::Unknown(error) => self.failed(&error),
            Why::Contended => Failure::new(StatusCode::CONFLICT, CONTENDED),
        }
    }

    /// Who `caller` is, as this daemon records it.
    pub(super) fn author(&self, caller: &Caller) -> Author {
        Author { host: self.machine.clone(), ..caller.peer.author() }
    }

    /// Ask something of a rollout at the request of `caller`. The answer waits for nothing.
    pub(super) async fn ask(&self, name: &UnitName, what: Request, caller: &Caller) -> Result<(), AskRefusal> {
        let by = self.author(caller);
        let generation = ask::ask(&self.reader, name, what, &by).await?;
        tracing::info!(%by, %generation, "asked of the rollout of {name}: {what}");
        Ok(())
    }

    /// Carry out `intents` at the request of `caller`.
    pub(super) async fn apply(&self, intents: &[Intent], caller: &Caller) -> Result<Applied, Failure> {
        caller.check_changes(intents)?;
        let by = self.author(caller);
        let error = match apply::apply(&self.reader, intents, &by, self.clock.now_ms()).await {
            Ok(applied) => {
                self.shared.committed(applied.revision);
                log_changes(&applied, &by);
                return Ok(applied);
            }
            Err(error) => error,
        };
        let mut failure = match error.why {
            Why::Problems(problems) => Failure::problems(problems),
            Why::Store(store) if error.done == 0 => self.failed(&store),
            Why::Store(store) | Why::Unknown(store) => self.failed_maybe(&store),
            Why::Contended => Failure::new(StatusCode::CONFLICT, CONTENDED),
        };
        if error.done > 0 {
            let (done, all) = (error.done, error.all);
            failure.message =
                format!("{}\n{done} of {all} units were changed before that; send the batch again", failure.message);
        }
        Err(failure)
    }
}

/// One log line for each request that changes units, regardless of their number.
fn log_changes(applied: &Applied, by: &Author) {
    const NAMED: usize = 8;
    let is_change =
        |outcome| !matches!(outcome, Outcome::Unchanged | Outcome::Differs | Outcome::Leaving | Outcome::Absent);
    let changed = applied.units.iter().filter(|unit| is_change(unit.outcome) || unit.comments);
    let changed: Vec<&str> = changed.map(|unit| unit.name.as_str()).collect();
    let (named, rest) = changed.split_at(changed.len().min(NAMED));
    match rest.len() {
        0 if named.is_empty() => {}
        0 => tracing::info!(%by, "changed: {}", named.join(" ")),
        more => tracing::info!(%by, "changed: {} and {more} more", named.join(" ")),
    }
}
