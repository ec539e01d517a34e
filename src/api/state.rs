//! What all requests share: the store's reader, the clock, the daemon's health. Owns what a failure means to whoever asked.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::registry::apply::{self, Applied, Why};
use crate::registry::units::Intent;
use crate::registry::view::Reader;
use crate::store::{Error as StoreError, Store};

use super::error::Failure;
use super::health::{self, Health};

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            page_limit: 100,
            request_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            body_limit: 4 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// What all requests share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api<S> {
    pub(super) reader: Reader<S>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    host: Arc<str>,
    health: watch::Receiver<Health>,
    /// Cancelled when the server stops: streams have no end of their own.
    pub(super) stop: CancellationToken,
}

impl<S: Store> Api<S> {
    /// The API of the `fleetd` on `host` over `store`, answering while `health` is [`Health::Ready`].
    #[must_use]
    pub fn new(store: S, clock: Clock, host: &str, health: watch::Receiver<Health>, settings: Settings) -> Self {
        // Pages of nothing would have no end.
        let settings = Settings { page_limit: settings.page_limit.max(1), ..settings };
        let (reader, stop) = (Reader::new(store), CancellationToken::new());
        Self { reader, clock, settings, host: host.into(), health, stop }
    }

    /// What a failure of the store means to whoever asked; nothing was changed.
    pub(super) fn failed(&self, error: &StoreError) -> Failure {
        self.store_failure(error, health::NOTHING_CHANGED)
    }

    /// A failure of the store after which a change may have been made.
    pub(super) fn failed_maybe(&self, error: &StoreError) -> Failure {
        self.store_failure(error, health::MAYBE_CHANGED)
    }

    fn store_failure(&self, error: &StoreError, then: &str) -> Failure {
        match error {
            StoreError::Unavailable(why) => {
                let known = self.waiting();
                let first = known.unwrap_or_else(|| format!("fleetd on {} can't reach its store: {why}", self.host));
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
    pub(super) fn waiting(&self) -> Option<String> {
        match &*self.health.borrow() {
            Health::Ready => None,
            Health::Waiting { what, since } => Some(health::sentence(&self.host, what, *since, self.clock.now_ms())),
        }
    }

    /// Do what `intents` say.
    pub(super) async fn apply(&self, intents: &[Intent]) -> Result<Applied, Failure> {
        let error = match apply::apply(&self.reader, intents, self.clock.now_ms()).await {
            Ok(applied) => return Ok(applied),
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
