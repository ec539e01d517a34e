//! v2: units as they are, and why they aren't where they should be.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::{Serialize, Serializer};

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::api::server::views::{self, FAMILIES, WITH_HOSTS};
use crate::api::wire::{UnitDetail, UnitList};
use crate::model::cluster::Cluster;
use crate::model::name::UnitName;
use crate::model::unit::Unit;
use crate::plan::explain::{Explanation, Standing, explain};
use crate::plan::gate::{is_spare, show_spares};
use crate::plan::progress::is_carried_out;
use crate::registry::keys::{self, Key};
use crate::registry::reader::Damaged;
use crate::registry::scope::Scope;
use crate::registry::summaries::FileSummaries;
use crate::store::{Error, Store};

use super::{fits, globs, offline, split_offline, unknown};

pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Response, Failure> {
    let (offline, parameters) = split_offline(&uri)?;
    let scope = Scope::of(globs(parameters, "; `name` and `offline` are known")?);
    if offline {
        return offline::units(&api, &scope).await.map(|list| Json(list).into_response());
    }
    let (cluster, summaries, damaged) = joined(&api, &scope).await.map_err(|error| api.failed(&error))?;
    // Programs take a unit in this list for one that was submitted.
    let submitted = || cluster.units.iter().filter(|(name, _)| !is_spare(&cluster, name));
    let units = OneByOne(|| submitted().map(|(name, unit)| views::unit(&cluster, &summaries, name, unit, None)));
    let damaged = views::damaged(&cluster, damaged);
    Ok(json(&UnitList { revision: cluster.revision, units, damaged, offline: None }))
}

/// An answer that may be large. [`Json`] writes into a buffer for which each of the many short pieces costs more than
/// for a `Vec`.
fn json(answer: &impl Serialize) -> Response {
    let text = serde_json::to_vec(answer);
    let text = text.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()));
    text.map(|text| ([(CONTENT_TYPE, "application/json")], text)).into_response()
}

/// A sequence of which each element is made when it is written. All views of a large cluster at once would take several
/// times the memory of the answer.
struct OneByOne<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for OneByOne<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0())
    }
}

