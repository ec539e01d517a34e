//! The limits of every store: checked before a commit is sent, so that every adapter refuses the same with the same
//! message.
//!
//! Owns the sizes of a commit. It must never read stored data: the store evaluates guards.

use std::collections::BTreeSet;

use super::{Error, Guard, MAX_BYTES, MAX_OPS, Op, Txn};

/// Whether `txn` is within [`MAX_OPS`] and [`MAX_BYTES`], and changes each key only once.
pub(super) fn check(txn: &Txn) -> Result<(), Error> {
    // No store is asked for its own id.
    let keys = txn.guards.iter().filter(|guard| !matches!(guard, Guard::Cluster(_))).count();
    for (count, what) in [(keys, "guards"), (txn.ops.len(), "operations")] {
        if count > MAX_OPS {
            return Err(Error::Refused(format!("{count} {what} in one commit, at most {MAX_OPS} are possible")));
        }
    }
    let guards = txn.guards.iter().map(|guard| match guard {
        Guard::Absent(key) | Guard::Unchanged(key, _) => key.len(),
        Guard::Cluster(_) => 0,
    });
    let ops = txn.ops.iter().map(|op| match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete(key) => key.len(),
    });
    let bytes: usize = guards.chain(ops).sum();
    if bytes > MAX_BYTES {
        return Err(Error::Refused(format!("{bytes} bytes in one commit, at most {MAX_BYTES} are possible")));
    }
    let mut keys = BTreeSet::new();
    for op in &txn.ops {
        let (Op::Put { key, .. } | Op::Delete(key)) = op;
        if key.is_empty() {
            return Err(Error::Refused("the key is empty".into()));
        }
        if !keys.insert(key) {
            return Err(Error::Refused(format!("the key `{key}` is changed twice in one commit")));
        }
    }
    Ok(())
}
