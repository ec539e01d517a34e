//! Suspends a daemon, as SIGSTOP does or a virtual machine that stalls: it executes nothing, while its timers, its
//! leases, its host and the requests that it has sent go on. Owns when a daemon executes; what it finds when it
//! continues is up to the others.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a daemon is suspended. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Freeze(Arc<State>);

#[derive(Debug, Default)]
struct State {
    frozen: AtomicBool,
    /// It wakes those who wait in the order in which they came: a seed must always go the same way.
    changed: Notify,
}

impl Freeze {
    pub(crate) fn set(&self, frozen: bool) {
        self.0.frozen.store(frozen, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.0.frozen.load(Ordering::Relaxed)
    }

    /// Resolves while the daemon isn't suspended.
    pub(crate) async fn over(&self) {
        self.until(false).await;
    }

    async fn until(&self, frozen: bool) {
        loop {
            let changed = self.0.changed.notified();
            if self.is_frozen() == frozen {
                return;
            }
            changed.await;
        }
    }

    /// Execute `task`, a part of the daemon, except while it is suspended.
    pub(crate) async fn pausing<T>(self, task: impl Future<Output = T>) -> T {
        let mut task = pin!(task);
        loop {
            self.over().await;
            tokio::select! {
                biased;
                () = self.until(true) => {}
                done = &mut task => return done,
            }
        }
    }
}
