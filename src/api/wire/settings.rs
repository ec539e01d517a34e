//! The JSON of `/fleet/v2/settings`: the settings of the whole cluster. Types only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// v2: all settings of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SettingList {
    /// Sorted by name.
    pub settings: Vec<SettingView>,
}

/// v2: a setting of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SettingView {
    /// Its name.
    pub name: String,
    /// What it is.
    pub value: String,
    /// What it is unless it is set.
    pub default: String,
    /// Whether it is set.
    pub set: bool,
    /// What it was before the request that is answered here, if that has changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// What it does, in a few words.
    pub help: String,
    /// What it can be, in words.
    pub values: String,
}

/// v2: settings are changed: all or none. The body of `POST /fleet/v2/settings`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChangeSettings {
    /// Values by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Names of settings that have their defaults again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
}
