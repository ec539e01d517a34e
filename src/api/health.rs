//! Whether this daemon can answer for the cluster, and the sentence for when it can't. Owns those words; who finds out is
//! the daemon.

use tokio::sync::watch;

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Registered: requests are answered.
    Ready,
    /// Not (yet, or not any more): every request is answered with the reason.
    Waiting {
        /// What `fleetd on <host>` does or can't do: `can't reach its store: etcd at 10.88.0.1:2379 refuses connections`.
        what: String,
        /// Since when, ms since the epoch.
        since: u64,
    },
}

/// A handle for the daemon to tell, and one for the API to ask.
#[must_use]
pub fn channel(first: Health) -> (watch::Sender<Health>, watch::Receiver<Health>) {
    watch::channel(first)
}

/// What to do about it: the second line of every such answer.
pub(crate) const NOTHING_CHANGED: &str =
    "units that run go on running; nothing was changed. Try again when the store is back";

/// The second line when a change was under way.
pub(crate) const MAYBE_CHANGED: &str =
    "units that run go on running; whether the change was made is not known: look before you try again";

/// `fleetd on n1 can't …: … since 10:04:17 UTC (8 s)`.
#[must_use]
pub fn sentence(host: &str, what: &str, since: u64, now: u64) -> String {
    let second = since / 1000;
    let (hours, minutes, seconds) = (second / 3600 % 24, second / 60 % 60, second % 60);
    let passed = now.saturating_sub(since) / 1000;
    format!("fleetd on {host} {what} since {hours:02}:{minutes:02}:{seconds:02} UTC ({passed} s)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_since_when() {
        let since = (10 * 3600 + 4 * 60 + 17) * 1000;
        assert_eq!(
            sentence("n1", "can't reach its store: etcd at 10.88.0.1:2379 refuses connections", since, since + 8_200),
            "fleetd on n1 can't reach its store: etcd at 10.88.0.1:2379 refuses connections since 10:04:17 UTC (8 s)"
        );
    }
}
