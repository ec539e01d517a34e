//! Publishes reports: what this host reports of each unit, written when it changes and bound to the host's lease.

use std::collections::BTreeSet;

use crate::model::format::ReportKeyForm;
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
        self.metrics.units_by_state(self.state.active(), self.state.missing(), self.state.unready());
        for part in reports.chunks(reports::MOST) {
            // The guard ensures that only the holder of the host's presence reports for it.
            let claimed = self.claimed(lease).await?;
            let form = self.format.report_key();
            // Only now: an earlier transaction whose outcome is unknown can't take effect after the key was claimed.
            let twice = self.under_other_keys(part, form).await?;
            let reporter = Reporter { host: &self.options.machine.id, lease: lease.id(), claimed, form };
            if let Err(error) = reporter.write(&self.store, part, &twice).await {
                // It may be committed now or later.
                tracing::debug!(%error, "the outcome of a report is unknown");
                self.claimed = None;
                self.apply(Input::PublishFailed(part.iter().map(|(name, _)| name.clone()).collect()));
                return Err(error);
            }
            self.other_keys.replaced(part.iter().map(|(name, report)| (name, report.is_some())));
            self.apply(Input::Published(part.to_vec()));
        }
        Ok(())
    }

    /// The units among `reports` that are also reported under a key in another form than `form`. A key that isn't there
    /// isn't deleted either: a host whose rights in the store are limited to the keys of the current form would be
    /// refused.
    async fn under_other_keys(
        &self,
        reports: &[(UnitName, Option<UnitReport>)],
        form: ReportKeyForm,
    ) -> Result<BTreeSet<UnitName>, Error> {
        let names = reports.iter().map(|(name, _)| name).filter(|name| self.other_keys.may_exist(name));
        self.reported_in(form.others(), names).await
    }
}

/// Which units may still be reported under keys in another form than the current one, with the current lease or with an
/// earlier one that has not ended.
#[derive(Debug)]
pub(super) enum OtherKeys {
    /// None: the lease is new, and nothing was ever reported in another form with it.
    None,
    /// Those that this daemon hasn't reported yet: another daemon had the lease before, this one wrote another form
    /// before, or the store isn't as this daemon left it. The store is asked once for each of them.
    AllBut(BTreeSet<UnitName>),
}

impl OtherKeys {
    /// Nothing is known any more of what the store has.
    pub(super) fn unknown() -> Self {
        Self::AllBut(BTreeSet::new())
    }

    fn may_exist(&self, name: &UnitName) -> bool {
        matches!(self, Self::AllBut(known) if !known.contains(name))
    }

    /// These units have been written under keys in the current form only, or are reported no more.
    fn replaced<'a>(&mut self, units: impl Iterator<Item = (&'a UnitName, bool)>) {
        let Self::AllBut(known) = self else { return };
        for (name, reported) in units {
            if reported {
                known.insert(name.clone());
            } else {
                known.remove(name);
            }
        }
    }
}
