//! The expiry of leases: their deadlines, and the task that ends them.
//!
//! Owns the deadlines, which are in memory only: reopening a store gives every lease its full TTL again, as in etcd. It
//! must never delete anything itself: ending a lease is a request like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Inner;
use super::state::{Request, State};
use crate::store::LeaseId;

/// How soon to retry ending a lease if it couldn't be written to disk.
const WRITE_RETRY: Duration = Duration::from_secs(1);

/// The deadline of each lease.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    of: BTreeMap<LeaseId, Instant>,
    queue: BTreeSet<(Instant, LeaseId)>,
    /// Leases past their deadline that are about to be ended; a keep-alive doesn't renew them.
    ending: BTreeSet<LeaseId>,
}

impl Deadlines {
    /// The lease expires after `ttl` from now.
    pub(super) fn begin(&mut self, id: LeaseId, ttl: Duration) {
        self.end(id);
        let deadline = Instant::now() + ttl;
        self.of.insert(id, deadline);
        self.queue.insert((deadline, id));
    }

    /// The lease has ended.
    pub(super) fn end(&mut self, id: LeaseId) {
        if let Some(deadline) = self.of.remove(&id) {
            self.queue.remove(&(deadline, id));
        }
        self.ending.remove(&id);
    }

    /// Renew the lease for its whole TTL; `None` if it has ended.
    pub(super) fn renew(&mut self, state: &State, id: LeaseId) -> Option<Duration> {
        let ttl = state.leases.get(&id).filter(|_| !self.ending.contains(&id))?.ttl;
        self.begin(id, ttl);
        Some(ttl)
    }

    /// The expired leases, and when the next one expires.
    fn due(&mut self, now: Instant) -> (Vec<LeaseId>, Option<Instant>) {
        while let Some((_, id)) = self.queue.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.end(id);
            self.ending.insert(id);
        }
        (self.ending.iter().copied().collect(), self.queue.first().map(|(deadline, _)| *deadline))
    }
}

/// End leases as they expire, until the store is dropped. `poke` is notified when a lease was granted.
pub(super) async fn run(store: Weak<Inner>, poke: Arc<Notify>) {
    loop {
        // The store isn't kept open while waiting, so that dropping its last clone closes it.
        let (ending, mut next): (Vec<_>, _) = {
            let Some(inner) = store.upgrade() else { return };
            let (due, next) = inner.shared.held().deadlines.due(Instant::now());
            (due.into_iter().map(|id| (id, inner.hand_in(Request::Revoke(id)))).collect(), next)
        };
        for (id, answer) in ending {
            if let Ok(Err(error)) = answer.await {
                tracing::warn!(lease = id.0, %error, "lease has expired, but could not be ended yet");
                next = Some(Instant::now() + WRITE_RETRY);
            }
        }
        let sleep = async {
            match next {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = poke.notified() => {}
            () = sleep => {}
        }
    }
}
