//! Applies changes of units: reads, decides, commits under guards of what was read, and retries on conflict. Owns the
//! changes of the `unit/`, `history/` and `file/` families; must never write another one.
//!
//! A unit's file is in every transaction that makes a unit refer to it, even if the store has the file: the leader
//! deletes files that nothing refers to, guarded by their last revision, and so can't delete one that is being used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::try_join;

use crate::model::author::Author;
use crate::model::body::BodyHash;
use crate::model::file::UnitFile;
use crate::model::history::History;
use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::{Desired, Outcome, Unit, UnitReport};
use crate::store::{Error as StoreError, Store};

use super::commit::batch::{Group, Packed, Step, pack};
use super::decode;
use super::keys::Key;
use super::reader::Reader;
use super::records::file::FileRecord;
use super::units::{Decision, Found, Intent, OnDifferentFile, Problem, Read, UnitChange, decide, is_done, is_down};

/// Attempts at a batch after conflicts or unknown outcomes.
const MAX_ATTEMPTS: u32 = 8;

/// The pause after an attempt is this times its number, so that others can finish.
const PAUSE: Duration = Duration::from_millis(5);

/// The result of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The revision at which all of it is committed.
    pub revision: Revision,
    /// In the order of the request.
    pub units: Vec<Done>,
}

/// The result for one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its name.
    pub name: UnitName,
    /// What was done with it.
    pub outcome: Outcome,
    /// Its generation afterwards.
    pub generation: Revision,
    /// Whether its text was replaced by one from which systemd reads the same.
    pub comments: bool,
    /// Whether its file was replaced by another one from which systemd reads the same.
    pub same_body: bool,
    /// Lines of its file that systemd ignores.
    pub warnings: Vec<String>,
}

/// Why a batch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The cause.
    pub why: Why,
    /// The number of its units that were changed before (a batch larger than one commit).
    pub done: usize,
}

/// The cause of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The batch is invalid: everything that is wrong with it.
    Problems(Vec<Problem>),
    /// The store failed before a commit.
    Store(StoreError),
    /// The store failed during a commit, which may have taken effect.
    Unknown(StoreError),
    /// Others kept changing the same units.
    Contended,
}

/// What `intents` would do now, or everything that is wrong with them. Changes nothing.
///
/// # Errors
/// Errors of the store.
pub async fn dry_run<S: Store>(
    reader: &Reader<S>,
    intents: &[Intent],
) -> Result<Result<Applied, Vec<Problem>>, StoreError> {
    let read = read(reader, intents).await?;
    let (mut units, mut problems) = (Vec::new(), Vec::new());
    for (index, intent) in intents.iter().enumerate() {
        match decide(intents, index, &read, 0) {
            Ok(decision) => units.push(done(intent, &decision)),
            Err(wrong) => problems.extend(wrong),
        }
    }
    Ok(if problems.is_empty() { Ok(Applied { revision: read.revision, units }) } else { Err(problems) })
}

/// Carry out `intents`, which name a unit at most once. All or nothing if they fit one transaction; more are committed
/// in several, in order. Each record that is written names `by` as its author.
///
/// # Errors
/// See [`Why`].
pub async fn apply<S: Store>(reader: &Reader<S>, intents: &[Intent], by: &Author, now: u64) -> Result<Applied, Error> {
    let mut attempts = Attempts::default();
    for attempt in 1..=MAX_ATTEMPTS {
        match attempts.once(reader, intents, by, now).await {
            Ok(Some(applied)) => return Ok(applied),
            Ok(None) => tokio::time::sleep(PAUSE * attempt).await,
            Err(why) => return Err(Error { why, done: attempts.done.len() }),
        }
    }
    Err(Error { why: attempts.lost.map_or(Why::Contended, Why::Unknown), done: attempts.done.len() })
}

/// What several attempts at one batch share.
#[derive(Debug, Default)]
struct Attempts {
    /// What our commits have certainly done.
    done: BTreeMap<usize, Done>,
    /// What was attempted and may have been done, although the outcome was unknown or a conflict.
    attempted: BTreeMap<usize, Decision>,
    /// The outcome of a commit is unknown.
    lost: Option<StoreError>,
    /// The revision of the last commit.
    revision: Option<Revision>,
}

impl Attempts {
    /// One attempt; `None` to try again.
    async fn once<S: Store>(
        &mut self,
        reader: &Reader<S>,
        intents: &[Intent],
        by: &Author,
        now: u64,
    ) -> Result<Option<Applied>, Why> {
        let read = match read(reader, intents).await {
            Ok(read) => read,
            Err(error) => return Err(self.lost.take().map_or(Why::Store(error), Why::Unknown)),
        };
        self.detect_earlier_commit(intents, &read);
        self.lost = None;
        let mut decisions = BTreeMap::new();
        let mut problems = Vec::new();
        for index in (0..intents.len()).filter(|index| !self.done.contains_key(index)) {
            match decide(intents, index, &read, now) {
                Ok(decision) => drop(decisions.insert(index, signed(decision, by))),
                Err(wrong) => problems.extend(wrong),
            }
        }
        if !problems.is_empty() {
            return Err(Why::Problems(problems));
        }
        for Packed { txn, tags } in transactions(intents, &decisions) {
            match reader.store().commit(txn).await {
                Ok(revision) => self.revision = Some(revision),
                Err(error @ (StoreError::Conflict | StoreError::Unavailable(_))) => {
                    self.attempted.extend(tags.iter().map(|index| (*index, decisions[index].clone())));
                    self.lost = (error != StoreError::Conflict).then_some(error);
                    return Ok(None);
                }
                Err(error) => return Err(Why::Store(error)),
            }
            self.done.extend(tags.into_iter().map(|index| (index, done(&intents[index], &decisions[&index]))));
        }
        let units = (0..intents.len())
            .filter_map(|index| {
                let decided = || decisions.get(&index).map(|decision| done(&intents[index], decision));
                self.done.get(&index).cloned().or_else(decided)
            })
            .collect();
        // Not the revision of the store: a watch on our keys may never reach it if others write to that store.
        let last = || read.units.values().map(|found| found.revision).max().unwrap_or_default();
        Ok(Some(Applied { revision: self.revision.unwrap_or_else(last), units }))
    }

