//! A part of the store that a presence follows, and the pause after it could not be read. Owns when it is read next.
//! Must never know what else is followed: what fails for one part says little of another, and delays nothing there.

use tokio::time::{Instant, sleep_until};

use crate::reconcile::Backoff;
use crate::registry::mirror::{Mirror, Update};
use crate::store::{Error, Store};

/// A mirror, read without a pause until it fails.
pub(super) struct Followed<S> {
    mirror: Mirror<S>,
    backoff: Backoff,
    /// When it is read next: in the past, unless it fails.
    at: Instant,
    failing: bool,
}

impl<S: Store> Followed<S> {
    /// Follow the keys that begin with `prefix`.
    pub(super) fn new(store: S, prefix: &str, backoff: Backoff) -> Self {
        Self { mirror: Mirror::new(store, prefix), backoff, at: Instant::now(), failing: false }
    }

    /// The next update, not before the pause is over. Cancel-safe.
    ///
    /// # Errors
    /// As [`Mirror::next`].
    pub(super) async fn next(&mut self) -> Result<Update, Error> {
        sleep_until(self.at).await;
        self.mirror.next().await
    }

    /// Whether it is read without a pause.
    pub(super) fn is_due(&self) -> bool {
        self.at <= Instant::now()
    }

    /// It was read. Returns whether it had failed before.
    pub(super) fn works(&mut self) -> bool {
        self.backoff.reset();
        std::mem::take(&mut self.failing)
    }

    /// It could not be read: pause.
    pub(super) fn fails(&mut self) {
        self.failing = true;
        self.at = Instant::now() + self.backoff.next_wait();
    }

    /// The store answers, as far as is known: don't wait until the pause is over. What was read may be as old as the
    /// outage.
    pub(super) fn retry(&mut self) {
        self.at = self.at.min(Instant::now());
    }
}
