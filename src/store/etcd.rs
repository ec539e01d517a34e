//! The etcd store: a cluster's keys in etcd v3.
//!
//! Owns the mapping of the seam's requests to etcd's. What carries them out is behind [`client`]: real members in
//! `grpc`, others in tests. It must never know what a key means, nor repeat a change that may have been carried out.

mod classify;
pub mod client;
mod follow;
mod grpc;
mod identity;
mod members;
mod ttls;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use self::client::{Condition, Connection as _, Found, KeyValue, Keys, Member, Step, Transaction};
pub use self::grpc::Grpc;
use self::members::{Again, Members};
use self::ttls::Ttls;
use super::{Error, Guard, Kv, LeaseId, Op, Page, Range, Revision, Store, StoreMember, Txn, Watch};

/// How many keys a page has if the caller leaves it to the store.
const PAGE_KEYS: usize = 500;

/// The largest accepted answer in bytes; a larger page is requested again in halves.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// How to reach the cluster, and the credentials.
#[derive(Clone)]
pub struct Options {
    /// `http://host:port`, `https://host:port` or `host:port`. One endpoint is used at a time, beginning with the
    /// first.
    pub endpoints: Vec<String>,
    /// The prefix of all our keys, usually `/flotilla/`.
    pub prefix: String,
    /// User name and password.
    pub user: Option<(String, String)>,
    /// PEM file of the CA that signed the servers' certificates; required for `https`, and only for it.
    pub ca: Option<PathBuf>,
    /// PEM files of the client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long one endpoint may take to answer; less if the caller can't wait as long, as for a keep-alive. All
    /// attempts of a request together take at most twice as long.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".into()],
            prefix: "/flotilla/".into(),
            user: None,
            ca: None,
            identity: None,
            request_timeout: Duration::from_secs(2),
        }
    }
}

impl std::fmt::Debug for Options {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { endpoints, prefix, user, ca, identity, request_timeout } = self;
        f.debug_struct("Options")
            .field("endpoints", endpoints)
            .field("prefix", prefix)
            .field("user", &user.as_ref().map(|(name, _)| name))
            .field("ca", ca)
            .field("identity", identity)
            .field("request_timeout", request_timeout)
            .finish()
    }
}

/// An etcd cluster. Cheap to clone; clones share connections.
#[derive(Debug)]
pub struct Etcd<M: Member = Grpc> {
    inner: Arc<Inner<M>>,
}

impl<M: Member> Clone for Etcd<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

#[derive(Debug)]
struct Inner<M: Member> {
    /// Replaced as a whole when the configuration changes; requests in flight finish with the old ones.
    members: Mutex<Arc<Members<M>>>,
    prefix: String,
    /// The TTLs that etcd granted: the first answer to a keep-alive doesn't contain the TTL.
    ttls: Mutex<Ttls>,
}

impl Etcd {
    /// A store that connects on the first request, which reports whether etcd is reachable.
    ///
    /// # Errors
    /// `Refused` for invalid options: an endpoint that isn't a URL, a certificate that can't be read.
    pub fn new(options: &Options) -> Result<Self, Error> {
        Self::over(Grpc::all(options)?, &options.prefix, options.request_timeout)
    }

    /// Reach the same cluster with `options` from now on: other members, another user, other certificates. The prefix
    /// stays the same: another prefix would be another cluster. Watches keep their connections as long as those last.
    ///
    /// # Errors
    /// As [`Etcd::new`]; nothing is changed then.
    pub fn reconfigure(&self, options: &Options) -> Result<(), Error> {
        let members = Members::new(Grpc::all(options)?, options.request_timeout)?;
        *self.inner.members.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(members);
        Ok(())
    }
}

impl<M: Member> Etcd<M> {
    /// As [`Etcd::new`], over these members: `prefix` and `request_timeout` as in [`Options`].
    ///
    /// # Errors
    /// `Refused` if there are none.
    pub fn over(members: Vec<M>, prefix: &str, request_timeout: Duration) -> Result<Self, Error> {
        let members = Mutex::new(Arc::new(Members::new(members, request_timeout)?));
        Ok(Self { inner: Arc::new(Inner { members, prefix: prefix.into(), ttls: Mutex::default() }) })
    }

    /// The version of the member that is in use: `3.5.9`.
    ///
    /// # Errors
    /// `Unavailable` or `Refused`, as the requests of [`Store`].
    pub async fn version(&self) -> Result<String, Error> {
        let status = |connection: M::Connection| async move { connection.status().await };
        Ok(self.inner.members().call(Again::Always, status).await?.state.version)
    }
}

