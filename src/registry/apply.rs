//! Applies changes of units: reads, decides, commits under guards of what was read, and retries on conflict. Owns the
//! changes of the `unit/`, `history/` and `file/` families; must never write another one.
//!
//! A unit's file is in every transaction that makes a unit refer to it, even if the store has the file: the leader
//! deletes files that nothing refers to, guarded by their last revision, and so can't delete one that is being used.

mod joint;
mod reads;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::author::Author;
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::unit::{Desired, Outcome, Unit};
use crate::store::{Error as StoreError, Guard, Op, Store, Txn};

use super::commit::batch::{Group, Packed, Step, pack};
use super::hooks;
use super::keys::Key;
use super::reader::Reader;
use super::records::file::FileRecord;
use super::sets::{self, Batch};
use super::units::{Decision, Intent, Problem, Read, decide};
use joint::Joint;
use reads::{complete, read};
pub use trial::{Trial, present, trial, trial_of_asks, trial_of_hosts, trial_of_moves};

/// Attempts at a batch after conflicts or unknown outcomes.
const MAX_ATTEMPTS: u32 = 8;

/// The pause after an attempt is this times its number, so that others can finish.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);

/// The result of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The revision at which all of it is committed.
    pub revision: Revision,
    /// In the order of the request; then the members of sets that were added to it.
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
    /// Whether its rollout, which had failed, is to begin again.
    pub retries: bool,
    /// Lines of its file that systemd ignores.
    pub warnings: Vec<String>,
    /// How many members it has afterwards, if it is a set.
    pub replicas: Option<u32>,
    /// Its desired state afterwards, if it was added to the batch and created.
    pub desired: Option<Desired>,
}

/// Why a batch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The cause.
    pub why: Why,
    /// The number of its units that were changed before (a batch larger than one commit).
    pub done: usize,
    /// The number of its units, with the members of sets that were added to it.
    pub all: usize,
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
    Ok(Decided::of(reader, intents, 0).await?.map(|decided| decided.applied(intents)))
}

/// What is decided about a batch, and from what.
#[derive(Debug)]
struct Decided {
    read: Read,
    batch: Batch,
    /// In the order of the batch.
    decisions: Vec<Decision>,
}

impl Decided {
    /// At `now`, or everything that is wrong with `intents`.
    async fn of<S: Store>(
        reader: &Reader<S>,
        intents: &[Intent],
        now: u64,
    ) -> Result<Result<Self, Vec<Problem>>, StoreError> {
        let mut read = read(reader, intents, &BTreeSet::new()).await?;
        let batch = match sets::expand(intents, &read, &BTreeSet::new()) {
            Ok(batch) => batch,
            Err(problems) => return Ok(Err(problems)),
        };
        complete(reader, &mut read, intents, &batch.intents).await?;
        let (mut decisions, mut problems) = (Vec::new(), Vec::new());
        for (index, intent) in batch.intents.iter().enumerate() {
            match decide_one(&batch, index, &read, now) {
                Ok(decision) => decisions.push(batch.complete(&intent.name, decision, &read)),
                Err(wrong) => problems.extend(wrong),
            }
        }
        Ok(if problems.is_empty() { Ok(Self { read, batch, decisions }) } else { Err(problems) })
    }

    /// What it would do, in the order of `intents`.
    fn applied(&self, intents: &[Intent]) -> Applied {
        let all = self.batch.intents.iter().zip(&self.decisions);
        let mut units: BTreeMap<_, _> = all.map(|(intent, found)| (intent.name.clone(), done(intent, found))).collect();
        let units = in_order(intents, &self.batch, |name| units.remove(name));
        Applied { revision: self.read.revision, units }
    }
}

/// Decide about the intent of `batch` with this index.
fn decide_one(batch: &Batch, index: usize, read: &Read, now: u64) -> Result<Decision, Vec<Problem>> {
    let wrong = hooks::check(&batch.intents, index, read);
    if wrong.is_empty() { decide(&batch.intents, index, read, now) } else { Err(wrong) }
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
            Ok(None) => tokio::time::sleep(CONFLICT_PAUSE * attempt).await,
            Err(why) => return Err(attempts.failed(why)),
        }
    }
    let why = attempts.lost.take().map_or(Why::Contended, Why::Unknown);
    Err(attempts.failed(why))
}

