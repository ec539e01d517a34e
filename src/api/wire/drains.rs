//! The JSON of `/fleet/v2/machines/ID/drain` and `/fleet/v2/machines/ID/restore`. Types only.

use serde::{Deserialize, Serialize};

use crate::model::name::UnitName;

use super::machines::MachineRef;
use super::units::HostReasons;

/// v2: `GET /fleet/v2/machines/ID/drain`: what becomes of the units on a host that is drained.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DrainView {
    /// The units that are on it, sorted by name.
    pub units: Vec<DrainedUnit>,
}

/// v2: what becomes of a unit on a host that is drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DrainedUnit {
    /// Its name.
    pub name: UnitName,
    /// What becomes of it.
    pub what: DrainWhat,
    /// What it waits for, or why it stays whatever other hosts there are, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Why it fits no other host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<HostReasons>,
}

/// v2: what becomes of a unit on a host that is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DrainWhat {
    /// It leaves now, or is being stopped.
    Leaves,
    /// It could go, and waits for something.
    Waits,
    /// It fits no other host, or belongs to this one.
    Stays,
    /// It is global, and belongs to the host.
    Global,
}

/// v2: `GET /fleet/v2/machines/ID/restore`: what becomes of the units that a drain took from a host, and that are to
/// come back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RestoreView {
    /// Those that aren't back, sorted by name.
    pub units: Vec<ReturningUnit>,
}

/// v2: what becomes of a unit that is to come back to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReturningUnit {
    /// Its name.
    pub name: UnitName,
    /// What becomes of it.
    pub what: ReturnWhat,
    /// What it waits for, or why it stays where it is, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
}

/// v2: what becomes of a unit that is to come back to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ReturnWhat {
    /// It comes now, or is being stopped where it is.
    Comes,
    /// It could come, and waits for something.
    Waits,
    /// It stays where it is.
    Stays,
}
