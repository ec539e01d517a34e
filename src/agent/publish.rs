//! Reports: what this host says of each unit, written when it changes, bound to the host's lease.

use crate::model::name::UnitName;
use crate::model::unit::UnitReport;
use crate::registry::keys::Key;
use crate::registry::{delete, put, unchanged};
use crate::store::lease::Lease;
use crate::store::{Error, MAX_OPS, Store, Txn};
use crate::systemd::Systemd;

use super::Agent;

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Write what has changed since it was last written. Safe to repeat: each report is whole, and none is done after a
    /// newer one.
    pub(super) async fn publish(&mut self, lease: &Lease<S>) -> Result<(), Error> {
        let changed: Vec<(UnitName, Option<UnitReport>)> = self.units.unpublished();
        if !changed.is_empty() {
            self.metrics.units_by_state(self.units.active());
        }
        for part in changed.chunks(MAX_OPS) {
            // Only who holds the host's presence may report for it, and only since it last made sure of it.
            let claimed = self.claimed(lease).await?;
            let host = &self.options.machine.id;
            let guard = unchanged(&Key::Machine(host.clone()), Some(claimed));
            let op = |(name, state): &(UnitName, Option<UnitReport>)| {
                let key = Key::State(name.clone(), host.clone());
                match state {
                    Some(state) => put(&key, state, Some(lease.id())),
                    None => delete(&key),
                }
            };
            let txn = Txn { guards: vec![guard], ops: part.iter().map(op).collect() };
            if let Err(error) = self.store.commit(txn).await {
                // Perhaps it was done, perhaps it is done yet.
                self.claimed = None;
                self.units.unpublish(part.iter().map(|(name, _)| name));
                return Err(error);
            }
            for (name, state) in part {
                self.units.published(name, state.clone());
            }
        }
        Ok(())
    }
}
