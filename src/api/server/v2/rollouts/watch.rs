//! v2: rollouts as they change, one JSON object per line. Owns what is sent when: every rollout, `synced`, then only
//! what differs from what was sent before.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::api::server::v2::lines::{self, End, Lines, Story, fingerprint, line};
use crate::api::server::v2::{names, sets};
use crate::api::wire::RolloutLine;
use crate::model::cluster::Cluster;
use crate::model::name::{UnitHash, UnitName};
use crate::model::rollout::Rollout;
use crate::model::unit::Unit;
use crate::plan::gate::hosts::launched_on;
use crate::registry::keys;
use crate::registry::reader::Reader;
use crate::registry::scope::Scope;
use crate::registry::summaries::FileSummaries;
use crate::registry::watch::Touched;
use crate::registry::watch::units::UnitWatch;
use crate::store::{Error, Store};

use super::{candidates, view};

pub(in crate::api::server::v2) async fn get<S: Store>(
    State(api): State<Api<S>>,
    uri: Uri,
) -> Result<Response, Failure> {
    let scope = Scope::of(names(&uri)?);
    // Only rollouts that are named tell which units belong to them.
    let units = match scope.names(usize::MAX) {
        Some(names) => sets::with_members(&with_riders(&api, names).await?),
        None => Scope::All,
    };
    let watch = UnitWatch::shared(&api.shared, units);
    lines::answer(&api, Rollouts { watch, reader: api.reader.clone(), scope, sent: BTreeMap::new() }).await
}

/// These rollouts, and the riders of those that are of sets: those that there are now, whether or not they take part
/// yet.
async fn with_riders<S: Store>(api: &Api<S>, names: BTreeSet<UnitName>) -> Result<BTreeSet<UnitName>, Failure> {
    let sets: BTreeSet<UnitName> = names.iter().filter(|name| name.is_template()).cloned().collect();
    if sets.is_empty() {
        return Ok(names);
    }
    let known = api.reader.cluster(&[keys::UNITS], &Scope::named(&sets)).await.map_err(|error| api.failed(&error))?;
    let riders = known.units.into_values().flat_map(|unit| unit.riders().cloned().collect::<Vec<_>>());
    Ok(names.into_iter().chain(riders).collect())
}

struct Rollouts<S> {
    watch: UnitWatch<S>,
    reader: Reader<S>,
    scope: Scope,
    /// The last line of each rollout, as a hash.
    sent: BTreeMap<UnitName, u64>,
}

impl<S: Store> Story for Rollouts<S> {
    type Update = Touched;
    type Line = RolloutLine;

    async fn next(&mut self) -> Result<Touched, Error> {
        self.watch.next().await
    }

    async fn tell(&mut self, touched: Touched, lines: &mut Lines) -> Result<(), End> {
        let (rollouts, synced) = match touched {
            Touched::Units(units) => self.watch.read(|cluster| {
                let rollouts = units.iter().flat_map(|unit| rollouts_of(cluster, unit));
                (rollouts.collect::<BTreeSet<_>>(), None)
            }),
            Touched::All => self.watch.read(|cluster| {
                let all = cluster.rollouts.keys().chain(self.sent.keys()).cloned();
                (all.collect(), Some(cluster.revision))
            }),
        };
        for name in &rollouts {
            if !self.scope.has(name) {
                continue;
            }
            let hashes = self.watch.read(|cluster| hashes(cluster, name));
            let summaries = self.reader.summaries(&hashes).await.map_err(End::Store)?;
            self.tell_one(name, &summaries, lines);
            lines.flush_if_full().await?;
        }
        if let Some(revision) = synced {
            lines.push(&line(&RolloutLine::Synced(revision)));
        }
        Ok(())
    }

    fn error(message: String) -> RolloutLine {
        RolloutLine::Error(message)
    }
}

impl<S: Store> Rollouts<S> {
    /// A member that has got another file since the `summaries` were read is told of again soon.
    fn tell_one(&mut self, name: &UnitName, summaries: &FileSummaries, lines: &mut Lines) {
        let now = self.watch.read(|cluster| Some(view(cluster, summaries, name, &cluster.rollouts.get(name)?.value)));
        let Some(now) = now else {
            if self.sent.remove(name).is_some() {
                lines.push(&line(&RolloutLine::Removed(name.clone())));
            }
            return;
        };
        let text = line(&RolloutLine::Rollout(Box::new(now)));
        let hash = fingerprint(&text);
        if self.sent.insert(name.clone(), hash) != Some(hash) {
            lines.push(&text);
        }
    }
}

/// The rollouts that a unit may belong to.
fn rollouts_of<'a>(cluster: &'a Cluster, unit: &UnitName) -> impl Iterator<Item = UnitName> + use<'a> {
    let set = unit.set();
    let template = set.clone().unwrap_or_else(|| unit.clone());
    let has_it = move |rollout: &Rollout| rollout.riders.contains_key(&template);
    let leads =
        cluster.rollouts.iter().filter(move |(_, rollout)| has_it(&rollout.value)).map(|(lead, _)| lead.clone());
    std::iter::once(unit.clone()).chain(set).chain(leads)
}

/// The files of what may be members.
fn hashes(cluster: &Cluster, rollout: &UnitName) -> BTreeSet<UnitHash> {
    let file = |(name, unit): (&UnitName, Cow<'_, Unit>)| {
        cluster.gates.get(name).map_or(&unit.hash, |gate| &gate.value.hash).clone()
    };
    // Whether a unit is global, its own file tells.
    let own = cluster.units.get(rollout).filter(|_| !rollout.is_template()).map(|unit| unit.hash.clone());
    let on_hosts = launched_on(cluster, rollout).map(|(_, assignment)| assignment.hash.clone());
    let known = cluster.rollouts.get(rollout).map(|known| &known.value);
    let candidates = known.into_iter().flat_map(|known| candidates(cluster, rollout, known));
    candidates.map(file).chain(own).chain(on_hosts).collect()
}
