//! The JSON of `/fleet/v2/what-if`. Types only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;

use super::machines::MachineRef;
use super::units::ApplyUnit;

/// v2: the body of `POST /fleet/v2/what-if`: what is supposed to happen, all of it at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct WhatIfRequest {
    /// The ids of hosts that are lost for good: registered ones, or ones that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lose: Vec<MachineId>,
    /// Hosts that are added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<AddedHosts>,
    /// Units that are submitted or started, as in a change; each name occurs at most once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<ApplyUnit>,
    /// Losses of which each is looked at alone, after all of the above: the ids of the hosts that are lost together. At
    /// most 500.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub each: Vec<Vec<MachineId>>,
}

/// v2: hosts that are supposed to be added: with the hardware that most hosts have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AddedHosts {
    /// How many.
    pub count: u32,
    /// The metadata of each, besides what all hosts have in common.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// v2: `POST /fleet/v2/what-if`: what would follow. Nothing is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WhatIf {
    /// The revision of the cluster of which that is so.
    pub revision: Revision,
    /// The hosts that are added. They don't exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<MachineRef>,
    /// The units that get a host, or another one, in the order in which the leader decides it; the first 10,000.
    pub moves: Vec<SupposedMove>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "crate::model::unit::is_zero")]
    pub moves_left_out: usize,
    /// The units that would wait for a host because of it, sorted by name.
    pub waits: Vec<SupposedWait>,
    /// The units that stay with a host that is lost, sorted by name: they could run on no other one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound: Vec<SupposedWait>,
    /// The units that wait before, and wait still, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waited: Vec<SupposedWait>,
    /// The global units that hosts have no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globals_lost: Vec<SupposedGlobal>,
    /// The global units that hosts get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globals_gained: Vec<SupposedGlobal>,
    /// For how many seconds the leader would hold the units first, because so many hosts are lost at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// Whether everything that would follow is here. Otherwise it is what would happen first.
    pub complete: bool,
    /// What would follow from the first of `each`, in that order. If there are fewer than were asked for, the request
    /// took too long: ask for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub each: Vec<SupposedLoss>,
}

/// v2: a unit that gets a host, or another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SupposedMove {
    /// The unit.
    pub name: UnitName,
    /// The host that it leaves; left out if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<MachineRef>,
    /// The host that it gets.
    pub to: MachineRef,
    /// Why that one.
    pub why: String,
    /// For how many seconds it waits for its host first (`MoveAfterSec=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// v2: a unit that isn't on a host on which it could run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SupposedWait {
    /// The unit.
    pub name: UnitName,
    /// The host that it had; left out if it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<MachineRef>,
    /// Why it waits, or stays with its host.
    pub why: String,
}

/// v2: a global unit on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SupposedGlobal {
    /// The unit.
    pub name: UnitName,
    /// The host.
    pub machine: MachineRef,
}

/// v2: what would follow from the loss of some hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SupposedLoss {
    /// The hosts.
    pub machines: Vec<MachineRef>,
    /// How many units they have, without global ones.
    pub units: usize,
    /// How many units get another host.
    pub moves: usize,
    /// The units that would wait for a host because of it, sorted by name.
    pub waits: Vec<SupposedWait>,
    /// The units that stay with a host that is lost, sorted by name: they could run on no other one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound: Vec<SupposedWait>,
    /// For how many seconds the leader would hold the units first, because so many hosts are lost at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// Whether everything that would follow was seen.
    pub complete: bool,
}
