//! What the decisions about a batch depend on, read from the store. Owns which records these are; decides nothing and
//! writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::try_join;

use crate::model::body::BodyHash;
use crate::model::file::UnitFile;
use crate::model::history::History;
use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::rollout::policy;
use crate::model::unit::{Desired, Unit, UnitReport};
use crate::store::{Error as StoreError, Kv, Store};

use crate::registry::decode;
use crate::registry::hooks;
use crate::registry::keys::{self, Key};
use crate::registry::reader::Reader;
use crate::registry::records::{Family as _, rollout};
use crate::registry::sets::{self, riders};
use crate::registry::units::{Found, Intent, OnDifferentFile, Read, UnitChange, is_done, is_down, may_retry};

/// The units of the batch, their templates and those that `earlier` attempts at it have written, or may have, at one
/// revision; then the members of sets, each of which is guarded when it is written.
pub(super) async fn read<S: Store>(
    reader: &Reader<S>,
    intents: &[Intent],
    earlier: &BTreeSet<UnitName>,
) -> Result<Read, StoreError> {
    let mut names: BTreeSet<UnitName> = intents.iter().map(|intent| intent.name.clone()).collect();
    names.extend(earlier.iter().cloned().chain(new_from(intents)).chain(sets::templates(intents)));
    let keys = names.iter().map(|name| Key::Unit(name.clone()).to_string()).collect();
    let sent = sent(intents);
    let losing = losing(intents);
    let units = reader.points(&keys);
    let ((revision, kvs), files, histories) =
        try_join!(units, files_under(reader, sent.keys().cloned().collect()), histories(reader, &losing))?;
    let mut read = Read { revision, files, sent, histories, ..Read::default() };
    take(reader, &mut read, kvs, |name| names.contains(name));
    read.hooks = hook_files(reader, intents).await?;
    let sets = sets::concerned(intents, &read);
    if !sets.is_empty() {
        read.files.extend(files_under(reader, texts(&sets, &read)).await?);
        let related = riders::related(intents, &sets, &read, &earlier.iter().collect());
        templates(reader, &mut read, &related).await?;
        members(reader, &mut read, &sets.union(&related).cloned().collect()).await?;
    }
    Ok(read)
}

/// The files that the units have which the batch names as hooks.
async fn hook_files<S: Store>(
    reader: &Reader<S>,
    intents: &[Intent],
) -> Result<BTreeMap<UnitName, Arc<UnitFile>>, StoreError> {
    let keys: BTreeSet<String> = hooks::named(intents).into_iter().map(|name| Key::Unit(name).to_string()).collect();
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut found = Read::default();
    take(reader, &mut found, reader.points(&keys).await?.1, |_| true);
    let records = found.units.into_iter().filter_map(|(name, found)| Some((name, found.unit?.hash)));
    let hashes: BTreeMap<UnitName, UnitHash> = records.collect();
    let files = files_under(reader, hashes.values().cloned().collect()).await?;
    Ok(hashes.into_iter().filter_map(|(name, hash)| Some((name, files.get(&hash)?.clone()))).collect())
}

/// Read these templates and their files, unless they are known.
async fn templates<S: Store>(
    reader: &Reader<S>,
    read: &mut Read,
    templates: &BTreeSet<UnitName>,
) -> Result<(), StoreError> {
    let unread = templates.iter().filter(|name| !read.units.contains_key(*name));
    let keys: BTreeSet<String> = unread.map(|name| Key::Unit(name.clone()).to_string()).collect();
    if !keys.is_empty() {
        let (_, kvs) = reader.points(&keys).await?;
        take(reader, read, kvs, |name| templates.contains(name));
    }
    if !templates.is_empty() {
        read.files.extend(files_under(reader, texts(templates, read)).await?);
    }
    Ok(())
}

/// Read the members of these sets, and of riders what tells whether a member was changed by hand.
async fn members<S: Store>(reader: &Reader<S>, read: &mut Read, sets: &BTreeSet<UnitName>) -> Result<(), StoreError> {
    let of = |set: &UnitName| format!("{}{}@", keys::UNITS, set.prefix());
    let (_, kvs) = reader.ranges(sets.iter().map(of).collect()).await?;
    let is_member = |name: &UnitName| name.number().is_some() && name.template().is_some_and(|t| sets.contains(&t));
    take(reader, read, kvs, is_member);
    let unread: BTreeSet<UnitName> = riders::doubtful(sets, read);
    let unread = unread.into_iter().filter(|name| !read.histories.contains_key(name)).collect();
    read.histories.extend(histories(reader, &unread).await?);
    Ok(())
}

