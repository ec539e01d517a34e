//! Decides about units that are submitted, changed or destroyed, in pure functions of what was read. Owns the rules for
//! `unit/` records (when they change, and their generation); `apply` reads and commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::body::BodyHash;
use crate::model::file::{FileError, UnitFile};
use crate::model::history::History;
use crate::model::name::{UnitHash, UnitName};
use crate::model::placement::{Constraints, Replicas};
use crate::model::reserved;
use crate::model::revision::Revision;
use crate::model::rollout::{self, Ask};
use crate::model::section;
use crate::model::submitted;
use crate::model::systemd::ActiveState;
use crate::model::unit::{Desired, Outcome, Target, Unit, UnitReport};
use crate::plan::sets;

/// The message for a unit whose record can't be read.
pub const DAMAGED: &str = "its record in the store is damaged; submit it again with its file, or destroy it";

/// The message for a unit that isn't as the client has seen it.
pub const MEANWHILE: &str = "somebody else has changed it meanwhile";

/// One requested change.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The unit.
    pub name: UnitName,
    /// What to do with it.
    pub change: UnitChange,
}

/// A change of a unit.
#[derive(Debug, Clone)]
pub enum UnitChange {
    /// Destroy it.
    Destroy,
    /// Stop it and start it on its host; start it if it is only loaded.
    Restart,
    /// Ensure the unit exists with this file and desired state.
    Ensure {
        /// Its file, checked by [`check`]; `None` keeps the stored one, or takes its template's.
        file: Option<Arc<UnitFile>>,
        /// Its desired state; `None` for no change, and `inactive` for a new unit.
        desired: Option<Desired>,
        /// What to do if the stored file differs from this one.
        on_different_file: OnDifferentFile,
        /// How many members a template must have; it is a set from now on. `sets` adds the members to the batch. `None`
        /// leaves it to the file.
        replicas: Option<u32>,
    },
}

/// What to do if the stored file differs from the submitted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDifferentFile {
    /// Keep the stored one.
    Keep,
    /// Replace it; the desired state stays as it is unless another one is given.
    Replace,
    /// As [`Self::Replace`], and the record must have been written by this commit last.
    ReplaceAt(Revision),
    /// As [`Self::ReplaceAt`], and the rollout of the file runs none of its hooks.
    ReplaceWithoutHooks(Revision),
    /// Replace it; the desired state becomes `inactive` unless another one is given, as in CoreOS fleet.
    Reset,
}

/// What is wrong with one intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The unit's name, as it was sent.
    pub unit: String,
    /// The line of its file, from 1, if one is wrong.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub what: String,
}

/// A unit as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The commit that wrote it.
    pub revision: Revision,
    /// The record; `None` if it is damaged.
    pub unit: Option<Unit>,
}

/// What decisions are based on, at one revision.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// That revision.
    pub revision: Revision,
    /// The units of the batch that exist, the templates they may need, and the members of sets.
    pub units: BTreeMap<UnitName, Found>,
    /// What the store has under the hashes of the files that were sent, and under the keys of the texts of the units
    /// that they were sent for, of those templates and of sets.
    pub files: BTreeMap<UnitHash, Arc<UnitFile>>,
    /// The files of the batch by their hashes; of several texts of one file, the first.
    pub sent: BTreeMap<UnitHash, Arc<UnitFile>>,
    /// What systemd has of the files that units may lose, by their hashes.
    pub bodies: BTreeMap<UnitHash, BodyHash>,
    /// The earlier texts of units that may be destroyed or get another text, and the commit that wrote them.
    pub histories: BTreeMap<UnitName, (Revision, History)>,
    /// The files of the units that the batch names as hooks, as far as these have records.
    pub hooks: BTreeMap<UnitName, Arc<UnitFile>>,
    /// Units to destroy that have no record but are still on a host.
    pub leaving: BTreeSet<UnitName>,
    /// Units to start that should already be running and aren't, for another reason than being done; and those that run
    /// once and are done, which run again.
    pub at_rest: BTreeSet<UnitName>,
    /// Units whose file a rollout has failed to bring to its members.
    pub failed: BTreeSet<UnitName>,
}

impl Read {
    /// The earlier texts of a unit with its present one, which it loses `now`.
    fn history(&self, name: &UnitName, unit: &Unit, now: u64, destroyed: bool) -> (Option<Revision>, History) {
        let (revision, earlier) = self.histories.get(name).cloned().unzip();
        (revision, earlier.unwrap_or_default().and(unit, now, destroyed))
    }
}

/// What to do with one unit.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The outcome that is reported.
    pub outcome: Outcome,
    /// The unit's generation afterwards.
    pub generation: Revision,
    /// Whether its text is replaced by one from which systemd reads the same. This is no part of the outcome, and no
    /// host does anything but write the file.
    pub comments: bool,
    /// Whether its file is replaced by another one with the same body.
    pub same_body: bool,
    /// Whether its rollout, which had failed, is to begin again. This is no part of the outcome either.
    pub retries: bool,
    /// Lines of its file that systemd ignores, or that probably mean something else than was meant.
    pub warnings: Vec<String>,
    /// How many members it has afterwards, if it is a set.
    pub replicas: Option<u32>,
    /// The write, if there is anything to write.
    pub write: Option<Write>,
}

