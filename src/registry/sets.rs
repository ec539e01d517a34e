//! What a batch means for sets: the members that are created and destroyed with a count, and the count that changes
//! with members. Owns these additions to a batch, in pure functions of what was read; `plan::sets` has the numbers, and
//! `units` decides about each unit.

pub(super) mod riders;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::UnitName;
use crate::model::unit::{Desired, Unit};
use crate::plan::sets;

use super::hooks;
use super::units::{Decision, Found, Intent, OnDifferentFile, Problem, Read, UnitChange, Write};
use super::units::{replicas_of, replicas_replaced};
use riders::Rider;

/// A batch with everything that follows from it.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Each unit at most once, in the order in which transactions are filled: counts before members, so that one that
    /// breaks off in the middle says how many members are wanted; a template that is destroyed after its members.
    pub intents: Vec<Intent>,
    /// Members that were added because of templates, and these: they may only be written while the records of these are
    /// as they were read. The first of them says how many members there are; a rider's own template follows.
    pub because: BTreeMap<UnitName, Vec<UnitName>>,
    /// Templates that were added because of members, leads or riders: their counts.
    pub counts: BTreeSet<UnitName>,
    /// The riders of leads, where the batch changes them.
    riders: BTreeMap<UnitName, BTreeSet<UnitName>>,
}

impl Batch {
    /// `decision` about the unit `name`, with its riders.
    pub(super) fn complete(&self, name: &UnitName, decision: Decision, read: &Read) -> Decision {
        let Some(riders) = self.riders.get(name) else { return decision };
        let riders = (!riders.is_empty()).then(|| Box::new(riders.clone()));
        let write = match (decision.write, read.units.get(name)) {
            (Some(write), _) => Some(Write { record: write.record.map(|unit| Unit { riders, ..unit }), ..write }),
            (None, Some(Found { revision, unit: Some(unit) })) => {
                let record = Some(Unit { riders, ..unit.clone() });
                Some(Write { guard: Some(*revision), record, texts: Vec::new(), history: None })
            }
            (None, _) => None,
        };
        Decision { write, ..decision }
    }

    /// What units of the batch are kept together in one transaction by, if that is large enough: a member that was
    /// added, and those with its number that ride with it.
    pub(super) fn pair(&self, name: &UnitName) -> Option<(&UnitName, u32)> {
        Some((self.because.get(name)?.first()?, name.number()?))
    }

    /// Records of leads are written, although only their riders change.
    fn name_riders(&mut self) {
        for lead in self.riders.keys() {
            if !self.intents.iter().any(|intent| intent.name == *lead) {
                self.intents.push(Intent { name: lead.clone(), change: have(None, None) });
                self.counts.insert(lead.clone());
            }
        }
    }

    /// Counts before members, members that belong together beside each other, and what destroys templates last.
    fn arrange(&mut self, sets: &BTreeSet<UnitName>) {
        let rank = |intent: &Intent| match &intent.change {
            _ if !sets.contains(&intent.name) => 1,
            UnitChange::Destroy => 2,
            _ => 0,
        };
        let mut first = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for (at, intent) in self.intents.iter().enumerate() {
            let at = self.pair(&intent.name).map_or(at, |pair| *first.entry(pair).or_insert(at));
            keys.insert(intent.name.clone(), (rank(intent), at));
        }
        self.intents.sort_by_cached_key(|intent| keys.get(&intent.name).copied());
    }
}

/// The templates whose records say whether `intents` concern a set.
pub(super) fn templates(intents: &[Intent]) -> BTreeSet<UnitName> {
    let of_member = |intent: &Intent| {
        let changes = matches!(intent.change, UnitChange::Destroy | UnitChange::Ensure { .. });
        intent.name.number().filter(|_| changes).and_then(|_| intent.name.template())
    };
    intents.iter().filter_map(of_member).collect()
}

/// The sets that `intents` concern, or make, by the records that were read.
pub(super) fn concerned(intents: &[Intent], read: &Read) -> BTreeSet<UnitName> {
    let is_set = |name: &UnitName| record(name, read).is_some_and(|unit| unit.replicas.is_some());
    let becomes = |intent: &&Intent| match &intent.change {
        UnitChange::Ensure { replicas: Some(_), .. } => true,
        UnitChange::Ensure { file: Some(file), .. } => replicas_of(&intent.name, file).is_some(),
        _ => false,
    };
    let named = intents.iter().filter(|intent| intent.name.is_template());
    let named = named.filter(|intent| becomes(intent) || is_set(&intent.name)).map(|intent| intent.name.clone());
    named.chain(templates(intents).into_iter().filter(is_set)).collect()
}

