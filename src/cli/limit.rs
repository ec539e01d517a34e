//! How long a command waits, and for which state of the units that it starts. Owns the difference between fleet's
//! `--block-attempts`, which counts for each wait of a command that waits several times, and `--timeout`, which counts
//! once for the whole command.

use std::time::Duration;

use tokio::time::Instant;

use super::args::Block;
use super::wait::Until;

/// The duration of one of fleet's attempts (`--block-attempts`).
const ATTEMPT: Duration = Duration::from_secs(2);

/// What ends the wait of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// How long it waits.
    pub(super) time: Time,
    /// When a unit counts as started.
    pub(super) until: Until,
}

/// How long a command waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// Until it is over.
    Never,
    /// For so long, each time that it waits.
    Each(Duration),
    /// Until `at`, which is `time` after the command began.
    Whole {
        /// When the time is over.
        at: Instant,
        /// The time.
        time: Duration,
    },
}

impl Limit {
    /// The limit that the options ask for, for a command that begins now.
    pub(super) fn begin(block: &Block) -> Self {
        let time = match block.block_attempts {
            0 => Time::after(block.timeout),
            attempts => Time::Each(ATTEMPT * attempts),
        };
        Self { time, until: block.wait }
    }

    /// The limit of a command that begins now and has so much time.
    pub(super) fn after(time: Option<Duration>) -> Self {
        Self { time: Time::after(time), until: Until::default() }
    }

    /// When a wait that begins now ends.
    pub(super) fn deadline(self) -> Option<Instant> {
        match self.time {
            Time::Never => None,
            Time::Each(time) => Instant::now().checked_add(time),
            Time::Whole { at, .. } => Some(at),
        }
    }
}

impl Time {
    fn after(time: Option<Duration>) -> Self {
        // A time that no clock can hold is no limit.
        let whole = time.and_then(|time| Some(Self::Whole { at: Instant::now().checked_add(time)?, time }));
        whole.unwrap_or(Self::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_count_for_each_wait_and_a_timeout_for_the_command() {
        let block = |block_attempts, timeout| Block { no_block: false, block_attempts, timeout, wait: Until::Ready };
        let seconds = Duration::from_secs;
        let (begun, later) = (Instant::now(), seconds(5));
        let limits = [block(0, None), block(3, None), block(0, Some(seconds(60)))].map(|block| Limit::begin(&block));
        tokio::time::advance(later).await;
        let deadlines = limits.map(Limit::deadline);
        assert_eq!(deadlines, [None, Some(begun + later + seconds(6)), Some(begun + seconds(60))]);
        assert_eq!(Limit::after(Some(Duration::MAX)).time, Time::Never);
    }
}
