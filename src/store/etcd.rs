//! The etcd store: a cluster's keys in etcd v3.
//!
//! Owns the mapping of the seam's requests to etcd's, and is (with its submodules) the only user of `etcd-client`. It
//! must never know what a key means, nor repeat a change that may have been carried out.

mod follow;
mod members;
mod trouble;
mod ttls;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, GetResponse, KeyValue, PutOptions, TxnOp};
use tokio::sync::mpsc;

use self::members::{Again, Members};
use self::ttls::Ttls;
use super::{Error, Guard, Kv, LeaseId, Op, Page, Range, Revision, Store, Txn, Watch};

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
#[derive(Debug, Clone)]
pub struct Etcd {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Replaced as a whole when the configuration changes; requests in flight finish with the old one.
    way: Mutex<Arc<Way>>,
    prefix: String,
    /// The TTLs that etcd granted: the first answer to a keep-alive doesn't contain the TTL.
    ttls: Mutex<Ttls>,
}

/// The members, and whether they require authentication.
#[derive(Debug)]
struct Way {
    members: Members,
    authenticated: bool,
}

impl Way {
    fn new(options: &Options) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { members: Members::new(options)?, authenticated: options.user.is_some() }))
    }
}

impl Etcd {
    /// A store that connects on the first request, which reports whether etcd is reachable.
    ///
    /// # Errors
    /// `Refused` for invalid options: an endpoint that isn't a URL, a certificate that can't be read.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let (way, prefix) = (Mutex::new(Way::new(options)?), options.prefix.clone());
        Ok(Self { inner: Arc::new(Inner { way, prefix, ttls: Mutex::default() }) })
    }

    /// Reach the same cluster with `options` from now on: other members, another user, other certificates. The prefix
    /// stays the same: another prefix would be another cluster. Watches keep their connections as long as those last.
    ///
    /// # Errors
    /// As [`Etcd::new`]; nothing is changed then.
    pub fn reconfigure(&self, options: &Options) -> Result<(), Error> {
        let way = Way::new(options)?;
        *self.inner.way.lock().unwrap_or_else(PoisonError::into_inner) = way;
        Ok(())
    }

    /// The version of the member that is in use: `3.5.9`.
    ///
    /// # Errors
    /// `Unavailable` or `Refused`, as the requests of [`Store`].
    pub async fn version(&self) -> Result<String, Error> {
        let status = |mut client: Client| async move { client.status().await };
        let answer = self.inner.way().members.call(Again::Always, status).await?;
        Ok(answer.version().to_owned())
    }
}

