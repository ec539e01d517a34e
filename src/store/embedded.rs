//! The embedded store: one host's keys without a server, also used by tests and the simulation.
//!
//! Owns how a request is carried out. The rules are in `state`, which is the same in memory and on disk, so that a
//! simulation of the former tests the latter. It must never span hosts, and in memory it must behave the same each time
//! under a paused runtime: no threads, no wall clock, no randomness.
//!
//! In memory it is a plain ordered map instead of `redb`'s memory backend, which would encode pages without simulating
//! a disk any better.

mod backup;
mod disk;
mod expiry;
mod follow;
mod state;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

pub use self::backup::{Backup, Counter};
use self::disk::Disk;
pub use self::disk::OpenError;
use self::expiry::Deadlines;
use self::follow::Sleepers;
pub use self::state::History;
use self::state::{Change, LeaseChange, Request, State};
use self::writer::Writer;
use super::{Error, LeaseId, Page, Range, Revision, Store, Txn, Watch};

/// A store in this process. Cheap to clone; dropping the last clone closes it and ends its watches.
#[derive(Debug, Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    timer: OnceLock<AbortHandle>,
    /// `None` in memory, where a change takes effect as soon as it is decided.
    writer: Option<Writer>,
}

/// The result of a request.
#[derive(Debug, Clone, Copy)]
struct Done {
    revision: Revision,
    lease: Option<LeaseChange>,
}

impl From<&Change> for Done {
    fn from(change: &Change) -> Self {
        Self { revision: change.revision, lease: change.lease }
    }
}

/// The state that readers, watches and the writer share.
#[derive(Debug)]
struct Shared {
    held: Mutex<Held>,
    /// Notified when a lease was granted.
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

    /// Make a change visible, once it is decided and, if there is a disk, written.
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

    /// Must not be held over an await or a write to disk.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    async fn submit(&self, request: Request) -> Result<Done, Error> {
        if let Some(writer) = &self.writer {
            return writer.submit(request).await;
        }
        // A caller that only uses the store must not starve the other tasks of a single-threaded runtime.
        tokio::task::consume_budget().await;
        self.at_once(request)
    }

    /// As [`Self::submit`], but the returned future doesn't keep the store open.
    fn hand_in(&self, request: Request) -> oneshot::Receiver<Result<Done, Error>> {
        match &self.writer {
            Some(writer) => writer.hand_in(request),
            None => {
                let (answer, answered) = oneshot::channel();
                let _ = answer.send(self.at_once(request));
                answered
            }
        }
    }

    fn at_once(&self, request: Request) -> Result<Done, Error> {
        let mut held = self.shared.held();
        let change = held.state.decide(request)?;
        self.shared.publish(&mut held, &change);
        Ok(Done::from(&change))
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
    /// An empty store in memory, with the default history.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::in_memory_with(History::default())
    }

    /// An empty store in memory with this history.
    #[must_use]
    pub fn in_memory_with(history: History) -> Self {
        let mut state = State::new(history);
        state.cluster = 1;
        let shared = Arc::new(Shared::new(state));
        Self { inner: Arc::new(Inner { shared, timer: OnceLock::new(), writer: None }) }
    }

    /// The store in the file `path`, created if it doesn't exist. Every commit is on disk when it is answered. Every
    /// lease gets its full TTL again. Dropping the last clone waits for pending writes and closes the file.
    ///
    /// # Errors
    /// See [`OpenError`]; each names the file and the reason.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, History::default()).await
    }

    /// As [`Self::open`], with this history.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(path: &Path, history: History) -> Result<Self, OpenError> {
        let failed = |reason: String| OpenError::Io { path: path.to_owned(), reason };
        let file = path.to_owned();
        let (disk, state) = tokio::task::spawn_blocking(move || Disk::open(&file, history))
            .await
            .map_err(|error| failed(error.to_string()))??;
        let shared = Arc::new(Shared::new(state));
        let writer = Writer::start(disk, Arc::clone(&shared)).map_err(|error| failed(error.to_string()))?;
        let store = Self { inner: Arc::new(Inner { shared, timer: OnceLock::new(), writer: Some(writer) }) };
        store.start_timer();
        Ok(store)
    }

    /// Compact the history before `revision`, as etcd does on request or periodically.
    ///
    /// # Errors
    /// `Refused` for a revision in the future; `Unavailable` if it can't be written to disk.
    pub async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.submit(Request::Compact(revision)).await.map(drop)
    }

    /// Starts the task that ends leases, together with the first lease: before, there may be no runtime.
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
        txn.check()?;
        self.inner.submit(Request::Commit(txn)).await.map(|done| done.revision)
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
        let done = self.inner.submit(Request::Grant(ttl)).await?;
        match done.lease {
            Some(LeaseChange::Granted(id, _)) => Ok(id),
            _ => Err(Error::Refused("the lease was not granted".into())),
        }
    }

    async fn keep_alive(&self, lease: LeaseId, _: Duration) -> Result<Duration, Error> {
        tokio::task::consume_budget().await;
        let mut held = self.inner.shared.held();
        let Held { state, deadlines, .. } = &mut *held;
        deadlines.renew(state, lease).ok_or(Error::LeaseLost)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner.submit(Request::Revoke(lease)).await.map(drop)
    }
}
