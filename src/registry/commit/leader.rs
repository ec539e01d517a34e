//! Writes the leader's key. The engine decides who may lead, and when.

use crate::model::revision::Revision;
use crate::registry::keys::Key;
use crate::registry::put;
use crate::registry::records::leader::LeaderRecord;
use crate::store::{Error, Guard, LeaseId, Store, Txn};

/// Write the leader's key, bound to `lease`, if `guard` holds. Returns the revision that fences the leader's other
/// transactions.
///
/// # Errors
/// As [`Store::commit`].
pub async fn claim<S: Store>(
    store: &S,
    leader: &LeaderRecord,
    lease: LeaseId,
    guard: Guard,
) -> Result<Revision, Error> {
    let op = put(&Key::Leader, leader, Some(lease));
    store.commit(Txn { guards: vec![guard], ops: vec![op] }).await
}
