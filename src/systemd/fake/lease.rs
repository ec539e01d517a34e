//! The host's lease on the host in memory, which ends at its deadlines without any daemon. Owns what ends with it.

use std::sync::{PoisonError, Weak};

use tokio::time::sleep_until;

use super::host::Host;
use super::{Fake, What};
use crate::model::name::UnitName;
use crate::systemd::Deadlines;

impl Fake {
    /// Whether the lease is held.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        self.lock().holds_lease()
    }
}

impl Host {
    /// Replace the deadlines.
    pub(super) fn set_deadlines(&mut self, deadlines: Option<Deadlines>) {
        self.lease.deadlines += 1;
        let Some(Deadlines { stop, kill }) = deadlines else { return };
        for (at, kills) in [(stop, false), (kill, true)] {
            let (me, number) = (Weak::clone(&self.me), self.lease.deadlines);
            tokio::spawn(async move {
                sleep_until(at).await;
                let Some(host) = me.upgrade() else { return };
                let host = &mut *host.lock().unwrap_or_else(PoisonError::into_inner);
                if host.lease.deadlines == number {
                    host.pass_time();
                    if kills { host.kill_what_is_left() } else { host.hold_lease(false) }
                }
            });
        }
    }

    /// Hold the lease, or let go of it.
    pub(super) fn hold_lease(&mut self, hold: bool) {
        if std::mem::replace(&mut self.lease.held, hold) && !hold {
            self.note(None, What::Lapsed);
            for name in self.ending_with_lease() {
                self.queue_stop(&name);
            }
        }
        self.settle();
    }

    pub(super) fn holds_lease(&self) -> bool {
        self.lease.held
    }

    /// Also what waits for another unit to stop, and is still active therefore.
    fn kill_what_is_left(&mut self) {
        for name in self.ending_with_lease() {
            self.killed(&name);
        }
        self.settle();
    }

    /// What is down is left out, as systemd leaves its stop out of a transaction.
    fn ending_with_lease(&self) -> Vec<UnitName> {
        let ending = self.units.iter().filter(|(_, unit)| unit.definition.ends_with_lease && !unit.is_down());
        ending.map(|(name, _)| name.clone()).collect()
    }
}
