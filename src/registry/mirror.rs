//! Follows a part of the store: list at a revision, then watch from the next. Owns resuming and re-listing; what to do
//! about an unreachable store (wait, how long) is its user's.

use std::ops::ControlFlow;

use crate::model::revision::Revision;
use crate::store::{Batch, Error, Kv, Page, Range, Store, Watch};

/// Keys of one page while listing: a compromise between round trips and the 4 MiB that an answer of etcd may have.
const PAGE: usize = 1000;

/// A part of the store, followed.
#[derive(Debug)]
pub struct Mirror<S> {
    store: S,
    prefix: String,
    /// What is there of a list that isn't complete. Kept here and not on the stack: a list that takes longer than its
    /// caller waits must not begin anew each time.
    listing: Option<Listing>,
    /// Everything up to here has been handed out.
    seen: Option<Revision>,
    watch: Option<Watch>,
    /// Whether the watch before broke: the store that comes back may be another one, or an older backup of it.
    broken: bool,
}

/// A list, as far as it has come.
#[derive(Debug)]
struct Listing {
    /// What is still to be read, at the revision of the first page.
    rest: Range,
    kvs: Vec<Kv>,
}

/// What a mirror hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Forget what you had: this is all there is. The first update is one, and so is the one after a gap.
    Reset {
        /// As of this revision.
        revision: Revision,
        /// All keys, in byte order.
        kvs: Vec<Kv>,
    },
    /// What happened next.
    Batch(Batch),
}

impl<S: Store> Mirror<S> {
    /// Follow the keys that begin with `prefix`.
    #[must_use]
    pub fn new(store: S, prefix: &str) -> Self {
        Self { store, prefix: prefix.into(), listing: None, seen: None, watch: None, broken: false }
    }

    /// List again with the next update: what was handed out can't be trusted any more (a commit's outcome is unknown).
    pub fn reset(&mut self) {
        self.listing = None;
        self.seen = None;
        self.watch = None;
    }

    /// The next update. Cancel-safe, also in the middle of a list. After an error call it again: it goes on where it
    /// was, or lists anew if that is gone.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the store can't be asked; [`Error::Refused`] if it won't answer.
    pub async fn next(&mut self) -> Result<Update, Error> {
        loop {
            let Some(seen) = self.seen else { return self.list().await };
            if self.broken {
                // A watch from a revision that the store never had would wait for it in silence.
                let range = Range { prefix: self.prefix.clone(), limit: 1, ..Range::default() };
                let now = self.store.range(range).await?.revision;
                self.broken = false;
                if now < seen {
                    self.reset();
                    continue;
                }
            }
            let watch = self.watch.get_or_insert_with(|| self.store.watch(&self.prefix, seen.next()));
            match watch.next().await {
                Ok(batch) => {
                    self.seen = Some(batch.revision);
                    return Ok(Update::Batch(batch));
                }
                Err(Error::Compacted) => self.reset(),
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
            });
            match self.store.range(listing.rest.clone()).await {
                Ok(page) => {
                    let more = turn(&mut listing.rest, &page);
                    listing.kvs.extend(page.kvs);
                    if !more && let Some(Listing { kvs, .. }) = self.listing.take() {
                        self.seen = Some(page.revision);
                        return Ok(Update::Reset { revision: page.revision, kvs });
                    }
                }
                Err(Error::Compacted) => self.listing = None,
                Err(error) => {
                    // The store that comes back may be an older backup of it, which never had this revision.
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
/// As [`Store::range`]; a compaction in the middle begins again.
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

/// Hand the keys of `range` to `take`, page by page (of so many as its limit says, if it has one), all at one revision;
/// the answer is that revision.
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

/// Make `range` the one behind `page`, at the same revision; whether there is anything.
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
    use crate::store::embedded::Embedded;
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
            Update::Reset { revision, kvs } => assert_eq!((revision, kvs.len()), (now, 2 * PAGE)),
            other => panic!("{other:?}"),
        }
    }
}
