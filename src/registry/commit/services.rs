//! Writes announced instances of services. `registry::services` decides who may announce and withdraw.

use crate::model::revision::Revision;
use crate::model::service::Instance;
use crate::registry::keys::Key;
use crate::registry::{delete, put, unchanged};
use crate::store::{Error, Guard, LeaseId, Store, Txn};

/// Write an instance, bound to `lease`, if `guard` holds.
///
/// # Errors
/// As [`Store::commit`].
pub async fn announce<S: Store>(
    store: &S,
    key: &Key,
    instance: &Instance,
    lease: LeaseId,
    guard: Guard,
) -> Result<Revision, Error> {
    store.commit(Txn { guards: vec![guard], ops: vec![put(key, instance, Some(lease))] }).await
}

/// Delete an instance that is bound to no lease, if it was last written by `revision`.
///
/// # Errors
/// As [`Store::commit`].
pub async fn remove<S: Store>(store: &S, key: &Key, revision: Revision) -> Result<Revision, Error> {
    store.commit(Txn { guards: vec![unchanged(key, Some(revision))], ops: vec![delete(key)] }).await
}
