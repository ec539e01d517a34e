//! The JSON of `/fleet/v2/machines`, and how other answers name a host. Types only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::name::MachineId;

/// v2: a host, as far as a reader of tables needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MachineRef {
    /// Its machine id.
    pub id: MachineId,
    /// Its address; empty while it is unknown or the host is gone.
    #[serde(default)]
    pub ip: String,
    /// Its host name; empty while it is unknown or the host is gone.
    #[serde(default)]
    pub hostname: String,
}

/// v2: a host. `GET /fleet/v2/machines` answers `{"machines":[…]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MachineView {
    /// Its machine id.
    pub id: MachineId,
    /// Its address.
    pub ip: String,
    /// Its host name.
    pub hostname: String,
    /// Its metadata, dynamic over static.
    pub metadata: BTreeMap<String, String>,
    /// The version of its `fleetd`.
    pub version: String,
}

/// v2: all hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MachineList {
    /// The host whose `fleetd` answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here: Option<MachineId>,
    /// Sorted by id.
    pub machines: Vec<MachineView>,
}
