//! What the two loops share: how long to wait before trying again, and saying once that something is out of reach and
//! once that it is back; and a sign of life. Owns no task and makes no decision.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;

/// The first wait after a failure.
const FIRST: Duration = Duration::from_millis(50);

/// No wait is longer, however long the TTL: a store that returns should be noticed before a person wonders.
const LONGEST: Duration = Duration::from_secs(2);

/// Growing waits between attempts: doubled each time, spread by up to a quarter, bounded well below a third of the
/// presence TTL, so that a store that returns finds all hosts before any lease ends.
#[derive(Debug, Clone)]
pub struct Backoff {
    limit: Duration,
    next: Duration,
    spread: u64,
}

impl Backoff {
    /// For leases of `ttl`. `salt` differs between hosts, so that they don't all come back at once; no randomness, so
    /// that a simulation repeats itself.
    #[must_use]
    pub fn new(ttl: Duration, salt: &str) -> Self {
        let spread = salt
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { limit: (ttl / 5).min(LONGEST), next: FIRST, spread }
    }

    /// It worked: begin with short waits again.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }

    /// How long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next.min(self.limit);
        self.next = (self.next * 2).min(self.limit);
        self.spread = self.spread.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let quarter = u32::try_from(self.spread >> 54).unwrap_or_default(); // 10 bits
        wait - wait * quarter / 4096
    }

    /// Wait.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_wait()).await;
    }
}

/// Logs once that something doesn't work, and once that it works again.
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    /// How a failure and its end are worded.
    words: (&'static str, &'static str),
    clock: Clock,
    since: Option<(u64, String)>,
}

impl Outage {
    /// `what` is out of reach or not: `the store`, `systemd`.
    #[must_use]
    pub fn new(what: &'static str, clock: Clock) -> Self {
        Self { what, words: ("out of reach", "back"), clock, since: None }
    }

    /// The files under `what` can be read and written or not.
    #[must_use]
    pub fn of_files(what: &'static str, clock: Clock) -> Self {
        Self { what, words: ("unusable", "usable again"), clock, since: None }
    }

    /// It failed. The first failure, and each with another reason, is a warning.
    pub fn failed(&mut self, error: &dyn std::fmt::Display) {
        let error = error.to_string();
        match &mut self.since {
            Some((_, last)) if *last == error => {}
            Some((_, last)) => {
                tracing::warn!(error, "{} is still {}", self.what, self.words.0);
                *last = error;
            }
            None => {
                tracing::warn!(error, "{} is {}; units go on running", self.what, self.words.0);
                self.since = Some((self.clock.now_ms(), error));
            }
        }
    }

    /// Since when it doesn't work, ms since the epoch.
    #[must_use]
    pub fn since(&self) -> Option<u64> {
        self.since.as_ref().map(|(since, _)| *since)
    }

    /// It worked.
    pub fn works(&mut self) {
        if let Some((since, _)) = self.since.take() {
            let seconds = self.clock.now_ms().saturating_sub(since) / 1000;
            tracing::info!(seconds, "{} is {}", self.what, self.words.1);
        }
    }
}

/// A sign of life: its loop gives one at every turn, between the steps of its work, and, while it has nothing to do,
/// every [`Heartbeat::EVERY`]. A loop that gives none waits for something that doesn't come. Clones share it.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    begun: Instant,
    /// ms after `begun`.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { begun: Instant::now(), last: Arc::default() }
    }
}

impl Heartbeat {
    /// How often a loop without work beats.
    pub const EVERY: Duration = Duration::from_secs(10);

    /// The loop is alive.
    pub fn beat(&self) {
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    /// When a loop that waits for work must beat: a branch of its `select!`. Cancel-safe.
    pub async fn due(&self) {
        tokio::time::sleep(Self::EVERY).await;
    }

    /// Beat while `work` goes on: it takes long, and gives up by itself.
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

    /// For how long it has been silent.
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