    /// What an earlier attempt did after all: the record is as that attempt wanted it, including the generation.
    fn detect_earlier_commit(&mut self, intents: &[Intent], read: &Read) {
        for (index, decision) in std::mem::take(&mut self.attempted) {
            let name = &intents[index].name;
            let Some(write) = &decision.write else { continue };
            let there: Option<&Unit> = read.units.get(name).and_then(|found| found.unit.as_ref());
            if there == write.record.as_ref() && (there.is_some() || !read.units.contains_key(name)) {
                self.revision = Some(read.revision);
                self.done.insert(index, done(&intents[index], &decision));
            }
        }
    }
}

fn done(intent: &Intent, decision: &Decision) -> Done {
    Done {
        name: intent.name.clone(),
        outcome: decision.outcome,
        generation: decision.generation,
        comments: decision.comments,
        same_body: decision.same_body,
        warnings: decision.warnings.clone(),
    }
}

/// The units of the batch, and what new instances among them need from their templates, at one revision.
async fn read<S: Store>(reader: &Reader<S>, intents: &[Intent]) -> Result<Read, StoreError> {
    let mut names: BTreeSet<UnitName> = intents.iter().map(|intent| intent.name.clone()).collect();
    let mut templates = BTreeSet::new();
    for intent in intents {
        if let (UnitChange::Ensure { file: None, .. }, Some(template)) = (&intent.change, intent.name.template()) {
            names.insert(template.clone());
            templates.insert(template);
        }
    }
    let keys = names.iter().map(|name| Key::Unit(name.clone()).to_string()).collect();
    let sent = sent(intents);
    let loses_text = |intent: &&Intent| match &intent.change {
        UnitChange::Ensure { file, on_different_file, .. } => {
            file.is_some() && *on_different_file != OnDifferentFile::Keep
        }
        UnitChange::Destroy => true,
        UnitChange::Restart => false,
    };
    let losing = intents.iter().filter(loses_text).map(|intent| intent.name.clone()).collect();
    let units = reader.points(&keys);
    let ((revision, kvs), files, histories) =
        try_join!(units, files_under(reader, sent.keys().cloned().collect()), histories(reader, &losing))?;
    let mut read = Read { revision, files, sent, histories, ..Read::default() };
    for kv in kvs {
        // Foreign keys belong to no unit; a damaged record can be replaced.
        let Ok(Key::Unit(name)) = Key::parse(&kv.key) else { continue };
        if names.contains(&name) {
            let unit = decode(&kv).map_err(|corrupt| reader.warn(&corrupt)).ok();
            read.units.insert(name, Found { revision: kv.revision, unit });
        }
    }
    let new = |template: &&UnitName| {
        intents.iter().any(|i| !read.units.contains_key(&i.name) && i.name.template().as_ref() == Some(*template))
    };
    let of_templates = templates.iter().filter(new).filter_map(|template| read.units.get(template)?.unit.as_ref());
    let sent_for = |intent: &Intent| match &intent.change {
        UnitChange::Ensure { file: Some(_), .. } => read.units.get(&intent.name)?.unit.as_ref()?.text.clone(),
        _ => None,
    };
    let of_units = intents.iter().filter_map(sent_for);
    let of_templates = of_templates.flat_map(|unit| [unit.hash.clone(), unit.file_key().clone()]);
    let keys = of_units.chain(of_templates).collect();
    read.files.extend(files_under(reader, keys).await?);
    read.bodies = bodies(reader, intents, &read).await?;
    read.leaving = leaving(reader, intents, &read).await?;
    read.at_rest = at_rest(reader, intents, &read).await?;
    Ok(read)
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
    let summaries = reader.summaries(&intents.iter().filter_map(lost).collect()).await?;
    Ok(summaries.into_iter().filter_map(|(hash, summary)| Some((hash, summary.body?))).collect())
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

/// The units to start that should be running and that a host reports as not running.
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
    Ok(down.into_iter().filter(is_at_rest).map(|(name, ..)| name.clone()).collect())
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

/// The record with its author. Authors don't affect decisions: the same request by someone else changes nothing.
fn signed(mut decision: Decision, by: &Author) -> Decision {
    let by = || Some(Box::new(by.clone()));
    if let Some(write) = &mut decision.write {
        if let Some(record) = &mut write.record {
            record.by = by();
        }
        if let Some(former) = write.history.as_mut().and_then(|(_, history)| history.revisions.last_mut()) {
            former.by = by();
        }
    }
    decision
}

/// The transactions that carry out `decisions`, in order; each is tagged with the intents it fulfils.
fn transactions(intents: &[Intent], decisions: &BTreeMap<usize, Decision>) -> Vec<Packed<usize>> {
    let group = |(index, decision): (&usize, &Decision)| {
        let write = decision.write.as_ref()?;
        let mut step = Step::new(*index);
        for (key, file) in &write.texts {
            step = step.put(Key::File(key.clone()), &FileRecord { text: file.text().into() });
        }
        let name = &intents[*index].name;
        if let Some((before, history)) = &write.history {
            step = step.replace(Key::History(name.clone()), *before, Some(history));
        }
        Some(Group::from(step.replace(Key::Unit(name.clone()), write.guard, write.record.as_ref())))
    };
    pack(decisions.iter().filter_map(group), None)
}
