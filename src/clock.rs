//! The clock seam: the only place that reads the time. Waiting uses tokio directly.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The time of day, such as `10:04:17 UTC`; `ms` since the epoch.
#[must_use]
pub fn utc(ms: u64) -> String {
    format!("{}:{:02} UTC", minute(ms), ms / 1000 % 60)
}

/// The time of day, such as `10:04 UTC`; `ms` since the epoch.
#[must_use]
pub fn utc_minute(ms: u64) -> String {
    format!("{} UTC", minute(ms))
}

fn minute(ms: u64) -> String {
    let minute = ms / 60_000;
    format!("{:02}:{:02}", minute / 60 % 24, minute % 60)
}

/// `CLOCK_MONOTONIC` at the instant `at`, in µs. It is never later than the truth, also if this process stands still
/// while it is computed.
#[must_use]
pub fn monotonic_us(at: Instant) -> u64 {
    // The clock before the instant: a pause between the two makes the result too early.
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let clock = u64::try_from(clock.tv_sec * 1_000_000 + clock.tv_nsec / 1_000).unwrap_or_default();
    let now = Instant::now();
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    match at.checked_duration_since(now) {
        Some(ahead) => clock.saturating_add(us(ahead)),
        None => clock.saturating_sub(us(now - at)),
    }
}

/// Tells the wall-clock time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// If set, time is counted from this start by tokio's clock, so that a simulation with paused time has one clock.
    virtual_start: Option<(Instant, u64)>,
    /// How long each computation of a leader takes in a simulation, whose time stands still while it computes.
    computing: Duration,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { virtual_start: None, computing: Duration::ZERO }
    }

    /// A clock that shows `epoch_ms` now and follows tokio's time.
    #[must_use]
    pub fn simulated(epoch_ms: u64) -> Self {
        Self { virtual_start: Some((Instant::now(), epoch_ms)), computing: Duration::ZERO }
    }

    /// This clock, if it is a simulation's, in which each computation of a leader takes this long.
    #[must_use]
    pub fn computing(self, each: Duration) -> Self {
        Self { computing: each, ..self }
    }

    /// How long a computation takes; `None` if that isn't simulated.
    #[must_use]
    pub fn simulated_computing(&self) -> Option<Duration> {
        self.virtual_start.map(|_| self.computing)
    }

    /// The time in ms since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let since = match self.virtual_start {
            Some((start, epoch_ms)) => start.elapsed() + Duration::from_millis(epoch_ms),
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        };
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
