//! The time of leases: when each one ends, and the task that ends it.
//!
//! Owns deadlines, which live in memory only: a store that is opened again gives every lease its whole TTL, as
//! etcd does. It must never delete anything itself: ending a lease is a request like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Inner;
use super::state::{Request, State};
use crate::store::LeaseId;

/// How soon ending a lease is tried again when the disk didn't take it.
const RETRY: Duration = Duration::from_secs(1);

/// When each lease ends.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    of: BTreeMap<LeaseId, Instant>,
    queue: BTreeSet<(Instant, LeaseId)>,
    /// Past their deadline, and about to be ended: no keep-alive brings them back.
    ending: BTreeSet<LeaseId>,
}

impl Deadlines {
    /// The lease lives for `ttl` from now.
    pub(super) fn begin(&mut self, id: LeaseId, ttl: Duration) {
        self.end(id);
        let deadline = Instant::now() + ttl;
        self.of.insert(id, deadline);
        self.queue.insert((deadline, id));
    }

    /// The lease is gone.
    pub(super) fn end(&mut self, id: LeaseId) {
        if let Some(deadline) = self.of.remove(&id) {
            self.queue.remove(&(deadline, id));
        }
        self.ending.remove(&id);
    }

    /// Give the lease its whole TTL again; `None` if it has ended.
    pub(super) fn renew(&mut self, state: &State, id: LeaseId) -> Option<Duration> {
        let ttl = state.leases.get(&id).filter(|_| !self.ending.contains(&id))?.ttl;
        self.begin(id, ttl);
        Some(ttl)
    }

    /// Which leases are due, and when the next will be.
    fn due(&mut self, now: Instant) -> (Vec<LeaseId>, Option<Instant>) {
        while let Some((_, id)) = self.queue.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.end(id);
            self.ending.insert(id);
        }
        (self.ending.iter().copied().collect(), self.queue.first().map(|(deadline, _)| *deadline))
    }
}

/// End leases as they run out, until the store is dropped. `poke` says that there are new ones.
pub(super) async fn run(store: Weak<Inner>, poke: Arc<Notify>) {
    loop {
        // The store is let go before anything is waited for: who drops it finds it closed.
        let (ending, mut next): (Vec<_>, _) = {
            let Some(inner) = store.upgrade() else { return };
            let (due, next) = inner.shared.held().deadlines.due(Instant::now());
            (due.into_iter().map(|id| (id, inner.hand_in(Request::Revoke(id)))).collect(), next)
        };
        for (id, answer) in ending {
            if let Ok(Err(error)) = answer.await {
                tracing::warn!(lease = id.0, %error, "lease ran out, but could not be ended yet");
                next = Some(Instant::now() + RETRY);
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
