//! Writes what a host reports of its units. Owns the guard that lets only the holder of the host's key report for it.

use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::UnitReport;
use crate::registry::keys::Key;
use crate::registry::{delete, put, unchanged};
use crate::store::{Error, LeaseId, MAX_OPS, Op, Store, Txn};

/// The most reports that [`write()`] takes at once.
pub const MOST: usize = MAX_OPS;

/// Write the reports of `host` (`None` deletes one), bound to `lease`, if the host's key was last written by the
/// revision `claimed`.
///
/// # Errors
/// As [`Store::commit`].
pub async fn write<S: Store>(
    store: &S,
    host: &MachineId,
    reports: &[(UnitName, Option<UnitReport>)],
    lease: LeaseId,
    claimed: Revision,
) -> Result<(), Error> {
    let guards = vec![unchanged(&Key::Machine(host.clone()), Some(claimed))];
    let op = |(name, report): &(UnitName, Option<UnitReport>)| -> Op {
        let key = Key::State(name.clone(), host.clone());
        match report {
            Some(report) => put(&key, report, Some(lease)),
            None => delete(&key),
        }
    };
    store.commit(Txn { guards, ops: reports.iter().map(op).collect() }).await.map(drop)
}
