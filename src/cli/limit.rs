//! How long a command waits. Owns the difference between fleet's `--block-attempts`, which counts for each wait of a
//! command that waits several times, and `--timeout`, which counts once for the whole command.

use std::time::Duration;

use tokio::time::Instant;

use super::args::Block;

/// The duration of one of fleet's attempts (`--block-attempts`).
const ATTEMPT: Duration = Duration::from_secs(2);

/// How long a command waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
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
        match block.block_attempts {
            0 => Self::after(block.timeout),
            attempts => Self::Each(ATTEMPT * attempts),
        }
    }

    /// The limit of a command that begins now and has so much time.
    pub(super) fn after(time: Option<Duration>) -> Self {
        // A time that no clock can hold is no limit.
        let whole = time.and_then(|time| Some(Self::Whole { at: Instant::now().checked_add(time)?, time }));
        whole.unwrap_or(Self::Never)
    }

    /// When a wait that begins now ends.
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Never => None,
            Self::Each(time) => Instant::now().checked_add(time),
            Self::Whole { at, .. } => Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_count_for_each_wait_and_a_timeout_for_the_command() {
        let block = |block_attempts, timeout| Block { no_block: false, block_attempts, timeout };
        let seconds = Duration::from_secs;
        let (begun, later) = (Instant::now(), seconds(5));
        let limits = [block(0, None), block(3, None), block(0, Some(seconds(60)))].map(|block| Limit::begin(&block));
        tokio::time::advance(later).await;
        let deadlines = limits.map(Limit::deadline);
        assert_eq!(deadlines, [None, Some(begun + later + seconds(6)), Some(begun + seconds(60))]);
        assert_eq!(Limit::after(Some(Duration::MAX)), Limit::Never);
    }
}
