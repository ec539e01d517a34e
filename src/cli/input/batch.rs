//! What is to be sent to the cluster in one request, and what is said about it. Values only.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::wire::ApplyUnit;
use crate::model::name::{UnitHash, UnitName};
use crate::model::unit::Desired;

/// What to send, and what to say about it.
#[derive(Debug, Default)]
pub(in crate::cli) struct Batch {
    /// To send.
    pub(in crate::cli) units: Vec<ApplyUnit>,
    /// For stderr.
    pub(in crate::cli) warnings: Vec<String>,
    /// For stderr; with any, nothing may be sent.
    pub(in crate::cli) problems: Vec<String>,
    /// A unit is neither in the cluster nor here.
    pub(in crate::cli) has_unknown: bool,
    /// Where the text of a unit was read.
    pub(in crate::cli) files: BTreeMap<String, String>,
    /// Units whose text was read from a template's file.
    pub(in crate::cli) from_template: BTreeSet<UnitName>,
    /// Units that are already in the cluster.
    pub(in crate::cli) known: BTreeSet<UnitName>,
    /// Units that are too far on for this command to replace them, and how far.
    pub(in crate::cli) untouchable: Vec<(UnitName, Desired)>,
    /// Templates that get another file.
    pub(in crate::cli) renewed: Vec<Renewed>,
}

/// A template whose file is about to be replaced.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Renewed {
    /// The template.
    pub(in crate::cli) name: UnitName,
    /// The file it had: an instance that has it follows its template. One with any other was changed by hand.
    pub(in crate::cli) old: UnitHash,
    /// The file it gets: an instance that has this one already is done.
    pub(in crate::cli) new: UnitHash,
    /// The same, as text.
    pub(in crate::cli) text: String,
}
