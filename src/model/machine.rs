//! Machines: the hosts of a cluster, as they register.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::format::Format;
use super::name::MachineId;

/// `key=value` pairs that describe a host.
pub type Metadata = BTreeMap<String, String>;

/// A registered host (`machine/<id>`; written by its agent, bound to its lease).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its machine id.
    pub id: MachineId,
    /// Its address for other hosts; empty if none was found.
    pub ip: String,
    /// Its host name.
    pub hostname: String,
    /// Its static metadata. Dynamic metadata takes precedence.
    #[serde(default)]
    pub metadata: Metadata,
    /// The version of its `fleetd`.
    pub version: String,
    /// `/proc/sys/kernel/random/boot_id`, which distinguishes a reboot from a restart.
    pub boot_id: String,
    /// Since when it has been registered without interruption, in ms since the epoch; 0 from daemons that didn't record
    /// it.
    #[serde(default)]
    pub since: u64,
    /// The newest format of the store that its `fleetd` reads and writes.
    #[serde(default)]
    pub format: Format,
}

impl Machine {
    /// The lowest format of this host and others: what all of them can read.
    #[must_use]
    pub fn lowest_format(&self, others: impl IntoIterator<Item = Format>) -> Format {
        others.into_iter().fold(self.format, Format::min)
    }
}
