//! What the adapter needs from a client of etcd: the requests to one member, and the ways in which they fail.
//!
//! Owns the vocabulary between the policy (which member, when to retry, what an error means) and what carries requests
//! out: `grpc` for real members; tests have members of their own, so that the policy can be tested against faults that
//! real members rarely show. It must never retry, choose a member or decide what an error means.

use std::future::Future;
use std::time::Duration;

pub use tonic::Code;

use crate::store::{LeaseId, MemberState, Revision};

/// A member of a cluster, reached at one address.
pub trait Member: std::fmt::Debug + Send + Sync + 'static {
    /// What requests are sent over.
    type Connection: Connection;

    /// For messages: `host:port`.
    fn address(&self) -> &str;

    /// What may be wrong if it closes the connection without ever having answered.
    fn hint(&self) -> &'static str;

    /// Connect, and log in.
    ///
    /// # Errors
    /// Whatever the fault, no request has been sent.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Fault>> + Send;
}

/// An open connection. Clones share it. A request that is dropped may be carried out nevertheless.
pub trait Connection: Clone + Send + Sync + 'static {
    /// A running watch.
    type Stream: Stream;

    /// A linearizable read.
    fn range(&self, keys: Keys<'_>) -> impl Future<Output = Result<Found, Fault>> + Send;

    /// Carry out a transaction.
    fn txn(&self, txn: &Transaction) -> impl Future<Output = Result<Outcome, Fault>> + Send;

    /// Watch the keys from `begin` to `end` (exclusive), from revision `from` on; 0 means "from now on". Returns when
    /// the member has confirmed the watch.
    fn watch(
        &self,
        begin: &[u8],
        end: &[u8],
        from: Revision,
    ) -> impl Future<Output = Result<Self::Stream, Fault>> + Send;

    /// Grant a lease of at least `seconds`; returns it with its TTL.
    fn grant(&self, seconds: i64) -> impl Future<Output = Result<(LeaseId, Duration), Fault>> + Send;

    /// Renew a lease; returns its TTL. `known` is the TTL if the caller knows it, which saves a message.
    ///
    /// # Errors
    /// [`Fault::LeaseGone`] if it has ended.
    fn keep_alive(
        &self,
        lease: LeaseId,
        known: Option<Duration>,
    ) -> impl Future<Output = Result<Duration, Fault>> + Send;

    /// End a lease.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<(), Fault>> + Send;

    /// What the member says about itself.
    fn status(&self) -> impl Future<Output = Result<Status, Fault>> + Send;
}

/// What a watch delivers. Dropping it ends the watch.
pub trait Stream: Send + 'static {
    /// The next message. After an error, and after [`Message::Cancelled`], the stream has ended.
    fn next(&mut self) -> impl Future<Output = Result<Message, Fault>> + Send;
}

/// The keys to read.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// The first key.
    pub begin: &'a [u8],
    /// The end, exclusive.
    pub end: &'a [u8],
    /// The most keys to return.
    pub limit: usize,
    /// Read at this revision; `None` for the newest.
    pub at: Option<Revision>,
    /// The largest acceptable answer in bytes; beyond it, the fault is [`Fault::TooLarge`].
    pub bytes: usize,
}

/// The answer to a read.
#[derive(Debug, Clone)]
pub struct Found {
    /// The keys, in byte order.
    pub kvs: Vec<KeyValue>,
    /// Whether there are more.
    pub more: bool,
    /// The member's newest revision when it answered.
    pub revision: Revision,
    /// The id of the member's cluster.
    pub cluster: u64,
}

/// A key and its value, as etcd stores them.
#[derive(Debug, Clone)]
pub struct KeyValue {
    /// The whole key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that last wrote it.
    pub modified: Revision,
    /// The lease it is bound to; 0 for none.
    pub lease: i64,
}

/// Conditions, and what to do if all of them hold.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The conditions.
    pub when: Vec<Condition>,
    /// The steps. Without any step that writes or reads, a member may evaluate the conditions on an old state.
    pub then: Vec<Step>,
}

/// A condition. The revisions of a key that doesn't exist are 0.
#[derive(Debug, Clone)]
pub enum Condition {
    /// The key was created by this revision.
    Created(Vec<u8>, i64),
    /// The key was last written by this revision.
    Modified(Vec<u8>, i64),
}

/// A step of a transaction.
#[derive(Debug, Clone)]
pub enum Step {
    /// Write a key.
    Put {
        /// The whole key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
        /// The lease to bind it to; 0 for none.
        lease: i64,
    },
    /// Delete a key.
    Delete(Vec<u8>),
    /// Count a key: a linearizable read.
    Count(Vec<u8>),
}

/// The answer to a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Whether the conditions held.
    pub succeeded: bool,
    /// The member's revision afterwards.
    pub revision: Revision,
}

/// What a member says about itself.
#[derive(Debug, Clone)]
pub struct Status {
    /// The id of its cluster.
    pub cluster: u64,
    /// The rest.
    pub state: MemberState,
}

/// A message of a watch.
#[derive(Debug, Clone)]
pub enum Message {
    /// Changes of whole revisions, in order; perhaps none.
    Changes(Vec<Change>),
    /// The member has cancelled the watch because its revision was compacted.
    Compacted,
    /// The member has cancelled the watch for another reason.
    Cancelled(String),
    /// The stream has ended.
    Ended,
}

/// A change of one key.
#[derive(Debug, Clone)]
pub enum Change {
    /// It was written.
    Put(KeyValue),
    /// It was deleted by this revision.
    Delete(Vec<u8>, Revision),
}

/// How a request failed, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is no connection, so nothing was sent. Completes the sentence `etcd at ENDPOINT …`.
    Unreachable(String),
    /// The connection broke; what was sent may have been carried out.
    Broken,
    /// The member answered with this code and text.
    Answer(Code, String),
    /// The member doesn't know the lease.
    LeaseGone,
    /// The answer is larger than the caller accepts.
    TooLarge,
    /// The request or the address is malformed, so nothing was sent.
    Malformed(String),
    /// Anything else; what was sent may have been carried out.
    Other(String),
}
