//! The store seam: what a cluster needs of etcd v3, cut down to what is used.
//!
//! Owns the contract between Flotilla and whatever keeps its keys. Two adapters stand beneath it and pass
//! one contract test (`tests/store_contract.rs`): [`embedded`] (one host, no server) and [`etcd`] (clusters).
//! It must never know what a key means: that is `registry`'s.
//!
//! What every adapter promises:
//! * a commit is all or nothing, and durable once it has answered;
//! * revisions only grow, by one for each commit that changes something, and every key remembers the
//!   revision that wrote it last;
//! * a range is one consistent revision, whatever happens meanwhile;
//! * a watch delivers every change after its first revision, in order, without gaps, and a revision is
//!   never split over two batches; what it can't deliver ends it with an error, never with silence;
//! * what is bound to a lease vanishes with it, in one revision, when it is revoked or was not kept alive for its TTL.

pub mod embedded;
pub mod etcd;

pub mod lease;
mod limits;
pub mod measured;

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;

pub use crate::model::revision::Revision;

/// Names a lease for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// One key as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kv {
    /// The key, without the cluster's prefix.
    pub key: String,
    /// What was put, byte for byte.
    pub value: Vec<u8>,
    /// The commit that wrote it last.
    pub revision: Revision,
    /// The lease it is bound to.
    pub lease: Option<LeaseId>,
}

/// What to read: the keys that begin with `prefix`, in byte order.
#[derive(Debug, Clone, Default)]
pub struct Range {
    /// The beginning of every key wanted; empty for all keys.
    pub prefix: String,
    /// Only keys strictly greater than this one: the last key of the page before.
    pub after: Option<String>,
    /// At most so many keys; 0 leaves it to the store. It may give fewer than there are: see [`Page::more`].
    pub limit: usize,
    /// Read as of this revision; `None` for the newest.
    pub at: Option<Revision>,
}

/// One answer to a [`Range`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys, in byte order.
    pub kvs: Vec<Kv>,
    /// The revision the page shows; hand it back as `at` for the pages that follow.
    pub revision: Revision,
    /// Whether keys of the range are left beyond this page.
    pub more: bool,
}

/// What must hold for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The key doesn't exist.
    Absent(String),
    /// The key exists and was last written by this revision.
    Unchanged(String, Revision),
}

/// One change of a commit. A commit names a key at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Write the key; a `lease` binds it, `None` unbinds it.
    Put {
        /// The key, without the cluster's prefix.
        key: String,
        /// What to write.
        value: Vec<u8>,
        /// The lease to bind it to.
        lease: Option<LeaseId>,
    },
    /// Delete the key; one that doesn't exist is no error.
    Delete(String),
}

/// Guards and the changes they allow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// All are done, or none.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Whether it is within the limits of every store ([`MAX_OPS`], [`MAX_BYTES`]) and names each key it changes once.
    ///
    /// # Errors
    /// [`Error::Refused`], as a store would answer.
    pub fn check(&self) -> Result<(), Error> {
        limits::check(self)
    }
}

/// What happened to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was written.
    Put(Kv),
    /// It was deleted, or its lease ended.
    Delete(String),
}

/// All events of one or more whole revisions, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The last revision in it; a watch goes on at its [`Revision::next`].
    pub revision: Revision,
    /// What happened.
    pub events: Vec<Event>,
}

/// A running watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    batches: mpsc::Receiver<Result<Batch, Error>>,
}

impl Watch {
    /// A watch fed from `batches`. For adapters.
    #[must_use]
    pub fn new(batches: mpsc::Receiver<Result<Batch, Error>>) -> Self {
        Self { batches }
    }

    /// The next batch. Cancel-safe. After an error the watch is over: open another, at the revision after
    /// the last batch seen, or list again after [`Error::Compacted`].
    ///
    /// # Errors
    /// [`Error::Compacted`] when the revisions wanted are gone; [`Error::Refused`] when it isn't permitted;
    /// [`Error::Unavailable`] for every other end.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        match self.batches.recv().await {
            Some(batch) => batch,
            None => Err(Error::Unavailable("the watch ended".into())),
        }
    }
}

/// What went wrong, classed by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store can't be asked now. Try again; a commit may nevertheless have been done.
    #[error("{0}")]
    Unavailable(String),
    /// A guard didn't hold and nothing was done. Read again.
    #[error("the store has changed meanwhile")]
    Conflict,
    /// The revision asked for is no longer kept. List again.
    #[error("the revision asked for has been compacted")]
    Compacted,
    /// The lease has ended (ran out or was revoked). Whoever held it starts over.
    #[error("the lease has ended")]
    LeaseLost,
    /// The store understood and refuses: too large, not permitted, malformed. Report it.
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
    /// `Unavailable`, `Compacted` (when `at` is no longer kept), `Refused` (when `at` hasn't happened yet).
    fn range(&self, range: Range) -> impl Future<Output = Result<Page, Error>> + Send;

    /// Do all of `txn` or nothing; the answer is the store's revision then. A commit that changes nothing (it has
    /// no ops, or deletes what isn't there) makes no new revision. At most [`MAX_OPS`] guards and as many ops.
    ///
    /// # Errors
    /// `Conflict` when a guard doesn't hold, before anything else; `LeaseLost` when a lease named is gone;
    /// `Refused` for what can never be done. After `Unavailable` the outcome is **unknown**: it may have been
    /// done, or be done yet.
    fn commit(&self, txn: Txn) -> impl Future<Output = Result<Revision, Error>> + Send;

    /// Follow the keys that begin with `prefix`, from revision `from` on (inclusive); from 0 for all that ever
    /// happened. Never waits: what goes wrong comes out of the watch. Call it within a runtime.
    fn watch(&self, prefix: &str, from: Revision) -> Watch;

    /// Grant a lease of at least `ttl` (whole seconds, rounded up by etcd).
    ///
    /// # Errors
    /// `Unavailable`, `Refused`.
    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId, Error>> + Send;

    /// Give the lease its whole TTL again; the answer is that TTL. `within` is how long the caller can wait: a store
    /// that can be asked in several places has given up a silent one by then, and has asked another. The next renewal
    /// must not meet the silent one again.
    ///
    /// # Errors
    /// `LeaseLost` when it has ended; `Unavailable` says nothing about the lease.
    fn keep_alive(&self, lease: LeaseId, within: Duration) -> impl Future<Output = Result<Duration, Error>> + Send;

    /// End the lease and delete what is bound to it. Ending one that has ended is no error.
    ///
    /// # Errors
    /// `Unavailable`.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<(), Error>> + Send;
}

/// The most guards, and the most ops, of one commit: etcd's default `--max-txn-ops`.
pub const MAX_OPS: usize = 128;

/// The most bytes of keys and values in one commit: safely under etcd's default `--max-request-bytes` (1.5 MiB).
pub const MAX_BYTES: usize = 1024 * 1024;
