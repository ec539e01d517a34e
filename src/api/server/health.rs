//! Whether this daemon can answer for the cluster, and the message if it can't. Owns the wording; the daemon decides.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, utc};

/// How long a request waits for the daemon to be registered, counted from when the waiting began. A daemon that starts,
/// or that registers again, needs only a moment. Less than the timeout of `fleetctl`.
pub const READY_TIMEOUT: Duration = Duration::from_secs(4);

/// The state that the daemon reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Registered: requests are answered.
    Ready,
    /// Not registered (yet, or any more): every request is answered with the reason.
    Waiting {
        /// What `fleetd on <host>` does or can't do, such as `can't reach its store: etcd at 10.88.0.1:2379 refuses
        /// connections`.
        what: String,
        /// Since when, ms since the epoch.
        since: u64,
        /// What ends it.
        remedy: Remedy,
    },
}

/// What ends the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// A moment: the daemon is starting.
    Time,
    /// The store becomes reachable.
    Store,
    /// systemd on this host answers again.
    Systemd,
    /// An operator must correct what the message says.
    Person,
}

/// A sender for the daemon, and a receiver for the API.
#[must_use]
pub fn channel(first: Health) -> (watch::Sender<Health>, watch::Receiver<Health>) {
    watch::channel(first)
}

/// Wait until requests can be answered, or until [`READY_TIMEOUT`].
pub(super) async fn settled(health: &watch::Receiver<Health>, clock: Clock) {
    let Health::Waiting { since, .. } = *health.borrow() else { return };
    let passed = Duration::from_millis(clock.now_ms().saturating_sub(since));
    let mut health = health.clone();
    // A daemon that ends meanwhile sends no update: the request is answered with the current state.
    let ready = health.wait_for(|health| *health == Health::Ready);
    let _ = tokio::time::timeout(READY_TIMEOUT.saturating_sub(passed), ready).await;
}

/// What to do about it: the second line of each such answer.
#[must_use]
pub(crate) fn nothing_changed(remedy: Remedy) -> String {
    let then = match remedy {
        Remedy::Time => "Try again in a moment",
        Remedy::Store => "Try again when the store is back",
        Remedy::Systemd => "Try again when systemd on that host answers",
        Remedy::Person => "Until that is mended, ask the fleetd of another host",
    };
    format!("units that run go on running; nothing was changed. {then}")
}

/// The second line if a change was in progress.
pub(crate) const MAYBE_CHANGED: &str =
    "units that run go on running; whether the change was made is not known: look before you try again";

/// `fleetd on n1 can't …: … since 10:04:17 UTC (8 s)`.
#[must_use]
pub fn sentence(host: &str, what: &str, since: u64, now: u64) -> String {
    let passed = now.saturating_sub(since) / 1000;
    format!("fleetd on {host} {what} since {} ({passed} s)", utc(since))
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
