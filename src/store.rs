//! The store seam: the subset of etcd v3 that a cluster uses.
//!
//! Owns the contract between Flotilla and the database that keeps its keys. There are two adapters, which pass one
//! contract test (`tests/store_contract.rs`): [`embedded`] (one host, no server) and [`etcd`] (clusters). A store must
//! never know what a key means: that belongs to `registry`.
//!
//! What every adapter guarantees:
//! * a commit is atomic, and durable once it was answered;
//! * revisions only grow, by one for each commit that changes something, and every key has the revision that last wrote
//!   it;
//! * a range shows a single consistent revision;
//! * a watch delivers every change from its first revision on, in order and without gaps, and never splits a revision
//!   over two batches; if it can't, it ends with an error and never silently;
//! * keys bound to a lease are deleted with it, in one revision, when it is revoked or wasn't renewed within its TTL.

pub mod embedded;
pub mod etcd;

pub mod lease;
mod limits;
pub mod measured;

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;

pub use crate::model::revision::{Moment, Revision};

/// The id of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A key and its value in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kv {
    /// The key, without the cluster's prefix.
    pub key: String,
    /// The value, byte for byte.
    pub value: Vec<u8>,
    /// The commit that last wrote it.
    pub revision: Revision,
    /// The lease it is bound to.
    pub lease: Option<LeaseId>,
}

/// What to read: the keys that begin with `prefix`, in byte order.
#[derive(Debug, Clone, Default)]
pub struct Range {
    /// The prefix of the keys; empty for all keys.
    pub prefix: String,
    /// Only keys strictly greater than this one: the last key of the previous page.
    pub after: Option<String>,
    /// The most keys to return; 0 leaves it to the store. The store may return fewer: see [`Page::more`].
    pub limit: usize,
    /// Read at this revision; `None` for the newest.
    pub at: Option<Revision>,
}

/// The answer to a [`Range`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys, in byte order.
    pub kvs: Vec<Kv>,
    /// The revision that the page shows, to be passed as `at` for the following pages.
    pub revision: Revision,
    /// Whether the range has keys beyond this page.
    pub more: bool,
    /// The id of the cluster that has answered; 0 if it has none. Revisions of another cluster mean something else,
    /// also if it is a restored backup of the first one.
    pub cluster: u64,
}

impl Page {
    /// The moment of the store's history that the page shows.
    #[must_use]
    pub fn at(&self) -> Moment {
        Moment { cluster: self.cluster, revision: self.revision }
    }
}

/// A condition of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The key doesn't exist.
    Absent(String),
    /// The key exists, and this revision last wrote it.
    Unchanged(String, Revision),
    /// The store is the cluster with this id ([`Page::cluster`]). A restored backup has an id of its own, but may have
    /// the same keys with the same revisions.
    Cluster(u64),
}

/// One change of a commit. A commit may change a key only once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Write the key. A `lease` binds it, `None` unbinds it.
    Put {
        /// The key, without the cluster's prefix.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// The lease to bind it to.
        lease: Option<LeaseId>,
    },
    /// Delete the key. If it doesn't exist, this is not an error.
    Delete(String),
}

/// Guards, and the changes to make if they hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// All are done, or none is.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Whether it is within the limits of every store ([`MAX_OPS`], [`MAX_BYTES`]) and changes each key only once.
    ///
    /// # Errors
    /// [`Error::Refused`], as a store would return.
    pub fn check(&self) -> Result<(), Error> {
        limits::check(self)
    }
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key was written.
    Put(Kv),
    /// The key was deleted, or its lease ended.
    Delete(String),
}

/// All events of one or more whole revisions, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The last revision in the batch; a watch continues at its [`Revision::next`].
    pub revision: Revision,
    /// The changes.
    pub events: Vec<Event>,
}

/// A running watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    batches: mpsc::Receiver<Result<Batch, Error>>,
}

impl Watch {
    /// A watch that receives from `batches`. For adapters.
    #[must_use]
    pub fn new(batches: mpsc::Receiver<Result<Batch, Error>>) -> Self {
        Self { batches }
    }

    /// The next batch. Cancel-safe. After an error the watch has ended: open another one at the revision after the last
    /// batch, or list again after [`Error::Compacted`].
    ///
    /// # Errors
    /// [`Error::Compacted`] if the revisions were compacted; [`Error::Refused`] if it isn't permitted;
    /// [`Error::Unavailable`] in every other case.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        match self.batches.recv().await {
            Some(batch) => batch,
            None => Err(Error::Unavailable("the watch ended".into())),
        }
    }
}

