//! A slow store, for tests of what must continue while callers don't wait for it. Owns nothing; must never be used in a
//! daemon.

use std::future::Future;
use std::time::Duration;

use tokio::time::sleep;

use crate::store::embedded::Embedded;
use crate::store::{Error, LeaseId, Page, Range, Revision, Store, Txn, Watch};

/// A store that takes a second for each page.
#[derive(Clone)]
pub(super) struct Slow(pub(super) Embedded);

impl Store for Slow {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        sleep(Duration::from_secs(1)).await;
        self.0.range(range).await
    }

    fn commit(&self, txn: Txn) -> impl Future<Output = Result<Revision, Error>> + Send {
        self.0.commit(txn)
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        self.0.watch(prefix, from)
    }

    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId, Error>> + Send {
        self.0.grant(ttl)
    }

    fn keep_alive(&self, lease: LeaseId, within: Duration) -> impl Future<Output = Result<Duration, Error>> + Send {
        self.0.keep_alive(lease, within)
    }

    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<(), Error>> + Send {
        self.0.revoke(lease)
    }
}