impl Inner {
    fn way(&self) -> Arc<Way> {
        Arc::clone(&self.way.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn full(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }

    /// The key without the cluster's prefix; `None` if it can't be one of ours.
    fn plain(&self, key: &[u8]) -> Option<String> {
        let plain = key.strip_prefix(self.prefix.as_bytes()).and_then(|key| std::str::from_utf8(key).ok());
        if plain.is_none() {
            tracing::warn!(key = %key.escape_ascii(), "skipping a key that is not UTF-8");
        }
        plain.map(ToOwned::to_owned)
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
    async fn get(&self, from: &[u8], end: &[u8], limit: usize, at: Option<Revision>) -> Result<GetResponse, Error> {
        let mut limit = limit;
        loop {
            let read = |client: Client| {
                let mut options =
                    GetOptions::new().with_range(end).with_limit(i64::try_from(limit).unwrap_or(i64::MAX));
                if let Some(at) = at {
                    options = options.with_revision(signed(at));
                }
                async move { client.kv_client().max_decoding_message_size(ANSWER_BYTES).get(from, Some(options)).await }
            };
            match self.way().members.call_or(Again::Always, read).await? {
                Some(answer) => return Ok(answer),
                None if limit > 1 => limit = limit.min(PAGE_KEYS).div_ceil(2),
                None => return Err(Error::Refused("a single key is larger than any answer may be".into())),
            }
        }
    }

    fn ttls(&self) -> std::sync::MutexGuard<'_, Ttls> {
        self.ttls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Etcd {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        let inner = &*self.inner;
        let limit = if range.limit == 0 { PAGE_KEYS } else { range.limit };
        let (mut from, end) = inner.bounds(&range.prefix);
        if let Some(after) = range.after.filter(|after| *after >= range.prefix) {
            from = successor(&inner.full(&after));
        }
        let mut at = range.at;
        loop {
            let answer = inner.get(&from, &end, limit, at).await?;
            let revision =
                at.unwrap_or_else(|| revision(answer.header().map_or(0, etcd_client::ResponseHeader::revision)));
            let kvs: Vec<Kv> =
                answer.kvs().iter().filter_map(|kv| Some(self::kv(inner.plain(kv.key())?, kv))).collect();
            match answer.kvs().last() {
                // All keys of the page were skipped, so the caller would have no key to continue from.
                Some(last) if kvs.is_empty() && answer.more() => (from, at) = (successor(last.key()), Some(revision)),
                _ => return Ok(Page { kvs, revision, more: answer.more() }),
            }
        }
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
        txn.check()?;
        let inner = &*self.inner;
        let when: Vec<Compare> = txn
            .guards
            .iter()
            .map(|guard| match guard {
                Guard::Absent(key) => Compare::create_revision(inner.full(key), CompareOp::Equal, 0),
                // In etcd a key that doesn't exist has revision 0, and no key has -1.
                Guard::Unchanged(key, Revision(0)) => Compare::mod_revision(inner.full(key), CompareOp::Equal, -1),
                Guard::Unchanged(key, at) => Compare::mod_revision(inner.full(key), CompareOp::Equal, signed(*at)),
            })
            .collect();
        let mut then: Vec<TxnOp> = txn
            .ops
            .into_iter()
            .map(|op| match op {
                Op::Put { key, value, lease } => {
                    let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
                    TxnOp::put(inner.full(&key), value, options)
                }
                Op::Delete(key) => TxnOp::delete(inner.full(&key), None),
            })
            .collect();
        let changes = !then.is_empty();
        if !changes {
            // etcd may evaluate a read-only transaction on an old state unless it contains a linearizable operation.
            then.push(TxnOp::get(inner.full("."), Some(GetOptions::new().with_count_only())));
        }
        let txn = etcd_client::Txn::new().when(when).and_then(then);
        let again = if changes { Again::Undone } else { Again::Always };
        let commit = |mut client: Client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        };
        let answer = inner.way().members.call(again, commit).await?;
        if !answer.succeeded() {
            return Err(Error::Conflict);
        }
        Ok(revision(answer.header().map_or(0, etcd_client::ResponseHeader::revision)))
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
        let grant = |mut client: Client| async move { client.lease_grant(seconds, None).await };
        // Granting twice would leave a lease that is never renewed and expires by itself.
        let answer = self.inner.way().members.call(Again::Always, grant).await?;
        let id = LeaseId(answer.id());
        self.inner.ttls().heard(id, whole(answer.ttl()));
        Ok(id)
    }

    async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, Error> {
        let known = self.inner.ttls().get(lease);
        // One stream for each renewal: it costs a few hundred bytes, and leaves no stream to manage when a member dies.
        let renew = |mut client: Client| async move {
            let (mut keeper, mut answers) = client.lease_keep_alive(lease.0).await?;
            if let Some(known) = known {
                return Ok(known);
            }
            // The client consumes the first answer; the second one contains the TTL.
            keeper.keep_alive().await?;
            let answer = answers.message().await?;
            match answer.map(|answer| answer.ttl()) {
                Some(ttl) if ttl > 0 => Ok(whole(ttl)),
                _ => Err(etcd_client::Error::LeaseKeepAliveError("lease not found".into())),
            }
        };
        let renewed = self.inner.way().members.call_within(within, Again::Always, renew).await;
        match &renewed {
            Ok(ttl) => self.inner.ttls().heard(lease, *ttl),
            Err(Error::LeaseLost) => self.inner.ttls().ended(lease),
            Err(_) => {}
        }
        renewed
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let revoke = |mut client: Client| async move { client.lease_revoke(lease.0).await };
        match self.inner.way().members.call(Again::Always, revoke).await {
            Ok(_) | Err(Error::LeaseLost) => {
                self.inner.ttls().ended(lease);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The smallest key after this one.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn kv(key: String, kv: &KeyValue) -> Kv {
    let lease = Some(LeaseId(kv.lease())).filter(|lease| lease.0 != 0);
    Kv { key, value: kv.value().to_vec(), revision: revision(kv.mod_revision()), lease }
}

fn revision(number: i64) -> Revision {
    Revision(number.unsigned_abs())
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

fn whole(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}
