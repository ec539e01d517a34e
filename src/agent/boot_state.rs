//! What a restarted daemon must still know of this boot, kept in small files under `/run/fleet`: which assignments were
//! carried out, how far the store's history went, and which unit files were here before. Without them a oneshot that
//! has finished would be started again. They are gone after a reboot, as they must be.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::unit::Target;
use crate::systemd::{Error, Systemd};

/// The file of what was carried out.
const STATE_FILE: &str = "units.json";

/// The file of how far the store's history went.
const HISTORY_FILE: &str = "horizon.json";

/// The file of the unit files that were here before the first daemon of this boot.
const FOREIGN_FILE: &str = "foreign.json";

/// How far the store's history went in this boot, as far as this host has seen it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct StoreHistory {
    /// The highest revision; of the new history, once the store was found to have been rolled back.
    pub(super) revision: Revision,
    /// Whether the store was rolled back and its orphans aren't recorded yet.
    #[serde(default, rename = "rewound", skip_serializing_if = "std::ops::Not::not")]
    pub(super) store_rolled_back: bool,
    /// The units that the store no longer knew then, and hasn't known since: they keep running.
    #[serde(default, rename = "spared", skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) orphans: BTreeSet<UnitName>,
}

/// An entry that was carried out, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Executed {
    pub(super) generation: Revision,
    pub(super) target: Target,
    /// The last restart that was asked for and begun: the unit has been stopped for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restart: Option<Revision>,
    /// How the last job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<String>,
    /// Why it could not be carried out after all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// The error was a dependency's file that isn't there yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) missing: bool,
    /// It ran, and goes or went down with another one that is replaced or restarted: it comes back with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) returning: bool,
    /// The unit was stopped since: should the same entry come again, it isn't carried out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) undone: bool,
}

/// Read how far the store's history was seen to go. Without the note it counts as unseen.
pub(super) async fn read_history<H: Systemd>(host: &H) -> StoreHistory {
    let note = host.read_note(HISTORY_FILE).await.ok().flatten();
    note.and_then(|note| serde_json::from_str(&note).ok()).unwrap_or_default()
}

/// Write that down.
pub(super) async fn write_history<H: Systemd>(host: &H, history: &StoreHistory) -> Result<(), Error> {
    host.write_note(HISTORY_FILE, &serde_json::to_string(history).unwrap_or_default()).await
}

/// Read the note. One that can't be understood is of another version: as good as none.
pub(super) async fn read<H: Systemd>(host: &H) -> Result<BTreeMap<UnitName, Executed>, Error> {
    let Some(text) = host.read_note(STATE_FILE).await? else { return Ok(BTreeMap::new()) };
    Ok(serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, "the note {STATE_FILE} of this boot is damaged; units count as not yet started");
        BTreeMap::new()
    }))
}

/// Write the note.
pub(super) async fn write<H: Systemd>(host: &H, records: &BTreeMap<&UnitName, &Executed>) -> Result<(), Error> {
    host.write_note(STATE_FILE, &serde_json::to_string(records).unwrap_or_default()).await
}

/// Those of `files` that were there before this boot's first daemon: not ours, but CoreOS fleet's, say, which wrote to
/// the same folder. Decided once, before anything is written there, and noted.
pub(super) async fn foreign<H: Systemd>(
    host: &H,
    files: impl Iterator<Item = &UnitName> + Send,
) -> Result<BTreeSet<UnitName>, Error> {
    let files: BTreeSet<UnitName> = files.cloned().collect();
    if let Some(note) = host.read_note(FOREIGN_FILE).await? {
        return Ok(serde_json::from_str(&note).unwrap_or_default());
    }
    // A daemon that knew no such note has been at work here: all of them are ours.
    let foreign = if host.read_note(STATE_FILE).await?.is_some() { BTreeSet::new() } else { files };
    write_foreign(host, &foreign).await;
    Ok(foreign)
}

/// Write down which are still not ours. On a full disk the work goes on without: what it guards against is rare.
pub(super) async fn write_foreign<H: Systemd>(host: &H, foreign: &BTreeSet<UnitName>) {
    if let Err(error) = host.write_note(FOREIGN_FILE, &serde_json::to_string(foreign).unwrap_or_default()).await {
        tracing::debug!(%error, "which unit files aren't ours could not be noted");
    }
}
