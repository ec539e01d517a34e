//! The clock seam: the only place that reads the time. Waiting uses tokio directly.

use std::sync::atomic::{AtomicI64, Ordering};
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

/// Tells the wall-clock time. Somebody may set it at any moment, so it is for what is shown and stored. How much time
/// has passed is counted by tokio's clock, or by [`Steady`] if it must be a time of day.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// If set, time is counted from this start by tokio's clock, so that a simulation with paused time has one clock.
    virtual_start: Option<(Instant, u64)>,
    /// By how many ms the clock of a simulated host is ahead, if it can be set.
    ahead: Option<&'static AtomicI64>,
    /// When its daemon started, and what it showed then.
    began: (Instant, u64),
    /// How long each computation of a leader takes in a simulation, whose time stands still while it computes.
    computing: Duration,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { virtual_start: None, ahead: None, began: (Instant::now(), 0), computing: Duration::ZERO }.started()
    }

    /// A clock that shows `epoch_ms` now and follows tokio's time.
    #[must_use]
    pub fn simulated(epoch_ms: u64) -> Self {
        let now = Instant::now();
        let (virtual_start, began) = (Some((now, epoch_ms)), (now, epoch_ms));
        Self { virtual_start, ahead: None, began, computing: Duration::ZERO }
    }

    /// This clock, if it is a simulation's, as that of a host on which it can be set: it is ahead by so many ms.
    #[must_use]
    pub fn set_by(self, ahead: &'static AtomicI64) -> Self {
        Self { ahead: Some(ahead), ..self }
    }

    /// This clock for a daemon that starts now.
    #[must_use]
    pub fn started(self) -> Self {
        Self { began: (Instant::now(), self.now_ms()), ..self }
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
        let ahead = self.ahead.map_or(0, |ahead| ahead.load(Ordering::Relaxed));
        ms(since).saturating_add_signed(ahead)
    }

    /// The same, unless the clock was set forward since the daemon started: then what it would show otherwise. What has
    /// passed since a time of day is never more than this says, so that nothing ends early because the clock was set.
    #[must_use]
    pub fn unstepped_ms(&self) -> u64 {
        let (start, showed) = self.began;
        self.now_ms().min(showed.saturating_add(ms(start.elapsed())))
    }
}

/// A time of day that nobody sets: it is read once, and then counted by the monotonic clock.
#[derive(Debug)]
pub struct Steady {
    clock: Clock,
    from: (Instant, u64),
}

impl Steady {
    /// It begins with what `clock` shows, without the steps by which it was set forward.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, from: (Instant::now(), clock.unstepped_ms()) }
    }

    /// Begin again with what the clock shows. What was compared with the time before must not matter any more.
    pub fn begin_again(&mut self) {
        self.from = (Instant::now(), self.clock.now_ms());
    }

    /// The time in ms since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let (start, showed) = self.from;
        showed.saturating_add(ms(start.elapsed()))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_passed_does_not_depend_on_the_clock_being_set() {
        static AHEAD: AtomicI64 = AtomicI64::new(0);
        let clock = Clock::simulated(100_000).set_by(&AHEAD);
        let mut steady = Steady::new(clock);
        // What the clock is ahead by, and what it, the clock without steps and the steady time show a second later.
        for (ahead, shown) in [
            (0, [101_000, 101_000, 101_000]),
            (60_000, [162_000, 102_000, 102_000]),
            (-60_000, [43_000, 43_000, 103_000]),
            (-200_000, [0, 0, 104_000]),
        ] {
            AHEAD.store(ahead, Ordering::Relaxed);
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!([clock.now_ms(), clock.unstepped_ms(), steady.now_ms()], shown, "{ahead}");
        }
        AHEAD.store(60_000, Ordering::Relaxed);
        steady.begin_again();
        let restarted = clock.started();
        assert_eq!([steady.now_ms(), restarted.unstepped_ms(), clock.unstepped_ms()], [164_000, 164_000, 104_000]);
    }
}
