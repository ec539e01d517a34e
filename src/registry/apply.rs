//! Carries out what people want of units: read, decide, commit guarded by what was read, and again on conflict. Owns
//! the transactions of the `unit/` and `file/` families; must never write another one.
//!
//! A unit's file is in every transaction that makes a unit refer to it, even when the store has it: the leader collects
//! files that nothing refers to, guarded by their last revision, and so can't take one away under a unit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::{Desired, Outcome, Placement, Target, Unit, UnitReport};
use crate::store::{Error as StoreError, Kv, MAX_BYTES, MAX_OPS, Op, Store, Txn};

use super::keys::{self, FileRecord, Key};
use super::reader::Reader;
use super::units::{Action, Decision, Found, Intent, Problem, Read, decide, is_done, is_down};
use super::{decode, delete, put, unchanged};

/// Conflicts and lost answers are met by reading again, so often.
const TRIES: u32 = 8;

/// What others need to finish what was in the way; times the number of the try.
const PAUSE: Duration = Duration::from_millis(5);

/// What a batch has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The revision at which all of it is done.
    pub revision: Revision,
    /// In the order asked.
    pub units: Vec<Done>,
}

/// What became of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its name.
    pub name: UnitName,
    /// What was done.
    pub outcome: Outcome,
    /// Its generation now.
    pub generation: Revision,
    /// Lines of its file that systemd ignores.
    pub warnings: Vec<String>,
}

/// Why a batch wasn't done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What stood in the way.
    pub why: Why,
    /// So many of its units were changed before (a batch larger than one commit).
    pub done: usize,
}

/// What stood in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The batch is wrong: everything that is.
    Problems(Vec<Problem>),
    /// The store failed before a commit.
    Store(StoreError),
    /// The store failed during a commit, which may have been done.
    Unknown(StoreError),
    /// Others changed the same units all the time.
    Contended,
}

/// One commit, and the intents it does.
#[derive(Debug, Default)]
struct Piece {
    txn: Txn,
    files: BTreeSet<UnitHash>,
    members: Vec<usize>,
    bytes: usize,
}

