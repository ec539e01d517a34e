//! The JSON of `/fleet/v2/status`. Types only.

use serde::{Deserialize, Serialize};

use super::machines::{MachineList, MachineRef};
use super::units::{DamagedUnit, UnitView};

/// v2: the whole cluster at one revision. `GET /fleet/v2/status` answers it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClusterView {
    /// The hosts.
    #[serde(flatten)]
    pub hosts: MachineList,
    /// The host whose engine leads; absent while none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<LeaderView>,
    /// All units, sorted by name.
    pub units: Vec<UnitView>,
    /// Units whose records are damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedUnit>,
}

/// v2: the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeaderView {
    /// The host whose engine leads.
    pub machine: MachineRef,
    /// Since when, in ms since the epoch.
    pub since: u64,
}