/// What several attempts at one batch share.
#[derive(Debug, Default)]
struct Attempts {
    /// What our commits have certainly done.
    done: BTreeMap<UnitName, Done>,
    /// What was attempted in one transaction and may have been done, although the outcome was unknown or a conflict.
    attempted: BTreeMap<UnitName, Decision>,
    /// The counts among these that follow from the members that the batch names.
    counts: BTreeSet<UnitName>,
    /// The number of units at the last attempt.
    all: usize,
    /// The units that lose a text in this batch.
    joint: Option<Joint>,
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
        let read = async {
            let earlier = self.attempted.keys().chain(self.done.keys()).cloned().collect();
            let mut read = read(reader, intents, &earlier).await?;
            self.detect_earlier_commit(&read);
            let batch = sets::expand(intents, &read, &self.done.keys().collect());
            if let Ok(batch) = &batch {
                complete(reader, &mut read, intents, &batch.intents).await?;
            }
            Ok((read, batch))
        };
        let (read, batch) = match read.await {
            Ok((read, batch)) => (read, batch.map_err(Why::Problems)?),
            Err(error) => return Err(self.lost.take().map_or(Why::Store(error), Why::Unknown)),
        };
        self.lost = None;
        let decisions = self.decide(&batch, &read, by, now)?;
        let mut written = BTreeMap::new();
        for Packed { mut txn, tags } in transactions(&batch, &decisions, &read) {
            follow(&mut txn, &written);
            let keys = puts(&txn);
            let of = |index: &usize| (batch.intents[*index].name.clone(), &decisions[index]);
            match reader.store().commit(txn).await {
                Ok(revision) => {
                    self.revision = Some(revision);
                    written.extend(keys.into_iter().map(|key| (key, revision)));
                }
                Err(error @ (StoreError::Conflict | StoreError::Unavailable(_))) => {
                    self.attempted.extend(tags.iter().map(of).map(|(name, decision)| (name, decision.clone())));
                    self.counts.clone_from(&batch.counts);
                    self.lost = (error != StoreError::Conflict).then_some(error);
                    return Ok(None);
                }
                Err(error) => return Err(Why::Store(error)),
            }
            self.done.extend(tags.iter().map(|index| {
                let (name, decision) = of(index);
                (name, done(&batch.intents[*index], decision))
            }));
        }
        let mut results = self.done.clone();
        for (index, decision) in &decisions {
            let intent = &batch.intents[*index];
            results.entry(intent.name.clone()).or_insert_with(|| done(intent, decision));
        }
        let mut units = in_order(intents, &batch, |name| results.remove(name));
        // Members that an earlier attempt has done with; the counts that follow from members were not asked for.
        units.extend(results.into_values().filter(|done| !done.name.is_template()));
        // Not the revision of the store: a watch on our keys may never reach it if others write to that store.
        let last = || read.units.values().map(|found| found.revision).max().unwrap_or_default();
        Ok(Some(Applied { revision: self.revision.unwrap_or_else(last), units }))
    }

    /// The decisions that are left to carry out, by the indices of their intents.
    fn decide(&mut self, batch: &Batch, read: &Read, by: &Author, now: u64) -> Result<BTreeMap<usize, Decision>, Why> {
        let (mut decisions, mut problems) = (BTreeMap::new(), Vec::new());
        let left = batch.intents.iter().enumerate().filter(|(_, intent)| !self.done.contains_key(&intent.name));
        for (index, intent) in left {
            match decide_one(batch, index, read, now) {
                Ok(decision) => {
                    let decision = batch.complete(&intent.name, decision, read);
                    decisions.insert(index, signed(decision, by));
                }
                Err(wrong) => problems.extend(wrong),
            }
        }
        if !problems.is_empty() {
            return Err(Why::Problems(problems));
        }
        self.all = decisions.len() + self.done.len();
        self.joint = Joint::of(batch, &decisions, self.joint.take().filter(|joint| joint.is_begun(&self.done)));
        self.joint.iter().for_each(|joint| joint.note(batch, &mut decisions));
        Ok(decisions)
    }

    fn failed(&self, why: Why) -> Error {
        Error { why, done: self.done.len(), all: self.all }
    }

    /// What an earlier attempt did after all: the record is as that attempt wanted it, including the generation. The
    /// record of a count that follows from members could be another request's as well, so that it must be as wanted
    /// together with everything else of its transaction.
    fn detect_earlier_commit(&mut self, read: &Read) {
        let attempted = std::mem::take(&mut self.attempted);
        let is_there = |name: &UnitName, decision: &Decision| {
            let there: Option<&Unit> = read.units.get(name).and_then(|found| found.unit.as_ref());
            let wanted = decision.write.as_ref().map(|write| write.record.as_ref());
            wanted == Some(there) && (there.is_some() || !read.units.contains_key(name))
        };
        let all = attempted.iter().all(|(name, decision)| is_there(name, decision));
        for (name, decision) in attempted {
            if is_there(&name, &decision) && (all || !self.counts.contains(&name)) {
                self.revision = Some(read.revision);
                self.done.insert(name.clone(), result(name, &decision));
            }
        }
    }
}

