//! The files on the fake's disk, which may be full. Owns what a write leaves behind; must never tell systemd of it.

use crate::model::name::UnitName;
use crate::model::systemd::{Error, Outcomes};

use super::Fake;
use super::host::Host;

impl Fake {
    /// Write one file; returns the previous text, to be restored if a later step fails.
    pub(super) fn write(host: &mut Host, name: &UnitName, text: String) -> Result<Option<String>, Error> {
        if let Some(refusal) = host.refusal(name) {
            host.refused.insert(name.clone());
            return Err(refusal);
        }
        host.refused.remove(name);
        let is_staged = host.disk.staged.remove(name).is_some_and(|staged| staged == text);
        if host.disk_full && !is_staged {
            return Err(Error::Io(format!("cannot write {name}: No space left on device")));
        }
        host.own(name);
        host.counters.written += 1;
        Ok(host.disk.files.insert(name.clone(), text))
    }

    pub(super) fn undo(&self, name: &UnitName, before: Option<String>) {
        let mut host = self.lock();
        match before {
            Some(text) => {
                host.disk.files.insert(name.clone(), text);
            }
            None => {
                host.disk.files.remove(name);
                host.disk.links.remove(name);
                host.disown(name);
            }
        }
    }

    /// Write the next files of units, as far as there is room.
    pub(super) fn stage_on(host: &mut Host, units: Vec<(UnitName, String)>) -> Outcomes {
        let full = host.disk_full;
        let stage = |(name, text): (UnitName, String)| {
            if full {
                let error = Error::Io(format!("cannot write {name}: No space left on device"));
                return (name, Err(error));
            }
            host.disk.staged.insert(name.clone(), text);
            (name, Ok(()))
        };
        units.into_iter().map(stage).collect()
    }
}
