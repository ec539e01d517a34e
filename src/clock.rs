//! The clock seam: the one place that asks the time. Owns nothing else; it must never be used to order changes (the
//! store's revisions do that), only to tell people when something happened.

use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Inner);

#[derive(Debug, Clone, Copy)]
enum Inner {
    System,
}

impl Clock {
    /// The host's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Inner::System)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match self.0 {
            Inner::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}
