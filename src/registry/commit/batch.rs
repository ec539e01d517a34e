//! Packs changes into transactions within the store's limits: as few as possible, in the given order. Owns what is kept
//! together; must never decide what is written.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::model::revision::Revision;
use crate::registry::keys::Key;
use crate::registry::{delete, put, unchanged};
use crate::store::{MAX_BYTES, MAX_OPS, Op, Txn};

/// The revision of the commit that wrote a key last; `None` if the key must not exist.
pub type Expected = Option<Revision>;

/// Guards and writes that are never separated.
#[derive(Debug, Clone)]
pub struct Step<T> {
    /// Returned with the transaction that contains the step.
    pub tag: T,
    guards: BTreeMap<Key, Expected>,
    ops: Vec<(Key, Op)>,
}

/// Steps that share a transaction if they fit into one. Otherwise they are committed one after the other, so each of
/// them must leave the store consistent.
#[derive(Debug, Clone)]
pub struct Group<T> {
    steps: Vec<Step<T>>,
}

/// A transaction, and the tags of its steps in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed<T> {
    /// What to commit.
    pub txn: Txn,
    /// The tags of its steps.
    pub tags: Vec<T>,
}

impl<T> Step<T> {
    /// A step without changes.
    #[must_use]
    pub fn new(tag: T) -> Self {
        Self { tag, guards: BTreeMap::new(), ops: Vec::new() }
    }

    /// Require that `key` is as `expected`.
    #[must_use]
    pub fn guard(mut self, key: Key, expected: Expected) -> Self {
        self.guards.insert(key, expected);
        self
    }

    /// Write `value` under `key` without a lease.
    #[must_use]
    pub fn put<V: Serialize>(mut self, key: Key, value: &V) -> Self {
        let op = put(&key, value, None);
        self.ops.push((key, op));
        self
    }

    /// Delete `key`.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        let op = delete(&key);
        self.ops.push((key, op));
        self
    }

    /// Write `value` under `key`, or delete the key if there is no value; in either case only if the key is as
    /// `expected`.
    #[must_use]
    pub fn replace<V: Serialize>(self, key: Key, expected: Expected, value: Option<&V>) -> Self {
        let guarded = self.guard(key.clone(), expected);
        match value {
            Some(value) => guarded.put(key, value),
            None => guarded.delete(key),
        }
    }
}

impl<T> From<Step<T>> for Group<T> {
    fn from(step: Step<T>) -> Self {
        Self { steps: vec![step] }
    }
}

impl<T> FromIterator<Step<T>> for Group<T> {
    fn from_iter<I: IntoIterator<Item = Step<T>>>(steps: I) -> Self {
        Self { steps: steps.into_iter().collect() }
    }
}

/// The transactions that carry out `groups`, in order. Each of them also contains the guard `fence`, if there is one. A
/// step that exceeds the limits gets a transaction of its own, which the store refuses.
#[must_use]
pub fn pack<T>(groups: impl IntoIterator<Item = Group<T>>, fence: Option<(Key, Expected)>) -> Vec<Packed<T>> {
    let empty = || Open::new(fence.as_ref());
    let (mut full, mut open) = (Vec::new(), empty());
    for Group { steps } in groups {
        if !open.fits(&steps) {
            full.push(std::mem::replace(&mut open, empty()));
        }
        for step in steps {
            if !open.fits(std::slice::from_ref(&step)) {
                full.push(std::mem::replace(&mut open, empty()));
            }
            open.add(step);
        }
    }
    full.push(open);
    full.into_iter().filter(|open| !open.tags.is_empty()).map(Open::close).collect()
}

/// A transaction that may have room for more.
#[derive(Debug)]
struct Open<T> {
    guards: BTreeMap<Key, Expected>,
    ops: Vec<Op>,
    /// The keys that `ops` change.
    changed: BTreeSet<Key>,
    /// The size, as the store counts it.
    bytes: usize,
    tags: Vec<T>,
}

impl<T> Open<T> {
    fn new(fence: Option<&(Key, Expected)>) -> Self {
        let guards: BTreeMap<Key, Expected> = fence.cloned().into_iter().collect();
        let bytes = guards.keys().map(Key::len).sum();
        Self { guards, ops: Vec::new(), changed: BTreeSet::new(), bytes, tags: Vec::new() }
    }

