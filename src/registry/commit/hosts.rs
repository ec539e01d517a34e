//! Writes the records of a host. `agent::presence` decides which host may claim a machine id.

use crate::model::machine::Machine;
use crate::model::revision::Revision;
use crate::registry::keys::Key;
use crate::registry::put;
use crate::store::{Error, Guard, LeaseId, Store, Txn};

/// Write a host's key, bound to `lease`, if `guard` holds. Returns the revision of that commit.
///
/// # Errors
/// As [`Store::commit`].
pub async fn register<S: Store>(store: &S, machine: &Machine, lease: LeaseId, guard: Guard) -> Result<Revision, Error> {
    let op = put(&Key::Machine(machine.id.clone()), machine, Some(lease));
    store.commit(Txn { guards: vec![guard], ops: vec![op] }).await
}
