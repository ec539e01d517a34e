//! Writes what a host reports of its units. Owns the guard that lets only the holder of the host's key report for it,
//! and that a host has one key for each report, in the form that it is told to write. Must never touch a key that a
//! host of the current format has no need of: the store may limit each host to its own keys.

use std::collections::BTreeSet;

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
    /// Write `reports` (`None` deletes one), if the host's key was not written since. The same transaction deletes the
    /// keys in another form of the units in `twice`, which an earlier daemon of this host, or this one, has written.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn write<S: Store>(
        &self,
        store: &S,
        reports: &[(UnitName, Option<UnitReport>)],
        twice: &BTreeSet<UnitName>,
    ) -> Result<(), Error> {
        let guards = vec![unchanged(&Key::Machine(self.host.clone()), Some(self.claimed))];
        let write = |(name, report): &(UnitName, Option<UnitReport>)| {
            let key = Key::state(self.host, name, self.form);
            report.as_ref().map_or_else(|| delete(&key), |report| put(&key, report, Some(self.lease)))
        };
        let others = reports.iter().map(|(name, _)| name).filter(|name| twice.contains(*name));
        let others = others.flat_map(|name| self.form.others().map(|form| Key::state(self.host, name, form)));
        let ops = reports.iter().map(write).chain(others.map(|key| delete(&key)));
        store.commit(Txn { guards, ops: ops.collect() }).await.map(drop)
    }
}
