//! v2 with `?offline=true`: what this host itself knows, without the store. Owns how it is marked: such an answer never
//! looks like one about the cluster.

use std::sync::Arc;

use crate::api::server::error::Failure;
use crate::api::server::state::{Api, Own};
use crate::api::server::views::{self, FileSummaries};
use crate::api::wire::{MachineList, Offline, UnitDetail, UnitList};
use crate::model::name::UnitName;
use crate::model::unit::Unit;
use crate::plan::host::local::HostView;
use crate::registry::records::file::FileRecord;
use crate::registry::scope::Scope;
use crate::registry::summaries::FileSummary;
use crate::store::Store;

/// This host's units in `scope`.
pub(super) async fn units<S: Store>(api: &Api<S>, scope: &Scope) -> Result<UnitList, Failure> {
    let own = api.own().await?;
    let summaries = summaries(&own.view);
    let cluster = &own.view.cluster;
    let units = cluster.units.iter().filter(|(name, _)| scope.has(name));
    let units = units.map(|(name, unit)| views::unit(cluster, &summaries, name, unit, None)).collect();
    Ok(UnitList { units, offline: Some(mark(&own)), ..UnitList::default() })
}

/// One of this host's units, with the file that is installed.
pub(super) async fn unit<S: Store>(api: &Api<S>, name: &UnitName) -> Result<UnitDetail, Failure> {
    let own = api.own().await?;
    let cluster = &own.view.cluster;
    let record = cluster.units.get(name).ok_or_else(Failure::no_such_unit)?;
    let unit = views::unit(cluster, &summaries(&own.view), name, record, None);
    let text = own.view.texts.get(name).cloned().unwrap_or_default();
    let why = views::trouble(&unit);
    let offline = Some(mark(&own));
    Ok(UnitDetail { unit, text, revision: None, by: None, why, reasons: Vec::new(), offline })
}

/// This host.
pub(super) async fn machines<S: Store>(api: &Api<S>) -> Result<MachineList, Failure> {
    let own = api.own().await?;
    let machines = views::machines(&own.view.cluster);
    Ok(MachineList { here: api.here().0, machines, gone: Vec::new(), offline: Some(mark(&own)) })
}

fn mark(own: &Own) -> Box<Offline> {
    let host = views::machine_ref(&own.view.cluster, &own.view.host);
    Box::new(Offline { host, at: own.at, since: own.since })
}

/// A file that was installed was checked before; one that was damaged since has no description.
fn summaries(view: &HostView) -> FileSummaries {
    let summary = |(name, unit): (&UnitName, &Unit)| {
        let text = view.texts.get(name)?.clone();
        Some((unit.hash.clone(), Arc::new(FileSummary::of(&FileRecord { text }).ok()?)))
    };
    view.cluster.units.iter().filter_map(summary).collect()
}
