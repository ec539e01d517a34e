//! Writes what a host reports of its units. Owns the guard that lets only the holder of the host's key report for it,
//! and that a host has one key for each report, in the form that it is told to write.

use crate::model::format::ReportKeyForm;
use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::UnitReport;
use crate::registry::keys::Key;
use crate::registry::{delete, put, unchanged};
use crate::store::{Error, LeaseId, MAX_OPS, Store, Txn};

/// The most reports that [`Reporter::write`] takes at once.
pub const MOST: usize = MAX_OPS / ReportKeyForm::ALL.len();

/// A host that reports.
#[derive(Debug)]
pub struct Reporter<'a> {
    /// The host.
    pub host: &'a MachineId,
    /// The lease that the reports are bound to.
    pub lease: LeaseId,
    /// The revision that last wrote the host's key.
    pub claimed: Revision,
    /// The form of the keys.
    pub form: ReportKeyForm,
}

impl Reporter<'_> {
    /// Write `reports` (`None` deletes one), if the host's key was not written since. The same transaction deletes each
    /// of them in the other form, which an earlier daemon of this host, or this one, may have written.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn write<S: Store>(&self, store: &S, reports: &[(UnitName, Option<UnitReport>)]) -> Result<(), Error> {
        let guards = vec![unchanged(&Key::Machine(self.host.clone()), Some(self.claimed))];
        let ops = reports.iter().flat_map(|(name, report)| {
            ReportKeyForm::ALL.map(|form| {
                let key = Key::state(self.host, name, form);
                match report.as_ref().filter(|_| form == self.form) {
                    Some(report) => put(&key, report, Some(self.lease)),
                    None => delete(&key),
                }
            })
        });
        store.commit(Txn { guards, ops: ops.collect() }).await.map(drop)
    }
}
