//! What all requests share: the store's reader, the clock, the daemon's health. Owns what a failure means to whoever
//! asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::author::Author;
use crate::model::name::MachineId;
use crate::model::unit::Outcome;
use crate::registry::apply::{self, Applied, Why};
use crate::registry::metadata::Refusal;
use crate::registry::reader::Reader;
use crate::registry::units::Intent;
use crate::registry::watch::shared::Shared;
use crate::store::{Error as StoreError, Store};

use super::error::Failure;
use super::health::{self, Health, Remedy};
use super::peer::Peer;
use super::places::Limits;
use crate::api::wire::BODY_LIMIT;

/// What an operator or a test may want different.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// v1: entries on a page (fleet's `token_limit`).
    pub page_limit: u16,
    /// A request that isn't answered so long after its body came is answered 503.
    pub request_timeout: Duration,
    /// v2: a watch without news says that it lives, so often.
    pub heartbeat: Duration,
    /// The most bytes of a request's body.
    pub body_limit: usize,
    /// A body that hasn't come after this is given up (408).
    pub body_timeout: Duration,
    /// A client has so long to send a request's head (408 once it has begun); an idle connection lives as long.
    pub head_timeout: Duration,
    /// v2: a picture of the cluster that watchers share is kept for so long after the last of them.
    pub linger: Duration,
    /// v2: a client that reads nothing of its watch for so long has lost interest.
    pub patience: Duration,
    /// Requests under way have so long to end when the daemon stops.
    pub grace: Duration,
    /// How much may go on at once on each listener.
    pub limits: Limits,
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
        }
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
    host: Arc<str>,
    machine: Option<MachineId>,
    health: watch::Receiver<Health>,
    /// As in `settings`, and as it may have been changed since.
    page_limit: Arc<AtomicU16>,
    /// Cancelled when the server stops: streams have no end of their own.
    pub(super) stop: CancellationToken,
}

impl<S: Store> Api<S> {
    /// The API of the `fleetd` on `host` over `store`, answering while `health` is [`Health::Ready`].
    #[must_use]
    pub fn new(store: S, clock: Clock, host: &str, health: watch::Receiver<Health>, settings: Settings) -> Self {
        // Pages of nothing would have no end.
        let page_limit = Arc::new(AtomicU16::new(settings.page_limit.max(1)));
        let (reader, stop) = (Reader::new(store), CancellationToken::new());
        let shared = Shared::new(reader.clone(), settings.linger);
        let (host, metrics, machine) = (host.into(), Metrics::default(), None);
        Self { reader, shared, clock, settings, metrics, host, machine, health, page_limit, stop }
    }

    /// Count what it answers in `metrics`, and show all that is counted there.
    #[must_use]
    pub fn measured(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same, of the host with this machine id.
    #[must_use]
    pub fn on(self, machine: MachineId) -> Self {
        Self { machine: Some(machine), ..self }
    }

    /// The host whose `fleetd` this is: its machine id and its name.
    pub(super) fn here(&self) -> (Option<MachineId>, String) {
        (self.machine.clone(), self.host.to_string())
    }

    /// v1: entries on a page.
    pub(super) fn page_limit(&self) -> u16 {
        self.page_limit.load(Ordering::Relaxed)
    }

    /// Change that for requests from now on, in all clones.
    pub fn set_page_limit(&self, limit: u16) {
        self.page_limit.store(limit.max(1), Ordering::Relaxed);
    }

    /// Wait for the daemon to be registered, for a short while.
    pub(super) async fn settled(&self) {
        health::settled(&self.health, self.clock).await;
    }

    /// What a failure of the store means to whoever asked; nothing was changed.
    pub(super) fn failed(&self, error: &StoreError) -> Failure {
        self.store_failure(error, &health::nothing_changed(Remedy::Store))
    }

    /// A failure of the store after which a change may have been made.
    pub(super) fn failed_maybe(&self, error: &StoreError) -> Failure {
        self.store_failure(error, health::MAYBE_CHANGED)
    }

    /// Why metadata aren't changed.
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

    /// Why requests can't be answered now.
    pub(super) fn waiting(&self) -> Option<Failure> {
        self.not_ready()
            .map(|(why, remedy)| Failure::unavailable(format!("{why}\n{}", health::nothing_changed(remedy))))
    }

    fn not_ready(&self) -> Option<(String, Remedy)> {
        match &*self.health.borrow() {
            Health::Ready => None,
            Health::Waiting { what, since, remedy } => {
                Some((health::sentence(&self.host, what, *since, self.clock.now_ms()), *remedy))
            }
        }
    }

    /// What would become of `intents`.
    pub(super) async fn dry_run(&self, intents: &[Intent]) -> Result<Applied, Failure> {
        let outcome = apply::dry_run(&self.reader, intents).await.map_err(|error| self.failed(&error))?;
        outcome.map_err(Failure::problems)
    }

    /// Who `peer` is, in this daemon's words.
    pub(super) fn author(&self, peer: &Peer) -> Author {
        Author { host: self.machine.clone(), ..peer.author() }
    }

    /// Do what `intents` say, at the request of `peer`.
    pub(super) async fn apply(&self, intents: &[Intent], peer: &Peer) -> Result<Applied, Failure> {
        let by = self.author(peer);
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
            Why::Contended => {
                let message = "others change the same units all the time; nothing more was changed. Try again";
                Failure::new(StatusCode::CONFLICT, message)
            }
        };
        if error.done > 0 {
            let (done, all) = (error.done, intents.len());
            failure.message =
                format!("{}\n{done} of {all} units were changed before that; send the batch again", failure.message);
        }
        Err(failure)
    }
}

/// One line for each request that changes units, however many.
fn log_changes(applied: &Applied, by: &Author) {
    const NAMED: usize = 8;
    let is_change =
        |outcome| !matches!(outcome, Outcome::Unchanged | Outcome::Differs | Outcome::Leaving | Outcome::Absent);
    let changed = applied.units.iter().filter(|unit| is_change(unit.outcome));
    let changed: Vec<&str> = changed.map(|unit| unit.name.as_str()).collect();
    let (named, rest) = changed.split_at(changed.len().min(NAMED));
    match rest.len() {
        0 if named.is_empty() => {}
        0 => tracing::info!(%by, "changed: {}", named.join(" ")),
        more => tracing::info!(%by, "changed: {} and {more} more", named.join(" ")),
    }
}
