//! The JSON of `/fleet/v2/resources`: how much memory and CPU units take of each host. Types only.

use serde::{Deserialize, Serialize};

use crate::model::name::MachineId;

/// v2: what units take of hosts with `Memory=` and `CPU=`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ResourceList {
    /// The hosts that are alive, sorted by id.
    pub hosts: Vec<HostResources>,
}

/// v2: what units take of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostResources {
    /// Its machine id.
    pub id: MachineId,
    /// Memory, in bytes.
    pub memory: Amount,
    /// CPU, in percent of one core.
    pub cpu: Amount,
    /// How many units take any.
    pub units: usize,
}

/// v2: how much of something a host has, and how much is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Amount {
    /// How much it has; missing if it doesn't report that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has: Option<u64>,
    /// How much of it its configuration keeps from units.
    pub reserved: u64,
    /// How much units can take, by the settings of the cluster.
    pub offered: u64,
    /// How much they take.
    pub taken: u64,
}
