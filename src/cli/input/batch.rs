//! A batch for the cluster and the messages about it. Values only.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::wire::ApplyUnit;
use crate::cli::error::Line;
use crate::model::name::{UnitHash, UnitName};
use crate::model::unit::Desired;

/// What to send, and what to print about it.
#[derive(Debug, Default)]
pub(in crate::cli) struct Batch {
    /// The units to send.
    pub(in crate::cli) units: Vec<ApplyUnit>,
    /// Warnings for stderr.
    pub(in crate::cli) warnings: Vec<String>,
    /// Errors for stderr; if there are any, nothing may be sent.
    pub(in crate::cli) problems: Vec<Line>,
    /// Whether a unit exists neither in the cluster nor as a local file.
    pub(in crate::cli) has_unknown: bool,
    /// The file from which a unit's text was read.
    pub(in crate::cli) files: BTreeMap<String, String>,
    /// Units whose text was read from their template's file.
    pub(in crate::cli) from_template: BTreeSet<UnitName>,
    /// Units that exist in the cluster.
    pub(in crate::cli) known: BTreeSet<UnitName>,
    /// Units that this command must not replace in their current state, with that state.
    pub(in crate::cli) untouchable: Vec<(UnitName, Desired)>,
    /// Units that are to run and get a different file, which restarts them at once: not the members of a set that get
    /// its file.
    pub(in crate::cli) restarted: BTreeSet<String>,
    /// Templates whose file is replaced.
    pub(in crate::cli) renewed: Vec<Renewed>,
}

/// A template whose file is about to be replaced.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Renewed {
    /// The template.
    pub(in crate::cli) name: UnitName,
    /// Its old file: instances that have it follow their template; others have a file of their own.
    pub(in crate::cli) old: UnitHash,
    /// Its new file: instances that have it are up to date.
    pub(in crate::cli) new: UnitHash,
    /// The text of the new file.
    pub(in crate::cli) text: String,
}
