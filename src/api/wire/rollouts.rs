//! The JSON of `/fleet/v2/rollouts`. Types only.

use serde::{Deserialize, Serialize};

use crate::model::author::Author;
use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::rollout::{FileOutcome, Overtaken, Phase, Request, Verdict};

use super::machines::MachineRef;

/// v2: `GET /fleet/v2/rollouts[?name=GLOB…]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RolloutList {
    /// The revision of this state.
    pub revision: Revision,
    /// Sorted by name. The last one of each set and unit, also when it has ended.
    pub rollouts: Vec<RolloutView>,
}

/// v2: how a new file reaches the members of a set, or a unit whose file has `[X-Rollout]`; a global one host by host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RolloutView {
    /// The template of the set, or the unit.
    pub name: UnitName,
    /// The hash of the new file.
    pub target: UnitHash,
    /// The hash of the file before it, which members go back to if it fails.
    pub from: UnitHash,
    /// The riders of the set that take part in it, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub riders: Vec<RolloutRider>,
    /// How far it has got.
    pub phase: Phase,
    /// Since when, ms since the epoch.
    pub since: u64,
    /// When it began, ms since the epoch.
    pub began: u64,
    /// Why it failed, was paused, or doesn't go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The member that has failed with the new file, or the hook that has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<UnitName>,
    /// The host on which it has failed, if the unit is global.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_on: Option<MachineRef>,
    /// The last lines of that unit's journal, if its host has reported them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// The rollout whose place it has taken before that had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overtook: Option<OvertakenView>,
    /// What can be asked of it now.
    pub accepts: Vec<Request>,
    /// What was asked of it last, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<AskView>,
    /// What became of earlier files, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<FileOutcomeView>,
    /// The hooks that it has run, in this order, and last the one that runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<RolloutHook>,
    /// The units that it is about, sorted by number, then by name; of a global unit the hosts that have it, sorted by
    /// their ids.
    pub members: Vec<RolloutMember>,
}

/// v2: a template with as many members as the set, which get their files together with those of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RolloutRider {
    /// The template.
    pub name: UnitName,
    /// The hash of its new file.
    pub target: UnitHash,
    /// The hash of the file before it; the same if it hasn't changed.
    pub from: UnitHash,
}

/// v2: one run of a hook of a rollout: a unit that runs once before its members get the new file (`Before=`), or when
/// all of them have it (`After=`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RolloutHook {
    /// The unit.
    pub name: UnitName,
    /// Whether it runs after the members.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after: bool,
    /// The host on which it runs or has run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
    /// When it was begun, ms since the epoch.
    pub since: u64,
    /// How long it took, in ms, if it has ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<u64>,
}

/// v2: a rollout that a newer one has taken the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OvertakenView {
    /// The hash of its file.
    pub target: UnitHash,
    /// How many members had it by then.
    pub reached: usize,
    /// How many members there were.
    pub members: usize,
}

impl From<Overtaken> for OvertakenView {
    fn from(overtaken: Overtaken) -> Self {
        let Overtaken { target, reached, members } = overtaken;
        Self { target, reached, members }
    }
}

/// v2: what was asked of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AskView {
    /// What.
    pub what: Request,
    /// Whether the leader has acted on it.
    pub heeded: bool,
    /// By whom, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Author>,
}

/// v2: what became of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FileOutcomeView {
    /// Its hash.
    pub hash: UnitHash,
    /// Whether it was good.
    pub verdict: Verdict,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl From<FileOutcome> for FileOutcomeView {
    fn from(known: FileOutcome) -> Self {
        let FileOutcome { hash, verdict, why } = known;
        Self { hash, verdict, why }
    }
}

/// v2: a member of a set in its rollout, or a spare; the unit itself; or a global unit on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RolloutMember {
    /// Its name.
    pub name: UnitName,
    /// Whether it only stands in until the rollout has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
    /// Whether it is a global unit on one of its hosts, of which the others are members as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub global: bool,
    /// The hash of the file that its host is told to run.
    pub hash: UnitHash,
    /// The host that it is placed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
    /// Whether its host runs that file, and the unit is ready.
    pub ready: bool,
    /// Whether it gets no new connections before it is promoted (`Preview=`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preview: bool,
    /// Since when it is in its present state, ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Why it isn't ready, or why a spare has no host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The members of riders that have its number, sorted by name: they get their files together with it, and it counts
    /// as ready for the rollout when all of them are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub riders: Vec<RidingUnit>,
}

/// v2: a member of a rider, beside the member of the set that has its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RidingUnit {
    /// Its name.
    pub name: UnitName,
    /// The hash of the file that its host is told to run.
    pub hash: UnitHash,
    /// The host that it is placed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
    /// Whether its host runs that file, and the unit is ready.
    pub ready: bool,
    /// Since when it is in its present state, ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Why it isn't ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// One line of `GET /fleet/v2/watch/rollouts[?name=GLOB…]` (NDJSON): first every rollout, then `synced`, then the
/// changes. Empty lines are heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RolloutLine {
    /// The current state of a rollout.
    Rollout(Box<RolloutView>),
    /// Its set or unit was destroyed.
    Removed(UnitName),
    /// Everything up to this revision has been sent.
    Synced(Revision),
    /// The stream ends for this reason; open another.
    Error(String),
}

/// v2: the body of `POST /fleet/v2/rollouts/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AskRollout {
    /// What is asked of it.
    pub ask: Request,
}