impl Decision {
    pub(super) fn new(outcome: Outcome, generation: Revision, write: Option<Write>) -> Self {
        let (comments, same_body, retries) = (false, false, false);
        Self { outcome, generation, comments, same_body, retries, warnings: Vec::new(), replicas: None, write }
    }
}

/// A change of one unit's record.
#[derive(Debug, Clone)]
pub struct Write {
    /// The revision of the commit that must have written the record last; `None` if there must be no record.
    pub guard: Option<Revision>,
    /// The new record; `None` to delete it.
    pub record: Option<Unit>,
    /// The texts that it refers to, by their keys, if they are new for the unit.
    pub texts: Vec<(UnitHash, Arc<UnitFile>)>,
    /// If it loses a text: its earlier texts with this one, and the commit that must have written them last, if any.
    pub history: Option<(Option<Revision>, History)>,
}

/// Under which key a text is stored.
#[derive(Debug, Clone)]
struct Stored {
    /// The value of [`Unit::text`].
    text: Option<UnitHash>,
    /// What must be written for this.
    texts: Vec<(UnitHash, Arc<UnitFile>)>,
}

impl Stored {
    /// Under the hash of its file, unless another text is there, or will be: of the texts of one file in a batch, the
    /// first one gets that key. The other text is written as well: if no unit refers to it, the leader may be about to
    /// delete it.
    fn new(file: &Arc<UnitFile>, read: &Read) -> Self {
        let hash = file.hash();
        let there = read.files.get(&hash).or_else(|| read.sent.get(&hash));
        match there.filter(|there| there.text() != file.text()) {
            None => Self { text: None, texts: vec![(hash, Arc::clone(file))] },
            Some(other) => {
                let own = Self::own(file);
                Self { texts: [(hash, Arc::clone(other))].into_iter().chain(own.texts).collect(), ..own }
            }
        }
    }

    /// Under a key of its own.
    fn own(file: &Arc<UnitFile>) -> Self {
        let key = file.text_hash();
        Self { text: Some(key.clone()), texts: vec![(key, Arc::clone(file))] }
    }
}

/// Everything wrong with `file` as the file of unit `name`, and with giving a file to a unit of that name.
#[must_use]
pub fn check(name: &UnitName, file: &UnitFile) -> Vec<Problem> {
    if let Some(why) = reserved::why(name) {
        return vec![Problem { unit: name.to_string(), line: None, what: why.into() }];
    }
    let problem = |found: section::Problem| Problem {
        unit: name.to_string(),
        line: (found.line > 0).then_some(found.line),
        what: found.what,
    };
    submitted::check(name, file).err().into_iter().flatten().map(problem).collect()
}

/// Lines of `file`, the valid file of unit `name`, that mean nothing, or probably not what was meant.
fn warnings(name: &UnitName, file: &UnitFile) -> Vec<String> {
    let odd = submitted::check(name, file).unwrap_or_default();
    let odd = odd.iter().map(|warning| format!("line {}: {warning}", warning.line));
    file.warnings().iter().map(ToString::to_string).chain(odd).collect()
}

/// `Replicas=` in the file of unit `name`; only templates have it.
pub(super) fn replicas_of(name: &UnitName, file: &UnitFile) -> Option<Replicas> {
    Constraints::parse(file).ok().filter(|_| name.is_template())?.replicas
}

/// The count of a template that gets another file.
pub(super) fn replicas_replaced(name: &UnitName, old: &Unit, file: &UnitFile, read: &Read) -> Option<u32> {
    let before = stored(old, read).and_then(|file| replicas_of(name, &file));
    sets::replaced(old.replicas, before.as_ref(), replicas_of(name, file).as_ref())
}

/// The file that a unit has in the store, if it was read.
pub(super) fn stored(unit: &Unit, read: &Read) -> Option<Arc<UnitFile>> {
    read.files.get(unit.file_key()).or_else(|| read.files.get(&unit.hash)).cloned()
}

/// What is wrong with a text that isn't a unit file.
#[must_use]
pub fn file_problem(name: &str, error: &FileError) -> Problem {
    Problem { unit: name.into(), line: error.line(), what: error.what() }
}

/// `cannot activate template "x@.service"`: CoreOS fleet's words.
#[must_use]
pub fn cannot_activate(name: &UnitName) -> String {
    format!("cannot activate template \"{name}\"")
}

/// Decide about `intents[index]`.
///
/// # Errors
/// What is wrong with it, given what was read.
pub fn decide(intents: &[Intent], index: usize, read: &Read, now: u64) -> Result<Decision, Vec<Problem>> {
    let decision = decide_unit(intents, index, read, now)?;
    let kept = || read.units.get(&intents[index].name)?.unit.as_ref();
    let record = decision.write.as_ref().map_or_else(kept, |write| write.record.as_ref());
    Ok(Decision { replicas: record.and_then(|record| record.replicas), ..decision })
}

