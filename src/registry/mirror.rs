//! Follows a part of the store: list at a revision, then watch from the next. Owns resuming and listing again; how to
//! handle an unreachable store is up to the caller.

use std::ops::ControlFlow;

use crate::model::revision::{Moment, Revision};
use crate::store::{Batch, Error, Kv, Page, Range, Store, Watch};

/// Keys of one page of a list: a compromise between round trips and etcd's limit of 4 MiB for an answer.
const PAGE: usize = 1000;

/// A part of the store that is followed.
#[derive(Debug)]
pub struct Mirror<S> {
    store: S,
    prefix: String,
    /// The part of an incomplete list that was read so far. Kept here and not on the stack: a list that takes longer
    /// than the caller waits must not start over each time.
    listing: Option<Listing>,
    /// Everything up to this moment has been delivered.
    seen: Option<Moment>,
    watch: Option<Watch>,
    /// Whether the last watch broke: the store that comes back may be another one, or an older backup of it.
    broken: bool,
}

/// The part of a list that was read so far.
#[derive(Debug)]
struct Listing {
    /// What remains to be read, at the revision of the first page.
    rest: Range,
    kvs: Vec<Kv>,
    /// The cluster that has answered so far.
    cluster: Option<u64>,
}

/// What a mirror delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// The complete contents, which replace everything delivered before. The first update is one, and so is the first
    /// after a gap.
    Reset {
        /// As of this moment.
        at: Moment,
        /// All keys, in byte order.
        kvs: Vec<Kv>,
    },
    /// The next change.
    Batch(Batch),
}

impl<S: Store> Mirror<S> {
    /// Follow the keys that begin with `prefix`.
    #[must_use]
    pub fn new(store: S, prefix: &str) -> Self {
        Self { store, prefix: prefix.into(), listing: None, seen: None, watch: None, broken: false }
    }

    /// List again with the next update: what was delivered can no longer be trusted (a commit's outcome is unknown).
    pub fn reset(&mut self) {
        self.listing = None;
        self.seen = None;
        self.watch = None;
    }

    /// The next update. Cancel-safe, also in the middle of a list. After an error it can be called again: it continues
    /// where it was, or lists again if that revision is gone.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the store is unreachable; [`Error::Refused`] if it refuses the request.
    pub async fn next(&mut self) -> Result<Update, Error> {
        loop {
            let Some(seen) = self.seen else { return self.list().await };
            if self.broken {
                // A watch from a revision that the store never had would wait for it silently. If the store has the
                // same revision again, with other changes, it would miss these.
                let range = Range { prefix: self.prefix.clone(), limit: 1, ..Range::default() };
                let now = self.store.range(range).await?.at();
                self.broken = false;
                if seen.is_lost_at(now) {
                    let (seen, now) = (seen.revision, now.revision);
                    tracing::debug!(%seen, %now, "the store was restored from a backup or replaced; listing again");
                    self.reset();
                    continue;
                }
            }
            let watch = self.watch.get_or_insert_with(|| self.store.watch(&self.prefix, seen.revision.next()));
            match watch.next().await {
                Ok(batch) => {
                    self.seen = Some(Moment { revision: batch.revision, ..seen });
                    return Ok(Update::Batch(batch));
                }
                Err(Error::Compacted) => {
                    tracing::debug!(prefix = self.prefix, "changes were compacted unread; listing again");
                    self.reset();
                }
                Err(error) => {
                    self.watch = None;
                    self.broken = true;
                    return Err(error);
                }
            }
        }
    }

    async fn list(&mut self) -> Result<Update, Error> {
        loop {
            let listing = self.listing.get_or_insert_with(|| Listing {
                rest: Range { prefix: self.prefix.clone(), limit: PAGE, ..Range::default() },
                kvs: Vec::new(),
                cluster: None,
            });
            match self.store.range(listing.rest.clone()).await {
                // The store was replaced between two pages.
                Ok(page) if *listing.cluster.get_or_insert(page.cluster) != page.cluster => self.listing = None,
                Ok(page) => {
                    let (more, at) = (turn(&mut listing.rest, &page), page.at());
                    listing.kvs.extend(page.kvs);
                    if !more && let Some(Listing { kvs, .. }) = self.listing.take() {
                        self.seen = Some(at);
                        return Ok(Update::Reset { at, kvs });
                    }
                }
                Err(Error::Compacted) => self.listing = None,
                Err(error) => {
                    // The store that comes back may be an older backup, which never had this revision.
                    self.listing = None;
                    return Err(error);
                }
            }
        }
    }
}

/// All keys that begin with `prefix`, at one revision.
///
/// # Errors
/// As [`Store::range`]; if the revision is compacted meanwhile, the read starts over.
pub async fn list<S: Store>(store: &S, prefix: &str) -> Result<(Revision, Vec<Kv>), Error> {
    loop {
        let mut kvs = Vec::new();
        match pages(store, Range { prefix: prefix.into(), ..Range::default() }, |page| {
            kvs.extend(page);
            ControlFlow::Continue(())
        })
        .await
        {
            Err(Error::Compacted) => {}
            Err(error) => return Err(error),
            Ok(revision) => return Ok((revision, kvs)),
        }
    }
}