/// A member of the store, at one of the addresses at which this host reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreMember {
    /// `host:port`.
    pub address: String,
    /// What it says about itself, or why it can't be asked: completes the sentence `etcd at ADDRESS …`.
    pub answer: Result<MemberState, String>,
}

/// What a member of the store says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberState {
    /// Its id, which is the same at each of its addresses.
    pub id: u64,
    /// Its version: `3.5.9`.
    pub version: String,
    /// The id of the member that leads; 0 if it knows none.
    pub leader: u64,
    /// How large its database is on its disk, in bytes.
    pub size: u64,
    /// How much of that is in use, in bytes: defragmentation gives the rest back to the disk.
    pub in_use: u64,
    /// How large the database may get, in bytes, if it says so (etcd since 3.6).
    pub quota: Option<u64>,
    /// The alarms of all members, in its own words, such as `memberID:10276657743932975437 alarm:NOSPACE`, and what
    /// else is wrong.
    pub troubles: Vec<String>,
}

/// An error, classified by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store is unreachable. Retry; a commit may have been carried out nevertheless.
    #[error("{0}")]
    Unavailable(String),
    /// A guard didn't hold and nothing was done. Read again.
    #[error("the store has changed meanwhile")]
    Conflict,
    /// The requested revision was compacted. List again.
    #[error("the requested revision has been compacted")]
    Compacted,
    /// The lease has ended (expired or revoked). Its holder must start over.
    #[error("the lease has ended")]
    LeaseLost,
    /// The store understood the request and refuses it: too large, not permitted, malformed. Report it.
    #[error("the store refuses: {0}")]
    Refused(String),
}

impl Error {
    /// Its class, for metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Conflict => "conflict",
            Self::Compacted => "compacted",
            Self::LeaseLost => "lease_lost",
            Self::Refused(_) => "refused",
        }
    }
}

/// A store. Cheap to clone; clones share everything.
pub trait Store: Clone + Send + Sync + 'static {
    /// Read a range at one consistent revision.
    ///
    /// # Errors
    /// `Unavailable`, `Compacted` (if `at` was compacted), `Refused` (if `at` is in the future).
    fn range(&self, range: Range) -> impl Future<Output = Result<Page, Error>> + Send;

    /// Carry out all of `txn` or nothing; returns the store's revision afterwards. A commit that changes nothing (no
    /// ops, or only deletions of keys that don't exist) creates no revision. At most [`MAX_OPS`] guards and as many
    /// ops.
    ///
    /// # Errors
    /// `Conflict` if a guard doesn't hold, which is checked first; `LeaseLost` if a lease has ended; `Refused` if it
    /// can never succeed. After `Unavailable` the outcome is **unknown**: it may have been carried out, or may be
    /// later.
    fn commit(&self, txn: Txn) -> impl Future<Output = Result<Revision, Error>> + Send;

    /// Watch the keys that begin with `prefix`, from revision `from` on (inclusive); 0 for the whole history. Never
    /// waits: the watch reports errors. Must be called within a runtime.
    fn watch(&self, prefix: &str, from: Revision) -> Watch;

    /// Grant a lease of at least `ttl` (etcd rounds up to whole seconds).
    ///
    /// # Errors
    /// `Unavailable`, `Refused`.
    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId, Error>> + Send;

    /// Renew the lease for its whole TTL; returns the TTL. `within` is how long the caller can wait: a store with
    /// several endpoints must by then have tried another one if the first is silent, and must not use the silent one
    /// for the next renewal.
    ///
    /// # Errors
    /// `LeaseLost` if it has ended; `Unavailable` says nothing about the lease.
    fn keep_alive(&self, lease: LeaseId, within: Duration) -> impl Future<Output = Result<Duration, Error>> + Send;

    /// End the lease and delete the keys bound to it. If it has ended already, this is not an error.
    ///
    /// # Errors
    /// `Unavailable`.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<(), Error>> + Send;

    /// Ask each member about itself, all at once; a store without members has none. For people: it must not be asked
    /// repeatedly.
    fn members(&self) -> impl Future<Output = Vec<StoreMember>> + Send {
        std::future::ready(Vec::new())
    }
}

/// The most guards, and the most ops, of one commit: etcd's default for `--max-txn-ops`.
pub const MAX_OPS: usize = 128;

/// The most bytes of keys and values in one commit: well below etcd's default for `--max-request-bytes` (1.5 MiB).
pub const MAX_BYTES: usize = 1024 * 1024;
