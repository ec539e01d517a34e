//! What a restarted daemon must still know of this boot: which assignments were carried out, how far the store's
//! history went, and which unit files aren't ours. Without it a oneshot that has finished would be started again. These
//! are stored values: fields keep their names. How they are written is the shell's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::systemd::{ActiveState, JobResult};
use crate::model::unit::{Assignment, Target};

/// An assignment that was carried out, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// The assignment's generation.
    pub generation: Revision,
    /// What it wanted.
    pub target: Target,
    /// The last restart that was asked for and begun: the unit has been stopped for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Revision>,
    /// How the last job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// Why it could not be carried out after all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The error was a dependency's file that isn't there yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    /// The unit ran, and is or was stopped together with one that is replaced or restarted: it is started again with
    /// it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returning: bool,
    /// The unit was stopped since: should the same assignment come again, it isn't carried out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
    /// The unit's state as last observed, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateSince>,
}

impl Executed {
    /// `target` of `generation`, carried out just now.
    pub(super) fn new(generation: Revision, target: Target) -> Self {
        Self {
            generation,
            target,
            restart: None,
            result: None,
            error: None,
            missing: false,
            returning: false,
            undone: false,
            state: None,
        }
    }

    /// `assignment`, carried out just now.
    pub(super) fn of(assignment: &Assignment) -> Self {
        Self { restart: assignment.restart, ..Self::new(assignment.generation, assignment.target) }
    }
}

/// A state and since when it lasts, ms since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSince {
    /// `ActiveState`.
    pub active: ActiveState,
    /// `SubState`.
    pub sub: String,
    /// ms since the epoch.
    pub since: u64,
}

/// How far the store's history went in this boot, as far as this host has seen it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreHistory {
    /// The highest revision; of the new history, once the store was found to have been rolled back.
    pub revision: Revision,
    /// Whether the store was rolled back and its orphans aren't recorded yet.
    #[serde(default, rename = "rewound", skip_serializing_if = "std::ops::Not::not")]
    pub rolled_back: bool,
    /// The units that the store no longer knew then, and hasn't known since: they keep running.
    #[serde(default, rename = "spared", skip_serializing_if = "BTreeSet::is_empty")]
    pub orphans: BTreeSet<UnitName>,
}

/// What is to be saved; `None` stays as it was saved last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootState {
    /// What was carried out.
    pub executed: Option<BTreeMap<UnitName, Executed>>,
    /// How far the store's history went. Saved with what was carried out: it was assigned by a history that went so
    /// far.
    pub history: Option<StoreHistory>,
    /// The unit files that aren't ours.
    pub foreign: Option<BTreeSet<UnitName>>,
}
