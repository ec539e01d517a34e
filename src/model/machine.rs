//! Machines: the hosts of a cluster, as they present themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::name::MachineId;

/// `key=value` pairs that describe a host.
pub type Metadata = BTreeMap<String, String>;

/// A host that is alive (`machine/<id>`; written by its agent, bound to its lease).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its identity.
    pub id: MachineId,
    /// Its address, as other hosts reach it; empty when it found none.
    pub ip: String,
    /// Its host name.
    pub hostname: String,
    /// What its configuration says of it. Dynamic metadata wins over these.
    #[serde(default)]
    pub metadata: Metadata,
    /// The version of its `fleetd`.
    pub version: String,
    /// `/proc/sys/kernel/random/boot_id`: tells a reboot from a restart.
    pub boot_id: String,
    /// Since when it has been registered without a gap, ms since the epoch; 0 from a daemon that didn't say so.
    #[serde(default)]
    pub since: u64,
}
