//! A store whose requests are counted and timed, by their result. It hides which adapter carries them out: whatever
//! runs on it exists once in the program, instead of once for each adapter (docs/performance.md). Owns nothing else:
//! every request is passed on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Metrics;

use super::{Error, LeaseId, Page, Range, Revision, Store, StoreMember, Txn, Watch};

/// Counts the requests to another store. Clones count together.
#[derive(Clone)]
pub struct Measured {
    store: Arc<dyn Adapter>,
    metrics: Metrics,
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`Store`], in a form that can be called without knowing the type.
trait Adapter: Send + Sync {
    fn range(&self, range: Range) -> Answer<'_, Result<Page, Error>>;
    fn commit(&self, txn: Txn) -> Answer<'_, Result<Revision, Error>>;
    fn watch(&self, prefix: &str, from: Revision) -> Watch;
    fn grant(&self, ttl: Duration) -> Answer<'_, Result<LeaseId, Error>>;
    fn keep_alive(&self, lease: LeaseId, within: Duration) -> Answer<'_, Result<Duration, Error>>;
    fn revoke(&self, lease: LeaseId) -> Answer<'_, Result<(), Error>>;
    fn members(&self) -> Answer<'_, Vec<StoreMember>>;
}

impl<S: Store> Adapter for S {
    fn range(&self, range: Range) -> Answer<'_, Result<Page, Error>> {
        Box::pin(Store::range(self, range))
    }

    fn commit(&self, txn: Txn) -> Answer<'_, Result<Revision, Error>> {
        Box::pin(Store::commit(self, txn))
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        Store::watch(self, prefix, from)
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, Result<LeaseId, Error>> {
        Box::pin(Store::grant(self, ttl))
    }

    fn keep_alive(&self, lease: LeaseId, within: Duration) -> Answer<'_, Result<Duration, Error>> {
        Box::pin(Store::keep_alive(self, lease, within))
    }

    fn revoke(&self, lease: LeaseId) -> Answer<'_, Result<(), Error>> {
        Box::pin(Store::revoke(self, lease))
    }

    fn members(&self) -> Answer<'_, Vec<StoreMember>> {
        Box::pin(Store::members(self))
    }
}

impl Measured {
    /// Count the requests to `store`.
    #[must_use]
    pub fn new(store: impl Store, metrics: Metrics) -> Self {
        Self { store: Arc::new(store), metrics }
    }

    /// A request whose caller was cancelled has no result, and isn't counted.
    async fn count<T>(&self, kind: &'static str, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let asked = Instant::now();
        let answer = request.await;
        self.metrics.stored(kind, asked.elapsed(), answer.as_ref().err().map(Error::class));
        answer
    }
}

impl Store for Measured {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.count("range", self.store.range(range)).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
        self.count("commit", self.store.commit(txn)).await
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        self.metrics.store_watched();
        self.store.watch(prefix, from)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.count("grant", self.store.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, Error> {
        let answer = self.count("keep_alive", self.store.keep_alive(lease, within)).await;
        if answer.is_ok() {
            self.metrics.lease_renewed();
        }
        answer
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.count("revoke", self.store.revoke(lease)).await
    }

    async fn members(&self) -> Vec<StoreMember> {
        self.store.members().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Measured;
    use crate::metrics::Metrics;
    use crate::store::embedded::Embedded;
    use crate::store::{Error, Guard, Op, Store as _, Txn};

    #[tokio::test]
    async fn requests_are_counted_with_what_became_of_them() {
        let metrics = Metrics::default();
        let store = Measured::new(Embedded::in_memory(), metrics.clone());
        let put = Op::Put { key: "a".into(), value: vec![], lease: None };
        store.commit(Txn { guards: vec![], ops: vec![put.clone()] }).await.unwrap();
        let absent = Txn { guards: vec![Guard::Absent("a".into())], ops: vec![put] };
        assert_eq!(store.commit(absent).await, Err(Error::Conflict));
        let lease = store.grant(Duration::from_secs(9)).await.unwrap();
        store.keep_alive(lease, Duration::from_secs(3)).await.unwrap();
        let text = metrics.text();
        for line in [
            "fleet_registry_operation_count_total{type=\"commit\"} 2",
            "fleet_registry_operation_failed_count_total{type=\"commit\",class=\"conflict\"} 1",
            "fleet_registry_operation_duration_second_count{type=\"commit\"} 2",
            "fleet_lease_renewals_total 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