/// `intents` with the members and counts that follow from them. What is in `done` was carried out by an earlier attempt
/// and stays as it is.
///
/// # Errors
/// Members that can't be named.
pub(super) fn expand(intents: &[Intent], read: &Read, done: &BTreeSet<&UnitName>) -> Result<Batch, Vec<Problem>> {
    let mut batch = Batch { intents: hooks::held(intents), ..Batch::default() };
    let mut sets = concerned(intents, read);
    if sets.is_empty() {
        return Ok(batch);
    }
    let mut problems = Vec::new();
    // Riders follow when all others are known.
    for template in sets.iter().filter(|template| riders::lead_after(template, intents, read).is_none()) {
        if let Err(problem) = Set::of(template, read, done).expand(&mut batch) {
            problems.push(problem);
        }
    }
    sets.extend(riders::related(intents, &sets, read, done));
    let changed = riders::changed(intents, &sets, read, done);
    let following = riders::following(intents, &sets, read, &changed);
    batch.riders = riders::named(intents, &sets, read, &changed, &following)?;
    for (lead, rider) in following.iter().flat_map(|(lead, riders)| riders.iter().map(move |rider| (lead, rider))) {
        let rider = Rider { intents, set: Set::of(rider, read, done), lead: Set::of(lead, read, done) };
        if let Err(problem) = rider.follow(&mut batch) {
            problems.push(problem);
        }
    }
    batch.name_riders();
    batch.arrange(&sets);
    if problems.is_empty() { Ok(batch) } else { Err(problems) }
}

fn record<'a>(name: &UnitName, read: &'a Read) -> Option<&'a Unit> {
    read.units.get(name)?.unit.as_ref()
}

/// A unit that keeps its file, or is new and gets its template's.
fn have(desired: Option<Desired>, replicas: Option<u32>) -> UnitChange {
    UnitChange::Ensure { file: None, desired, on_different_file: OnDifferentFile::Keep, replicas }
}

fn number_of(units: usize) -> u32 {
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// A set, and what was read of it.
struct Set<'a> {
    template: &'a UnitName,
    read: &'a Read,
    /// Its members by their numbers.
    members: BTreeMap<u32, (&'a UnitName, &'a Found)>,
    /// Whether its count was written by an earlier attempt.
    is_done: bool,
}

/// What a batch asks of a set by its template.
struct Asked {
    /// How many members there must be.
    count: u32,
    /// Their desired state, if it changes.
    desired: Option<Desired>,
    /// The desired state of new members.
    of_new: Desired,
}

impl<'a> Set<'a> {
    fn of(template: &'a UnitName, read: &'a Read, done: &BTreeSet<&UnitName>) -> Self {
        let members = read.units.iter();
        let members = members.filter_map(|(name, found)| Some((name.number_in(template)?, (name, found)))).collect();
        Self { template, read, members, is_done: done.contains(template) }
    }

    fn expand(&self, batch: &mut Batch) -> Result<(), Problem> {
        let at = batch.intents.iter().position(|intent| intent.name == *self.template);
        match at.map(|at| &batch.intents[at].change) {
            Some(UnitChange::Destroy) => {
                let destroyed = self.members.values().map(|(name, _)| (*name).clone());
                let destroyed = destroyed.map(|name| Intent { name, change: UnitChange::Destroy }).collect();
                Self::add(batch, destroyed, std::slice::from_ref(self.template));
                Ok(())
            }
            Some(change) => {
                let Some(asked) = self.asked(change, batch) else { return Ok(()) };
                let added = self.scaled(batch, &asked)?;
                if let Some(UnitChange::Ensure { desired, replicas, .. }) = at.map(|at| &mut batch.intents[at].change) {
                    // A template itself never runs.
                    *desired = None;
                    *replicas = Some(asked.count);
                }
                Self::add(batch, added, std::slice::from_ref(self.template));
                Ok(())
            }
            None => {
                self.count_by_name(batch);
                Ok(())
            }
        }
    }

