//! What a batch, or something that is asked of rollouts, would change, and the whole cluster that it would change, at
//! one revision. Writes nothing; decides nothing that a batch which is carried out doesn't.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::author::Author;
use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::rollout::{Ask, Request};
use crate::model::unit::Unit;
use crate::registry::ask::{self, Refusal};
use crate::registry::keys;
use crate::registry::maintenance::{self, Request as HostRequest};
use crate::registry::moves::Request as MoveRequest;
use crate::registry::reader::{Damaged, Reader};
use crate::registry::records::file::FileRecord;
use crate::registry::scope::Scope;
use crate::registry::units::Intent;
use crate::store::{Error as StoreError, Store};

use super::{Applied, CONFLICT_PAUSE, Decided, MAX_ATTEMPTS, Why};

/// Everything that decides where units run, and how rollouts go on.
const EVERYTHING: [&str; 11] = [
    keys::UNITS,
    keys::GATES,
    keys::ROLLOUTS,
    keys::PLACEMENTS,
    keys::SCHEDULE,
    keys::MACHINES,
    keys::METADATA,
    keys::HOSTS,
    keys::SETTINGS,
    keys::ROSTER,
    keys::STATES,
];

/// A batch that isn't carried out.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What would become of its units, at the revision of the cluster.
    pub applied: Applied,
    /// The changes of the store that it would make.
    pub changes: Vec<Change>,
    /// The cluster before, with the files that its units, assignments, reports, gates and rollouts have. Without the
    /// authors of units.
    pub cluster: Cluster,
    /// Units that exist, and whose records can't be read.
    pub unreadable: BTreeSet<UnitName>,
}

/// What `intents`, which name a unit at most once, would change at `now`, in ms since the epoch.
///
/// # Errors
/// [`Why::Problems`], [`Why::Store`], or [`Why::Contended`]: nothing is changed in any case.
pub async fn trial<S: Store>(reader: &Reader<S>, intents: &[Intent], now: u64) -> Result<Trial, Why> {
    for attempt in 1..=MAX_ATTEMPTS {
        let decided = Decided::of(reader, intents, now).await.map_err(Why::Store)?.map_err(Why::Problems)?;
        let (cluster, damaged) = reader.all(&EVERYTHING, &Scope::All).await.map_err(Why::Store)?;
        if is_of(&decided, &cluster, &damaged) {
            return complete(reader, intents, &decided, cluster, damaged).await.map_err(Why::Store);
        }
        tokio::time::sleep(CONFLICT_PAUSE * attempt).await;
    }
    Err(Why::Contended)
}

/// The whole cluster, with the files that decide something, and without the authors of units.
///
/// # Errors
/// [`StoreError::Unavailable`], [`StoreError::Refused`].
pub async fn present<S: Store>(reader: &Reader<S>) -> Result<Cluster, StoreError> {
    let mut cluster = reader.cluster(&EVERYTHING, &Scope::All).await?;
    add_files(reader, &mut cluster).await?;
    Ok(cluster)
}

/// Whether what was decided holds in `cluster`, which was read later: the units are as they were.
fn is_of(decided: &Decided, cluster: &Cluster, damaged: &Damaged) -> bool {
    let named = decided.batch.intents.iter().map(|intent| &intent.name);
    named.chain(decided.read.units.keys()).all(|name| match decided.read.units.get(name) {
        Some(found) => found.unit.as_ref() == cluster.units.get(name),
        None => !cluster.units.contains_key(name) && !damaged.contains_key(name),
    })
}

async fn complete<S: Store>(
    reader: &Reader<S>,
    intents: &[Intent],
    decided: &Decided,
    mut cluster: Cluster,
    damaged: Damaged,
) -> Result<Trial, StoreError> {
    let revision = cluster.revision;
    let file = |value| Versioned { value, revision };
    add_files(reader, &mut cluster).await?;
    let mut changes = Vec::new();
    for (intent, decision) in decided.batch.intents.iter().zip(&decided.decisions) {
        let Some(write) = &decision.write else { continue };
        for (key, text) in &write.texts {
            // A text that was sent has been checked, and one that can't be used is planned by nobody.
            let constraints = FileRecord::constraints_of(text).ok().map(Arc::new);
            changes.extend(constraints.map(|value| Change::File(key.clone(), Some(file(value)))));
        }
        let mut record = write.record.clone();
        record.iter_mut().for_each(anonymous);
        changes.push(Change::Unit(intent.name.clone(), record));
    }
    let applied = Applied { revision, ..decided.applied(intents) };
    Ok(Trial { applied, changes, cluster, unreadable: damaged.into_keys().collect() })
}

