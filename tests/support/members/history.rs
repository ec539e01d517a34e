//! What a cluster has agreed on: keys with all their versions, and leases. Pure: proposals are applied one after the
//! other, and any revision can be read. Owns what etcd would answer at a revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla::store::Revision;
use flotilla::store::etcd::client::{Change, Code, Condition, Fault, KeyValue, Outcome, Step, Transaction};

/// A change that the members agree on.
#[derive(Debug, Clone)]
pub(crate) enum Proposal {
    Txn(Transaction),
    /// A lease with this id and TTL in seconds.
    Grant(i64, i64),
    Revoke(i64),
}

#[derive(Debug, Clone)]
struct Version {
    revision: u64,
    /// The revision that created the key.
    created: u64,
    /// `None` if it was deleted.
    value: Option<Arc<[u8]>>,
    lease: i64,
}

/// A key, its new value (`None` deletes it), and its lease.
type Write = (Vec<u8>, Option<Arc<[u8]>>, i64);

#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// In seconds.
    pub(crate) ttl: i64,
    keys: BTreeSet<Vec<u8>>,
}

/// The agreed history.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) revision: u64,
    /// Older revisions can't be read.
    pub(crate) compacted: u64,
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
    /// The keys that each revision changed, in order.
    log: BTreeMap<u64, Vec<Vec<u8>>>,
    pub(crate) leases: BTreeMap<i64, Lease>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { revision: 1, compacted: 0, keys: BTreeMap::new(), log: BTreeMap::new(), leases: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, proposal: &Proposal) -> Result<Outcome, Fault> {
        match proposal {
            Proposal::Txn(txn) => self.txn(txn),
            Proposal::Grant(id, ttl) => {
                self.leases.insert(*id, Lease { ttl: *ttl, keys: BTreeSet::new() });
                Ok(self.outcome(true))
            }
            Proposal::Revoke(id) => {
                let lease = self.leases.remove(id).ok_or_else(lease_not_found)?;
                self.write(lease.keys.into_iter().map(|key| (key, None, 0)).collect());
                Ok(self.outcome(true))
            }
        }
    }

    fn txn(&mut self, txn: &Transaction) -> Result<Outcome, Fault> {
        if !self.hold(&txn.when, self.revision) {
            return Ok(self.outcome(false));
        }
        let mut writes = Vec::new();
        for step in &txn.then {
            match step {
                Step::Put { lease, .. } if *lease != 0 && !self.leases.contains_key(lease) => {
                    return Err(lease_not_found());
                }
                Step::Put { key, value, lease } => writes.push((key.clone(), Some(Arc::from(&**value)), *lease)),
                Step::Delete(key) => writes.push((key.clone(), None, 0)),
                Step::Count(_) => {}
            }
        }
        self.write(writes);
        Ok(self.outcome(true))
    }

    fn outcome(&self, succeeded: bool) -> Outcome {
        Outcome { succeeded, revision: Revision(self.revision) }
    }

    /// Deletions of keys that don't exist are no change.
    fn write(&mut self, mut writes: Vec<Write>) {
        writes.retain(|(key, value, _)| value.is_some() || self.get(key, self.revision).is_some());
        if writes.is_empty() {
            return;
        }
        let before = self.revision;
        self.revision += 1;
        for (key, value, lease) in writes {
            let old = self.get(&key, before).map(|old| (old.created, old.lease));
            if let Some(lease) = old.and_then(|(_, lease)| self.leases.get_mut(&lease)) {
                lease.keys.remove(&key);
            }
            if let Some(lease) = self.leases.get_mut(&lease) {
                lease.keys.insert(key.clone());
            }
            let created = old.map_or(self.revision, |(created, _)| created);
            let version = Version { revision: self.revision, created, value, lease };
            self.log.entry(self.revision).or_default().push(key.clone());
            self.keys.entry(key).or_default().push(version);
        }
    }

    /// The version of a key that exists at this revision.
    fn get(&self, key: &[u8], at: u64) -> Option<&Version> {
        let versions = self.keys.get(key)?;
        let last = versions.partition_point(|version| version.revision <= at).checked_sub(1)?;
        Some(&versions[last]).filter(|version| version.value.is_some())
    }

    pub(crate) fn hold(&self, conditions: &[Condition], at: u64) -> bool {
        conditions.iter().all(|condition| {
            let (key, revision, of): (_, _, fn(&Version) -> u64) = match condition {
                Condition::Created(key, revision) => (key, revision, |version| version.created),
                Condition::Modified(key, revision) => (key, revision, |version| version.revision),
            };
            i64::try_from(self.get(key, at).map_or(0, of)) == Ok(*revision)
        })
    }

    /// The keys from `begin` to `end` (exclusive) at this revision.
    pub(crate) fn range<'a>(&'a self, begin: &[u8], end: &'a [u8], at: u64) -> impl Iterator<Item = KeyValue> + 'a {
        let keys = self.keys.range(begin.to_vec()..).take_while(move |(key, _)| within(key, end));
        keys.filter_map(move |(key, _)| Some(key_value(key, self.get(key, at)?)))
    }

    /// The changes of these keys by the revisions `from` to `to`, both included.
    pub(crate) fn changes(&self, begin: &[u8], end: &[u8], from: u64, to: u64) -> Vec<Change> {
        let revisions = (from <= to).then(|| self.log.range(from..=to)).into_iter().flatten();
        let edits = revisions.flat_map(|(revision, keys)| keys.iter().map(move |key| (*revision, key)));
        let wanted = edits.filter(|(_, key)| key.as_slice() >= begin && within(key, end));
        wanted
            .map(|(revision, key)| match self.get(key, revision) {
                Some(version) => Change::Put(key_value(key, version)),
                None => Change::Delete(key.clone(), Revision(revision)),
            })
            .collect()
    }

    /// Whether a revision can be read.
    pub(crate) fn readable(&self, at: u64) -> Result<(), Fault> {
        if at < self.compacted {
            return Err(Fault::Answer(Code::OutOfRange, "mvcc: required revision has been compacted".into()));
        }
        Ok(())
    }
}

/// etcd's end of a range: one zero byte is "all keys".
fn within(key: &[u8], end: &[u8]) -> bool {
    end == [0] || key < end
}

fn key_value(key: &[u8], version: &Version) -> KeyValue {
    let value = version.value.as_deref().unwrap_or_default().to_vec();
    KeyValue { key: key.to_vec(), value, modified: Revision(version.revision), lease: version.lease }
}

fn lease_not_found() -> Fault {
    Fault::Answer(Code::NotFound, "requested lease not found".into())
}
