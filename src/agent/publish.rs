//! Publishes reports: what this host says of each unit, written when it changes, bound to the host's lease.

use crate::model::name::UnitName;
use crate::model::unit::UnitReport;
use crate::plan::host::Input;
use crate::registry::keys::Key;
use crate::registry::{delete, put, unchanged};
use crate::store::lease::Lease;
use crate::store::{Error, MAX_OPS, Store, Txn};
use crate::systemd::Systemd;

use super::Agent;

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Write `reports`; `None` deletes one. Safe to repeat: each report is whole, and none is written after a newer
    /// one.
    pub(super) async fn publish(
        &mut self,
        lease: &Lease<S>,
        reports: Vec<(UnitName, Option<UnitReport>)>,
    ) -> Result<(), Error> {
        self.metrics.units_by_state(self.state.active());
        for part in reports.chunks(MAX_OPS) {
            // Only the holder of the host's presence may report for it, and only since it last made sure of that.
            let claimed = self.claimed(lease).await?;
            let host = &self.options.machine.id;
            let guard = unchanged(&Key::Machine(host.clone()), Some(claimed));
            let op = |(name, report): &(UnitName, Option<UnitReport>)| {
                let key = Key::State(name.clone(), host.clone());
                match report {
                    Some(report) => put(&key, report, Some(lease.id())),
                    None => delete(&key),
                }
            };
            let txn = Txn { guards: vec![guard], ops: part.iter().map(op).collect() };
            if let Err(error) = self.store.commit(txn).await {
                // It may have been committed, or may yet be.
                self.claimed = None;
                self.apply(Input::PublishFailed(part.iter().map(|(name, _)| name.clone()).collect()));
                return Err(error);
            }
            self.apply(Input::Published(part.to_vec()));
        }
        Ok(())
    }
}