/// What else the decisions about `intents` depend on: those that were `asked`, and what sets have added.
pub(super) async fn complete<S: Store>(
    reader: &Reader<S>,
    read: &mut Read,
    asked: &[Intent],
    intents: &[Intent],
) -> Result<(), StoreError> {
    let new: BTreeSet<UnitName> =
        intents.iter().filter(|i| !read.units.contains_key(&i.name)).filter_map(|i| i.name.template()).collect();
    let templates = new_from(intents).filter(|template| new.contains(template)).collect();
    let sent_for = |intent: &Intent| match &intent.change {
        UnitChange::Ensure { file: Some(_), .. } => read.units.get(&intent.name)?.unit.as_ref()?.text.clone(),
        _ => None,
    };
    let wanted = intents.iter().filter_map(sent_for).chain(texts(&templates, read));
    let keys: BTreeSet<UnitHash> = wanted.filter(|key| !read.files.contains_key(key)).collect();
    read.files.extend(files_under(reader, keys).await?);
    let unread = losing(intents).difference(&losing(asked)).cloned().collect();
    read.histories.extend(histories(reader, &unread).await?);
    read.bodies = bodies(reader, intents, read).await?;
    read.leaving = leaving(reader, intents, read).await?;
    read.at_rest = at_rest(reader, intents, read).await?;
    read.failed = failed(reader, intents, read).await?;
    Ok(())
}

/// The units of `intents` that may lose a text.
fn losing(intents: &[Intent]) -> BTreeSet<UnitName> {
    let loses = |intent: &&Intent| match &intent.change {
        UnitChange::Ensure { file, on_different_file, .. } => {
            file.is_some() && *on_different_file != OnDifferentFile::Keep
        }
        UnitChange::Destroy => true,
        UnitChange::Restart => false,
    };
    intents.iter().filter(loses).map(|intent| intent.name.clone()).collect()
}

/// The templates from which `intents` may take the files of new instances.
fn new_from(intents: &[Intent]) -> impl Iterator<Item = UnitName> + '_ {
    let takes = |intent: &&Intent| matches!(intent.change, UnitChange::Ensure { file: None, .. });
    intents.iter().filter(takes).filter_map(|intent| intent.name.template())
}

/// The keys of the texts of these units.
fn texts(units: &BTreeSet<UnitName>, read: &Read) -> BTreeSet<UnitHash> {
    let records = units.iter().filter_map(|name| read.units.get(name)?.unit.as_ref());
    records.flat_map(|unit| [unit.hash.clone(), unit.file_key().clone()]).collect()
}

/// Add the records of those units that are `wanted`. Foreign keys belong to no unit; a damaged record can be replaced.
fn take<S: Store>(reader: &Reader<S>, read: &mut Read, kvs: Vec<Kv>, wanted: impl Fn(&UnitName) -> bool) {
    for kv in kvs {
        let Ok(Key::Unit(name)) = Key::parse(&kv.key) else { continue };
        if wanted(&name) {
            let unit = decode(&kv).map_err(|corrupt| reader.warn(&corrupt)).ok();
            read.units.insert(name, Found { revision: kv.revision, unit });
        }
    }
}

/// What systemd has of the files that units lose to others in the batch.
async fn bodies<S: Store>(
    reader: &Reader<S>,
    intents: &[Intent],
    read: &Read,
) -> Result<BTreeMap<UnitHash, BodyHash>, StoreError> {
    let lost = |intent: &Intent| match &intent.change {
        UnitChange::Ensure { file: Some(file), on_different_file, .. }
            if *on_different_file != OnDifferentFile::Keep =>
        {
            let old = &read.units.get(&intent.name)?.unit.as_ref()?.hash;
            (file.hash() != *old).then(|| old.clone())
        }
        _ => None,
    };
    let lost: BTreeSet<UnitHash> = intents.iter().filter_map(lost).collect();
    let summaries = reader.summaries(&lost).await?;
    Ok(summaries.into_iter().map(|(hash, summary)| (hash, summary.constraints.body)).collect())
}

/// The files of the batch by their hashes; of several with the same hash, the first one.
fn sent(intents: &[Intent]) -> BTreeMap<UnitHash, Arc<UnitFile>> {
    let mut sent = BTreeMap::new();
    for intent in intents {
        if let UnitChange::Ensure { file: Some(file), .. } = &intent.change {
            sent.entry(file.hash()).or_insert_with(|| Arc::clone(file));
        }
    }
    sent
}

/// The earlier texts of `units`. Not at the revision of the units' records: each of the two is guarded when they are
/// written. What can't be decoded is written again.
async fn histories<S: Store>(
    reader: &Reader<S>,
    units: &BTreeSet<UnitName>,
) -> Result<BTreeMap<UnitName, (Revision, History)>, StoreError> {
    if units.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys = units.iter().map(|unit| Key::History(unit.clone()).to_string()).collect();
    let mut found = BTreeMap::new();
    for kv in reader.points(&keys).await?.1 {
        let Ok(Key::History(unit)) = Key::parse(&kv.key) else { continue };
        let history = decode(&kv).map_err(|corrupt| reader.warn(&corrupt)).unwrap_or_default();
        found.insert(unit, (kv.revision, history));
    }
    Ok(found)
}

