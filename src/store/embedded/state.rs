//! The data of the embedded store: the keys, their history, and the leases with the keys bound to them.
//!
//! Owns every decision: whether a request is possible ([`State::decide`]) and what it changes. It must never wait, read
//! a clock or access a disk: the same request on the same state always gives the same change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::store::{Batch, Error, Event, Guard, Kv, LeaseId, Op, Page, Range, Revision, Txn};

/// How many keys a page has if the caller leaves it to the store. Low enough that tests and simulations have several
/// pages too.
const PAGE_KEYS: usize = 500;

/// A batch is closed once it has this many events; a revision is never split.
const BATCH_EVENTS: usize = 256;

/// The approximate size of an edit in memory, in bytes, without its key and value.
const EDIT_OVERHEAD: usize = 96;

/// How much history is kept: beyond either limit, the oldest revisions are compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// The most revisions.
    pub revisions: usize,
    /// The most bytes that they may take in memory, approximately.
    pub bytes: usize,
}

impl Default for History {
    /// 10,000 revisions and 8 MiB: minutes of a busy cluster, at little cost for a small host.
    fn default() -> Self {
        Self { revisions: 10_000, bytes: 8 * 1024 * 1024 }
    }
}

/// The state of a key. Values are shared between keys, history and readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredValue {
    pub(super) value: Arc<[u8]>,
    pub(super) revision: Revision,
    pub(super) lease: Option<LeaseId>,
}

/// The change of one key, and what it replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) key: Arc<str>,
    pub(super) before: Option<StoredValue>,
    pub(super) after: Option<StoredValue>,
}

impl Edit {
    fn bytes(&self) -> usize {
        EDIT_OVERHEAD + self.key.len() + self.before.as_ref().map_or(0, |entry| entry.value.len())
    }
}

/// The change of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseChange {
    Granted(LeaseId, Duration),
    Ended(LeaseId),
}

/// The effect of a request. Created by [`State::decide`], carried out by [`State::apply`], written by `disk`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The store's revision afterwards; a new one if there are edits.
    pub(super) revision: Revision,
    pub(super) edits: Vec<Edit>,
    pub(super) lease: Option<LeaseChange>,
    /// Compact the history before this revision.
    pub(super) compact: Option<Revision>,
}

impl Change {
    /// Whether there is nothing to write.
    pub(super) fn is_nothing(&self) -> bool {
        self.edits.is_empty() && self.lease.is_none() && self.compact.is_none()
    }
}

/// A request that changes the state.
#[derive(Debug)]
pub(super) enum Request {
    Commit(Txn),
    Grant(Duration),
    Revoke(LeaseId),
    Compact(Revision),
}

/// A lease and the keys bound to it.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) ttl: Duration,
    pub(super) keys: BTreeSet<Arc<str>>,
}

/// One revision of the history.
#[derive(Debug, Clone)]
pub(super) struct Past {
    pub(super) revision: Revision,
    pub(super) edits: Vec<Edit>,
}

/// All data of an embedded store.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) kvs: BTreeMap<Arc<str>, StoredValue>,
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    pub(super) revision: Revision,
    /// The oldest revision that can be read.
    pub(super) compacted: Revision,
    pub(super) last_lease: i64,
    /// See [`Page::cluster`].
    pub(super) cluster: u64,
    /// The revisions after `compacted`, without gaps.
    past: VecDeque<Past>,
    past_bytes: usize,
    history: History,
}

impl State {
    /// An empty store. Its first revision is 1, as in etcd, so that 0 is never returned.
    pub(super) fn new(history: History) -> Self {
        Self {
            kvs: BTreeMap::new(),
            leases: BTreeMap::new(),
            revision: Revision(1),
            compacted: Revision(0),
            last_lease: 0,
            cluster: 0,
            past: VecDeque::new(),
            past_bytes: 0,
            history,
        }
    }

    /// The same keys and leases without any history: enough to decide requests.
    pub(super) fn without_past(&self) -> Self {
        let history = History { revisions: 0, bytes: 0 };
        let (kvs, leases) = (self.kvs.clone(), self.leases.clone());
        Self { kvs, leases, past: VecDeque::new(), past_bytes: 0, history, ..*self }
    }