pub(super) async fn get<S: Store>(
    State(api): State<Api<S>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<UnitDetail>, Failure> {
    let (offline, rest) = split_offline(&uri)?;
    if let Some((key, _)) = rest.first() {
        return Err(unknown(key, "; `offline` is known"));
    }
    let name: UnitName = name.parse().map_err(|_| Failure::no_such_unit())?;
    if offline {
        return offline::unit(&api, &name).await.map(Json);
    }
    detail(&api, &name).await.map_err(|error| api.failed(&error))?.map(Json)
}

/// The inner failure is the unit's, the outer one the store's.
async fn detail<S: Store>(api: &Api<S>, name: &UnitName) -> Result<Result<UnitDetail, Failure>, Error> {
    // Read first: a change of the record after this makes the revision outdated, never the text.
    let (_, record) = api.reader.points(&[Key::Unit(name.clone()).to_string()].into()).await?;
    let revision = record.first().map(|record| record.revision);
    let (cluster, summaries, damaged) = joined(api, &Scope::One(name.clone())).await?;
    if let Some(why) = damaged.get(name) {
        return Ok(Err(Failure::damaged(name, why)));
    }
    let Some(record) = cluster.units.get(name) else { return Ok(Err(Failure::no_such_unit())) };
    let unit = views::unit(&cluster, &summaries, name, record, None);
    let by = record.by.as_deref().cloned();
    let text = text(api, record).await?;
    if !unit.global && is_carried_out(&cluster, name) {
        let why = views::trouble(&unit);
        let constraints = summaries.get(&record.hash).map(|summary| &summary.constraints);
        let choice = match constraints.filter(|constraints| constraints.preferences.is_some()) {
            Some(_) => explain(&fits::whole(api).await?, name).choice.map(|choice| choice.to_string()),
            None => None,
        };
        return Ok(Ok(UnitDetail { unit, text, revision, by, why, reasons: Vec::new(), choice, offline: None }));
    }
    // Otherwise the whole cluster is read only for a unit that isn't where it should be.
    let cluster = fits::whole(api).await?;
    let explanation = explain(&cluster, name);
    let why = views::trouble(&unit).or_else(|| why(&explanation));
    let reasons = explanation.hosts.iter().map(|verdict| fits::of_host(&cluster, verdict)).collect();
    let choice = explanation.choice.map(|choice| choice.to_string());
    Ok(Ok(UnitDetail { unit, text, revision, by, why, reasons, choice, offline: None }))
}

/// The text of a unit's file. A leader of an earlier version may have deleted one that differs in comments only.
async fn text<S: Store>(api: &Api<S>, unit: &Unit) -> Result<String, Error> {
    let mut file = api.reader.file(unit.file_key()).await?;
    if file.is_none() && unit.text.is_some() {
        file = api.reader.file(&unit.hash).await?;
    }
    Ok(file.map(|file| file.text().to_owned()).unwrap_or_default())
}

/// The records from which views of the units in `scope` are made, with spares among the units.
pub(super) async fn joined<S: Store>(api: &Api<S>, scope: &Scope) -> Result<(Cluster, FileSummaries, Damaged), Error> {
    loop {
        let families = if scope.is_all() { &WITH_HOSTS[..] } else { &FAMILIES };
        let (mut cluster, damaged) = api.reader.all(families, scope).await?;
        // A unit whose record can't be read has taken the spare's place.
        cluster.gates.retain(|name, gate| !(gate.value.spare && damaged.contains_key(name)));
        show_spares(&mut cluster);
        let summaries = api.reader.summaries(views::hashes(&cluster)).await?;
        match join_hosts(api, &mut cluster, &summaries, scope).await {
            // The revision of the first read was compacted: start over with a new one.
            Err(Error::Compacted) => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok((cluster, summaries, damaged)),
        }
    }
}

/// Add the rollouts that units wait for, and the hosts that views of the units name; if there are global units, all
/// hosts and the assignments of these.
async fn join_hosts<S: Store>(
    api: &Api<S>,
    cluster: &mut Cluster,
    summaries: &FileSummaries,
    scope: &Scope,
) -> Result<(), Error> {
    let rollouts = keys::rollouts_of(cluster);
    if !rollouts.is_empty() {
        api.reader.add(cluster, &rollouts).await?;
    }
    let globals = views::globals(cluster, summaries);
    if globals.is_empty() && !scope.is_all() {
        let hosts = views::hosts_wanted(cluster);
        api.reader.add(cluster, &hosts).await?;
        return join_absent(api, cluster).await;
    }
    if !scope.is_all() {
        api.reader.add_family(cluster, keys::MACHINES).await?;
    }
    join_absent(api, cluster).await?;
    let orders = |name: &UnitName| cluster.machines.keys().map(|id| Key::Schedule(id.clone(), name.clone())).collect();
    let orders: Vec<BTreeSet<Key>> = globals.iter().map(orders).collect();
    api.reader.add(cluster, &orders.into_iter().flatten().collect()).await
}

/// Add the names of hosts that are gone, if views of the units name any.
async fn join_absent<S: Store>(api: &Api<S>, cluster: &mut Cluster) -> Result<(), Error> {
    let absent = views::absent_wanted(cluster);
    if absent.is_empty() { Ok(()) } else { api.reader.add(cluster, &absent).await }
}

/// A sentence, unless the unit is where it should be.
fn why(explanation: &Explanation) -> Option<String> {
    match &explanation.standing {
        Standing::Placed { .. } | Standing::Done { .. } | Standing::Inactive => None,
        Standing::Everywhere { on, of } if on == of => None,
        // A host fits, so the scheduler is about to use it.
        Standing::Waiting if explanation.hosts.iter().any(|verdict| verdict.misfits.is_empty()) => {
            Some("it is about to be placed".into())
        }
        standing => Some(standing.to_string()),
    }
}
