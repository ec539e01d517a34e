//! The JSON of `/fleet/v2/moves`. Types only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::name::{MachineId, UnitName};

use super::machines::MachineRef;

/// v2: the body of `POST /fleet/v2/moves`: which units are to move, with those that must be with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MoveUnits {
    /// The units.
    #[serde(default)]
    pub units: Vec<UnitName>,
    /// The host that they are to be on; without one, each goes to the best of the other hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<MachineId>,
    /// More units, each with the host that it is to be on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: BTreeMap<UnitName, MachineId>,
    /// Whether they move although they belong to their hosts, or these are away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// v2: `GET /fleet/v2/moves`, and the answer to `POST /fleet/v2/moves`: what becomes of units that are to move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MovesView {
    /// Those that haven't left, and those that must be with them, sorted by name.
    pub units: Vec<MovingUnit>,
}

/// v2: what becomes of a unit that is to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MovingUnit {
    /// Its name.
    pub name: UnitName,
    /// What becomes of it.
    pub what: MoveWhat,
    /// What it waits for, or why it stays, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The host that it is on.
    pub machine: MachineRef,
    /// The host that it goes to, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<MachineRef>,
}

/// v2: what becomes of a unit that is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MoveWhat {
    /// It leaves now, or is being stopped.
    Leaves,
    /// It could go, and waits for something.
    Waits,
    /// It stays where it is.
    Stays,
}
