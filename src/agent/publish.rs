//! Reports: what this host says of each unit, written when it changes, bound to the host's lease.

use crate::model::name::UnitName;
use crate::model::unit::State;
use crate::registry::keys::Key;
use crate::registry::{delete, put};
use crate::store::lease::Lease;
use crate::store::{Error, Guard, MAX_OPS, Store, Txn};
use crate::systemd::Systemd;

use super::Agent;

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Write what has changed since it was last written. Safe to repeat: each report is whole.
    pub(super) async fn publish(&mut self, lease: &Lease<S>) -> Result<(), Error> {
        let host = &self.options.machine.id;
        let changed: Vec<(UnitName, Option<State>)> = self.units.unpublished();
        // Only who holds the host's presence may report for it.
        let guard = Guard::Held(Key::Machine(host.clone()).to_string(), lease.id());
        for part in changed.chunks(MAX_OPS) {
            let op = |(name, state): &(UnitName, Option<State>)| {
                let key = Key::State(name.clone(), host.clone());
                match state {
                    Some(state) => put(&key, state, Some(lease.id())),
                    None => delete(&key),
                }
            };
            let txn = Txn { guards: vec![guard.clone()], ops: part.iter().map(op).collect() };
            self.store.commit(txn).await?;
            for (name, state) in part {
                self.units.published(name, state.clone());
            }
        }
        Ok(())
    }
}