fn decide_unit(intents: &[Intent], index: usize, read: &Read, now: u64) -> Result<Decision, Vec<Problem>> {
    let Intent { name, change } = &intents[index];
    let found = read.units.get(name);
    let (file, (desired, replicas), on_different_file) = match change {
        UnitChange::Destroy => return Ok(destroy(name, found, read, now)),
        UnitChange::Restart => return restart(name, found, read),
        UnitChange::Ensure { file, desired, on_different_file, replicas } => {
            (file.clone(), (*desired, *replicas), *on_different_file)
        }
    };
    if replicas.is_some() {
        let stored = || stored(found?.unit.as_ref()?, read);
        check_scaled(name, file.clone().or_else(stored))?;
    }
    if name.is_template() && desired.is_some_and(|desired| desired > Desired::Inactive) {
        return Err(problem(name, cannot_activate(name)));
    }
    if let OnDifferentFile::ReplaceAt(expected) | OnDifferentFile::ReplaceWithoutHooks(expected) = on_different_file
        && found.map(|found| found.revision) != Some(expected)
    {
        return Err(problem(name, MEANWHILE.into()));
    }
    let warnings: Vec<String> = file.iter().flat_map(|file| warnings(name, file)).collect();
    let (old, old_revision) = match found {
        None => (None, None),
        Some(Found { revision, unit: Some(unit) }) => (Some(unit), Some(*revision)),
        Some(Found { revision, unit: None }) if file.is_some() => (None, Some(*revision)),
        Some(_) => return Err(problem(name, DAMAGED.into())),
    };
    let Some(old) = old else {
        let file = file.map_or_else(|| instantiate(intents, name, read), Ok)?;
        let outcome = if old_revision.is_some() { Outcome::Replaced } else { Outcome::Created };
        let stored = Stored::new(&file, read);
        let first = Unit::new(desired.unwrap_or(Desired::Inactive), file.hash(), read.revision);
        let replicas = replicas.or_else(|| replicas_of(name, &file)?.number());
        let record = Unit { text: stored.text, replicas, submitted: now, ..first };
        let write = Write { guard: old_revision, record: Some(record), texts: stored.texts, history: None };
        return Ok(Decision { warnings, ..Decision::new(outcome, read.revision, Some(write)) });
    };
    let request = (file.as_ref(), (desired, replicas), on_different_file);
    Ok(Decision { warnings, ..amend(name, old, old_revision, request, read, now) })
}

/// A file, a desired state and a number of members, and what to do if there is another file.
type Request<'a> = (Option<&'a Arc<UnitFile>>, (Option<Desired>, Option<u32>), OnDifferentFile);

/// What becomes of a unit that exists, whose record `guard` wrote last.
fn amend(
    name: &UnitName,
    old: &Unit,
    guard: Option<Revision>,
    (file, (desired, replicas), on_different_file): Request<'_>,
    read: &Read,
    now: u64,
) -> Decision {
    let replaces = on_different_file != OnDifferentFile::Keep;
    let differs = file.is_some_and(|file| file.hash() != old.hash);
    let new_file = file.filter(|_| differs && replaces);
    // A client of v1 sends no comments, and doesn't mean to delete those that are there.
    let keeps_text = differs || !replaces || on_different_file == OnDifferentFile::Reset;
    let new_text = file.filter(|file| !keeps_text && !is_text_of(old, file, read));
    let kept =
        if new_file.is_some() && on_different_file == OnDifferentFile::Reset { Desired::Inactive } else { old.desired };
    // The same desired state is a new request if the unit isn't running: its host starts it for a new generation.
    let starts_again = desired == Some(Desired::Launched) && read.at_rest.contains(name);
    let desired = desired.unwrap_or(kept);
    let is_scaled = replicas.is_some() && replicas != old.replicas;
    let changes = new_file.is_some() || desired != old.desired || starts_again || is_scaled;
    let outcome = match (new_file, differs, changes) {
        (Some(_), ..) => Outcome::Replaced,
        (None, true, _) => Outcome::Differs,
        (None, false, true) => Outcome::Changed,
        (None, false, false) => Outcome::Unchanged,
    };
    // Only what a host must carry out is a new generation, or a number of members: two such records are never equal.
    let generation = if changes { read.revision } else { old.generation };
    let lost = file.filter(|file| is_lost(old, file, read));
    let stored = match (new_file, new_text) {
        (Some(file), _) => Stored::new(file, read),
        (None, Some(file)) => Stored::own(file),
        (None, None) => {
            let text = |file: &Arc<UnitFile>| (old.file_key().clone(), Arc::clone(file));
            Stored { text: old.text.clone(), texts: lost.map(text).into_iter().collect() }
        }
    };
    let hash = new_file.map_or_else(|| old.hash.clone(), |file| file.hash());
    let kept = || new_file.map_or(old.replicas, |file| replicas_replaced(name, old, file, read));
    let replicas = replicas.or_else(kept);
    let retries = !differs && file.is_some() && may_retry(on_different_file) && read.failed.contains(name);
    let ask = if retries { Some(retry(read.revision)) } else { old.ask.clone() };
    let without = matches!(on_different_file, OnDifferentFile::ReplaceWithoutHooks(_));
    let without_hooks = if new_file.is_some() { without } else { old.without_hooks };
    let text = stored.text;
    // What is asked for now, takes the place of a request to move it.
    let moves = old.moves.clone().filter(|_| generation == old.generation);
    let record = Unit { desired, hash, text, replicas, generation, ask, without_hooks, moves, ..old.clone() };
    let comments = new_text.is_some();
    let history = (new_file.is_some() || comments).then(|| read.history(name, old, now, false));
    let write = Write { guard, record: Some(record), texts: stored.texts, history };
    let writes = changes || comments || retries || lost.is_some();
    let same_body = new_file.is_some_and(|file| read.bodies.get(&old.hash) == Some(&BodyHash::of(file)));
    let decision = Decision::new(outcome, generation, Some(write).filter(|_| writes));
    Decision { comments, same_body, retries, ..decision }
}

