//! v2: what the rules of placement say about units: as they are, or as a batch would make them. Owns what is read for
//! that, and the supposed cluster; `plan` has the rules. Changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::HostReasons;
use crate::model::cluster::{Cluster, Versioned};
use crate::model::name::UnitName;
use crate::model::placement::Constraints;
use crate::model::unit::{Desired, Unit};
use crate::plan::explain::{Verdict, verdicts};
use crate::plan::gate;
use crate::registry::keys;
use crate::registry::scope::Scope;
use crate::registry::summaries::FileSummary;
use crate::registry::units::{Intent, UnitChange};
use crate::store::{Error, Store};

/// For each unit of `intents` with a file, every registered host and why the unit couldn't be there. Nothing is said of
/// templates, which run nowhere.
pub(super) async fn hosts<S: Store>(
    api: &Api<S>,
    intents: &[Intent],
) -> Result<BTreeMap<UnitName, Vec<HostReasons>>, Error> {
    let mut cluster = whole(api).await?;
    let named = suppose(&mut cluster, intents);
    let reasons = |name: &UnitName| {
        let others: Vec<UnitName> = named.iter().filter(|other| *other != name).cloned().collect();
        let verdicts = verdicts(&cluster, name, &others);
        (name.clone(), verdicts.iter().map(|verdict| of_host(&cluster, verdict)).collect())
    };
    Ok(named.iter().map(reasons).collect())
}

/// Everything that the rules of placement depend on, with the units as they are scheduled.
pub(super) async fn whole<S: Store>(api: &Api<S>) -> Result<Cluster, Error> {
    const EVERYTHING: [&str; 9] = [
        keys::UNITS,
        keys::GATES,
        keys::PLACEMENTS,
        keys::SCHEDULE,
        keys::MACHINES,
        keys::ROSTER,
        keys::METADATA,
        keys::HOSTS,
        keys::SETTINGS,
    ];
    let mut cluster = api.reader.cluster(&EVERYTHING, &Scope::All).await?;
    gate::apply(&mut cluster);
    let revision = cluster.revision;
    let summaries = api.reader.summaries(views::hashes(&cluster)).await?;
    let constraints = |summary: &FileSummary| Versioned { value: summary.constraints.clone(), revision };
    cluster.files = summaries.into_iter().map(|(hash, summary)| (hash, constraints(&summary))).collect();
    Ok(cluster)
}

/// Every rule that `verdict` names.
pub(super) fn of_host(cluster: &Cluster, verdict: &Verdict) -> HostReasons {
    HostReasons {
        machine: views::machine_ref(cluster, &verdict.id),
        misfits: verdict.misfits.iter().map(ToString::to_string).collect(),
    }
}

/// Give the units of `intents` their new files. Returns those that could run.
fn suppose(cluster: &mut Cluster, intents: &[Intent]) -> Vec<UnitName> {
    let mut named = Vec::new();
    for Intent { name, change } in intents.iter().filter(|intent| !intent.name.is_template()) {
        let UnitChange::Ensure { file: Some(file), desired, .. } = change else { continue };
        let Ok(constraints) = Constraints::parse(file) else { continue };
        let (hash, revision) = (file.hash(), cluster.revision);
        cluster.files.insert(hash.clone(), Versioned { value: Arc::new(constraints), revision });
        let desired = desired.unwrap_or(Desired::Inactive);
        let new = || Unit::new(desired, hash.clone(), revision);
        cluster.units.entry(name.clone()).or_insert_with(new).hash = hash.clone();
        named.push(name.clone());
    }
    named
}
