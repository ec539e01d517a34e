//! Follows a part of the store: list at a revision, then watch from the next. Owns resuming and re-listing; what to do
//! about an unreachable store (wait, how long) is its user's.

use std::ops::ControlFlow;

use crate::model::revision::Revision;
use crate::store::{Batch, Error, Kv, Range, Store, Watch};

/// Keys of one page while listing: a compromise between round trips and the 4 MiB that an answer of etcd may have.
const PAGE: usize = 1000;

/// A part of the store, followed.
#[derive(Debug)]
pub struct Mirror<S> {
    store: S,
    prefix: String,
    /// Everything up to here has been handed out.
    seen: Option<Revision>,
    watch: Option<Watch>,
    /// Whether the watch before broke: the store that comes back may be another one, or an older backup of it.
    broken: bool,
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
        Self { store, prefix: prefix.into(), seen: None, watch: None, broken: false }
    }

    /// List again with the next update: what was handed out can't be trusted any more (a commit's outcome is unknown).
    pub fn reset(&mut self) {
        self.seen = None;
        self.watch = None;
    }

    /// The next update. Cancel-safe. After an error call it again: it goes on where it was, or lists anew if that is gone.
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
        let (revision, kvs) = list(&self.store, &self.prefix).await?;
        self.seen = Some(revision);
        Ok(Update::Reset { revision, kvs })
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

/// Hand the keys of `range` to `take`, page by page (of so many as its limit says, if it has one), all at one revision; the answer is
/// that revision.
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
        range.at = Some(page.revision);
        range.after = page.kvs.last().map(|kv| kv.key.clone());
        if take(page.kvs).is_break() || !page.more {
            return Ok(page.revision);
        }
    }
}
