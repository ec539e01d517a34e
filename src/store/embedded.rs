//! The embedded store: one host's keys without a server, and what tests and the simulation run on.
//!
//! Owns what happens between a request and its answer. The rules are in `state`, which is the same in memory
//! and on disk: what a simulation proves of one holds for the other. It must never spread over hosts, and in
//! memory it must do nothing a paused runtime doesn't repeat: no threads, no wall clock, no chance.
//!
//! In memory a plain ordered map was taken over `redb`'s memory backend: same answers, no pages to
//! encode, and a disk isn't simulated by a B-tree of pages in memory anyway.

mod expiry;
mod follow;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use self::expiry::Deadlines;
use self::follow::Sleepers;
pub use self::state::History;
use self::state::{Change, LeaseChange, Request, State};
use super::{Error, LeaseId, Page, Range, Revision, Store, Txn, Watch, limits};

/// A store in this process. Cheap to clone; the last clone dropped closes it and ends its watches.
#[derive(Debug, Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    timer: OnceLock<AbortHandle>,
}

/// What readers, watches and the writer share.
#[derive(Debug)]
struct Shared {
    held: Mutex<Held>,
    /// Says that there is a new lease.
    poke: Arc<Notify>,
}

#[derive(Debug)]
struct Held {
    state: State,
    sleepers: Sleepers,
    deadlines: Deadlines,
}

impl Shared {
    fn new(state: State) -> Self {
        let mut deadlines = Deadlines::default();
        for (id, lease) in &state.leases {
            deadlines.begin(*id, lease.ttl);
        }
        let held = Held { state, sleepers: Sleepers::default(), deadlines };
        Self { held: Mutex::new(held), poke: Arc::default() }
    }

    /// Make a change that is decided (and, if there is a disk, written) the truth for everybody.
    fn publish(&self, held: &mut Held, change: &Change) {
        held.state.apply(change);
        match change.lease {
            Some(LeaseChange::Granted(id, ttl)) => {
                held.deadlines.begin(id, ttl);
                self.poke.notify_one();
            }
            Some(LeaseChange::Ended(id)) => held.deadlines.end(id),
            None => {}
        }
        held.sleepers.wake(change);
    }

    /// Never held over an await, nor over a write to disk.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    async fn submit(&self, request: Request) -> Result<Change, Error> {
        // A caller that never waits for anything else must not starve the rest of a one-thread runtime.
        tokio::task::consume_budget().await;
        let mut held = self.shared.held();
        let change = held.state.decide(request)?;
        self.shared.publish(&mut held, &change);
        Ok(change)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.get() {
            timer.abort();
        }
    }
}

impl Embedded {
    /// An empty store in memory, with the usual history.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::in_memory_with(History::default())
    }

    /// An empty store in memory that remembers so much.
    #[must_use]
    pub fn in_memory_with(history: History) -> Self {
        let shared = Arc::new(Shared::new(State::new(history)));
        Self { inner: Arc::new(Inner { shared, timer: OnceLock::new() }) }
    }

    /// Forget what was before `revision`, as an etcd does whose operator (or whose timer) compacts it.
    ///
    /// # Errors
    /// `Refused` for a revision that hasn't happened; `Unavailable` when the disk doesn't take it.
    pub async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.submit(Request::Compact(revision)).await.map(drop)
    }

    /// The task that ends leases starts with the first one: only then a runtime is sure to be there.
    fn start_timer(&self) {
        self.inner.timer.get_or_init(|| {
            tokio::spawn(expiry::run(Arc::downgrade(&self.inner), Arc::clone(&self.inner.shared.poke))).abort_handle()
        });
    }
}

impl Store for Embedded {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        tokio::task::consume_budget().await;
        self.inner.shared.held().state.range(&range)
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
        limits::check(&txn)?;
        self.inner.submit(Request::Commit(txn)).await.map(|change| change.revision)
    }

    /// Must be called within a runtime: a watch is a task.
    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        let (batches, watch) = mpsc::channel(follow::CHANNEL);
        tokio::spawn(follow::follow(Arc::downgrade(&self.inner.shared), prefix.to_owned(), from, batches));
        Watch::new(watch)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        if ttl.is_zero() {
            return Err(Error::Refused("a lease needs a TTL".into()));
        }
        self.start_timer();
        let change = self.inner.submit(Request::Grant(ttl)).await?;
        match change.lease {
            Some(LeaseChange::Granted(id, _)) => Ok(id),
            _ => Err(Error::Refused("the lease was not granted".into())),
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Error> {
        tokio::task::consume_budget().await;
        let mut held = self.inner.shared.held();
        let Held { state, deadlines, .. } = &mut *held;
        deadlines.renew(state, lease).ok_or(Error::LeaseLost)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner.submit(Request::Revoke(lease)).await.map(drop)
    }
}