/// Whether a file that is sent again, and had failed, is to be tried again. A client of v1 knows no rollouts.
pub(super) fn may_retry(on_different_file: OnDifferentFile) -> bool {
    use OnDifferentFile::{Replace, ReplaceAt, ReplaceWithoutHooks};
    matches!(on_different_file, Replace | ReplaceAt(_) | ReplaceWithoutHooks(_))
}

fn retry(generation: Revision) -> Box<Ask> {
    Box::new(Ask { what: rollout::Request::Retry, generation, by: None })
}

/// Whether the store has lost the text of a unit, or has another one under its key, and `file` has that text.
fn is_lost(unit: &Unit, file: &UnitFile, read: &Read) -> bool {
    let key = unit.file_key();
    !read.files.contains_key(key) && (*key == file.hash() || *key == file.text_hash())
}

/// Whether a unit has exactly this text, whose hash is that of its file.
fn is_text_of(unit: &Unit, file: &UnitFile, read: &Read) -> bool {
    match &unit.text {
        Some(text) => *text == file.text_hash(),
        None => read.files.get(&unit.hash).is_none_or(|stored| stored.text() == file.text()),
    }
}

/// Whether a unit that was started on a host isn't running: it has ended, failed, was stopped by other means, or never
/// came up, for example because it is masked.
#[must_use]
pub fn is_down(unit: &Unit, report: &UnitReport) -> bool {
    let carried_out = report.target == Target::Launched && report.generation >= unit.generation;
    carried_out && report.job.is_none() && report.active.has_stopped()
}

/// Whether a unit that isn't running is done: it is meant to end by itself (`Type=oneshot` without `RemainAfterExit=`),
/// and it has.
#[must_use]
pub fn is_done(file: &UnitFile, report: &UnitReport) -> bool {
    file.ends_by_itself() && report.active == ActiveState::Inactive && report.error.is_none()
}

fn destroy(name: &UnitName, found: Option<&Found>, read: &Read, now: u64) -> Decision {
    let (outcome, generation, write) = match found {
        None if read.leaving.contains(name) => (Outcome::Leaving, read.revision, None),
        None => (Outcome::Absent, read.revision, None),
        Some(Found { revision, unit }) => {
            let history = unit.as_ref().map(|unit| read.history(name, unit, now, true));
            let generation = unit.as_ref().map_or(read.revision, |unit| unit.generation);
            let write = Write { guard: Some(*revision), record: None, texts: Vec::new(), history };
            (Outcome::Destroyed, generation, Some(write))
        }
    };
    Decision::new(outcome, generation, write)
}

fn restart(name: &UnitName, found: Option<&Found>, read: &Read) -> Result<Decision, Vec<Problem>> {
    let Some(Found { revision, unit }) = found else { return Err(problem(name, "no such unit".into())) };
    let Some(old) = unit else { return Err(problem(name, DAMAGED.into())) };
    if old.replicas.is_some() {
        return Err(problem(name, "it is a set: restart its members".into()));
    }
    if old.desired == Desired::Inactive {
        // CoreOS fleet's words.
        return Err(problem(name, format!("Unable to restart unit {name} in state inactive; start it instead")));
    }
    let generation = read.revision;
    let (restart, moves) = (Some(generation), None);
    let record = Unit { desired: Desired::Launched, generation, restart, moves, ..old.clone() };
    let write = Write { guard: Some(*revision), record: Some(record), texts: Vec::new(), history: None };
    Ok(Decision::new(Outcome::Restarted, generation, Some(write)))
}

/// Whether a template can have a count that is asked for.
fn check_scaled(name: &UnitName, file: Option<Arc<UnitFile>>) -> Result<(), Vec<Problem>> {
    if let Some(template) = name.template() {
        return Err(problem(name, format!("it is an instance; name its template, {template}")));
    }
    if !name.is_template() {
        return Err(problem(name, "only a template has replicas, such as web@.service".into()));
    }
    let constraints = file.and_then(|file| Constraints::parse(&file).ok());
    if constraints.is_some_and(|constraints| constraints.global) {
        return Err(problem(name, "Replicas cannot be used with Global".into()));
    }
    Ok(())
}

