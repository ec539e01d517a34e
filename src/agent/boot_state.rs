//! The boot state: small JSON files under `/run/fleet`, which a reboot deletes, as it must. Owns the names of these
//! files and how they are read and written; `plan::host` owns what they mean.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::name::UnitName;
use crate::plan::host::{BootState, Disk, Executed, StoreHistory};
use crate::systemd::{Error, Systemd};

/// The assignments that were carried out.
const EXECUTED: &str = "units.json";

/// The highest revision of the store that was observed.
const HISTORY: &str = "horizon.json";

/// The unit files that existed before the first daemon of this boot.
const FOREIGN: &str = "foreign.json";

/// The saved history of the store; empty if it wasn't saved or can't be read.
pub(super) async fn history<H: Systemd>(host: &H) -> StoreHistory {
    read(host, HISTORY).await.ok().flatten().unwrap_or_default()
}

/// The unit files, and the boot state that belongs to them.
pub(super) async fn disk<H: Systemd>(host: &H) -> Result<Disk, Error> {
    let files = host.files().await?;
    let foreign = foreign(host).await?;
    Ok(Disk { files, foreign, executed: executed(host).await? })
}

/// The assignments that were carried out; `None` if nothing was saved in this boot.
async fn executed<H: Systemd>(host: &H) -> Result<Option<BTreeMap<UnitName, Executed>>, Error> {
    read(host, EXECUTED).await
}

/// The foreign unit files; `None` if they haven't been determined in this boot.
async fn foreign<H: Systemd>(host: &H) -> Result<Option<BTreeSet<UnitName>>, Error> {
    read(host, FOREIGN).await
}

/// Write those parts of `state` that are set.
pub(super) async fn save<H: Systemd>(host: &H, state: &BootState) -> Result<(), Error> {
    write(host, FOREIGN, state.foreign.as_ref()).await?;
    write(host, HISTORY, state.history.as_ref()).await?;
    write(host, EXECUTED, state.executed.as_ref()).await
}

/// A damaged file, or one of another version, counts as empty.
async fn read<H: Systemd, T: DeserializeOwned + Default>(host: &H, name: &str) -> Result<Option<T>, Error> {
    let Some(text) = host.read_boot_file(name).await? else { return Ok(None) };
    Ok(Some(serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, "the file {name} of the boot state is damaged; its content is lost");
        T::default()
    })))
}

async fn write<H: Systemd, T: Serialize + Sync>(host: &H, name: &str, value: Option<&T>) -> Result<(), Error> {
    match value {
        Some(value) => host.write_boot_file(name, &serde_json::to_string(value).unwrap_or_default()).await,
        None => Ok(()),
    }
}
