//! v2 with `?offline=true`: what this host knows without the store. Owns how it is marked (such an answer never looks
//! like one of the cluster), and how two sources are joined: the cluster as this daemon saw it last, if it had a copy
//! of it, and this host's own units as they are now.

use std::sync::Arc;

use crate::api::server::error::Failure;
use crate::api::server::state::{Api, Own};
use crate::api::server::views;
use crate::api::wire::{ClusterView, MachineList, Offline, UnitDetail, UnitList, UnitView};
use crate::model::cluster::Cluster;
use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::unit::Unit;
use crate::plan::host::local::HostView;
use crate::registry::reader::Reader;
use crate::registry::scope::Scope;
use crate::registry::summaries::{FileSummaries, FileSummary};
use crate::store::Store;

/// What is known without the store.
struct Known {
    cluster: Cluster,
    summaries: FileSummaries,
    mark: Box<Offline>,
}

impl Known {
    fn units(&self) -> Vec<UnitView> {
        let Self { cluster, summaries, .. } = self;
        cluster.units.iter().map(|(name, unit)| views::unit(cluster, summaries, name, unit, None)).collect()
    }
}

/// The known units in `scope`.
pub(super) async fn units<S: Store>(api: &Api<S>, scope: &Scope) -> Result<UnitList, Failure> {
    let known = known(api, scope).await?;
    let (revision, units) = (known.cluster.revision, known.units());
    Ok(UnitList { revision, units, damaged: Vec::new(), offline: Some(known.mark) })
}

/// One of this host's units, with the file that is installed.
pub(super) async fn unit<S: Store>(api: &Api<S>, name: &UnitName) -> Result<UnitDetail, Failure> {
    let own = api.own().await?;
    let cluster = &own.view.cluster;
    let record = cluster.units.get(name).ok_or_else(Failure::no_such_unit)?;
    let unit = views::unit(cluster, &summaries(&own.view), name, record, None);
    let text = own.view.texts.get(name).cloned().unwrap_or_default();
    let why = views::trouble(&unit);
    let offline = Some(mark(api, &own, None));
    Ok(UnitDetail { unit, text, revision: None, by: None, why, reasons: Vec::new(), choice: None, offline })
}

/// The known hosts.
pub(super) async fn machines<S: Store>(api: &Api<S>) -> Result<MachineList, Failure> {
    let Known { cluster, mark, .. } = known(api, &Scope::named(&[].into())).await?;
    let (machines, gone) = (views::machines(&cluster), views::gone(&cluster));
    Ok(MachineList { here: api.here().0, machines, gone, offline: Some(mark) })
}

/// All that is known.
pub(super) async fn status<S: Store>(api: &Api<S>) -> Result<ClusterView, Failure> {
    let known = known(api, &Scope::All).await?;
    let units = known.units();
    let (machines, gone) = (views::machines(&known.cluster), views::gone(&known.cluster));
    let hosts = MachineList { here: api.here().0, machines, gone, offline: Some(known.mark) };
    let rollouts = views::open_rollouts(&known.cluster, &known.summaries);
    let leader = api.last_leader().map(views::leader);
    Ok(ClusterView { hosts, leader, units, damaged: Vec::new(), rollouts, reboots: Vec::new() })
}

async fn known<S: Store>(api: &Api<S>, scope: &Scope) -> Result<Known, Failure> {
    let own = api.own().await?;
    // A daemon that reaches its store can be asked for the cluster itself.
    let seen = own.since.and_then(|since| api.last_seen().map(|seen| (seen.cluster, seen.at.min(since))));
    let mark = mark(api, &own, seen.as_ref().map(|(_, at)| *at));
    let mut summaries = summaries(&own.view);
    let cluster = match seen {
        Some((seen, _)) => {
            let mut cluster = seen.part(|name| scope.has(name));
            replace_own(&mut cluster, &own.view);
            add_summaries(&mut summaries, &cluster, &api.reader);
            cluster
        }
        None => own.view.cluster.part(|name| scope.has(name)),
    };
    Ok(Known { cluster, summaries, mark })
}

fn mark<S: Store>(api: &Api<S>, own: &Own, seen: Option<u64>) -> Box<Offline> {
    let host = views::machine_ref(&own.view.cluster, &own.view.host);
    let leader = api.last_leader().map(|leader| views::leader(leader).machine);
    Box::new(Offline { host, at: own.at, since: own.since, seen, leader })
}

/// In `cluster` as it was seen last: what the host itself is now, and what it would report of its units.
fn replace_own(cluster: &mut Cluster, own: &HostView) {
    let machine = own.cluster.machines.get(&own.host);
    cluster.machines.extend(machine.map(|machine| (own.host.clone(), machine.clone())));
    cluster.states.values_mut().for_each(|reports| drop(reports.remove(&own.host)));
    for (name, reports) in own.cluster.states.iter().filter(|(name, _)| cluster.units.contains_key(*name)) {
        cluster.states.entry(name.clone()).or_default().extend(reports.clone());
    }
}

/// Add what is known of the files of `cluster`: with a description if it is cached, otherwise as the leader has it.
fn add_summaries<S: Store>(summaries: &mut FileSummaries, cluster: &Cluster, reader: &Reader<S>) {
    for hash in views::hashes(cluster) {
        let of_leader = || {
            let constraints = Arc::clone(&cluster.files.get(hash)?.value);
            Some(Arc::new(FileSummary { description: "".into(), constraints }))
        };
        if let Some(summary) = reader.cached(hash).or_else(of_leader) {
            summaries.entry(hash.clone()).or_insert(summary);
        }
    }
}

/// A file that was installed was checked before; one that was damaged since has no description.
fn summaries(view: &HostView) -> FileSummaries {
    let summary = |(name, unit): (&UnitName, &Unit)| {
        let text = view.texts.get(name)?.clone();
        Some((unit.hash.clone(), Arc::new(FileSummary::of(&UnitFile::parse(text.as_bytes()).ok()?).ok()?)))
    };
    view.cluster.units.iter().filter_map(summary).collect()
}