    /// Decide on `request` without carrying it out.
    pub(super) fn decide(&self, request: Request) -> Result<Change, Error> {
        let nothing = Change { revision: self.revision, edits: Vec::new(), lease: None, compact: None };
        match request {
            Request::Commit(txn) => self.decide_commit(txn),
            Request::Grant(ttl) => {
                let id = LeaseId(self.last_lease + 1);
                Ok(Change { lease: Some(LeaseChange::Granted(id, ttl)), ..nothing })
            }
            Request::Revoke(id) => {
                let Some(lease) = self.leases.get(&id) else { return Ok(nothing) };
                let deletes = lease.keys.iter().map(|key| (Arc::clone(key), None)).collect();
                Ok(Change { lease: Some(LeaseChange::Ended(id)), ..self.change(deletes) })
            }
            Request::Compact(revision) if revision > self.revision => Err(in_the_future(revision)),
            Request::Compact(revision) => Ok(Change { compact: Some(revision), ..nothing }),
        }
    }

    fn decide_commit(&self, txn: Txn) -> Result<Change, Error> {
        let holds = |guard: &Guard| match guard {
            Guard::Absent(key) => !self.kvs.contains_key(key.as_str()),
            Guard::Unchanged(key, revision) => self.kvs.get(key.as_str()).is_some_and(|kv| kv.revision == *revision),
            Guard::Cluster(id) => self.cluster == *id,
        };
        if !txn.guards.iter().all(holds) {
            return Err(Error::Conflict);
        }
        let mut wanted = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            match op {
                Op::Put { lease: Some(id), .. } if !self.leases.contains_key(&id) => return Err(Error::LeaseLost),
                Op::Put { key, value, lease } => wanted.push((Arc::from(key), Some((Arc::from(value), lease)))),
                Op::Delete(key) => wanted.push((Arc::from(key), None)),
            }
        }
        Ok(self.change(wanted))
    }

    /// The change that gives each key the wanted value and lease, or deletes it.
    #[expect(clippy::type_complexity, reason = "a name for it would be used here alone")]
    fn change(&self, wanted: Vec<(Arc<str>, Option<(Arc<[u8]>, Option<LeaseId>)>)>) -> Change {
        let revision = self.revision.next();
        let mut edits = Vec::with_capacity(wanted.len());
        for (key, wish) in wanted {
            let before = self.kvs.get(&key).cloned();
            let after = wish.map(|(value, lease)| StoredValue { value, revision, lease });
            if before.is_some() || after.is_some() {
                edits.push(Edit { key, before, after });
            }
        }
        let revision = if edits.is_empty() { self.revision } else { revision };
        Change { revision, edits, lease: None, compact: None }
    }

    /// Carry out `change`, which must come from [`Self::decide`] on this state.
    pub(super) fn apply(&mut self, change: &Change) {
        match change.lease {
            Some(LeaseChange::Granted(id, ttl)) => {
                self.last_lease = id.0;
                self.leases.insert(id, Lease { ttl, keys: BTreeSet::new() });
            }
            // Before the edits, which then needn't unbind its keys one by one.
            Some(LeaseChange::Ended(id)) => drop(self.leases.remove(&id)),
            None => {}
        }
        for Edit { key, before, after } in &change.edits {
            let (was, is) = (before.as_ref().and_then(|kv| kv.lease), after.as_ref().and_then(|kv| kv.lease));
            if was != is {
                if let Some(lease) = was.and_then(|id| self.leases.get_mut(&id)) {
                    lease.keys.remove(key);
                }
                if let Some(lease) = is.and_then(|id| self.leases.get_mut(&id)) {
                    lease.keys.insert(Arc::clone(key));
                }
            }
            match after {
                Some(entry) => drop(self.kvs.insert(Arc::clone(key), entry.clone())),
                None => drop(self.kvs.remove(key)),
            }
        }
        self.revision = change.revision;
        if !change.edits.is_empty() {
            self.remember(Past { revision: change.revision, edits: change.edits.clone() });
        }
        if let Some(revision) = change.compact {
            self.forget(|oldest, _| oldest.revision <= revision);
            self.compacted = self.compacted.max(revision);
        }
    }

    /// Append to the history, and compact what exceeds its limits.
    pub(super) fn remember(&mut self, past: Past) {
        self.past_bytes += past.edits.iter().map(Edit::bytes).sum::<usize>();
        self.past.push_back(past);
        let History { revisions, bytes } = self.history;
        self.forget(|_, state| state.past.len() > revisions || (state.past_bytes > bytes && state.past.len() > 1));
    }

    fn forget(&mut self, too_old: impl Fn(&Past, &Self) -> bool) {
        while self.past.front().is_some_and(|oldest| too_old(oldest, self)) {
            if let Some(oldest) = self.past.pop_front() {
                self.past_bytes -= oldest.edits.iter().map(Edit::bytes).sum::<usize>();
                self.compacted = oldest.revision;
            }
        }
    }

    /// Continue at `revision`, a newer one, without the history.
    pub(super) fn go_on_from(&mut self, revision: Revision) {
        (self.revision, self.compacted) = (revision, revision);
        (self.past, self.past_bytes) = (VecDeque::new(), 0);
    }

    /// The history after `revision`, oldest first.
    fn past_after(&self, revision: Revision) -> impl DoubleEndedIterator<Item = &Past> {
        self.past.range(self.past.partition_point(|past| past.revision <= revision)..)
    }

    /// One page of `range`.
    pub(super) fn range(&self, range: &Range) -> Result<Page, Error> {
        let at = range.at.unwrap_or(self.revision);
        if at > self.revision {
            return Err(in_the_future(at));
        }
        if at < self.compacted {
            return Err(Error::Compacted);
        }
        let after = range.after.as_deref().filter(|after| *after >= range.prefix.as_str());
        let wanted = |key: &str| key.starts_with(&range.prefix) && after.is_none_or(|after| key > after);

        // The entries that have changed since `at`, as they were: edits are undone from the newest to the oldest.
        let mut undone: BTreeMap<&str, Option<&StoredValue>> = BTreeMap::new();
        for past in self.past_after(at).rev() {
            for edit in past.edits.iter().filter(|edit| wanted(&edit.key)) {
                undone.insert(&edit.key, edit.before.as_ref());
            }
        }
        let limit = if range.limit == 0 { PAGE_KEYS } else { range.limit };
        let from = after.map_or(Bound::Included(range.prefix.as_str()), Bound::Excluded);
        let mut kvs: BTreeMap<&str, &StoredValue> = self
            .kvs
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(key, entry)| (&**key, entry))
            .take_while(|(key, _)| key.starts_with(&range.prefix))
            .filter(|(key, _)| !undone.contains_key(key))
            .take(limit.saturating_add(1))
            .collect();
        kvs.extend(undone.into_iter().filter_map(|(key, entry)| Some((key, entry?))));

        let more = kvs.len() > limit;
        let kvs = kvs.into_iter().take(limit).map(|(key, entry)| kv(key, entry)).collect();
        Ok(Page { kvs, revision: at, more, cluster: self.cluster })
    }

    /// The first events, from revision `from` on, of keys that begin with `prefix`; `None` if there are none yet.
    pub(super) fn events(&self, prefix: &str, from: Revision) -> Result<Option<Batch>, Error> {
        // Revisions 0 and 1 precede the first commit, so nothing can be missing there.
        if from.max(Revision(1)) <= self.compacted {
            return Err(Error::Compacted);
        }
        let mut batch = Batch { revision: from, events: Vec::new() };
        for past in self.past_after(Revision(from.0.saturating_sub(1))) {
            if batch.events.len() >= BATCH_EVENTS {
                break;
            }
            for edit in past.edits.iter().filter(|edit| edit.key.starts_with(prefix)) {
                batch.revision = past.revision;
                batch.events.push(match &edit.after {
                    Some(entry) => Event::Put(kv(&edit.key, entry)),
                    None => Event::Delete(edit.key.to_string()),
                });
            }
        }
        Ok(Some(batch).filter(|batch| !batch.events.is_empty()))
    }
}

pub(super) fn kv(key: &str, entry: &StoredValue) -> Kv {
    Kv { key: key.to_owned(), value: entry.value.to_vec(), revision: entry.revision, lease: entry.lease }
}

fn in_the_future(revision: Revision) -> Error {
    Error::Refused(format!("revision {revision} has not happened yet"))
}
