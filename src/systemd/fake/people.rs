//! What a person does with `systemctl` on the host in memory, past the agent. Owns these commands only; what they mean
//! for units is decided in `jobs`.

use super::Fake;
use crate::model::name::UnitName;
use crate::systemd::Error;

impl Fake {
    /// `systemctl start`. Works while the bus is down.
    ///
    /// # Errors
    /// As [`Systemd::start`](crate::systemd::Systemd::start).
    pub fn start_by_hand(&self, unit: &UnitName) -> Result<(), Error> {
        let mut host = self.lock();
        let outcome = host.queue_start(unit);
        host.settle();
        outcome
    }

    /// `systemctl stop`. Works while the bus is down.
    pub fn stop_by_hand(&self, unit: &UnitName) {
        let mut host = self.lock();
        host.queue_stop(unit);
        host.settle();
    }
}
