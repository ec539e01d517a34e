//! A backup of a store in memory, and the return to it, as `etcdctl snapshot save` and `etcdutl snapshot restore` do
//! with etcd. For tests and the simulation. Owns what a restored store still has; it must never touch a disk.

use super::state::State;
use super::{Embedded, Held, Sleepers, state};
use crate::store::{Kv, Revision};

/// What was stored at one moment, with its history and its leases.
#[derive(Debug, Clone)]
pub struct Backup(State);

/// How a restored store counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// From the revision of the backup: revisions are used a second time.
    GoesBack,
    /// From a revision that was never used before, without any history (`--bump-revision`, `--mark-compacted`).
    GoesOn,
}

impl Backup {
    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    /// The id of the cluster.
    #[must_use]
    pub fn cluster(&self) -> u64 {
        self.0.cluster
    }

    /// All keys, in byte order.
    #[must_use]
    pub fn kvs(&self) -> Vec<Kv> {
        self.0.kvs.iter().map(|(key, entry)| state::kv(key, entry)).collect()
    }
}

impl Embedded {
    /// What is stored now.
    #[must_use]
    pub fn backup(&self) -> Backup {
        Backup(self.inner.shared.held().state.clone())
    }

    /// The id of the cluster, as in [`Page::cluster`](crate::store::Page::cluster).
    #[must_use]
    pub fn cluster(&self) -> u64 {
        self.inner.shared.held().state.cluster
    }

    /// Return to `backup`, as a cluster with an id of its own. Watches end, each lease of the backup gets its whole TTL
    /// again, and those that were granted since are unknown; their ids aren't used again. Only in memory.
    pub fn restore(&self, backup: &Backup, counter: Counter) {
        let held = &mut *self.inner.shared.held();
        let Held { state, sleepers, deadlines } = held;
        let before = std::mem::replace(state, backup.0.clone());
        (state.cluster, state.last_lease) = (before.cluster + 1, before.last_lease);
        if counter == Counter::GoesOn {
            state.go_on_from(Revision(before.revision.0 + 1_000_000));
        }
        *sleepers = Sleepers::default();
        before.leases.keys().for_each(|id| deadlines.end(*id));
        state.leases.iter().for_each(|(id, lease)| deadlines.begin(*id, lease.ttl));
        self.inner.shared.poke.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::store::{Error, Guard, Op, Range, Store, Txn};

    async fn put(store: &Embedded, key: &str, lease: Option<crate::store::LeaseId>) -> Revision {
        let op = Op::Put { key: key.into(), value: b"v".to_vec(), lease };
        store.commit(Txn { guards: vec![Guard::Absent(key.into())], ops: vec![op] }).await.unwrap()
    }

    async fn keys(store: &Embedded) -> Vec<String> {
        store.range(Range::default()).await.unwrap().kvs.into_iter().map(|kv| kv.key).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_restored_store_has_what_was_saved_and_knows_nothing_later() {
        let ttl = Duration::from_secs(10);
        for counter in [Counter::GoesBack, Counter::GoesOn] {
            let store = Embedded::in_memory();
            let early = store.grant(ttl).await.unwrap();
            put(&store, "a", Some(early)).await;
            let backup = store.backup();
            let late = store.grant(ttl).await.unwrap();
            let newest = put(&store, "b", Some(late)).await;
            let mut watch = store.watch("", newest.next());
            assert!(timeout(ttl / 2, watch.next()).await.is_err());

            store.restore(&backup, counter);
            assert_eq!(keys(&store).await, ["a"]);
            let page = store.range(Range::default()).await.unwrap();
            let expected = match counter {
                Counter::GoesBack => backup.revision(),
                Counter::GoesOn => Revision(newest.0 + 1_000_000),
            };
            assert_eq!((page.revision, page.cluster), (expected, backup.cluster() + 1));
            assert!(matches!(watch.next().await, Err(Error::Unavailable(_))));
            assert_eq!(store.keep_alive(late, ttl).await, Err(Error::LeaseLost));
            assert!(store.grant(ttl).await.unwrap() > late, "its id isn't used again");
            let old = store.watch("", backup.revision()).next().await;
            assert_eq!(old.is_err(), counter == Counter::GoesOn, "{old:?}");
            // Half of its time was over.
            tokio::time::sleep(ttl * 3 / 4).await;
            assert_eq!(keys(&store).await, ["a"]);
            tokio::time::sleep(ttl / 2).await;
            assert_eq!(keys(&store).await, [""; 0]);
        }
    }
}