/// The results of `intents` in their order, then those of the members that were added to them.
fn in_order(intents: &[Intent], batch: &Batch, mut result: impl FnMut(&UnitName) -> Option<Done>) -> Vec<Done> {
    let added = batch.intents.iter().filter(|intent| batch.because.contains_key(&intent.name));
    let named: Vec<Done> =
        intents.iter().filter_map(|intent| Some(Done { desired: None, ..result(&intent.name)? })).collect();
    named.into_iter().chain(added.filter_map(|intent| result(&intent.name))).collect()
}

/// The keys that `txn` writes.
fn puts(txn: &Txn) -> Vec<String> {
    let key = |op: &Op| match op {
        Op::Put { key, .. } => Some(key.clone()),
        Op::Delete(_) => None,
    };
    txn.ops.iter().filter_map(key).collect()
}

/// Keys that earlier transactions of the same batch have `written` must be as these left them.
fn follow(txn: &mut Txn, written: &BTreeMap<String, Revision>) {
    for guard in &mut txn.guards {
        let (Guard::Absent(key) | Guard::Unchanged(key, _)) = guard else { continue };
        if let Some(revision) = written.get(key) {
            *guard = Guard::Unchanged(key.clone(), *revision);
        }
    }
}

fn done(intent: &Intent, decision: &Decision) -> Done {
    result(intent.name.clone(), decision)
}

fn result(name: UnitName, decision: &Decision) -> Done {
    let created = decision.write.as_ref().filter(|_| decision.outcome == Outcome::Created);
    Done {
        name,
        outcome: decision.outcome,
        generation: decision.generation,
        comments: decision.comments,
        same_body: decision.same_body,
        retries: decision.retries,
        warnings: decision.warnings.clone(),
        replicas: decision.replicas,
        desired: created.and_then(|write| Some(write.record.as_ref()?.desired)),
    }
}

/// The record with its author. Authors don't affect decisions: the same request by someone else changes nothing.
fn signed(mut decision: Decision, by: &Author) -> Decision {
    if let Some(write) = &mut decision.write {
        write.record = write.record.take().map(|record| record.signed(by.clone()));
        if decision.retries
            && let Some(ask) = write.record.as_mut().and_then(|record| record.ask.as_mut())
        {
            ask.by = Some(Box::new(by.clone()));
        }
        if let Some(former) = write.history.as_mut().and_then(|(_, history)| history.revisions.last_mut()) {
            former.by = Some(Box::new(by.clone()));
        }
    }
    decision
}

/// The transactions that carry out `decisions`, in order; each is tagged with the intents it fulfils.
fn transactions(batch: &Batch, decisions: &BTreeMap<usize, Decision>, read: &Read) -> Vec<Packed<usize>> {
    let step = |(index, decision): (&usize, &Decision)| {
        let write = decision.write.as_ref()?;
        let mut step = Step::new(*index);
        for (key, file) in &write.texts {
            step = step.put(Key::File(key.clone()), &FileRecord { text: file.text().into() });
        }
        let name = &batch.intents[*index].name;
        for template in batch.because.get(name).into_iter().flatten() {
            let there = read.units.get(template).map(|found| found.revision);
            step = step.guard(Key::Unit(template.clone()), there);
        }
        if let Some((before, history)) = &write.history {
            step = step.replace(Key::History(name.clone()), *before, Some(history));
        }
        Some(step.replace(Key::Unit(name.clone()), write.guard, write.record.as_ref()))
    };
    let writes: Vec<(&usize, &Decision)> = decisions.iter().filter(|(_, decision)| decision.write.is_some()).collect();
    let pair = |(index, _): (&usize, &Decision)| batch.pair(&batch.intents[*index].name);
    let groups = writes.chunk_by(|one, next| pair(*one).is_some() && pair(*one) == pair(*next));
    pack(groups.map(|group| group.iter().copied().filter_map(step).collect::<Group<usize>>()), None)
}
