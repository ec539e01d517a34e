//! Publishes reports: what this host reports of each unit, written when it changes and bound to the host's lease.

use crate::model::name::UnitName;
use crate::model::unit::UnitReport;
use crate::plan::host::Input;
use crate::registry::commit::reports::{self, Reporter};
use crate::store::lease::Lease;
use crate::store::{Error, Store};
use crate::systemd::Systemd;

use super::Agent;

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Write `reports`; `None` deletes one. Safe to retry: each report is complete, and none can overwrite a newer one.
    pub(super) async fn publish(
        &mut self,
        lease: &Lease<S>,
        reports: Vec<(UnitName, Option<UnitReport>)>,
    ) -> Result<(), Error> {
        self.metrics.units_by_state(self.state.active(), self.state.missing());
        for part in reports.chunks(reports::MOST) {
            // The guard ensures that only the holder of the host's presence reports for it.
            let claimed = self.claimed(lease).await?;
            let (host, form) = (&self.options.machine.id, self.format.report_key());
            let reporter = Reporter { host, lease: lease.id(), claimed, form };
            if let Err(error) = reporter.write(&self.store, part).await {
                // Its outcome is unknown: it may be committed now or later.
                self.claimed = None;
                self.apply(Input::PublishFailed(part.iter().map(|(name, _)| name.clone()).collect()));
                return Err(error);
            }
            self.apply(Input::Published(part.to_vec()));
        }
        Ok(())
    }
}
