//! The JSON of CoreOS fleet's API, `/fleet/v1` and `/v1-alpha`. Types only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::file::UnitOption;

/// A unit. Keys in alphabetical order, empty ones omitted, as in fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Unit {
    /// Its current state: `inactive`, `loaded`, `launched`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[cfg_attr(test, schemars(extend("enum" = ["inactive", "loaded", "launched"])))]
    pub current_state: String,
    /// Its desired state: `inactive`, `loaded`, `launched`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[cfg_attr(test, schemars(extend("enum" = ["inactive", "loaded", "launched"])))]
    pub desired_state: String,
    /// The host that it is placed on.
    #[serde(rename = "machineID", skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<UnitOption>,
}

/// A page of units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Units {
    /// Send it as `?nextPageToken=` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
    /// Sorted by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
}

/// What one host reports of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// The file's hash.
    pub hash: String,
    /// The host.
    #[serde(rename = "machineID")]
    pub machine_id: String,
    /// The unit.
    pub name: String,
    /// systemd's `ActiveState`.
    pub systemd_active_state: String,
    /// systemd's `LoadState`.
    pub systemd_load_state: String,
    /// systemd's `SubState`.
    pub systemd_sub_state: String,
}

/// A page of states.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct States {
    /// Send it as `?nextPageToken=` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
    /// Sorted by name, then by machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<State>,
}

/// A host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    /// Its machine id.
    pub id: String,
    /// Its metadata; dynamic values take precedence over static ones.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Its address.
    #[serde(rename = "primaryIP", skip_serializing_if = "String::is_empty")]
    pub primary_ip: String,
}

/// `PATCH /machines`: one change of a host's dynamic metadata, in the form of JSON Patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MetadataChange {
    /// `add`, `replace` or `remove`; `remove` also hides the value in the host's configuration.
    #[cfg_attr(test, schemars(extend("enum" = ["add", "replace", "remove"])))]
    pub op: String,
    /// `/<machine id>/metadata/<key>`; a key consists of letters, digits, `_`, `.` and `-`.
    #[cfg_attr(test, schemars(regex(pattern = "^/[0-9a-f]{32}/metadata/[A-Za-z0-9_.-]+$")))]
    pub path: String,
    /// The new value, not empty; required unless `op` is `remove`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<MetadataValue>,
}

/// Fleet's documentation shows a string, its server expected an object: both are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "`value` must be a string, or {\"value\": \"…\"}")]
pub enum MetadataValue {
    /// As documented.
    Plain(String),
    /// As served.
    Wrapped {
        /// The value.
        value: String,
    },
}

/// A page of hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Machines {
    /// Sorted by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<Machine>,
    /// Send it as `?nextPageToken=` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}