    fn fits(&self, steps: &[Step<T>]) -> bool {
        let guards = || steps.iter().flat_map(|step| step.guards.keys()).filter(|key| !self.guards.contains_key(key));
        let ops = || steps.iter().flat_map(|step| &step.ops).filter(|(key, _)| !self.changed.contains(key));
        let bytes: usize = guards().map(Key::len).chain(ops().map(|(_, op)| size(op))).sum();
        self.guards.len() + guards().count() <= MAX_OPS
            && self.ops.len() + ops().count() <= MAX_OPS
            && self.bytes + bytes <= MAX_BYTES
    }

    /// Several steps of one transaction may write the same key, for example units with the same file: the first one
    /// counts.
    fn add(&mut self, step: Step<T>) {
        for (key, expected) in step.guards {
            let length = key.len();
            if self.guards.insert(key, expected).is_none() {
                self.bytes += length;
            }
        }
        for (key, op) in step.ops {
            if self.changed.insert(key) {
                self.bytes += size(&op);
                self.ops.push(op);
            }
        }
        self.tags.push(step.tag);
    }

    fn close(self) -> Packed<T> {
        let guards = self.guards.iter().map(|(key, expected)| unchanged(key, *expected)).collect();
        Packed { txn: Txn { guards, ops: self.ops }, tags: self.tags }
    }
}

/// The bytes of an operation, as [`MAX_BYTES`] counts them.
fn size(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete(key) => key.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::UnitHash;
    use crate::registry::records::file::FileRecord;
    use crate::store::Guard;

    fn unit(n: usize) -> Key {
        Key::Unit(format!("u{n:04}.service").parse().unwrap())
    }

    fn step(n: usize) -> Step<usize> {
        Step::new(n).replace(unit(n), None, Some(&n))
    }

    fn tags(packed: &[Packed<usize>]) -> Vec<Vec<usize>> {
        packed.iter().map(|packed| packed.tags.clone()).collect()
    }

    #[test]
    fn every_transaction_is_within_the_limits_and_fenced() {
        let fence = (Key::Leader, Some(Revision(7)));
        let packed = pack((0..300).map(|n| step(n).into()), Some(fence));
        // One guard of each is the fence.
        assert_eq!(packed.iter().map(|packed| packed.tags.len()).collect::<Vec<_>>(), [127, 127, 46]);
        for Packed { txn, tags } in &packed {
            assert_eq!(txn.ops.len(), tags.len());
            assert!(
                txn.guards.len() <= MAX_OPS && txn.guards.contains(&Guard::Unchanged("leader".into(), Revision(7)))
            );
        }
        assert_eq!(tags(&packed).concat(), (0..300).collect::<Vec<_>>(), "in order");
    }

    #[test]
    fn groups_that_fit_stay_whole_and_others_are_cut_between_steps() {
        let group = |range: std::ops::Range<usize>| range.map(step).collect::<Group<usize>>();
        let packed = pack([group(0..100), group(100..200), group(200..500)], None);
        let lengths: Vec<usize> = packed.iter().map(|packed| packed.tags.len()).collect();
        assert_eq!(lengths, [100, 100, 128, 128, 44]);
    }

    #[test]
    fn bytes_count() {
        let large = |n: usize| Group::from(Step::new(n).put(unit(n), &"x".repeat(400 * 1024)));
        assert_eq!(tags(&pack((0..5).map(large), None)), [vec![0, 1], vec![2, 3], vec![4]]);
        // What no transaction can hold is left to the store to refuse.
        let huge = Step::new(0).put(unit(0), &"x".repeat(2 * MAX_BYTES));
        assert_eq!(tags(&pack([huge.into(), Group::from(step(1))], None)), [vec![0], vec![1]]);
    }

    #[test]
    fn a_key_is_written_once_and_counted_once() {
        let file = Key::File(UnitHash::new("0123456789012345678901234567890123456789"));
        let record = FileRecord { text: "x".repeat(700 * 1024) };
        let with_file = |n: usize| Group::from(step(n).put(file.clone(), &record));
        let packed = pack((0..3).map(with_file), None);
        assert_eq!(tags(&packed), [vec![0, 1, 2]]);
        assert_eq!(packed[0].txn.ops.len(), 4);
    }

    #[test]
    fn nothing_makes_no_transaction() {
        assert_eq!(pack(Vec::<Group<()>>::new(), Some((Key::Leader, None))), vec![]);
    }
}
