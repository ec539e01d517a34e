//! v2: sets, how many of their members are up, and how far their rollouts are. Owns what is counted; a member is a unit
//! like any other.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use axum::http::Uri;

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::{SetList, SetView, UnitView};
use crate::model::cluster::Cluster;
use crate::model::glob::Glob;
use crate::model::history::History;
use crate::model::name::UnitName;
use crate::model::placement::Replicas;
use crate::model::rollout::Phase;
use crate::model::unit::{Desired, Unit};
use crate::plan::gate::is_spare;
use crate::registry::decode;
use crate::registry::keys::{self, Key};
use crate::registry::scope::Scope;
use crate::registry::summaries::FileSummaries;
use crate::store::{Error, Store};

use super::{names, units};

pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<SetList>, Failure> {
    let scope = Scope::of(names(&uri)?);
    sets(&api, &scope).await.map(Json).map_err(|error| api.failed(&error))
}

/// The sets whose templates are in `scope`. Which these are, the records of the units in it say; only of sets and their
/// members, more is read.
async fn sets<S: Store>(api: &Api<S>, scope: &Scope) -> Result<SetList, Error> {
    let known = api.reader.cluster(&[keys::UNITS], scope).await?;
    let is_set = |name: &&UnitName| known.units[*name].replicas.is_some();
    let templates: BTreeSet<UnitName> = known.units.keys().filter(is_set).cloned().collect();
    if templates.is_empty() {
        return Ok(SetList { revision: known.revision, sets: Vec::new() });
    }
    loop {
        let (mut cluster, summaries, _) = units::joined(api, &with_members(&templates)).await?;
        match add(api, &mut cluster, &templates).await {
            // The revision of the first read was compacted: start over with a new one.
            Err(Error::Compacted) => {}
            Err(error) => return Err(error),
            Ok(numbers) => {
                let sets = views(&cluster, &summaries, &templates, &numbers);
                return Ok(SetList { revision: cluster.revision, sets });
            }
        }
    }
}

/// Add the rollouts of these sets, and return the numbers of their templates' present texts.
async fn add<S: Store>(
    api: &Api<S>,
    cluster: &mut Cluster,
    templates: &BTreeSet<UnitName>,
) -> Result<BTreeMap<UnitName, u64>, Error> {
    api.reader.add(cluster, &templates.iter().cloned().map(Key::Rollout).collect()).await?;
    let key = |name: &UnitName| Key::History(name.clone()).to_string();
    let found = api.reader.some(&templates.iter().map(key).collect(), Some(cluster.revision)).await?;
    let number = |name: &UnitName| {
        let history: Option<Result<History, _>> = found.iter().find(|kv| kv.key == key(name)).map(decode);
        let history = history.transpose().map_err(|corrupt| api.reader.warn(&corrupt)).ok()?;
        Some((name.clone(), history.unwrap_or_default().present(cluster.units.get(name)?).n))
    };
    Ok(templates.iter().filter_map(number).collect())
}

fn views(
    cluster: &Cluster,
    summaries: &FileSummaries,
    templates: &BTreeSet<UnitName>,
    numbers: &BTreeMap<UnitName, u64>,
) -> Vec<SetView> {
    let mut members = members(cluster);
    let set = |template: &UnitName| {
        let record = cluster.units.get(template)?;
        let file = summaries.get(&record.hash).and_then(|summary| summary.constraints.replicas.clone());
        let members = members.remove(template).unwrap_or_default().into_values();
        let members = members.map(|(name, unit)| views::unit(cluster, summaries, name, unit, None)).collect();
        let phase = cluster.rollouts.get(template).map(|rollout| rollout.value.phase);
        Some(SetView {
            riders: record.riders().cloned().collect(),
            revision: numbers.get(template).copied(),
            rollout: phase.filter(|phase| *phase != Phase::Done),
            ..view(template, (record.replicas?, file), members)
        })
    };
    templates.iter().filter_map(set).collect()
}

/// These units, and all instances of those that are templates.
pub(super) fn with_members(names: &BTreeSet<UnitName>) -> Scope {
    let pattern = |name: &UnitName| {
        if !name.is_template() {
            return Glob::escape(name.as_str()).parse().ok();
        }
        format!("{}@*.{}", Glob::escape(name.prefix()), name.kind()).parse().ok()
    };
    Scope::of(names.iter().filter_map(pattern).collect())
}

/// Numbered instances by their templates and numbers, without spares.
fn members(cluster: &Cluster) -> BTreeMap<UnitName, BTreeMap<u32, (&UnitName, &Unit)>> {
    let mut members: BTreeMap<UnitName, BTreeMap<u32, (&UnitName, &Unit)>> = BTreeMap::new();
    for (name, unit) in cluster.units.iter().filter(|(name, _)| !is_spare(cluster, name)) {
        if let Some((number, template)) = name.number().zip(name.template()) {
            members.entry(template).or_default().insert(number, (name, unit));
        }
    }
    members
}

fn view(template: &UnitName, (replicas, file): (u32, Option<Replicas>), members: Vec<UnitView>) -> SetView {
    let count = |is: &dyn Fn(&UnitView) -> bool| members.iter().filter(|member| is(member)).count();
    let is_up = |member: &UnitView| member.states.iter().any(|state| state.report.is_ready());
    let is_done = |member: &UnitView| member.done.is_some();
    let waits = |member: &UnitView| member.desired > Desired::Inactive && member.machine.is_none() && !is_done(member);
    SetView {
        name: template.clone(),
        replicas,
        file: file.as_ref().and_then(Replicas::number),
        lead: file.as_ref().and_then(Replicas::lead).cloned(),
        riders: Vec::new(),
        ready: count(&is_up),
        waiting: count(&waits),
        done: count(&is_done),
        revision: None,
        rollout: None,
        members: members.into_iter().map(|member| member.name).collect(),
    }
}
