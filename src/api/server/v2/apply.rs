//! v2: change many units at once. Owns what makes a batch wrong by itself; `registry` checks it against the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::{Extension, Json};

use crate::api::server::caller::Caller;
use crate::api::server::error::Failure;
use crate::api::server::extract::{must_be_json, query};
use crate::api::server::state::Api;
use crate::api::wire::{Applied, AppliedUnit, Apply, ApplyUnit};
use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::placement::MAX_REPLICAS;
use crate::registry::apply;
use crate::registry::units::{self, Intent, OnDifferentFile, Problem, UnitChange, file_problem};
use crate::store::Store;

use super::{fits, unknown};

pub(super) async fn post<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Applied>, Failure> {
    let check = check(&uri)?;
    let intents = intents(&api, &headers, &body).await?;
    let applied = match check {
        Check::No => api.apply(&intents, &caller).await?,
        Check::Only | Check::Hosts => api.dry_run(&intents, &caller).await?,
    };
    let mut hosts = match check {
        Check::Hosts => fits::hosts(&api, &intents).await.map_err(|error| api.failed(&error))?,
        Check::No | Check::Only => BTreeMap::new(),
    };
    let unit = |done: apply::Done| {
        let hosts = hosts.remove(&done.name);
        AppliedUnit { hosts, ..applied_unit(done) }
    };
    Ok(Json(Applied { revision: applied.revision, units: applied.units.into_iter().map(unit).collect() }))
}

/// The changes that a request asks for, or everything that is wrong with them.
pub(super) async fn intents<S: Store>(api: &Api<S>, headers: &HeaderMap, body: &Bytes) -> Result<Vec<Intent>, Failure> {
    must_be_json(headers)?;
    let batch: Apply =
        serde_json::from_slice(body).map_err(|error| Failure::bad_request(format!("can't read the batch: {error}")))?;
    checked(api, &batch).await
}

/// The same of a batch that was read.
pub(super) async fn checked<S: Store>(api: &Api<S>, batch: &Apply) -> Result<Vec<Intent>, Failure> {
    let (intents, mut problems) = read(batch);
    if problems.is_empty() {
        return Ok(intents);
    }
    // All mistakes of a batch are reported together, including those that need no store, which may be unreachable.
    problems.extend(apply::dry_run(&api.reader, &intents).await.ok().and_then(Result::err).unwrap_or_default());
    // Of several entries with the same name, the first counts.
    let places: BTreeMap<&str, usize> = batch.units.iter().enumerate().rev().map(|(i, u)| (&*u.name, i)).collect();
    problems.sort_by_key(|problem| places.get(&*problem.unit).copied());
    Err(Failure::problems(problems))
}

/// What became of a unit, or would.
pub(super) fn applied_unit(done: apply::Done) -> AppliedUnit {
    AppliedUnit {
        hosts: None,
        name: done.name,
        outcome: done.outcome,
        generation: done.generation,
        comments: done.comments,
        same_body: done.same_body,
        retries: done.retries,
        warnings: done.warnings,
        replicas: done.replicas,
        desired: done.desired,
    }
}

/// Whether the batch is only to be checked. Not in the body: a server that doesn't know it must refuse the request
/// instead of carrying it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// It is carried out.
    No,
    /// `?check=true`: only what it would do.
    Only,
    /// `?check=hosts`: also which hosts would fit.
    Hosts,
}

fn check(uri: &Uri) -> Result<Check, Failure> {
    let mut check = Check::No;
    for (key, value) in query(uri)? {
        check = match (key.as_str(), value.as_str()) {
            ("check", "true") => Check::Only,
            ("check", "hosts") => Check::Hosts,
            ("check", "false") => Check::No,
            ("check", _) => return Err(Failure::bad_request("`check` can only be `true`, `hosts` or `false`")),
            (other, _) => return Err(unknown(other, "; `check` is known")),
        };
    }
    Ok(check)
}

/// The valid part of a batch, and everything that is wrong with the rest.
fn read(batch: &Apply) -> (Vec<Intent>, Vec<Problem>) {
    let (mut intents, mut problems, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for unit in &batch.units {
        if !seen.insert(&unit.name) {
            problems.push(problem(unit, "named more than once in this batch"));
            continue;
        }
        match intent(unit) {
            Ok(intent) => intents.push(intent),
            Err(found) => problems.extend(found),
        }
    }
    (intents, problems)
}

fn intent(unit: &ApplyUnit) -> Result<Intent, Vec<Problem>> {
    let name: UnitName = unit.name.parse().map_err(|error| vec![problem(unit, &error)])?;
    if unit.destroy {
        if unit.text.is_some() || unit.desired.is_some() || unit.replace || unit.restart || unit.replicas.is_some() {
            return Err(vec![problem(unit, "`destroy` goes with nothing else")]);
        }
        return Ok(Intent { name, change: UnitChange::Destroy });
    }
    if unit.restart {
        if unit.text.is_some() || unit.desired.is_some() || unit.replace || unit.replicas.is_some() {
            return Err(vec![problem(unit, "`restart` goes with nothing else")]);
        }
        return Ok(Intent { name, change: UnitChange::Restart });
    }
    let mut problems = Vec::new();
    if let Some(count) = unit.replicas.filter(|count| *count > MAX_REPLICAS) {
        problems.push(problem(unit, &format!("`replicas` {count}: must be a number from 0 to {MAX_REPLICAS}")));
    }
    if unit.revision.is_some() && !unit.replace && (unit.replicas.is_none() || unit.text.is_some()) {
        problems.push(problem(unit, "`revision` goes with `replace`, or with `replicas` of a template without a file"));
    }
    if unit.hooks.is_some() && !(unit.replace && unit.revision.is_some()) {
        problems.push(problem(unit, "`hooks` goes with `replace` and `revision`"));
    }
    let file = unit.text.as_ref().and_then(|text| {
        let file = UnitFile::parse(text.as_bytes());
        file.map_err(|error| problems.push(file_problem(&unit.name, &error))).ok()
    });
    problems.extend(file.iter().flat_map(|file| units::check(&name, file)));
    if !problems.is_empty() {
        return Err(problems);
    }
    let on_different_file = match (unit.replace, unit.revision) {
        (true, Some(revision)) if unit.hooks == Some(false) => OnDifferentFile::ReplaceWithoutHooks(revision),
        (_, Some(revision)) => OnDifferentFile::ReplaceAt(revision),
        (true, None) => OnDifferentFile::Replace,
        (false, None) => OnDifferentFile::Keep,
    };
    Ok(Intent {
        name,
        change: UnitChange::Ensure {
            file: file.map(Arc::new),
            desired: unit.desired,
            on_different_file,
            replicas: unit.replicas,
        },
    })
}

fn problem(unit: &ApplyUnit, what: &(impl std::fmt::Display + ?Sized)) -> Problem {
    Problem { unit: unit.name.clone(), line: None, what: what.to_string() }
}