impl<M: Member> Inner<M> {
    fn members(&self) -> Arc<Members<M>> {
        Arc::clone(&self.members.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn full(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }

    /// The key without the cluster's prefix; `None` if it can't be one of ours.
    fn plain(&self, mut key: Vec<u8>) -> Option<String> {
        if key.starts_with(self.prefix.as_bytes()) {
            key.drain(..self.prefix.len());
            match String::from_utf8(key) {
                Ok(plain) => return Some(plain),
                Err(error) => key = error.into_bytes(),
            }
        }
        tracing::warn!(key = %key.escape_ascii(), "skipping a key that is not UTF-8");
        None
    }

    fn kv(&self, kv: KeyValue) -> Option<Kv> {
        let lease = Some(LeaseId(kv.lease)).filter(|lease| lease.0 != 0);
        Some(Kv { key: self.plain(kv.key)?, value: kv.value, revision: kv.modified, lease })
    }

    /// The first key and the end (exclusive) of all keys that begin with `prefix`, as etcd expects them.
    fn bounds(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let begin = self.full(prefix);
        let mut end = begin.clone();
        // UTF-8 never contains the byte 0xff, so the last byte can always be incremented.
        match end.last_mut() {
            Some(last) => *last += 1,
            None => return (vec![0], vec![0]),
        }
        (begin, end)
    }

    /// Read up to `limit` keys, or as many as fit into one answer.
    async fn get(&self, begin: &[u8], end: &[u8], limit: usize, at: Option<Revision>) -> Result<Found, Error> {
        let mut limit = limit;
        loop {
            let keys = Keys { begin, end, limit, at, bytes: ANSWER_BYTES };
            let read = |connection: M::Connection| async move { connection.range(keys).await };
            match self.members().call_or(Again::Always, read).await? {
                Some(found) => return Ok(found),
                None if limit > 1 => limit = limit.min(PAGE_KEYS).div_ceil(2),
                None => return Err(Error::Refused("a single key is larger than any answer may be".into())),
            }
        }
    }

    fn ttls(&self) -> std::sync::MutexGuard<'_, Ttls> {
        self.ttls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Member> Store for Etcd<M> {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        let inner = &*self.inner;
        let limit = if range.limit == 0 { PAGE_KEYS } else { range.limit };
        let (mut from, end) = inner.bounds(&range.prefix);
        if let Some(after) = range.after.filter(|after| *after >= range.prefix) {
            from = successor(&inner.full(&after));
        }
        let mut at = range.at;
        loop {
            let found = inner.get(&from, &end, limit, at).await?;
            let revision = at.unwrap_or(found.revision);
            let last = found.kvs.last().map(|kv| successor(&kv.key));
            let kvs: Vec<Kv> = found.kvs.into_iter().filter_map(|kv| inner.kv(kv)).collect();
            match last {
                // All keys of the page were skipped, so the caller would have no key to continue from.
                Some(next) if kvs.is_empty() && found.more => (from, at) = (next, Some(revision)),
                _ => return Ok(Page { kvs, revision, more: found.more, cluster: found.cluster }),
            }
        }
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
        txn.check()?;
        let inner = &*self.inner;
        let condition = |guard: &Guard| match guard {
            Guard::Absent(key) => Some(Condition::Created(inner.full(key), 0)),
            // A key that doesn't exist has revision 0, and no key has -1.
            Guard::Unchanged(key, Revision(0)) => Some(Condition::Modified(inner.full(key), -1)),
            Guard::Unchanged(key, at) => {
                Some(Condition::Modified(inner.full(key), i64::try_from(at.0).unwrap_or(i64::MAX)))
            }
            // A member has no condition for that. Each connection leads to one cluster, which is known before.
            Guard::Cluster(_) => None,
        };
        let of = txn.guards.iter().find_map(|guard| if let Guard::Cluster(id) = guard { Some(*id) } else { None });
        let step = |op| match op {
            Op::Put { key, value, lease } => {
                Step::Put { key: inner.full(&key), value, lease: lease.map_or(0, |lease| lease.0) }
            }
            Op::Delete(key) => Step::Delete(inner.full(&key)),
        };
        let again = if txn.ops.is_empty() { Again::Always } else { Again::Undone };
        let mut then: Vec<Step> = txn.ops.into_iter().map(step).collect();
        if then.is_empty() {
            // A member may evaluate the guards on an old state unless there is a linearizable read.
            then.push(Step::Count(inner.full(".")));
        }
        let txn = &Transaction { when: txn.guards.iter().filter_map(condition).collect(), then };
        let commit = |connection: M::Connection| async move { connection.txn(txn).await };
        let outcome = inner.members().call_in(of, again, commit).await?;
        if outcome.succeeded { Ok(outcome.revision) } else { Err(Error::Conflict) }
    }

    /// Must be called within a runtime: a watch is a task.
    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        let (batches, watch) = mpsc::channel(follow::CHANNEL);
        tokio::spawn(follow::follow(Arc::clone(&self.inner), prefix.to_owned(), from, batches));
        Watch::new(watch)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        if ttl.is_zero() {
            return Err(Error::Refused("a lease needs a TTL".into()));
        }
        let seconds = i64::try_from(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).unwrap_or(i64::MAX);
        let grant = |connection: M::Connection| async move { connection.grant(seconds).await };
        // Granting twice would leave a lease that is never renewed and expires by itself.
        let (id, ttl) = self.inner.members().call(Again::Always, grant).await?;
        self.inner.ttls().heard(id, ttl);
        Ok(id)
    }

    async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, Error> {
        let known = self.inner.ttls().get(lease);
        let renew = |connection: M::Connection| async move { connection.keep_alive(lease, known).await };
        let renewed = self.inner.members().call_within(within, Again::Always, renew).await;
        match &renewed {
            Ok(ttl) => self.inner.ttls().heard(lease, *ttl),
            Err(Error::LeaseLost) => self.inner.ttls().ended(lease),
            Err(_) => {}
        }
        renewed
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let revoke = |connection: M::Connection| async move { connection.revoke(lease).await };
        match self.inner.members().call(Again::Always, revoke).await {
            Ok(()) | Err(Error::LeaseLost) => {
                self.inner.ttls().ended(lease);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn members(&self) -> Vec<StoreMember> {
        self.inner.members().ask_each().await
    }
}

/// The smallest key after this one.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
