//! The JSON of `/fleet/v2/status`. Types only.

use serde::{Deserialize, Serialize};

use crate::model::name::UnitName;
use crate::model::rollout::Phase;

use super::machines::{MachineList, MachineRef};
use super::reboots::RebootView;
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
    /// The rollouts that aren't done, sorted by name. One that went back is left out once another file was asked for.
    /// Earlier versions don't send them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<OpenRollout>,
    /// The hosts that are to reboot. Earlier versions don't send them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reboots: Vec<RebootView>,
}

/// v2: a rollout that isn't done, in short. `GET /fleet/v2/rollouts/NAME` answers all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OpenRollout {
    /// The template of the set, or the unit.
    pub name: UnitName,
    /// How far it has got.
    pub phase: Phase,
    /// Since when, ms since the epoch.
    pub since: u64,
    /// Why it failed, was paused, or doesn't go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether it goes on beyond its canaries by itself, after a time (`Promote=`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promotes_itself: bool,
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
