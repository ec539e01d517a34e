//! Renews systemd's deadlines as the host's lease is renewed, beside the passes: a pass may wait for the store or for a
//! reload longer than a deadline allows. Owns when they are renewed; must never let systemd hold a lease that it has
//! let go of, because `plan::host` must first learn what that has stopped.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::store::Store;
use crate::store::lease::{Lease, Renewals};
use crate::systemd::{Deadlines, Systemd};

/// Renews the deadlines, while there are units that need them, until it is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Until when the lease lived when the deadlines were set by a pass; `None` while no unit needs them.
    needed: watch::Sender<Option<Instant>>,
    _task: AbortOnDropHandle<()>,
}

impl Keeper {
    /// Begin, with no unit that needs it.
    pub(super) fn begin<S: Store, H: Systemd>(host: &H, lease: &Lease<S>, ttl: Duration) -> Self {
        let (needed, is_needed) = watch::channel(None);
        let task = tokio::spawn(keep(host.clone(), lease.renewals(), is_needed, ttl));
        Self { needed, _task: AbortOnDropHandle::new(task) }
    }

    /// Renew the deadlines, which were set for a lease that lives until `since`; or don't, because no unit needs them.
    pub(super) fn renew(&self, since: Option<Instant>) {
        self.needed.send_replace(since);
    }
}

async fn keep<H: Systemd>(
    host: H,
    mut renewals: Renewals,
    mut needed: watch::Receiver<Option<Instant>>,
    ttl: Duration,
) {
    let mut set = None;
    loop {
        let since = match needed.wait_for(Option::is_some).await {
            Ok(since) => *since,
            Err(_) => return,
        };
        set = set.max(since);
        let until = tokio::select! {
            biased;
            // Cancel-safe: both only read a value.
            changed = needed.wait_for(|now| *now != since) => match changed {
                Ok(_) => continue,
                Err(_) => return,
            },
            until = renewals.beyond(set) => until,
        };
        match host.set_deadlines(Some(Deadlines::before(until, ttl))).await {
            Ok(()) => set = Some(until),
            Err(error) => {
                tracing::warn!(%error, "the deadlines of units with OnDisconnect=stop can't be renewed; retrying");
                sleep(ttl / 20).await;
            }
        }
    }
}
