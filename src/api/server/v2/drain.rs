//! v2: what becomes of the units on a host that is drained, decided as the leader decides it. Owns how it is shown.
//! Changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::{DrainView, DrainWhat, DrainedUnit, HostReasons};
use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::plan::drain::{Timers, Verdict, look};
use crate::plan::explain::verdicts;
use crate::plan::gate;
use crate::plan::schedule::Scheduler;
use crate::registry::apply::present;
use crate::store::Store;

use super::no_parameters;

pub(super) async fn get<S: Store>(
    State(api): State<Api<S>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<DrainView>, Failure> {
    no_parameters(&uri)?;
    let none = || Failure::new(StatusCode::NOT_FOUND, "no such host is drained");
    let id: MachineId = id.parse().map_err(|_| none())?;
    // Each takes a copy of the cluster, and time of a processor.
    let turn = Arc::clone(&api.planning).lock_owned().await;
    let mut cluster = present(&api.reader).await.map_err(|error| api.failed(&error))?;
    if cluster.asked_of(&id).is_none_or(|asked| asked.drain.is_none()) {
        return Err(none());
    }
    let now = api.clock.now_ms();
    let work = move || {
        gate::apply(&mut cluster);
        let scheduler = Scheduler::new(cluster);
        let units = look(&scheduler, &Timers::default(), now).remove(&id).unwrap_or_default();
        (view(scheduler.cluster(), &id, units), turn)
    };
    let failed = |error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the look failed: {error}"));
    let (view, _) = tokio::task::spawn_blocking(work).await.map_err(failed)?;
    Ok(Json(view))
}

fn view(cluster: &Cluster, host: &MachineId, units: BTreeMap<UnitName, Verdict>) -> DrainView {
    let unit = |(name, verdict): (UnitName, Verdict)| {
        let (what, why, reasons) = match verdict {
            Verdict::Leaves | Verdict::Leaving => (DrainWhat::Leaves, None, Vec::new()),
            Verdict::Waits(wait) => (DrainWhat::Waits, Some(wait.to_string()), Vec::new()),
            Verdict::Stays(group) => (DrainWhat::Stays, None, reasons(cluster, host, &name, &group)),
            Verdict::Bound(unit) => {
                let why = format!("{unit} belongs to the host (MoveAfterSec=infinity)");
                (DrainWhat::Stays, Some(why), Vec::new())
            }
            Verdict::Global => (DrainWhat::Global, None, Vec::new()),
        };
        DrainedUnit { name, what, why, reasons }
    };
    DrainView { units: units.into_iter().map(unit).collect() }
}

/// Why the other hosts don't fit a unit, or one of those that must be with it, which is named then.
fn reasons(cluster: &Cluster, home: &MachineId, unit: &UnitName, group: &[UnitName]) -> Vec<HostReasons> {
    let mut found: BTreeMap<MachineId, Vec<String>> = BTreeMap::new();
    let others = group.iter().filter(|other| *other != unit);
    for member in std::iter::once(unit).chain(others) {
        for verdict in verdicts(cluster, member, group).into_iter().filter(|verdict| verdict.id != *home) {
            let whose = if member == unit { String::new() } else { format!("{member}: ") };
            let misfits = verdict.misfits.iter().map(|misfit| format!("{whose}{misfit}"));
            found.entry(verdict.id).or_default().extend(misfits);
        }
    }
    let of_host = |(id, misfits)| HostReasons { machine: views::machine_ref(cluster, &id), misfits };
    found.into_iter().map(of_host).collect()
}
