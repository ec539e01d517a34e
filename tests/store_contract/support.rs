//! What every test needs: a store, abbreviations, and waits with a time limit.

use std::time::Duration;

use flotilla::store::embedded::Embedded;
use flotilla::store::etcd::Etcd;
use flotilla::store::lease::Lease;
use flotilla::store::{Batch, Error, Event, Kv, LeaseId, Op, Page, Range, Revision, Store, Txn, Watch};
use futures_util::FutureExt as _;

use crate::simulated::{Cluster, Simulated};

/// The time limit of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An empty store under test, with its server if it has one.
pub(crate) trait Backend: Sized {
    type Store: Store;
    async fn start() -> Self;
    fn store(&self) -> Self::Store;
    async fn compact(&self, revision: Revision);
}

pub(crate) struct Memory(Embedded);

impl Backend for Memory {
    type Store = Embedded;

    async fn start() -> Self {
        Self(Embedded::in_memory())
    }

    fn store(&self) -> Embedded {
        self.0.clone()
    }

    async fn compact(&self, revision: Revision) {
        self.0.compact(revision).await.expect("compaction");
    }
}

pub(crate) struct Disk {
    store: Embedded,
    _dir: tempfile::TempDir,
}

impl Backend for Disk {
    type Store = Embedded;

    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Embedded::open(&dir.path().join("store")).await.expect("a new store");
        Self { store, _dir: dir }
    }

    fn store(&self) -> Embedded {
        self.store.clone()
    }

    async fn compact(&self, revision: Revision) {
        self.store.compact(revision).await.expect("compaction");
    }
}

/// The etcd adapter over three simulated members, of which one lags.
pub(crate) struct Members(Cluster, Etcd<Simulated>);

impl Backend for Members {
    type Store = Etcd<Simulated>;

    async fn start() -> Self {
        let cluster = Cluster::start(1);
        cluster.lag(1, Duration::from_millis(200));
        let store = cluster.store(0);
        Self(cluster, store)
    }

    fn store(&self) -> Etcd<Simulated> {
        self.1.clone()
    }

    async fn compact(&self, revision: Revision) {
        self.0.compact(revision);
    }
}

pub(crate) fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.into(), value: value.into(), lease: None }
}

pub(crate) fn bound(key: &str, value: &str, lease: LeaseId) -> Op {
    Op::Put { key: key.into(), value: value.into(), lease: Some(lease) }
}

pub(crate) fn delete(key: &str) -> Op {
    Op::Delete(key.into())
}

pub(crate) fn ops(ops: impl Into<Vec<Op>>) -> Txn {
    Txn { guards: Vec::new(), ops: ops.into() }
}

pub(crate) async fn commit<S: Store>(store: &S, changes: impl Into<Vec<Op>>) -> Revision {
    store.commit(ops(changes)).await.expect("a commit without guards")
}

pub(crate) fn prefix(prefix: &str) -> Range {
    Range { prefix: prefix.into(), ..Range::default() }
}

pub(crate) async fn read<S: Store>(store: &S, range: Range) -> Page {
    let asked = format!("{range:?}");
    store.range(range).await.unwrap_or_else(|error| panic!("{asked}: {error}"))
}

pub(crate) async fn get<S: Store>(store: &S, key: &str) -> Option<Kv> {
    read(store, prefix(key)).await.kvs.into_iter().find(|kv| kv.key == key)
}

/// All pages of a range, at one revision.
pub(crate) async fn read_all<S: Store>(store: &S, mut range: Range) -> (Vec<Kv>, Revision) {
    let mut kvs: Vec<Kv> = Vec::new();
    loop {
        let page = read(store, range.clone()).await;
        kvs.extend(page.kvs);
        if !page.more {
            return (kvs, page.revision);
        }
        range.after = Some(kvs.last().expect("a page that says `more` has keys").key.clone());
        range.at = Some(page.revision);
    }
}

/// Keys and values, as text.
pub(crate) fn texts(kvs: &[Kv]) -> Vec<(String, String)> {
    kvs.iter().map(|kv| (kv.key.clone(), String::from_utf8_lossy(&kv.value).into_owned())).collect()
}

/// `+key=value` or `-key`.
pub(crate) fn said(event: &Event) -> String {
    match event {
        Event::Put(kv) => format!("+{}={}", kv.key, String::from_utf8_lossy(&kv.value)),
        Event::Delete(key) => format!("-{key}"),
    }
}

/// Whether the store has reported that the lease has ended.
pub(crate) fn is_lost<S: Store>(lease: &Lease<S>) -> bool {
    lease.lost().now_or_never().is_some()
}

/// The next batch, or why there is none.
pub(crate) async fn next(watch: &mut Watch, what: &str) -> Result<Batch, Error> {
    tokio::time::timeout(PATIENCE, watch.next())
        .await
        .unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}, and the watch said nothing"))
}

/// Read batches until there are `count` events.
pub(crate) async fn events(watch: &mut Watch, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let what = format!("{count} events, after {} of them ({:?})", seen.len(), seen.last());
        let batch = next(watch, &what).await.unwrap_or_else(|error| panic!("waited for {what}: {error}"));
        assert!(!batch.events.is_empty(), "a batch without events");
        seen.extend(batch.events.iter().map(said));
    }
    seen
}

/// Call `look` until it succeeds; it returns what it saw otherwise.
pub(crate) async fn until<F: AsyncFnMut() -> (bool, String)>(what: &str, mut look: F) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (so, seen) = look().await;
        if so {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "waited {PATIENCE:?} for {what}, and saw {seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