/// What would become of `intents` now, or everything that is wrong with them, without doing any.
///
/// # Errors
/// The store's.
pub async fn foresee<S: Store>(
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

/// Do `intents`, which name a unit at most once. All or nothing as long as they fit one commit ([`MAX_OPS`],
/// [`MAX_BYTES`]); more are done in several, in order.
///
/// # Errors
/// See [`Why`].
pub async fn apply<S: Store>(reader: &Reader<S>, intents: &[Intent], now: u64) -> Result<Applied, Error> {
    let mut tries = Tries::default();
    for attempt in 1..=TRIES {
        match tries.once(reader, intents, now).await {
            Ok(Some(applied)) => return Ok(applied),
            Ok(None) => tokio::time::sleep(PAUSE * attempt).await,
            Err(why) => return Err(Error { why, done: tries.done.len() }),
        }
    }
    Err(Error { why: tries.lost.map_or(Why::Contended, Why::Unknown), done: tries.done.len() })
}

/// What several tries at one batch have to remember of each other.
#[derive(Debug, Default)]
struct Tries {
    /// What is done for certain, by commits of ours.
    done: BTreeMap<usize, Done>,
    /// What was tried and may have been done, although we were told nothing or a conflict.
    attempted: BTreeMap<usize, Decision>,
    /// A commit's answer was lost.
    lost: Option<StoreError>,
    /// Of the last commit.
    revision: Option<Revision>,
}

impl Tries {
    /// Try; `None` to try again.
    async fn once<S: Store>(
        &mut self,
        reader: &Reader<S>,
        intents: &[Intent],
        now: u64,
    ) -> Result<Option<Applied>, Why> {
        let read = match read(reader, intents).await {
            Ok(read) => read,
            Err(error) => return Err(self.lost.take().map_or(Why::Store(error), Why::Unknown)),
        };
        self.recognize(intents, &read);
        self.lost = None;
        let mut decisions = BTreeMap::new();
        let mut problems = Vec::new();
        for index in (0..intents.len()).filter(|index| !self.done.contains_key(index)) {
            match decide(intents, index, &read, now) {
                Ok(decision) => drop(decisions.insert(index, decision)),
                Err(wrong) => problems.extend(wrong),
            }
        }
        if !problems.is_empty() {
            return Err(Why::Problems(problems));
        }
        for piece in pack(intents, &decisions) {
            match reader.store().commit(piece.txn).await {
                Ok(revision) => self.revision = Some(revision),
                Err(error @ (StoreError::Conflict | StoreError::Unavailable(_))) => {
                    self.attempted.extend(piece.members.iter().map(|index| (*index, decisions[index].clone())));
                    self.lost = (error != StoreError::Conflict).then_some(error);
                    return Ok(None);
                }
                Err(error) => return Err(Why::Store(error)),
            }
            self.done.extend(piece.members.into_iter().map(|index| (index, done(&intents[index], &decisions[&index]))));
        }
        let units = (0..intents.len())
            .filter_map(|index| {
                let decided = || decisions.get(&index).map(|decision| done(&intents[index], decision));
                self.done.get(&index).cloned().or_else(decided)
            })
            .collect();
        Ok(Some(Applied { revision: self.revision.unwrap_or(read.revision), units }))
    }

    /// What an earlier try did after all: the record is there, generation and all, as that try wanted it.
    fn recognize(&mut self, intents: &[Intent], read: &Read) {
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
        warnings: decision.warnings.clone(),
    }
}

/// The units of the batch, and what new instances among them need of their templates, at one revision.
async fn read<S: Store>(reader: &Reader<S>, intents: &[Intent]) -> Result<Read, StoreError> {
    let mut names: BTreeSet<UnitName> = intents.iter().map(|intent| intent.name.clone()).collect();
    let mut templates = BTreeSet::new();
    for intent in intents {
        if let (Action::Have { file: None, .. }, Some(template)) = (&intent.action, intent.name.template()) {
            names.insert(template.clone());
            templates.insert(template);
        }
    }
    let (revision, kvs) =
        reader.points(&names.iter().map(|name| Key::Unit(name.clone()).to_string()).collect()).await?;
    let mut read = Read { revision, ..Read::default() };
    for kv in kvs {
        // Foreign keys are nobody's unit; a damaged record is one that can be replaced.
        let Ok(Key::Unit(name)) = Key::parse(&kv.key) else { continue };
        if names.contains(&name) {
            let unit = decode(&kv).map_err(|corrupt| reader.warn(&corrupt)).ok();
            read.units.insert(name, Found { revision: kv.revision, unit });
        }
    }
    let new = |template: &&UnitName| {
        intents.iter().any(|i| !read.units.contains_key(&i.name) && i.name.template().as_ref() == Some(*template))
    };
    let hashes: BTreeSet<UnitHash> = templates
        .iter()
        .filter(new)
        .filter_map(|template| read.units.get(template)?.unit.as_ref())
        .map(|unit| unit.hash.clone())
        .collect();
    let mut files = BTreeMap::new();
    reader
        .files(&hashes, |hash, record| {
            if let Some(file) = reader.parse(&hash, &record) {
                files.insert(hash, Arc::new(file));
            }
        })
        .await?;
    read.files = files;
    read.leaving = leaving(reader, intents, &read).await?;
    read.at_rest = at_rest(reader, intents, &read).await?;
    Ok(read)
}

/// The units to start that should run already, and of which a host reports that they don't.
async fn at_rest<S: Store>(
    reader: &Reader<S>,
    intents: &[Intent],
    read: &Read,
) -> Result<BTreeSet<UnitName>, StoreError> {
    let launched = |intent: &Intent| {
        let unit = read.units.get(&intent.name)?.unit.as_ref()?;
        let starts = matches!(&intent.action, Action::Have { desired: Some(Desired::Launched), .. });
        (starts && unit.desired == Desired::Launched).then_some((intent.name.clone(), unit))
    };
    let units: BTreeMap<UnitName, &Unit> = intents.iter().filter_map(launched).collect();
    if units.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (_, kvs) = reader.ranges(units.keys().map(keys::states_of).collect()).await?;
    let down = |kv: &Kv| {
        let Ok(Key::State(name, _)) = Key::parse(&kv.key) else { return None };
        let report: UnitReport = decode(kv).ok()?;
        units.get(&name).is_some_and(|unit| is_down(unit, &report)).then_some((name, report))
    };
    let down: Vec<(UnitName, UnitReport)> = kvs.iter().filter_map(down).collect();
    let hash = |name: &UnitName| units.get(name).map(|unit| &unit.hash);
    let mut files = BTreeMap::new();
    let hashes = down.iter().filter_map(|(name, _)| hash(name).cloned()).collect();
    reader.files(&hashes, |hash, record| files.extend(reader.parse(&hash, &record).map(|file| (hash, file)))).await?;
    // Of one whose file can't be read nobody knows whether it is done: it stays as it is.
    let is_at_rest = |(name, report): &(UnitName, UnitReport)| {
        hash(name).and_then(|hash| files.get(hash)).is_some_and(|file| !is_done(file, report))
    };
    Ok(down.into_iter().filter(is_at_rest).map(|(name, _)| name).collect())
}

/// The units to destroy that don't exist and that a host still has: placed, or reported. One that was placed,
/// destroyed, and reported by nobody yet counts as well; a global that no host has begun with doesn't.
async fn leaving<S: Store>(
    reader: &Reader<S>,
    intents: &[Intent],
    read: &Read,
) -> Result<BTreeSet<UnitName>, StoreError> {
    let absent = |intent: &&Intent| matches!(intent.action, Action::Destroy) && !read.units.contains_key(&intent.name);
    let names: BTreeSet<&UnitName> = intents.iter().filter(absent).map(|intent| &intent.name).collect();
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    let of_unit = |name: &&UnitName| [Key::Placement((*name).clone()).to_string(), keys::states_of(name)];
    let prefixes = names.iter().flat_map(of_unit).collect();
    let has = |kv: &Kv| match Key::parse(&kv.key) {
        Ok(Key::Placement(name)) => {
            decode(kv).is_ok_and(|p: Placement| matches!(p, Placement::On { .. })).then_some(name)
        }
        Ok(Key::State(name, _)) => {
            decode(kv).is_ok_and(|state: UnitReport| state.target != Target::Removed).then_some(name)
        }
        _ => None,
    };
    let (_, kvs) = reader.ranges(prefixes).await?;
    Ok(kvs.iter().filter_map(has).filter(|name| names.contains(name)).collect())
}

/// The fewest commits that keep the order and the store's limits.
fn pack(intents: &[Intent], decisions: &BTreeMap<usize, Decision>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (index, decision) in decisions {
        let Some(write) = &decision.write else { continue };
        let key = Key::Unit(intents[*index].name.clone());
        let file = write.file.as_ref().map(|file| {
            let hash = file.hash();
            let record = FileRecord { text: file.text().into() };
            (hash.clone(), put(&Key::File(hash), &record, None))
        });
        let guard = unchanged(&key, write.guard);
        let unit = match &write.record {
            Some(record) => put(&key, record, None),
            None => delete(&key),
        };
        let fits = pieces.last().is_some_and(|piece| piece.takes(&unit, file.as_ref()));
        if !fits {
            pieces.push(Piece::default());
        }
        let Some(piece) = pieces.last_mut() else { continue };
        if let Some((hash, op)) = file
            && piece.files.insert(hash)
        {
            piece.bytes += size(&op);
            piece.txn.ops.push(op);
        }
        piece.bytes += 2 * size(&unit);
        piece.txn.guards.push(guard);
        piece.txn.ops.push(unit);
        piece.members.push(*index);
    }
    pieces
}

impl Piece {
    fn takes(&self, unit: &Op, file: Option<&(UnitHash, Op)>) -> bool {
        let file = file.filter(|(hash, _)| !self.files.contains(hash)).map(|(_, op)| op);
        self.txn.ops.len() + 1 + usize::from(file.is_some()) <= MAX_OPS
            && self.bytes + 2 * size(unit) + file.map_or(0, size) <= MAX_BYTES
    }
}

/// Bytes of an operation, with some for what wraps it.
pub(crate) fn size(op: &Op) -> usize {
    const WRAPPING: usize = 64;
    match op {
        Op::Put { key, value, .. } => key.len() + value.len() + WRAPPING,
        Op::Delete(key) => key.len() + WRAPPING,
    }
}