/// What it would change to ask these things of rollouts.
///
/// # Errors
/// The inner one: of which rollout it can't be asked, and why. The outer one: [`StoreError::Unavailable`],
/// [`StoreError::Refused`].
pub async fn trial_of_asks<S: Store>(
    reader: &Reader<S>,
    asks: &[(UnitName, Request)],
) -> Result<Result<Trial, (UnitName, Refusal)>, StoreError> {
    let (mut cluster, damaged) = reader.all(&EVERYTHING, &Scope::All).await?;
    let revision = cluster.revision;
    // Later than what was asked before.
    let generation = Revision(revision.0.saturating_add(1));
    let mut changes = Vec::new();
    for (name, what) in asks {
        if let Some(why) = damaged.get(name) {
            return Ok(Err((name.clone(), Refusal::Damaged(why.clone()))));
        }
        let unit = cluster.units.get(name);
        let rollout = cluster.rollouts.get(name).filter(|_| unit.is_some()).map(|rollout| &rollout.value);
        if let Err(why) = ask::check(name, rollout, *what) {
            return Ok(Err((name.clone(), Refusal::Pointless(why))));
        }
        let mut record =
            unit.cloned().map(|unit| Unit { ask: Some(Box::new(Ask { what: *what, generation, by: None })), ..unit });
        record.iter_mut().for_each(anonymous);
        changes.push(Change::Unit(name.clone(), record));
    }
    add_files(reader, &mut cluster).await?;
    let applied = Applied { revision, units: Vec::new() };
    Ok(Ok(Trial { applied, changes, cluster, unreadable: damaged.into_keys().collect() }))
}

/// What it would change to ask something of hosts at `now`, in ms since the epoch.
///
/// # Errors
/// As [`maintenance::ask`], which nothing is asked of.
pub async fn trial_of_hosts<S: Store>(
    reader: &Reader<S>,
    hosts: &BTreeSet<MachineId>,
    request: &HostRequest,
    by: &Author,
    now: u64,
) -> Result<Trial, maintenance::Refusal> {
    let (mut cluster, damaged) = reader.all(&EVERYTHING, &Scope::All).await.map_err(maintenance::Refusal::Store)?;
    add_files(reader, &mut cluster).await.map_err(maintenance::Refusal::Store)?;
    let changes = maintenance::trial(&cluster, hosts, request, by, now)?;
    let applied = Applied { revision: cluster.revision, units: Vec::new() };
    Ok(Trial { applied, changes, cluster, unreadable: damaged.into_keys().collect() })
}

/// What it would change to ask units to move.
///
/// # Errors
/// [`StoreError::Unavailable`], [`StoreError::Refused`].
pub async fn trial_of_moves<S: Store>(reader: &Reader<S>, request: &MoveRequest) -> Result<Trial, StoreError> {
    let (mut cluster, damaged) = reader.all(&EVERYTHING, &Scope::All).await?;
    add_files(reader, &mut cluster).await?;
    let (changes, applied) = (request.changes(&cluster), Applied { revision: cluster.revision, units: Vec::new() });
    Ok(Trial { applied, changes, cluster, unreadable: damaged.into_keys().collect() })
}

/// Add the files of a cluster, and leave its authors out.
async fn add_files<S: Store>(reader: &Reader<S>, cluster: &mut Cluster) -> Result<(), StoreError> {
    let summaries = reader.summaries(&files(cluster)).await?;
    let revision = cluster.revision;
    let file = |value| Versioned { value, revision };
    cluster.files =
        summaries.into_iter().map(|(hash, summary)| (hash, file(Arc::clone(&summary.constraints)))).collect();
    cluster.units.values_mut().for_each(anonymous);
    Ok(())
}

/// Authors decide nothing.
fn anonymous(unit: &mut Unit) {
    (unit.by, unit.submitter) = (None, None);
}

/// The files whose contents decide something, or whose bodies tell what is restarted.
fn files(cluster: &Cluster) -> BTreeSet<UnitHash> {
    let units = cluster.units.values().map(|unit| &unit.hash);
    let assigned = cluster.schedule.values().flat_map(BTreeMap::values).map(|assignment| &assignment.value.hash);
    let reported = cluster.states.values().flat_map(|reports| reports.values().map(|report| &report.value.hash));
    let gates = cluster.gates.values().flat_map(|gate| gate.value.files().chain([&gate.value.target]));
    let rollouts = cluster.rollouts.values().flat_map(|known| {
        let riders = known.value.riders.values().flat_map(|rider| [&rider.target, &rider.from.hash]);
        [&known.value.target, &known.value.from.hash].into_iter().chain(riders)
    });
    units.chain(assigned).chain(reported).chain(gates).chain(rollouts).cloned().collect()
}
