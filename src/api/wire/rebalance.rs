//! The JSON of `/fleet/v2/rebalance`. Types only.

use serde::{Deserialize, Serialize};

use crate::model::name::UnitName;

use super::machines::MachineRef;

/// v2: `GET /fleet/v2/rebalance`: which units would be better on other hosts. Nothing is changed; `POST
/// /fleet/v2/moves` moves them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RebalanceView {
    /// The first of the moves. All of them fit at once.
    pub moves: Vec<BetterHost>,
    /// How many moves there are in all.
    pub all: usize,
    /// Whether the search had to end before everything was looked at, so that there may be more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended_early: bool,
    /// The registered hosts, sorted by id.
    pub hosts: Vec<HostUnits>,
}

/// v2: units that would be better on another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BetterHost {
    /// The units, which must be together. To move the first one moves all of them.
    pub units: Vec<UnitName>,
    /// The host that they are on.
    pub from: MachineRef,
    /// The host that is better.
    pub to: MachineRef,
    /// What is better there, compared with the present host: `units 1 < 4`.
    pub why: String,
}

/// v2: how many units a host has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostUnits {
    /// The host.
    pub machine: MachineRef,
    /// How many units it has.
    pub now: usize,
    /// How many it would have after these moves.
    pub then: usize,
}
