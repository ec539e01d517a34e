//! The boot state that a restarted daemon needs: which assignments were carried out, how far the store's history went,
//! and which unit files are foreign. Without it a oneshot that has finished would be started again. These values are
//! stored, so fields keep their serialized names. The shell owns how they are written.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::systemd::{ActiveState, JobResult};
use crate::model::unit::{Assignment, Target};

/// An assignment that was carried out, and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// The assignment's generation; 0 if none was carried out yet.
    pub generation: Revision,
    /// The assignment's target.
    pub target: Target,
    /// The last requested restart for which the unit has been stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Revision>,
    /// How the last job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The error was that this file couldn't be had; what was carried out before still is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<UnitHash>,
    /// That, if so; the unit still has its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// The error was that a dependency's unit file doesn't exist yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    /// The unit ran and is stopped together with one that is replaced or restarted; it is started again afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returning: bool,
    /// The unit ran and was stopped together with these, which it needs and which were to be stopped; it is started
    /// again with them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub follows: BTreeSet<UnitName>,
    /// The unit was stopped since, so the same assignment isn't carried out any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
    /// The generation that another file of the unit carries out once it is written, because systemd reads the same from
    /// it and nothing else has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrites: Option<Revision>,
    /// The store has lost that it was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
    /// Its file was written, or was about to be, and systemd must reload before the file takes effect. Only set in
    /// what is saved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reload: bool,
    /// The unit's last observed state, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateSince>,
}

impl Executed {
    /// `target` of `generation`, just carried out.
    pub(super) fn new(generation: Revision, target: Target) -> Self {
        Self {
            generation,
            target,
            restart: None,
            result: None,
            error: None,
            lacks: None,
            kept: None,
            missing: false,
            returning: false,
            follows: BTreeSet::new(),
            undone: false,
            rewrites: None,
            lost: None,
            reload: false,
            state: None,
        }
    }

    /// `assignment`, just carried out.
    pub(super) fn of(assignment: &Assignment) -> Self {
        Self { restart: assignment.restart, ..Self::new(assignment.generation, assignment.target) }
    }

    /// The file of `assignment` couldn't be had, for this reason; what was carried out before still is.
    pub(super) fn lacks(&mut self, assignment: &Assignment, error: String) {
        let before = self.error.replace(error);
        if self.lacks.replace(assignment.hash.clone()).is_none() {
            self.kept = Some(Kept { generation: self.generation, error: before });
        }
        self.generation = assignment.generation;
    }

    /// The unit is to have the file again that it has, as `assignment` says: it lacks none.
    pub(super) fn stands(&mut self, assignment: &Assignment) {
        (self.generation, self.restart) = (assignment.generation, assignment.restart);
        self.error = self.kept.take().and_then(|kept| kept.error);
        (self.rewrites, self.lacks) = (None, None);
    }

    /// Count what was carried out as that of `generation`.
    pub(super) fn renumber(&mut self, generation: Revision) {
        self.generation = generation;
        if let Some(kept) = &mut self.kept {
            kept.generation = generation;
        }
    }

    /// If a restored store still had the request of `assignment`, which was carried out before: count it as that.
    /// Returns whether it was.
    pub(super) fn take_over(&mut self, assignment: &Assignment) -> bool {
        let before = |lost: Lost| assignment.generation <= lost.generation && assignment.generation < lost.at;
        let known = assignment.target == self.target && self.lost.is_some_and(before);
        if known {
            self.renumber(assignment.generation);
            self.restart = assignment.restart;
        }
        known
    }
}

/// What was carried out before a file couldn't be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its generation.
    pub generation: Revision,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What was carried out when the store was restored from a backup, or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The generation, in the history that the store has lost. All earlier ones were carried out as well.
    pub generation: Revision,
    /// The revision of the store when its host noticed it. What is requested later has this generation or a higher one.
    /// What was requested after the restore and before that can't be told from what was requested before the restore if
    /// it has the number of what was carried out.
    pub at: Revision,
}

/// A state, and since when it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSince {
    /// `ActiveState`.
    pub active: ActiveState,
    /// `SubState`.
    pub sub: String,
    /// ms since the epoch.
    pub since: u64,
    /// Whether its probes said that it is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
}

/// How far the store's history went in this boot, as observed by this host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreHistory {
    /// The highest revision; after a rollback, the highest of the new history.
    pub revision: Revision,
    /// The id of the cluster whose history it is; 0 if it is unknown.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub cluster: u64,
    /// Whether the store was rolled back and the orphans aren't recorded yet.
    #[serde(default, rename = "rewound", skip_serializing_if = "std::ops::Not::not")]
    pub rolled_back: bool,
    /// Units whose records the store lost in a rollback and that weren't assigned since: they keep running.
    #[serde(default, rename = "spared", skip_serializing_if = "BTreeSet::is_empty")]
    pub orphans: BTreeSet<UnitName>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_unknown(cluster: &u64) -> bool {
    *cluster == 0
}

/// What is to be saved; a part that is `None` stays as last saved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootState {
    /// What was carried out.
    pub executed: Option<BTreeMap<UnitName, Executed>>,
    /// How far the store's history went. Saved with what was carried out, because those assignments belong to it.
    pub history: Option<StoreHistory>,
    /// The foreign unit files.
    pub foreign: Option<BTreeSet<UnitName>>,
}