/// Pass the keys of `range` to `take`, page by page (of the size of its limit, if it has one), all at one revision.
/// Returns that revision.
///
/// # Errors
/// As [`Store::range`].
pub async fn pages<S: Store>(
    store: &S,
    mut range: Range,
    mut take: impl FnMut(Vec<Kv>) -> ControlFlow<()>,
) -> Result<Revision, Error> {
    range.limit = if range.limit == 0 { PAGE } else { range.limit.min(PAGE) };
    loop {
        let page = store.range(range.clone()).await?;
        let (revision, more) = (page.revision, turn(&mut range, &page));
        if take(page.kvs).is_break() || !more {
            return Ok(revision);
        }
    }
}

/// Make `range` continue behind `page`, at the same revision. Returns whether there is more.
fn turn(range: &mut Range, page: &Page) -> bool {
    range.at = Some(page.revision);
    range.after = page.kvs.last().map(|kv| kv.key.clone()).or(range.after.take());
    page.more
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::registry::slow::Slow;
    use crate::store::embedded::{Counter, Embedded};
    use crate::store::{Op, Txn};

    async fn write(store: &Embedded, keys: impl IntoIterator<Item = usize>) {
        let keys: Vec<usize> = keys.into_iter().collect();
        for keys in keys.chunks(100) {
            let put = |n: &usize| Op::Put { key: format!("k/{n:05}"), value: b"v".to_vec(), lease: None };
            store.commit(Txn { guards: vec![], ops: keys.iter().map(put).collect() }).await.unwrap();
        }
    }

    /// What comes when nobody waits longer than `patience`.
    async fn impatient(mirror: &mut Mirror<Slow>, patience: Duration) -> Update {
        for _ in 0..100 {
            if let Ok(update) = timeout(patience, mirror.next()).await {
                return update.unwrap();
            }
        }
        panic!("the list never ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_cancelled_again_and_again_ends() {
        let store = Embedded::in_memory();
        write(&store, 0..5 * PAGE).await;
        let mut mirror = Mirror::new(Slow(store.clone()), "k/");
        // Two pages fit, five don't.
        let patience = Duration::from_millis(2500);
        assert!(timeout(patience, mirror.next()).await.is_err());
        // What happens meanwhile is told afterwards.
        write(&store, [PAGE * 5]).await;
        match impatient(&mut mirror, patience).await {
            Update::Reset { kvs, .. } => assert_eq!(kvs.len(), 5 * PAGE, "all of it, and once"),
            other => panic!("{other:?}"),
        }
        match impatient(&mut mirror, patience).await {
            Update::Batch(batch) => assert_eq!(batch.events.len(), 1),
            other => panic!("{other:?}"),
        }
    }

    /// A store that was restored may have reached the same revision again, with other changes.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_was_restored_is_listed_again() {
        for (counter, later) in [(Counter::GoesBack, 0), (Counter::GoesBack, 9), (Counter::GoesOn, 0)] {
            let store = Embedded::in_memory();
            write(&store, 0..3).await;
            let backup = store.backup();
            write(&store, [3]).await;
            let mut mirror = Mirror::new(store.clone(), "k/");
            mirror.next().await.unwrap();
            assert!(timeout(Duration::from_secs(1), mirror.next()).await.is_err());
            store.restore(&backup, counter);
            for key in 10..10 + later {
                write(&store, [key]).await;
            }
            assert!(mirror.next().await.is_err(), "the watch ends");
            match mirror.next().await.unwrap() {
                Update::Reset { at, kvs } => assert_eq!((at.cluster, kvs.len()), (2, 3 + later)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Its other pages are of another history.
    #[tokio::test(start_paused = true)]
    async fn a_list_of_a_store_that_is_restored_meanwhile_starts_over() {
        let store = Embedded::in_memory();
        write(&store, 0..PAGE).await;
        let backup = store.backup();
        write(&store, PAGE..2 * PAGE).await;
        let mut mirror = Mirror::new(Slow(store.clone()), "k/");
        assert!(timeout(Duration::from_millis(1500), mirror.next()).await.is_err());
        store.restore(&backup, Counter::GoesBack);
        write(&store, 2 * PAGE..4 * PAGE).await;
        match mirror.next().await.unwrap() {
            Update::Reset { at, kvs } => assert_eq!((at.cluster, kvs.len()), (2, 3 * PAGE)),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_forgets_what_was_listed() {
        let store = Embedded::in_memory();
        write(&store, 0..2 * PAGE).await;
        let mut mirror = Mirror::new(Slow(store.clone()), "k/");
        assert!(timeout(Duration::from_millis(1500), mirror.next()).await.is_err());
        write(&store, [0]).await;
        mirror.reset();
        let now = store.range(Range::default()).await.unwrap().revision;
        match mirror.next().await.unwrap() {
            Update::Reset { at, kvs } => assert_eq!((at.revision, kvs.len()), (now, 2 * PAGE)),
            other => panic!("{other:?}"),
        }
    }
}