/// The file of a new unit that was sent without one: its template's, as this batch leaves it.
fn instantiate(intents: &[Intent], name: &UnitName, read: &Read) -> Result<Arc<UnitFile>, Vec<Problem>> {
    let Some(template) = name.template() else {
        return Err(problem(name, "no such unit, and no file came with it".into()));
    };
    let Some(file) = file_after(intents, &template, read) else {
        return Err(problem(name, format!("no such unit, no file came with it, and there is no template {template}")));
    };
    let problems = check(name, &file);
    if problems.is_empty() { Ok(file) } else { Err(problems) }
}

/// The file that a unit has after this batch; `None` if there is no such unit then, or its file wasn't read.
pub(super) fn file_after(intents: &[Intent], name: &UnitName, read: &Read) -> Option<Arc<UnitFile>> {
    let record = read.units.get(name).and_then(|found| found.unit.as_ref());
    let stored = record.and_then(|unit| stored(unit, read));
    match intents.iter().find(|intent| intent.name == *name).map(|intent| &intent.change) {
        Some(UnitChange::Destroy) => None,
        Some(UnitChange::Ensure { file: Some(file), on_different_file, .. })
            if *on_different_file != OnDifferentFile::Keep || stored.is_none() =>
        {
            Some(Arc::clone(file))
        }
        _ => stored,
    }
}

