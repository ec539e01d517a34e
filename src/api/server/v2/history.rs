//! v2: the texts that a unit's file had before.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::api::wire::{FormerRevision, UnitHistory};
use crate::model::history::{FormerText, History};
use crate::model::name::{UnitHash, UnitName};
use crate::registry::decode;
use crate::registry::keys::Key;
use crate::store::{Error, Store};

use super::no_parameters;

pub(super) async fn get<S: Store>(
    State(api): State<Api<S>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<UnitHistory>, Failure> {
    no_parameters(&uri)?;
    let unit: UnitName = name.parse().map_err(|_| Failure::no_such_unit())?;
    let history = read(&api, &unit).await.map_err(|error| api.failed(&error))?.ok_or_else(Failure::no_such_unit)?;
    let texts = texts(&api, &history).await.map_err(|error| api.failed(&error))?;
    let revision = |former: FormerText| FormerRevision {
        revision: former.n,
        text: texts.get(former.file_key()).cloned(),
        hash: former.hash,
        until: former.until,
        destroyed: former.destroyed,
        by: former.by.map(|by| *by),
    };
    Ok(Json(UnitHistory { unit, revisions: history.revisions.into_iter().rev().map(revision).collect() }))
}

/// The history of a unit, which is empty for one that never lost a text; `None` if the cluster knows no such unit.
async fn read<S: Store>(api: &Api<S>, unit: &UnitName) -> Result<Option<History>, Error> {
    let keys = [Key::History(unit.clone()), Key::Unit(unit.clone())].map(|key| key.to_string());
    let (_, found) = api.reader.points(&keys.clone().into()).await?;
    let Some(record) = found.iter().find(|kv| kv.key == keys[0]) else {
        return Ok((!found.is_empty()).then(History::default));
    };
    Ok(Some(decode(record).map_err(|corrupt| api.reader.warn(&corrupt)).unwrap_or_default()))
}

async fn texts<S: Store>(api: &Api<S>, history: &History) -> Result<BTreeMap<UnitHash, String>, Error> {
    let keys: BTreeSet<UnitHash> = history.revisions.iter().map(|former| former.file_key().clone()).collect();
    let mut texts = BTreeMap::new();
    api.reader.files(&keys, |key, record| drop(texts.insert(key, record.text))).await?;
    Ok(texts)
}
