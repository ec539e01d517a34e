//! The clock seam: the one place that asks what time it is. Waiting is tokio's; telling is here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// `10:04:17 UTC`: when it was on that day, for a sentence; `ms` since the epoch.
#[must_use]
pub fn utc(ms: u64) -> String {
    format!("{}:{:02} UTC", minute(ms), ms / 1000 % 60)
}

/// `10:04 UTC`
#[must_use]
pub fn utc_minute(ms: u64) -> String {
    format!("{} UTC", minute(ms))
}

fn minute(ms: u64) -> String {
    let minute = ms / 60_000;
    format!("{:02}:{:02}", minute / 60 % 24, minute % 60)
}

/// Tells the time of day.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// With a start, time is counted from it by tokio, so that a simulation that pauses tokio's time has one clock.
    virtual_start: Option<(Instant, u64)>,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { virtual_start: None }
    }

    /// A clock that shows `epoch_ms` now and goes as tokio's time does.
    #[must_use]
    pub fn simulated(epoch_ms: u64) -> Self {
        Self { virtual_start: Some((Instant::now(), epoch_ms)) }
    }

    /// Now, ms since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let since = match self.virtual_start {
            Some((start, epoch_ms)) => start.elapsed() + Duration::from_millis(epoch_ms),
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        };
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
