//! v2: the texts that a unit's file has and had.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::api::wire::{FileOutcomeView, FormerRevision, PresentRevision, ReplacingBatch, UnitHistory};
use crate::model::history::{Batch, FormerText, History};
use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::rollout::Rollout;
use crate::model::unit::Unit;
use crate::registry::decode;
use crate::registry::keys::Key;
use crate::store::{Error, Kv, Store};

use super::no_parameters;

pub(super) async fn get<S: Store>(
    State(api): State<Api<S>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<UnitHistory>, Failure> {
    no_parameters(&uri)?;
    let unit: UnitName = name.parse().map_err(|_| Failure::no_such_unit())?;
    let found = read(&api, unit).await.map_err(|error| api.failed(&error))?.ok_or_else(Failure::no_such_unit)?;
    let texts = texts(&api, &found).await.map_err(|error| api.failed(&error))?;
    let firsts = firsts(&api, &found).await.map_err(|error| api.failed(&error))?;
    Ok(Json(found.view(&texts, &firsts)))
}

/// What the store has of a unit, at one revision.
struct Found {
    name: UnitName,
    /// Empty for a unit that never lost a text.
    history: History,
    /// The record and the commit that wrote it, if there is one that can be read.
    unit: Option<(Unit, Revision)>,
    /// The last rollout of the unit, or of its set.
    rollout: Option<Rollout>,
}

/// `None` if the cluster knows no such unit.
async fn read<S: Store>(api: &Api<S>, name: UnitName) -> Result<Option<Found>, Error> {
    let rollouts = std::iter::once(name.clone()).chain(name.set()).map(|name| Key::Rollout(name).to_string());
    let rollouts: Vec<String> = rollouts.collect();
    let keys = [Key::History(name.clone()), Key::Unit(name.clone())].map(|key| key.to_string());
    let (_, found) = api.reader.points(&keys.iter().chain(&rollouts).cloned().collect()).await?;
    let record = |key: &String| found.iter().find(|kv| kv.key == *key);
    if keys.iter().all(|key| record(key).is_none()) {
        return Ok(None);
    }
    let history = record(&keys[0]).map(|kv| history(api, kv)).unwrap_or_default();
    let unit = record(&keys[1]).and_then(|kv| {
        let unit = decode(kv).map_err(|corrupt| api.reader.warn(&corrupt)).ok()?;
        Some((unit, kv.revision))
    });
    let rollout = rollouts.iter().find_map(record);
    let rollout = rollout.and_then(|kv| decode(kv).map_err(|corrupt| api.reader.warn(&corrupt)).ok());
    Ok(Some(Found { name, history, unit, rollout }))
}

fn history<S: Store>(api: &Api<S>, kv: &Kv) -> History {
    decode(kv).map_err(|corrupt| api.reader.warn(&corrupt)).unwrap_or_default()
}

async fn texts<S: Store>(api: &Api<S>, found: &Found) -> Result<BTreeMap<UnitHash, String>, Error> {
    let former = found.history.revisions.iter().map(|former| former.file_key().clone());
    // The text under the hash will do if that of its own is lost, as for every other question about the unit.
    let present = found.unit.iter().flat_map(|(unit, _)| [unit.file_key().clone(), unit.hash.clone()]);
    let keys: BTreeSet<UnitHash> = former.chain(present).collect();
    let mut texts = BTreeMap::new();
    api.reader.files(&keys, |key, record| drop(texts.insert(key, record.text))).await?;
    Ok(texts)
}

/// The histories of the other units that were the first ones of batches: these name all units.
async fn firsts<S: Store>(api: &Api<S>, found: &Found) -> Result<BTreeMap<UnitName, History>, Error> {
    let batches = found.history.revisions.iter().filter_map(|former| former.batch.as_deref());
    let others = batches.map(|batch| &batch.unit).filter(|unit| **unit != found.name);
    let keys: BTreeSet<String> = others.map(|unit| Key::History(unit.clone()).to_string()).collect();
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (_, kvs) = api.reader.points(&keys).await?;
    let named = |kv: &Kv| match Key::parse(&kv.key) {
        Ok(Key::History(unit)) => Some((unit, history(api, kv))),
        _ => None,
    };
    Ok(kvs.iter().filter_map(named).collect())
}

impl Found {
    fn view(self, texts: &BTreeMap<UnitHash, String>, firsts: &BTreeMap<UnitName, History>) -> UnitHistory {
        let Self { name, history, unit, rollout } = self;
        let present = unit.map(|(unit, written)| {
            let present = history.present(&unit);
            let text = texts.get(unit.file_key()).or_else(|| texts.get(&unit.hash)).cloned();
            let (revision, since) = (present.n, present.since);
            PresentRevision { revision, hash: unit.hash, since, author: present.author.map(|by| *by), text, written }
        });
        let revision = |(index, former): (usize, &FormerText)| {
            let (since, author) = history.beginning(index);
            FormerRevision {
                revision: former.n,
                hash: former.hash.clone(),
                since,
                author: author.cloned(),
                until: former.until,
                destroyed: former.destroyed,
                by: former.by.as_deref().cloned(),
                batch: former.batch.as_deref().map(|batch| replacing(batch, &name, firsts)),
                text: texts.get(former.file_key()).cloned(),
            }
        };
        let revisions = history.revisions.iter().enumerate().rev().map(revision).collect();
        let is_of_present = |rollout: &&Rollout| present.as_ref().is_some_and(|one| one.hash == rollout.target);
        let phase = rollout.as_ref().filter(is_of_present).map(|rollout| rollout.phase);
        let outcomes = rollout.into_iter().flat_map(|rollout| rollout.outcomes).map(FileOutcomeView::from).collect();
        UnitHistory { present, revisions, phase, outcomes, unit: name }
    }
}

/// The batch as the unit `name` sees it, with the units that the history of the first one names.
fn replacing(batch: &Batch, name: &UnitName, firsts: &BTreeMap<UnitName, History>) -> ReplacingBatch {
    let revisions = firsts.get(&batch.unit).map(|first| &*first.revisions).unwrap_or_default();
    let of_first = revisions.iter().filter_map(|former| former.batch.as_deref());
    let of_first = of_first.filter(|noted| noted.unit == batch.unit && noted.n == batch.n);
    let others = of_first.flat_map(|noted| std::iter::once(&noted.unit).chain(&noted.with));
    let with = batch.with.iter().chain(others.filter(|other| *other != name)).cloned().collect();
    ReplacingBatch { unit: batch.unit.clone(), revision: batch.n, with }
}
