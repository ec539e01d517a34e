//! The embedded store: one host's keys without a server, and what tests and the simulation run on.
//!
//! Owns what happens between a request and its answer. The rules are in `state`, which is the same in memory
//! and on disk: what a simulation proves of one holds for the other. It must never spread over hosts, and in
//! memory it must do nothing a paused runtime doesn't repeat: no threads, no wall clock, no chance.
//!
//! In memory a plain ordered map was taken over `redb`'s memory backend: same answers, no pages to
//! encode, and a disk isn't simulated by a B-tree of pages in memory anyway.

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

use self::disk::Disk;
pub use self::disk::OpenError;
use self::expiry::Deadlines;
use self::follow::Sleepers;
pub use self::state::History;
use self::state::{Change, LeaseChange, Request, State};
use self::writer::Writer;
use super::{Error, LeaseId, Page, Range, Revision, Store, Txn, Watch};

/// A store in this process. Cheap to clone; the last clone dropped closes it and ends its watches.
#[derive(Debug, Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    timer: OnceLock<AbortHandle>,
    /// `None` in memory, where what is decided is done.
    writer: Option<Writer>,
}

/// What a request has done.
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
    async fn submit(&self, request: Request) -> Result<Done, Error> {
        if let Some(writer) = &self.writer {
            return writer.submit(request).await;
        }
        // A caller that never waits for anything else must not starve the rest of a one-thread runtime.
        tokio::task::consume_budget().await;
        self.at_once(request)
    }

    /// As [`Self::submit`], but whoever waits for the answer doesn't hold the store meanwhile.
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
    /// An empty store in memory, with the usual history.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::in_memory_with(History::default())
    }

    /// An empty store in memory that remembers so much.
    #[must_use]
    pub fn in_memory_with(history: History) -> Self {
        let shared = Arc::new(Shared::new(State::new(history)));
        Self { inner: Arc::new(Inner { shared, timer: OnceLock::new(), writer: None }) }
    }

    /// The store in the file `path`, made if it isn't there. Every commit is on disk when it is answered, and
    /// every lease begins its TTL anew. The last clone dropped waits for the writes under way and closes the file.
    ///
    /// # Errors
    /// See [`OpenError`]: each says which file and what is wrong.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, History::default()).await
    }

    /// As [`Self::open`], remembering so much.
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