/// What is stored under these keys.
async fn files_under<S: Store>(
    reader: &Reader<S>,
    keys: BTreeSet<UnitHash>,
) -> Result<BTreeMap<UnitHash, Arc<UnitFile>>, StoreError> {
    let mut files = BTreeMap::new();
    let parse = |key, record| reader.parse(&key, &record).map(|file| (key, Arc::new(file)));
    reader.files(&keys, |key, record| files.extend(parse(key, record))).await?;
    Ok(files)
}

/// The units to start that should be running and that a host reports as not running, and those that run once and are
/// done.
async fn at_rest<S: Store>(
    reader: &Reader<S>,
    intents: &[Intent],
    read: &Read,
) -> Result<BTreeSet<UnitName>, StoreError> {
    let launched = |intent: &Intent| {
        let unit = read.units.get(&intent.name)?.unit.as_ref()?;
        let starts = matches!(&intent.change, UnitChange::Ensure { desired: Some(Desired::Launched), .. });
        (starts && unit.desired == Desired::Launched).then_some((intent.name.clone(), unit))
    };
    let units: BTreeMap<UnitName, &Unit> = intents.iter().filter_map(launched).collect();
    if units.is_empty() {
        return Ok(BTreeSet::new());
    }
    let cluster = reader.reports(&units.keys().cloned().collect()).await?;
    let has_run = |(name, unit): &(&UnitName, &&Unit)| {
        let done = cluster.placements.get(*name).and_then(|placement| placement.value.done());
        done.is_some_and(|done| unit.generation <= done.generation)
    };
    let done: BTreeSet<UnitName> = units.iter().filter(has_run).map(|(name, _)| name.clone()).collect();
    let reports = |name| cluster.reports(name).map(|(_, report)| report);
    let down = units.iter().flat_map(|(name, unit)| reports(name).map(move |report| (name, *unit, report)));
    let down: Vec<(&UnitName, &Unit, &UnitReport)> = down.filter(|(_, unit, report)| is_down(unit, report)).collect();
    let mut files = BTreeMap::new();
    let hashes = down.iter().map(|(_, unit, _)| unit.hash.clone()).collect();
    reader.files(&hashes, |hash, record| files.extend(reader.parse(&hash, &record).map(|file| (hash, file)))).await?;
    // If the file can't be read it is unknown whether the unit is done, so it stays as it is.
    let is_at_rest = |(_, unit, report): &(&UnitName, &Unit, &UnitReport)| {
        files.get(&unit.hash).is_some_and(|file| !is_done(file, report))
    };
    Ok(down.into_iter().filter(is_at_rest).map(|(name, ..)| name.clone()).chain(done).collect())
}

/// The units that keep the file that is sent for them, although it may be replaced, and whose rollout to it has failed.
async fn failed<S: Store>(
    reader: &Reader<S>,
    intents: &[Intent],
    read: &Read,
) -> Result<BTreeSet<UnitName>, StoreError> {
    let kept = |intent: &Intent| match &intent.change {
        UnitChange::Ensure { file: Some(file), on_different_file, .. } if may_retry(*on_different_file) => {
            let unit = read.units.get(&intent.name)?.unit.as_ref()?;
            let is_rolled_out = unit.replicas.is_some() || file.section(policy::SECTION).next().is_some();
            (unit.hash == file.hash() && is_rolled_out).then(|| (intent.name.clone(), unit.hash.clone()))
        }
        _ => None,
    };
    let kept: BTreeMap<UnitName, UnitHash> = intents.iter().filter_map(kept).collect();
    let keys: BTreeSet<String> = kept.keys().map(|name| Key::Rollout(name.clone()).to_string()).collect();
    let mut failed = BTreeSet::new();
    if keys.is_empty() {
        return Ok(failed);
    }
    for kv in reader.points(&keys).await?.1 {
        let Ok(Key::Rollout(name)) = Key::parse(&kv.key) else { continue };
        let rollout = rollout::Records::read(&kv).map_err(|corrupt| reader.warn(&corrupt));
        if rollout.is_ok_and(|rollout| rollout.has_failed() && kept.get(&name) == Some(&rollout.target)) {
            failed.insert(name);
        }
    }
    Ok(failed)
}

/// The units to destroy that don't exist and that a host still has, according to a placement or a report. A unit that
/// was placed, destroyed and not reported yet counts too; a global unit that no host has started to install doesn't.
async fn leaving<S: Store>(
    reader: &Reader<S>,
    intents: &[Intent],
    read: &Read,
) -> Result<BTreeSet<UnitName>, StoreError> {
    let absent =
        |intent: &&Intent| matches!(intent.change, UnitChange::Destroy) && !read.units.contains_key(&intent.name);
    let names: BTreeSet<UnitName> = intents.iter().filter(absent).map(|intent| intent.name.clone()).collect();
    if names.is_empty() {
        return Ok(names);
    }
    let cluster = reader.reports(&names).await?;
    let has = |name: &UnitName| cluster.placed_on(name).is_some() || cluster.reports(name).next().is_some();
    Ok(names.into_iter().filter(has).collect())
}
