//! Publishes reports: what this host says of each unit, written when it changes, bound to the host's lease.

use crate::model::name::UnitName;
use crate::model::unit::UnitReport;
use crate::plan::host::Input;
use crate::registry::commit::reports;
use crate::store::lease::Lease;
use crate::store::{Error, Store};
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
        for part in reports.chunks(reports::MOST) {
            // Only the holder of the host's presence may report for it, and only since it last made sure of that.
            let claimed = self.claimed(lease).await?;
            let host = &self.options.machine.id;
            if let Err(error) = reports::write(&self.store, host, part, lease.id(), claimed).await {
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
