//! What both loops share: backoff between attempts, logging of an outage once at its start and once at its end, and a
//! heartbeat. Owns no task and makes no decision.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;

/// The first wait after a failure.
const FIRST: Duration = Duration::from_millis(50);

/// The longest wait, however long the TTL: a store that comes back should be used again before an operator notices.
const LONGEST: Duration = Duration::from_secs(2);

/// Exponential backoff: doubled each time, with a jitter of up to a quarter, and bounded well below a third of the
/// presence TTL, so that a store that comes back is used by all hosts before any lease expires.
#[derive(Debug, Clone)]
pub struct Backoff {
    limit: Duration,
    next: Duration,
    spread: u64,
}

impl Backoff {
    /// For leases of `ttl`. `salt` differs between hosts, so that they don't all retry at once. The jitter isn't
    /// random, so that a simulation is reproducible.
    #[must_use]
    pub fn new(ttl: Duration, salt: &str) -> Self {
        let spread = salt
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { limit: (ttl / 5).min(LONGEST), next: FIRST, spread }
    }

    /// An attempt succeeded: begin with short waits again.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next.min(self.limit);
        self.next = (self.next * 2).min(self.limit);
        self.spread = self.spread.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let quarter = u32::try_from(self.spread >> 54).unwrap_or_default(); // 10 bits
        wait - wait * quarter / 4096
    }

    /// Wait for [`Self::next_wait`].
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_wait()).await;
    }
}

/// Logs an outage once at its start and once at its end.
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    /// The wording of an outage and of its end.
    words: (&'static str, &'static str),
    clock: Clock,
    since: Option<(u64, String)>,
}

impl Outage {
    /// An outage of `what`: `the store`, `systemd`.
    #[must_use]
    pub fn new(what: &'static str, clock: Clock) -> Self {
        Self { what, words: ("unreachable", "reachable again"), clock, since: None }
    }

    /// An outage of the files under `what`.
    #[must_use]
    pub fn of_files(what: &'static str, clock: Clock) -> Self {
        Self { what, words: ("unusable", "usable again"), clock, since: None }
    }

    /// A failure. The first one, and each one with another reason, is logged as a warning.
    pub fn failed(&mut self, error: &dyn std::fmt::Display) {
        let error = error.to_string();
        match &mut self.since {
            Some((_, last)) if *last == error => {}
            Some((_, last)) => {
                tracing::warn!(error, "{} is still {}", self.what, self.words.0);
                *last = error;
            }
            None => {
                tracing::warn!(error, "{} is {}; units keep running", self.what, self.words.0);
                self.since = Some((self.clock.now_ms(), error));
            }
        }
    }

    /// Since when the outage lasts, in ms since the epoch.
    #[must_use]
    pub fn since(&self) -> Option<u64> {
        self.since.as_ref().map(|(since, _)| *since)
    }

    /// Since when the outage lasts, in ms since the epoch, and the last error.
    #[must_use]
    pub fn cause(&self) -> Option<(u64, String)> {
        self.since.clone()
    }

    /// A success.
    pub fn works(&mut self) {
        if let Some((since, _)) = self.since.take() {
            let seconds = self.clock.now_ms().saturating_sub(since) / 1000;
            tracing::info!(seconds, "{} is {}", self.what, self.words.1);
        }
    }
}

/// The heartbeat of a loop: given in every iteration, between the steps of its work, and every [`Heartbeat::EVERY`]
/// while it is idle. A loop without a heartbeat hangs. Clones share it.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    begun: Instant,
    /// The last beat, in ms after `begun`.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { begun: Instant::now(), last: Arc::default() }
    }
}

impl Heartbeat {
    /// How often an idle loop beats.
    pub const EVERY: Duration = Duration::from_secs(10);

    /// The loop is alive.
    pub fn beat(&self) {
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    /// Resolves when an idle loop must beat: a branch of its `select!`. Cancel-safe.
    pub async fn due(&self) {
        tokio::time::sleep(Self::EVERY).await;
    }

    /// Beat during `work`, which takes long and has a timeout of its own.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.due() => self.beat(),
            }
        }
    }

    /// How long ago the last beat was.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_under_a_third_of_the_ttl() {
        let ttl = Duration::from_secs(3);
        let mut backoff = Backoff::new(ttl, "n1");
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST * 3 / 4, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait < ttl / 3), "{waits:?}");
        assert!(waits[19] > ttl / 10, "{waits:?}");
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
