//! v2: what becomes of the units on a host that is drained, or of those that come back to it afterwards, decided as the
//! leader decides it. Owns how it is shown. Changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::{DrainView, DrainWhat, DrainedUnit, HostReasons, RestoreView, ReturnWhat, ReturningUnit};
use crate::model::cluster::Cluster;
use crate::model::maintenance::Maintenance;
use crate::model::name::{MachineId, UnitName};
use crate::plan::drain::{Found, Verdict};
use crate::plan::explain::{Verdict as Explained, verdict_of, verdicts};
use crate::registry::drains;
use crate::store::Store;

use super::no_parameters;

pub(super) async fn get<S: Store>(
    State(api): State<Api<S>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<DrainView>, Failure> {
    let is_drained = |asked: &Maintenance| asked.drain.is_some();
    let found = looked(&api, (&id, &uri), ("no such host is drained", is_drained), |cluster, mut found, id| {
        view(cluster, id, found.drained.remove(id).unwrap_or_default())
    });
    found.await.map(Json)
}

pub(super) async fn restore<S: Store>(
    State(api): State<Api<S>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<RestoreView>, Failure> {
    let is_restored = |asked: &Maintenance| asked.restore.is_some();
    let none = "no such host gets units back";
    let found = looked(&api, (&id, &uri), (none, is_restored), |cluster, mut found, id| {
        returning(cluster, id, found.returning.remove(id).unwrap_or_default())
    });
    found.await.map(Json)
}

/// A look at a host of which something is asked; otherwise there is `none`.
async fn looked<S: Store, T: Send + 'static>(
    api: &Api<S>,
    (id, uri): (&str, &Uri),
    (none, is_asked): (&'static str, fn(&Maintenance) -> bool),
    look: impl FnOnce(&Cluster, Found, &MachineId) -> T + Send + 'static,
) -> Result<T, Failure> {
    no_parameters(uri)?;
    let none = || Failure::new(StatusCode::NOT_FOUND, none);
    let id: MachineId = id.parse().map_err(|_| none())?;
    // Each takes a copy of the cluster, and time of a processor.
    let turn = Arc::clone(&api.planning).lock_owned().await;
    let is_asked = |cluster: &Cluster| cluster.asked_of(&id).is_some_and(is_asked);
    let host = id.clone();
    let look = move |cluster: &Cluster, found: Found| (look(cluster, found, &host), turn).0;
    let found = drains::looked(&api.reader, api.clock, is_asked, look).await;
    found.map_err(|error| api.failed(&error))?.ok_or_else(none)
}

fn view(cluster: &Cluster, host: &MachineId, units: BTreeMap<UnitName, Verdict>) -> DrainView {
    let unit = |(name, verdict): (UnitName, Verdict)| {
        let (what, why, reasons) = match verdict {
            Verdict::Leaves | Verdict::Leaving => (DrainWhat::Leaves, None, Vec::new()),
            Verdict::Waits(wait) => (DrainWhat::Waits, Some(wait.to_string()), Vec::new()),
            Verdict::Stays(group) => (DrainWhat::Stays, None, reasons(cluster, host, &name, &group)),
            Verdict::Bound(unit) => {
                let way_out = format!("fleetctl move {unit} HOST");
                let why = format!("{unit} belongs to the host (MoveAfterSec=infinity); {way_out} moves it");
                (DrainWhat::Stays, Some(why), Vec::new())
            }
            Verdict::Tied(unit) => (DrainWhat::Stays, Some(tied(&unit)), Vec::new()),
            Verdict::Global => (DrainWhat::Global, None, Vec::new()),
        };
        DrainedUnit { name, what, why, reasons }
    };
    DrainView { units: units.into_iter().map(unit).collect() }
}

fn tied(unit: &UnitName) -> String {
    format!("it must be with {unit}, which the drain didn't take")
}

fn returning(cluster: &Cluster, host: &MachineId, units: BTreeMap<UnitName, Verdict>) -> RestoreView {
    let unit = |(name, verdict): (UnitName, Verdict)| {
        let (what, why) = match verdict {
            Verdict::Leaves | Verdict::Leaving => (ReturnWhat::Comes, None),
            Verdict::Waits(wait) => (ReturnWhat::Waits, Some(wait.to_string())),
            Verdict::Stays(group) => {
                let verdict = |(member, whose)| Some((verdict_of(cluster, member, host, &group)?, whose));
                let misfits: Vec<String> = members(&name, &group)
                    .filter_map(verdict)
                    .flat_map(|(verdict, whose)| said(&verdict, &whose))
                    .collect();
                // It may fit by now.
                let none = || "it didn't fit there when the others came back".to_owned();
                (ReturnWhat::Stays, Some(if misfits.is_empty() { none() } else { misfits.join("; ") }))
            }
            Verdict::Bound(unit) => {
                let why = format!("{unit} belongs to its host (MoveAfterSec=infinity)");
                (ReturnWhat::Stays, Some(why))
            }
            Verdict::Tied(unit) => (ReturnWhat::Stays, Some(tied(&unit))),
            Verdict::Global => (ReturnWhat::Stays, None),
        };
        let machine = cluster.placed_on(&name).map(|home| views::machine_ref(cluster, home));
        ReturningUnit { name, what, why, machine }
    };
    RestoreView { units: units.into_iter().map(unit).collect() }
}

/// A unit, and those that must be with it, each with the words that name it.
fn members<'a>(unit: &'a UnitName, group: &'a [UnitName]) -> impl Iterator<Item = (&'a UnitName, String)> {
    let others = group.iter().filter(move |other| *other != unit).map(|other| (other, format!("{other}: ")));
    std::iter::once((unit, String::new())).chain(others)
}

/// What a host has against the unit that is `whose`.
fn said(verdict: &Explained, whose: &str) -> Vec<String> {
    verdict.misfits.iter().map(|misfit| format!("{whose}{misfit}")).collect()
}

/// Why the other hosts don't fit a unit, or one of those that must be with it, which is named then.
fn reasons(cluster: &Cluster, home: &MachineId, unit: &UnitName, group: &[UnitName]) -> Vec<HostReasons> {
    let mut found: BTreeMap<MachineId, Vec<String>> = BTreeMap::new();
    for (member, whose) in members(unit, group) {
        for verdict in verdicts(cluster, member, group).into_iter().filter(|verdict| verdict.id != *home) {
            found.entry(verdict.id.clone()).or_default().extend(said(&verdict, &whose));
        }
    }
    let of_host = |(id, misfits)| HostReasons { machine: views::machine_ref(cluster, &id), misfits };
    found.into_iter().map(of_host).collect()
}
