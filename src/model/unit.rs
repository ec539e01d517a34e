//! Units as the cluster knows them: what is wanted of each, what each host was told, what each host reports.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::{MachineId, UnitHash};
use super::revision::Revision;

/// What the user wants of a unit. Each includes the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// Known to the cluster, on no host.
    Inactive,
    /// On a host and known to its systemd, not started by us.
    Loaded,
    /// Started.
    Launched,
}

impl Desired {
    /// As the API and the command line spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Loaded => "loaded",
            Self::Launched => "launched",
        }
    }
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A string that is no desired state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no desired state: it must be inactive, loaded or launched")]
pub struct DesiredError(String);

impl FromStr for Desired {
    type Err = DesiredError;
    fn from_str(text: &str) -> Result<Self, DesiredError> {
        match text {
            "inactive" => Ok(Self::Inactive),
            "loaded" => Ok(Self::Loaded),
            "launched" => Ok(Self::Launched),
            other => Err(DesiredError(other.into())),
        }
    }
}

/// A unit as submitted (`unit/<name>`; written by the API).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// What is wanted of it.
    pub desired: Desired,
    /// Its file's content (`file/<hash>`).
    pub hash: UnitHash,
    /// The store's revision at which this was decided; grows with every change of the unit, over destroy and submit
    /// too.
    pub generation: Revision,
    /// The generation at which somebody last asked for a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Revision>,
    /// When it was first submitted, ms since the epoch.
    pub submitted: u64,
}

/// Where a non-global unit is, or why it is nowhere (`placement/<unit>`; written by the engine).
/// Globals have one only while they fit no host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// It is assigned to this host.
    On {
        /// The host.
        host: MachineId,
        /// Since when, ms since the epoch.
        since: u64,
    },
    /// No host fits.
    Waiting {
        /// The reasons, counted: `2 of 3 hosts: conflict; 1 of 3: metadata`.
        why: String,
        /// Since when, ms since the epoch.
        since: u64,
    },
}

/// What a host is to make of a unit that is assigned to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Stop it and forget it, then say so. One way: an entry that is `gone` never becomes anything else.
    #[serde(rename = "gone")]
    Removed,
    /// Have its file, don't start it.
    Loaded,
    /// Start it.
    Launched,
}

impl Target {
    /// As the API spells a unit's current state: `gone` is `inactive`.
    #[must_use]
    pub fn as_state(self) -> &'static str {
        match self {
            Self::Removed => "inactive",
            Self::Loaded => "loaded",
            Self::Launched => "launched",
        }
    }
}

/// What a host is to do with one unit (`schedule/<host>/<unit>`; written by the engine).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The file to have.
    pub hash: UnitHash,
    /// What to make of it.
    pub target: Target,
    /// Whether it is one of many (`Global=`), for tables.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub global: bool,
    /// The unit's generation; for `gone`, the engine's revision when it decided so. No two different entries of one
    /// unit on one host have the same.
    pub generation: Revision,
    /// The generation at which a restart was asked for, if ever: a host that runs the unit since before then stops it
    /// and starts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Revision>,
}

/// What a host reports of one unit that is or was assigned to it (`state/<unit>/<host>`; written by the agent, bound to
/// its lease).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitReport {
    /// The generation of the entry this host has carried out (asked systemd for), last.
    pub generation: Revision,
    /// What that entry wanted; `Removed` is the host's word that the unit is stopped and forgotten.
    pub target: Target,
    /// The file that is on the host.
    pub hash: UnitHash,
    /// systemd's `LoadState`.
    pub load: String,
    /// systemd's `ActiveState`.
    pub active: String,
    /// systemd's `SubState`.
    pub sub: String,
    /// The kind of the job that systemd has queued or running for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// How the last job ended: systemd's word, `done`, `failed`, `dependency`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// What stands in the way, if something does: the host's own sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when `active` and `sub` are so, ms since the epoch.
    pub since: u64,
}

/// What was done with a unit that somebody submitted, changed or destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is new.
    Created,
    /// It has another file now.
    Replaced,
    /// Another state is wanted of it now.
    Changed,
    /// It is to be stopped and started where it is, or started if it wasn't.
    Restarted,
    /// It was so already.
    Unchanged,
    /// It was so already but for its file, which was left (no `replace`). A wanted state was changed all the same.
    Differs,
    /// It is gone, or going.
    Destroyed,
    /// It was to be destroyed, was destroyed before, and some host has yet to stop and forget it.
    Leaving,
    /// It was to be destroyed and wasn't there.
    Absent,
}
