//! The JSON of `/fleet/v2/plan`. Types only.

use serde::{Deserialize, Serialize};

use crate::model::forecast::What;
use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::rollout::{Phase, Request};

use super::machines::{AskHosts, MachineRef};
use super::moves::MoveUnits;
use super::units::{AppliedUnit, ApplyUnit};

/// v2: the body of `POST /fleet/v2/plan`: a batch of units, or what is asked of rollouts, of
/// hosts, or of units that are to move; one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// What to do with each unit, as in a change; each name occurs at most once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<Vec<ApplyUnit>>,
    /// What is asked of rollouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<Vec<PlanAsk>>,
    /// What is asked of hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<AskHosts>,
    /// Which units are to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves: Option<MoveUnits>,
}

/// v2: something that is asked of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanAsk {
    /// The template of the set, or the unit.
    pub name: UnitName,
    /// What is asked of it.
    pub ask: Request,
}

/// v2: `POST /fleet/v2/plan`: what a batch, or what is asked of rollouts, would lead to. Nothing is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Plan {
    /// The revision of the cluster that was planned with.
    pub revision: Revision,
    /// Whether anything would change.
    pub changes: bool,
    /// Whether everything that would follow is here. Otherwise it is what would happen first, because it would go on
    /// for very long.
    pub complete: bool,
    /// The units of the batch, without those that stay as they are; then other units to which something would happen
    /// because of it, sorted by name.
    pub units: Vec<PlannedUnit>,
    /// The rollouts that would take place, sorted by name.
    pub rollouts: Vec<PlannedRollout>,
}

/// v2: what would become of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedUnit {
    /// Its name.
    pub name: UnitName,
    /// What would become of its record. Missing if the batch doesn't change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedUnit>,
    /// What would happen to it on hosts, in this order. Each host may have one.
    pub effects: Vec<PlannedEffect>,
}

/// v2: one thing that would happen to a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedEffect {
    /// What.
    pub what: What,
    /// The host on which it would happen, or to which the unit would move. Missing if it would wait for a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
    /// The host that it would leave, if it would move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<MachineRef>,
    /// Why it would go to this host, leave it or wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// v2: how a rollout would go on, if each member becomes healthy at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedRollout {
    /// The template of the set, or the unit.
    pub name: UnitName,
    /// The hash of the new file.
    pub target: UnitHash,
    /// The units that would run once before the members get it (`Before=`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<UnitName>,
    /// The members that would get it, in their order: those of a step together. Members of riders that get their files
    /// with them are among these. Of a global unit, its name for each host, which `step_machines` names.
    pub steps: Vec<Vec<UnitName>>,
    /// The hosts of the steps, in the same order. Only of a global unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step_machines: Vec<Vec<MachineRef>>,
    /// The units that would run once when all of them have it (`After=`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<UnitName>,
    /// The members that would keep the file before, because the rollout waits or ends. Of a global unit, its name for
    /// each host, which `held_machines` names.
    pub held: Vec<UnitName>,
    /// Their hosts, in the same order. Only of a global unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_machines: Vec<MachineRef>,
    /// How many members may be unavailable at a time because of it.
    pub parallel: usize,
    /// How many members would get the file first, and be waited for.
    pub canaries: usize,
    /// The fewest members that would be ready at any time.
    pub least_ready: usize,
    /// How far it would get.
    pub phase: Phase,
    /// Why it wouldn't get further, if something prevents it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How many seconds it would take at most, from when hosts have started its members. Missing if there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest: Option<u64>,
}
