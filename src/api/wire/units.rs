//! The JSON of `/fleet/v2/units` and `/fleet/v2/watch`. Types only.

use serde::{Deserialize, Serialize};

use crate::model::author::Author;
use crate::model::name::{UnitHash, UnitName};
use crate::model::progress::Progress;
use crate::model::revision::Revision;
use crate::model::unit::{Desired, Outcome, Target};

use super::machines::MachineRef;

/// v2: what one host says of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StateView {
    /// The host.
    pub machine: MachineRef,
    /// The unit's generation this host has carried out.
    pub generation: Revision,
    /// What that wanted.
    pub target: Target,
    /// The file that is there.
    pub hash: UnitHash,
    /// systemd's `LoadState`.
    pub load: String,
    /// systemd's `ActiveState`.
    pub active: String,
    /// systemd's `SubState`.
    pub sub: String,
    /// The kind of the job queued or running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// How the last job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// What stands in the way on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when, ms since the epoch.
    pub since: u64,
}

/// v2: what one host is told of a global unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostOrder {
    /// The host.
    pub machine: MachineRef,
    /// The unit's generation that it was told; for `gone`, a number of its own.
    pub generation: Revision,
    /// What to make of it; `gone` where the unit no longer fits.
    pub target: Target,
}

/// v2: a unit, everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnitView {
    /// Its name.
    pub name: UnitName,
    /// Its file's hash.
    pub hash: UnitHash,
    /// `Description=` of its file.
    #[serde(default)]
    pub description: String,
    /// Whether it runs on every host that fits.
    #[serde(default)]
    pub global: bool,
    /// What is wanted.
    pub desired: Desired,
    /// What the cluster has made of it: `inactive`, `loaded`, `launched`. Empty for globals.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("enum" = ["inactive", "loaded", "launched", ""])))]
    pub current: String,
    /// Grows with every change of what is wanted.
    pub generation: Revision,
    /// Where it is placed; globals are on `hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
    /// Globals: the hosts that are told to have it, sorted by machine id. All of it is done when each was told this
    /// generation (or a higher one) and has reported it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostOrder>,
    /// Why it is placed nowhere, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// What the hosts say, sorted by machine id. A host that has stopped and forgotten it says nothing.
    #[serde(default)]
    pub states: Vec<StateView>,
    /// How far the operation that a watch asks about is, or else the one that leads to what is wanted: `start` for a
    /// unit that is to be launched. Answers of a `fleetd` before this one have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// v2: `GET /fleet/v2/units[?name=GLOB…]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnitList {
    /// The store's revision this shows.
    pub revision: Revision,
    /// Sorted by name.
    pub units: Vec<UnitView>,
    /// Units that are not in `units` because their records in the store can't be read, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedUnit>,
}

/// v2: a unit whose record in the store can't be read: what is wanted of it isn't known. It goes on as its hosts were
/// told last, until it is submitted again with its file, or destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DamagedUnit {
    /// Its name.
    pub name: UnitName,
    /// What is wrong with the record.
    pub why: String,
    /// Where it is placed; of a global nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
    /// What the hosts say, sorted by machine id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateView>,
}

/// v2: `GET /fleet/v2/units/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnitDetail {
    /// The unit.
    #[serde(flatten)]
    pub unit: UnitView,
    /// Its file, as it was written.
    pub text: String,
    /// Who asked for what is wanted of it, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Author>,
    /// Why it isn't where it should be, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Why, host by host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<HostReasons>,
}

/// v2: every rule that a unit fails on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostReasons {
    /// The host.
    pub machine: MachineRef,
    /// The rules failed; empty where the host would do.
    pub misfits: Vec<String>,
}

/// No request may have more bytes.
pub const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// v2: `POST /fleet/v2/units`: change many units in one transaction (or, above the store's limit, in several, files
/// first).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// What to do with each; a name at most once.
    pub units: Vec<ApplyUnit>,
}

/// v2: what to do with one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApplyUnit {
    /// Its name.
    #[cfg_attr(test, schemars(with = "UnitName"))]
    pub name: String,
    /// Its file. Without one the unit must exist, or be an instance of a template that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What is wanted of it: `inactive` when it is new and nothing is said, unchanged when it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Desired>,
    /// Whether a file that differs replaces the one that is there. Without it the file stays, and the outcome is
    /// `differs`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// Stop it and start it where it is, on every host that has it; start it if it is only loaded. Goes with nothing
    /// else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
    /// Destroy it. Goes with nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub destroy: bool,
}

/// v2: what an [`Apply`] has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Applied {
    /// The revision at which all of it is done.
    pub revision: Revision,
    /// In the order asked.
    pub units: Vec<AppliedUnit>,
}

/// v2: what became of one unit of an [`Apply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AppliedUnit {
    /// Its name.
    pub name: UnitName,
    /// What was done.
    pub outcome: Outcome,
    /// Its generation now: a host whose state has it (or a higher one) has carried this out.
    pub generation: Revision,
    /// Lines that systemd will ignore, and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// v2: one line of `GET /fleet/v2/watch[?name=GLOB…]` (NDJSON): first every unit as it is, then `synced`,
/// then what changes. Empty lines say that the stream lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WatchLine {
    /// A unit as it is now.
    Unit(Box<UnitView>),
    /// A unit was destroyed, and a host has yet to stop and forget it. `removed` follows.
    Leaving(UnitName),
    /// A unit is gone: destroyed, and stopped and forgotten wherever it was.
    Removed(UnitName),
    /// Everything up to this revision has been told.
    Synced(Revision),
    /// The stream ends because of this; open another.
    Error(String),
}