    /// `None` if the template isn't a set after the batch.
    fn asked(&self, change: &UnitChange, batch: &Batch) -> Option<Asked> {
        let UnitChange::Ensure { file, desired, on_different_file, replicas } = change else { return None };
        let old = record(self.template, self.read);
        let kept = *on_different_file == OnDifferentFile::Keep;
        let by_file = || match (old, file) {
            (Some(old), Some(file)) if !kept && file.hash() != old.hash => {
                replicas_replaced(self.template, old, file, self.read)
            }
            (Some(old), _) => old.replicas,
            (None, file) => replicas_of(self.template, file.as_ref()?)?.number(),
        };
        let count = match replicas {
            // Somebody else may have asked for another count since ours was written.
            _ if self.is_done => old?.replicas?,
            // There is nothing to create members from.
            Some(_) if old.is_none() && file.is_none() => return None,
            Some(count) => *count,
            None => self.follow_names(by_file()?, batch),
        };
        let first = if replicas.is_some() && file.is_none() { Desired::Launched } else { Desired::Inactive };
        Some(Asked { count, desired: *desired, of_new: desired.or(self.desired()).unwrap_or(first) })
    }

    /// What becomes of the members.
    fn scaled(&self, batch: &Batch, asked: &Asked) -> Result<Vec<Intent>, Problem> {
        let (destroyed, created) = self.by_name(batch);
        let there = self.members.keys().filter(|number| !destroyed.contains(number)).chain(&created).copied().collect();
        let plan = sets::scale(&there, &destroyed, asked.count);
        let mut added = Vec::new();
        for number in &plan.create {
            added.push(self.named(*number, have(Some(asked.of_new), None))?);
        }
        for number in &plan.destroy {
            added.push(self.named(*number, UnitChange::Destroy)?);
        }
        let stays = |number: &&u32| !destroyed.contains(number) && !plan.destroy.contains(number);
        for number in self.members.keys().filter(stays).filter(|_| asked.desired.is_some()) {
            added.push(self.named(*number, have(asked.desired, None))?);
        }
        Ok(added)
    }

    /// What is asked of its member `number`.
    fn named(&self, number: u32, change: UnitChange) -> Result<Intent, Problem> {
        let problem = |error| {
            let what = format!("its member {number} can't be named: {error}");
            Problem { unit: self.template.to_string(), line: None, what }
        };
        let name = self.template.numbered(number).map_err(problem)?;
        Ok(Intent { name, change })
    }

    /// The numbers of the members that the batch destroys and creates by their names.
    fn by_name(&self, batch: &Batch) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let (mut destroyed, mut created) = (BTreeSet::new(), BTreeSet::new());
        for Intent { name, change } in batch.intents.iter().filter(|intent| self.has(&intent.name)) {
            let Some(number) = name.number() else { continue };
            match (change, self.members.contains_key(&number)) {
                (UnitChange::Destroy, true) => drop(destroyed.insert(number)),
                (UnitChange::Ensure { .. }, false) => drop(created.insert(number)),
                _ => {}
            }
        }
        (destroyed, created)
    }

    /// The desired state that its members have, the highest of them.
    fn desired(&self) -> Option<Desired> {
        self.members.values().filter_map(|(_, found)| Some(found.unit.as_ref()?.desired)).max()
    }

    /// A count after the members that the batch destroys and creates by their names.
    fn follow_names(&self, count: u32, batch: &Batch) -> u32 {
        let (destroyed, created) = self.by_name(batch);
        let members = number_of(self.members.len());
        sets::by_name(count, members, number_of(destroyed.len()), number_of(created.len()))
    }

    fn has(&self, name: &UnitName) -> bool {
        name.template().as_ref() == Some(self.template)
    }

    /// The count follows the members that the batch destroys and creates by their names.
    fn count_by_name(&self, batch: &mut Batch) {
        let Some(before) = record(self.template, self.read).and_then(|unit| unit.replicas) else { return };
        let count = self.follow_names(before, batch);
        if count != before && !self.is_done {
            batch.intents.push(Intent { name: self.template.clone(), change: have(None, Some(count)) });
            batch.counts.insert(self.template.clone());
        }
    }

    /// Add what follows from the templates `because`. A member that the batch names keeps what is asked of it there,
    /// unless it has to go.
    fn add(batch: &mut Batch, added: Vec<Intent>, because: &[UnitName]) {
        let named: BTreeMap<UnitName, usize> =
            batch.intents.iter().enumerate().map(|(at, intent)| (intent.name.clone(), at)).collect();
        for intent in added {
            match named.get(&intent.name) {
                Some(at) if matches!(intent.change, UnitChange::Destroy) => batch.intents[*at] = intent,
                Some(_) => {}
                None => {
                    batch.because.insert(intent.name.clone(), because.to_vec());
                    batch.intents.push(intent);
                }
            }
        }
    }
}