fn problem(name: &UnitName, what: String) -> Vec<Problem> {
    vec![Problem { unit: name.to_string(), line: None, what }]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 7;

    fn name(text: &str) -> UnitName {
        text.parse().unwrap()
    }

    fn file(start: &str) -> Arc<UnitFile> {
        Arc::new(UnitFile::parse(format!("[Service]\nExecStart={start}\n").as_bytes()).unwrap())
    }

    fn have(
        unit: &str,
        file: Option<Arc<UnitFile>>,
        desired: Option<Desired>,
        on_different_file: OnDifferentFile,
    ) -> Intent {
        Intent { name: name(unit), change: UnitChange::Ensure { file, desired, on_different_file, replicas: None } }
    }

    fn read(units: &[(&str, &Arc<UnitFile>, Desired)]) -> Read {
        let mut read = Read { revision: Revision(9), ..Read::default() };
        for (unit, file, desired) in units {
            let record = Unit { submitted: 1, ..Unit::new(*desired, file.hash(), Revision(3)) };
            read.units.insert(name(unit), Found { revision: Revision(4), unit: Some(record) });
            read.files.insert(file.hash(), Arc::clone(file));
        }
        read
    }

    fn one(intent: Intent, read: &Read) -> Decision {
        decide(&[intent], 0, read, NOW).unwrap()
    }

    #[test]
    fn a_record_changes_only_with_what_is_wanted() {
        let (a, b) = (file("/a"), file("/b"));
        let there = read(&[("a.service", &a, Desired::Loaded)]);
        let cases = [
            (Some(&a), None, OnDifferentFile::Keep, Outcome::Unchanged, None),
            (Some(&a), Some(Desired::Loaded), OnDifferentFile::Reset, Outcome::Unchanged, None),
            (None, Some(Desired::Launched), OnDifferentFile::Keep, Outcome::Changed, Some((&a, Desired::Launched))),
            (Some(&b), None, OnDifferentFile::Keep, Outcome::Differs, None),
            (Some(&b), Some(Desired::Inactive), OnDifferentFile::Keep, Outcome::Differs, Some((&a, Desired::Inactive))),
            (Some(&b), None, OnDifferentFile::Replace, Outcome::Replaced, Some((&b, Desired::Loaded))),
            (Some(&b), None, OnDifferentFile::Reset, Outcome::Replaced, Some((&b, Desired::Inactive))),
            (
                Some(&b),
                Some(Desired::Launched),
                OnDifferentFile::Reset,
                Outcome::Replaced,
                Some((&b, Desired::Launched)),
            ),
        ];
        for (file, desired, on_different_file, outcome, written) in cases {
            let decision = one(have("a.service", file.cloned(), desired, on_different_file), &there);
            assert_eq!(decision.outcome, outcome);
            let record = decision.write.map(|write| (write.guard, write.record.unwrap()));
            let wanted = written.map(|(file, desired)| {
                let unit = Unit { submitted: 1, ..Unit::new(desired, file.hash(), Revision(9)) };
                (Some(Revision(4)), unit)
            });
            assert_eq!(decision.generation, Revision(if wanted.is_some() { 9 } else { 3 }));
            assert_eq!(record, wanted);
        }
    }

    #[test]
    fn a_text_that_the_store_has_lost_is_written_again_with_its_unit() {
        let a = file("/a");
        let comment = Arc::new(UnitFile::parse(format!("# why\n{}", a.text()).as_bytes()).unwrap());
        let there = read(&[("a.service", &a, Desired::Loaded)]);
        let mut own = there.clone();
        own.units.get_mut(&name("a.service")).unwrap().unit.as_mut().unwrap().text = Some(comment.text_hash());
        let lost = |read: &Read| Read { files: BTreeMap::new(), ..read.clone() };
        let cases = [
            (&there, &a, OnDifferentFile::Keep, None),
            (&lost(&there), &a, OnDifferentFile::Keep, Some(a.hash())),
            (&lost(&there), &a, OnDifferentFile::Reset, Some(a.hash())),
            // Another file is no help.
            (&lost(&there), &file("/b"), OnDifferentFile::Keep, None),
            // A text under a key of its own; the same file without the comment isn't that text.
            (&lost(&own), &comment, OnDifferentFile::Replace, Some(comment.text_hash())),
            (&lost(&own), &a, OnDifferentFile::Keep, None),
        ];
        for (read, sent, on_different_file, written) in cases {
            let decision = one(have("a.service", Some(Arc::clone(sent)), None, on_different_file), read);
            assert_eq!(decision.generation, Revision(3));
            let write = decision.write.map(|write| (write.guard, write.record, write.texts));
            let unit = read.units[&name("a.service")].unit.clone();
            assert_eq!(write, written.map(|key| (Some(Revision(4)), unit, vec![(key, Arc::clone(sent))])));
        }
    }

    #[test]
    fn a_start_of_a_unit_that_should_run_and_does_not_is_a_new_request() {
        let a = file("/a");
        let mut there = read(&[("a.service", &a, Desired::Launched)]);
        let ask = |desired, read: &Read| one(have("a.service", None, desired, OnDifferentFile::Keep), read);
        assert_eq!(ask(Some(Desired::Launched), &there).outcome, Outcome::Unchanged);
        there.at_rest.insert(name("a.service"));
        let again = ask(Some(Desired::Launched), &there);
        assert_eq!((again.outcome, again.generation), (Outcome::Changed, Revision(9)));
        let record = again.write.unwrap().record.unwrap();
        assert_eq!((record.generation, record.desired, record.restart), (Revision(9), Desired::Launched, None));
        // Only a start is one.
        assert_eq!(ask(None, &there).outcome, Outcome::Unchanged);
    }

    #[test]
    fn what_is_done_is_no_rest_to_be_woken_from() {
        let text = |options: &str| UnitFile::parse(format!("[Service]\nExecStart=/a\n{options}").as_bytes()).unwrap();
        let (daemon, once) = (text(""), text("Type=oneshot\n"));
        let remains = text("Type=oneshot\nRemainAfterExit=yes\n");
        let (a, b) = (Revision(3), Revision(4));
        let cases = [
            (&daemon, a, "inactive", None, None, true),
            (&daemon, a, "failed", None, None, true),
            (&daemon, a, "active", None, None, false),
            (&daemon, a, "activating", None, None, false),
            (&daemon, a, "inactive", Some("start"), None, false),
            (&daemon, a, "inactive", None, Some("Unit a.service is masked."), true),
            (&once, a, "inactive", None, None, false),
            (&once, a, "failed", None, None, true),
            (&once, a, "inactive", None, Some("Unit a.service is masked."), true),
            (&remains, a, "inactive", None, None, true),
            // What was asked for last isn't carried out yet.
            (&daemon, Revision(2), "inactive", None, None, false),
            (&daemon, b, "inactive", None, None, true),
        ];
        let read = read(&[("a.service", &Arc::new(daemon.clone()), Desired::Launched)]);
        let unit = read.units[&name("a.service")].unit.as_ref().unwrap();
        for (file, generation, active, job, error, expected) in cases {
            let assignment = crate::model::unit::Assignment::new(file.hash(), Target::Launched, generation);
            let report = UnitReport {
                load: "loaded".into(),
                active: active.into(),
                job: job.map(Into::into),
                error: error.map(Into::into),
                ..UnitReport::of(&assignment)
            };
            assert_eq!(is_down(unit, &report) && !is_done(file, &report), expected, "{} {report:?}", file.text());
            assert!(!is_down(unit, &UnitReport { target: Target::Loaded, ..report }));
        }
    }

    #[test]
    fn new_units_need_a_file_or_a_template() {
        let (a, b) = (file("/a"), file("/b"));
        let created = one(have("a.service", Some(a.clone()), None, OnDifferentFile::Keep), &read(&[]));
        let record = created.write.unwrap().record.unwrap();
        assert_eq!((created.outcome, record.desired, record.submitted), (Outcome::Created, Desired::Inactive, NOW));
        let missing = |unit| decide(&[have(unit, None, None, OnDifferentFile::Keep)], 0, &read(&[]), NOW).unwrap_err();
        assert!(missing("a.service")[0].what.contains("no file came with it"));
        assert!(missing("a@1.service")[0].what.contains("no template a@.service"));
        let there = read(&[("a@.service", &a, Desired::Inactive)]);
        let hash = |intents: &[Intent]| {
            decide(intents, 0, &there, NOW).map(|decision| decision.write.unwrap().record.unwrap().hash)
        };
        let instance = have("a@1.service", None, Some(Desired::Launched), OnDifferentFile::Keep);
        assert_eq!(hash(std::slice::from_ref(&instance)), Ok(a.hash()));
        let template = |on_different_file| have("a@.service", Some(b.clone()), None, on_different_file);
        assert_eq!(hash(&[instance.clone(), template(OnDifferentFile::Keep)]), Ok(a.hash()));
        assert_eq!(hash(&[instance.clone(), template(OnDifferentFile::Replace)]), Ok(b.hash()));
        let destroyed = Intent { name: name("a@.service"), change: UnitChange::Destroy };
        assert!(hash(&[instance, destroyed]).is_err());
    }

    #[test]
    fn another_text_of_the_same_file_is_stored_and_nothing_else_changes() {
        let parse = |text: &str| Arc::new(UnitFile::parse(text.as_bytes()).unwrap());
        let (plain, explained) = (parse("[Service]\nExecStart=/a\n"), parse("# why\n[Service]\nExecStart=/a\n"));
        let there = read(&[("a.service", &plain, Desired::Launched)]);
        let sent = |file: &Arc<UnitFile>, on| have("a.service", Some(Arc::clone(file)), None, on);
        for on in [OnDifferentFile::Keep, OnDifferentFile::Reset] {
            let kept = one(sent(&explained, on), &there);
            assert!(kept.outcome == Outcome::Unchanged && !kept.comments && kept.write.is_none(), "{on:?}");
        }
        let decision = one(sent(&explained, OnDifferentFile::Replace), &there);
        assert_eq!((decision.outcome, decision.generation), (Outcome::Unchanged, Revision(3)));
        assert!(decision.comments);
        let write = decision.write.unwrap();
        let record = write.record.unwrap();
        let expected =
            Unit { text: Some(explained.text_hash()), ..there.units[&name("a.service")].unit.clone().unwrap() };
        assert_eq!(record, expected);
        assert_eq!(write.texts, [(explained.text_hash(), explained.clone())]);
        // The same once more, and back.
        let found = Found { revision: Revision(5), unit: Some(record) };
        let mut later = Read { units: [(name("a.service"), found)].into(), ..there.clone() };
        later.files.insert(explained.text_hash(), Arc::clone(&explained));
        assert!(one(sent(&explained, OnDifferentFile::Replace), &later).write.is_none());
        let back = one(sent(&plain, OnDifferentFile::Replace), &later).write.unwrap();
        assert_eq!(back.record.unwrap().text, Some(plain.text_hash()));
        // It stays with another desired state, and goes with another file.
        let stopped = have("a.service", None, Some(Desired::Loaded), OnDifferentFile::Keep);
        assert_eq!(one(stopped, &later).write.unwrap().record.unwrap().text, Some(explained.text_hash()));
        let other = one(sent(&file("/b"), OnDifferentFile::Replace), &later);
        assert_eq!((other.comments, other.write.unwrap().record.unwrap().text), (false, None));
        // A new unit doesn't change the text of another one.
        let other = have("b.service", Some(explained.clone()), None, OnDifferentFile::Keep);
        let write = one(other, &there).write.unwrap();
        assert_eq!(write.record.unwrap().text, Some(explained.text_hash()));
        let texts = [(plain.hash(), plain.clone()), (explained.text_hash(), explained.clone())];
        assert_eq!(write.texts, texts);
    }

    #[test]
    fn two_texts_of_one_file_in_a_batch_are_both_stored() {
        let parse = |text: &str| Arc::new(UnitFile::parse(text.as_bytes()).unwrap());
        let (plain, explained) = (parse("[Service]\nExecStart=/a\n"), parse("# why\n[Service]\nExecStart=/a\n"));
        let read = Read { sent: [(plain.hash(), plain.clone())].into(), ..Read::default() };
        let texts = |name: &str, file: &Arc<UnitFile>| {
            let write = one(have(name, Some(file.clone()), None, OnDifferentFile::Keep), &read).write.unwrap();
            (write.record.unwrap().text, write.texts)
        };
        let first = (plain.hash(), plain.clone());
        assert_eq!(texts("a.service", &plain), (None, vec![first.clone()]));
        let own = explained.text_hash();
        assert_eq!(texts("b.service", &explained), (Some(own.clone()), vec![first, (own, explained.clone())]));
    }

    #[test]
    fn a_text_that_a_unit_loses_is_its_history() {
        let (a, b) = (file("/a"), file("/b"));
        let there = read(&[("a.service", &a, Desired::Launched)]);
        let of = |intent: Intent, read: &Read| one(intent, read).write.unwrap().history;
        let (before, history) = of(have("a.service", Some(b.clone()), None, OnDifferentFile::Replace), &there).unwrap();
        let former = &history.revisions[0];
        assert_eq!((before, former.n, &former.hash, former.until, former.destroyed), (None, 1, &a.hash(), NOW, false));
        // It is destroyed later.
        let mut later = read(&[("a.service", &b, Desired::Launched)]);
        later.histories.insert(name("a.service"), (Revision(8), history));
        let destroy = Intent { name: name("a.service"), change: UnitChange::Destroy };
        let (before, history) = of(destroy, &later).unwrap();
        let numbers: Vec<(u64, bool)> = history.revisions.iter().map(|former| (former.n, former.destroyed)).collect();
        assert_eq!((before, numbers, history.gone), (Some(Revision(8)), vec![(1, false), (2, true)], Some(NOW)));
        // A unit that is new, or only changes its desired state, loses nothing: that costs no key.
        assert!(of(have("b.service", Some(a.clone()), None, OnDifferentFile::Keep), &there).is_none());
        assert!(of(have("a.service", None, Some(Desired::Loaded), OnDifferentFile::Keep), &there).is_none());
        assert!(of(Intent { name: name("a.service"), change: UnitChange::Restart }, &there).is_none());
    }

    #[test]
    fn an_instance_has_the_text_of_its_template() {
        let parse = |text: &str| Arc::new(UnitFile::parse(text.as_bytes()).unwrap());
        let (plain, explained) = (parse("[Service]\nExecStart=/a\n"), parse("# why\n[Service]\nExecStart=/a\n"));
        let mut there = read(&[("a@.service", &plain, Desired::Inactive)]);
        let template = there.units.get_mut(&name("a@.service")).and_then(|found| found.unit.as_mut()).unwrap();
        template.text = Some(explained.text_hash());
        let instance = || have("a@1.service", None, Some(Desired::Launched), OnDifferentFile::Keep);
        let texts = |read: &Read| one(instance(), read).write.unwrap().texts;
        // An earlier version of the leader has deleted the text.
        assert_eq!(texts(&there), [(plain.hash(), plain.clone())]);
        there.files.insert(explained.text_hash(), explained.clone());
        let both = [(plain.hash(), plain.clone()), (explained.text_hash(), explained.clone())];
        assert_eq!(texts(&there), both);
    }

    #[test]
    fn a_restart_is_a_new_generation_of_what_is_there() {
        let a = file("/a");
        let again = Intent { name: name("a.service"), change: UnitChange::Restart };
        for desired in [Desired::Loaded, Desired::Launched] {
            let decision = one(again.clone(), &read(&[("a.service", &a, desired)]));
            let generation = Revision(9);
            assert_eq!((decision.outcome, decision.generation), (Outcome::Restarted, generation));
            let write = decision.write.unwrap();
            let (hash, restart) = (a.hash(), Some(generation));
            let record = Unit { restart, submitted: 1, ..Unit::new(Desired::Launched, hash, generation) };
            assert_eq!((write.guard, write.record), (Some(Revision(4)), Some(record.clone())));
            // A later change keeps it: a host that hasn't done it yet still has to.
            let found = Found { revision: Revision(10), unit: Some(record) };
            let later = Read { revision: Revision(12), units: [(name("a.service"), found)].into(), ..Read::default() };
            let loaded = one(have("a.service", None, Some(Desired::Loaded), OnDifferentFile::Keep), &later);
            assert_eq!(loaded.write.unwrap().record.unwrap().restart, restart);
        }
        let refused = |read: &Read| decide(std::slice::from_ref(&again), 0, read, NOW).unwrap_err().remove(0).what;
        let inactive = refused(&read(&[("a.service", &a, Desired::Inactive)]));
        assert_eq!(inactive, "Unable to restart unit a.service in state inactive; start it instead");
        assert_eq!(refused(&read(&[])), "no such unit");
    }

    #[test]
    fn templates_are_never_activated_and_nothing_follows_itself() {
        let template = have("a@.service", Some(file("/a")), Some(Desired::Loaded), OnDifferentFile::Keep);
        let problems = decide(&[template], 0, &read(&[]), NOW).unwrap_err();
        assert_eq!(problems[0].what, "cannot activate template \"a@.service\"");
        let own = UnitFile::parse(b"[Service]\nExecStart=/a\n[X-Fleet]\nMachineOf=%p@%i.service\n").unwrap();
        let problems = check(&name("a@1.service"), &own);
        assert_eq!((problems[0].line, problems[0].what.contains("itself")), (Some(4), true));
    }

    #[test]
    fn damaged_records_can_be_replaced_and_destroyed() {
        let damaged = Found { revision: Revision(5), unit: None };
        let there = Read { revision: Revision(9), units: [(name("a.service"), damaged)].into(), ..Read::default() };
        assert!(decide(&[have("a.service", None, None, OnDifferentFile::Keep)], 0, &there, NOW).is_err());
        let replaced = one(have("a.service", Some(file("/a")), None, OnDifferentFile::Keep), &there);
        assert_eq!((replaced.outcome, replaced.write.unwrap().guard), (Outcome::Replaced, Some(Revision(5))));
        let destroyed = one(Intent { name: name("a.service"), change: UnitChange::Destroy }, &there);
        assert_eq!(destroyed.outcome, Outcome::Destroyed);
        assert!(destroyed.write.unwrap().record.is_none());
    }
}
