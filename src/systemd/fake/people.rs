//! What a person does on the host in memory, past the agent, with `systemctl` and with packages. Owns these commands
//! only; what they mean for units is decided in `jobs`.

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

    /// A package is installed that has a unit with this text, or removed.
    pub fn set_packaged(&self, unit: &UnitName, text: Option<String>) {
        let system = &mut self.lock().options.system;
        match text {
            Some(text) => system.insert(unit.clone(), text),
            None => system.remove(unit),
        };
    }

    /// Whether systemd finds the unit of a package under this name.
    #[must_use]
    pub fn is_packaged(&self, unit: &UnitName) -> bool {
        self.lock().refusal(unit).is_some()
    }
}
