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
use crate::api::server::views::FileSummaries;
use crate::api::wire::RolloutLine;
use crate::model::cluster::Cluster;
use crate::model::name::{UnitHash, UnitName};
use crate::model::unit::Unit;
use crate::plan::gate::hosts::launched_on;
use crate::registry::reader::Reader;
use crate::registry::scope::Scope;
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
    let units = scope.names(usize::MAX).map_or(Scope::All, |names| sets::with_members(&names));
    let watch = UnitWatch::shared(&api.shared, units);
    lines::answer(&api, Rollouts { watch, reader: api.reader.clone(), scope, told: BTreeMap::new() }).await
}

struct Rollouts<S> {
    watch: UnitWatch<S>,
    reader: Reader<S>,
    scope: Scope,
    /// The last line of each rollout, as a hash.
    told: BTreeMap<UnitName, u64>,
}

impl<S: Store> Story for Rollouts<S> {
    type Update = Touched;
    type Line = RolloutLine;

    async fn next(&mut self) -> Result<Touched, Error> {
        self.watch.next().await
    }

    async fn tell(&mut self, touched: Touched, lines: &mut Lines) -> Result<(), End> {
        let (rollouts, synced) = match touched {
            Touched::Units(units) => (units.iter().flat_map(rollouts_of).collect::<BTreeSet<_>>(), None),
            Touched::All => self.watch.read(|cluster| {
                let all = cluster.rollouts.keys().chain(self.told.keys()).cloned();
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
            if self.told.remove(name).is_some() {
                lines.push(&line(&RolloutLine::Removed(name.clone())));
            }
            return;
        };
        let text = line(&RolloutLine::Rollout(Box::new(now)));
        let hash = fingerprint(&text);
        if self.told.insert(name.clone(), hash) != Some(hash) {
            lines.push(&text);
        }
    }
}

/// The rollouts that a unit may belong to.
fn rollouts_of(unit: &UnitName) -> impl Iterator<Item = UnitName> + use<> {
    std::iter::once(unit.clone()).chain(unit.set())
}

/// The files of what may be members.
fn hashes(cluster: &Cluster, rollout: &UnitName) -> BTreeSet<UnitHash> {
    let file = |(name, unit): (&UnitName, Cow<'_, Unit>)| {
        cluster.gates.get(name).map_or(&unit.hash, |gate| &gate.value.hash).clone()
    };
    // Whether a unit is global, its own file tells.
    let own = cluster.units.get(rollout).filter(|_| !rollout.is_template()).map(|unit| unit.hash.clone());
    let on_hosts = launched_on(cluster, rollout).map(|(_, told)| told.hash.clone());
    candidates(cluster, rollout).map(file).chain(own).chain(on_hosts).collect()
}
