//! Whether this daemon can answer for the cluster, and the sentence for when it can't. Owns those words; who finds out
//! is the daemon.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, utc};

/// A daemon that starts is registered within a moment, and one that loses its registration has it back as soon: so long
/// a request waits for that, counted from when the waiting began. Less than `fleetctl` waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Registered: requests are answered.
    Ready,
    /// Not (yet, or not any more): every request is answered with the reason.
    Waiting {
        /// What `fleetd on <host>` does or can't do: `can't reach its store: etcd at 10.88.0.1:2379 refuses
        /// connections`.
        what: String,
        /// Since when, ms since the epoch.
        since: u64,
        /// Who has to do something.
        remedy: Remedy,
    },
}

/// What ends the waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// A moment: it is starting.
    Time,
    /// The store comes back.
    Store,
    /// systemd on this host comes back.
    Systemd,
    /// Somebody has to mend what the sentence before says.
    Person,
}

/// A handle for the daemon to tell, and one for the API to ask.
#[must_use]
pub fn channel(first: Health) -> (watch::Sender<Health>, watch::Receiver<Health>) {
    watch::channel(first)
}

/// Wait until requests can be answered, or until they have waited long enough.
pub(super) async fn settled(health: &watch::Receiver<Health>, clock: Clock) {
    let Health::Waiting { since, .. } = *health.borrow() else { return };
    let passed = Duration::from_millis(clock.now_ms().saturating_sub(since));
    let mut health = health.clone();
    // A daemon that ends meanwhile tells no more: the request is answered as things stand.
    let ready = health.wait_for(|health| *health == Health::Ready);
    let _ = tokio::time::timeout(PATIENCE.saturating_sub(passed), ready).await;
}

/// What to do about it: the second line of every such answer.
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

/// The second line when a change was under way.
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
