//! Riders: templates that have as many members as another one, their lead (`Replicas=web@.service`), with the same
//! numbers. Owns what a batch means for them: their members and counts, the names of the riders in the record of a
//! lead, and what is refused. Pure; must never decide how many members a lead has.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::history::History;
use crate::model::name::{UnitHash, UnitName};
use crate::model::placement::SECTION;
use crate::model::unit::{Desired, Unit};
use crate::plan::sets;
use crate::registry::units::{Intent, OnDifferentFile, Problem, Read, UnitChange, file_after};
use crate::registry::units::{replicas_of, stored};

use super::{Batch, Set, have, record};

/// The lead that a template has after the batch.
pub(super) fn lead_after(template: &UnitName, intents: &[Intent], read: &Read) -> Option<UnitName> {
    replicas_of(template, file_after(intents, template, read)?.as_ref())?.lead().cloned()
}

/// The lead that a template has in the store.
fn lead_before(template: &UnitName, read: &Read) -> Option<UnitName> {
    replicas_of(template, stored(record(template, read)?, read)?.as_ref())?.lead().cloned()
}

/// The templates that `sets` belong together with: the riders of those that the batch changes, and the leads of those
/// that it names, before and after it. What is in `done`, an earlier attempt has created, or may have.
pub(in crate::registry) fn related(
    intents: &[Intent],
    sets: &BTreeSet<UnitName>,
    read: &Read,
    done: &BTreeSet<&UnitName>,
) -> BTreeSet<UnitName> {
    let riders = changed(intents, sets, read, done);
    let riders = riders.iter().filter_map(|name| record(name, read)).flat_map(Unit::riders).cloned();
    let named = intents.iter().map(|intent| &intent.name).filter(|name| sets.contains(*name));
    let leads = named.flat_map(|name| [lead_before(name, read), lead_after(name, intents, read)]).flatten();
    riders.chain(leads).filter(|name| !sets.contains(name)).collect()
}

/// The riders whose members differ from their template's file: whether somebody has changed these by hand, the earlier
/// files of the template say.
pub(in crate::registry) fn doubtful(sets: &BTreeSet<UnitName>, read: &Read) -> BTreeSet<UnitName> {
    let doubtful = |template: &&UnitName| {
        let Some(unit) = record(template, read).filter(|_| lead_before(template, read).is_some()) else { return false };
        let members = read.units.iter().filter(|(name, _)| name.number_in(template).is_some());
        members.filter_map(|(_, found)| found.unit.as_ref()).any(|member| member.hash != unit.hash)
    };
    sets.iter().filter(doubtful).cloned().collect()
}

/// The riders that follow their leads with this batch, by lead: those that it names, and those of the leads that are
/// `changed`.
pub(super) fn following(
    intents: &[Intent],
    sets: &BTreeSet<UnitName>,
    read: &Read,
    changed: &BTreeSet<UnitName>,
) -> BTreeMap<UnitName, BTreeSet<UnitName>> {
    let mut riders: BTreeMap<UnitName, BTreeSet<UnitName>> = BTreeMap::new();
    let named = |name: &UnitName| intents.iter().any(|intent| intent.name == *name);
    for name in sets {
        if let Some(lead) = lead_after(name, intents, read).filter(|lead| named(name) || changed.contains(lead)) {
            riders.entry(lead).or_default().insert(name.clone());
        }
    }
    riders
}

/// The sets that the batch names, or of which it creates or destroys members; what is in `done`, an earlier attempt has
/// created.
pub(super) fn changed(
    intents: &[Intent],
    sets: &BTreeSet<UnitName>,
    read: &Read,
    done: &BTreeSet<&UnitName>,
) -> BTreeSet<UnitName> {
    let of = |intent: &Intent| {
        let is_new = !read.units.contains_key(&intent.name) || done.contains(&intent.name);
        match intent.change {
            _ if intent.name.is_template() => Some(intent.name.clone()),
            UnitChange::Destroy => intent.name.set(),
            UnitChange::Ensure { .. } if is_new => intent.name.set(),
            UnitChange::Ensure { .. } | UnitChange::Restart => None,
        }
    };
    intents.iter().filter_map(of).filter(|template| sets.contains(template)).collect()
}

/// The names of the riders in the records of leads after the batch, for each record in which they change. `changes` are
/// the leads that it changes, and `following` the riders that follow with it.
///
/// # Errors
/// Riders that would be left without a lead.
pub(super) fn named(
    intents: &[Intent],
    sets: &BTreeSet<UnitName>,
    read: &Read,
    changes: &BTreeSet<UnitName>,
    following: &BTreeMap<UnitName, BTreeSet<UnitName>>,
) -> Result<BTreeMap<UnitName, BTreeSet<UnitName>>, Vec<Problem>> {
    let (mut changed, mut problems) = (BTreeMap::new(), Vec::new());
    for lead in sets {
        let Some(unit) = record(lead, read) else {
            changed.extend(following.get(lead).map(|riders| (lead.clone(), riders.clone())));
            continue;
        };
        let before: BTreeSet<UnitName> = unit.riders().cloned().collect();
        // Of a lead that isn't changed, only those riders were read that are.
        let is_left = |rider: &&UnitName| {
            let is_known = read.units.contains_key(*rider);
            if is_known { lead_after(rider, intents, read).as_ref() == Some(lead) } else { !changes.contains(lead) }
        };
        let mut after: BTreeSet<UnitName> = before.iter().filter(is_left).cloned().collect();
        let destroyed = intents.iter().any(|one| one.name == *lead && matches!(one.change, UnitChange::Destroy));
        if let Some(rider) = after.first().filter(|_| destroyed) {
            let what = format!("{rider} has as many as {lead}: destroy both");
            problems.push(Problem { unit: lead.to_string(), line: None, what });
        }
        after.extend(following.get(lead).into_iter().flatten().cloned());
        if after != before {
            changed.insert(lead.clone(), after);
        }
    }
    if problems.is_empty() { Ok(changed) } else { Err(problems) }
}

/// A rider and its lead.
pub(super) struct Rider<'a> {
    pub(super) intents: &'a [Intent],
    pub(super) set: Set<'a>,
    pub(super) lead: Set<'a>,
}

impl Rider<'_> {
    /// Add what follows from the members that the lead has after `batch`.
    pub(super) fn follow(&self, batch: &mut Batch) -> Result<(), Problem> {
        let count = self.count(batch)?;
        let template = self.set.template;
        let at = batch.intents.iter().position(|intent| intent.name == *template);
        match at.map(|at| &mut batch.intents[at].change) {
            Some(UnitChange::Ensure { replicas: Some(asked), .. }) if *asked != count => {
                let lead = self.lead.template;
                let what = format!("it has as many as {lead} has (Replicas={lead}); scale that");
                return Err(self.problem(what));
            }
            Some(UnitChange::Ensure { desired, replicas, .. }) => {
                // A template itself never runs.
                *desired = None;
                *replicas = Some(count);
            }
            Some(UnitChange::Destroy | UnitChange::Restart) => {}
            None if record(template, self.set.read).is_some_and(|unit| unit.replicas != Some(count)) => {
                batch.intents.push(Intent { name: template.clone(), change: have(None, Some(count)) });
                batch.counts.insert(template.clone());
            }
            None => {}
        }
        let added = self.members(batch)?;
        let because = vec![self.lead.template.clone(), template.clone()];
        Set::add(batch, added, &because);
        Ok(())
    }

    /// How many members the lead has after the batch.
    fn count(&self, batch: &Batch) -> Result<u32, Problem> {
        let lead = self.lead.template;
        let asked = batch.intents.iter().find(|intent| intent.name == *lead).map(|intent| &intent.change);
        let before = || record(lead, self.lead.read)?.replicas;
        let count = match asked {
            Some(UnitChange::Destroy) => None,
            // `None` if its file has lost the number.
            Some(UnitChange::Ensure { replicas, .. }) => *replicas,
            Some(UnitChange::Restart) | None => before(),
        };
        let above = lead_after(lead, self.intents, self.lead.read);
        let what = match (above, count) {
            (None, Some(count)) => return Ok(count),
            (Some(above), _) if above == *self.set.template => {
                format!("{lead} has as many as {above} has: one of them must have a number")
            }
            (Some(above), _) => format!("{lead} has as many as {above} has: name that"),
            (None, None) if file_after(self.intents, lead, self.lead.read).is_none() => {
                "there is no such template here or in the cluster".into()
            }
            (None, None) => format!("{lead} has no number of members: give it `Replicas=`, or scale it first"),
        };
        Err(self.problem(format!("`Replicas={lead}`: {what}")))
    }

    /// What becomes of its members.
    fn members(&self, batch: &Batch) -> Result<Vec<Intent>, Problem> {
        let (destroyed, created) = self.set.by_name(batch);
        let taken = destroyed.union(&created).copied().collect();
        let there = self.set.members.keys().copied().collect();
        let plan = sets::follow(&there, &taken, &self.lead.numbers_after(batch));
        let asked = self.desired();
        let of_new = asked.or(self.set.desired()).unwrap_or_else(|| self.of_lead(batch));
        let mut added = Vec::new();
        for number in &plan.create {
            added.push(self.set.named(*number, have(Some(of_new), None))?);
        }
        for number in &plan.destroy {
            added.push(self.set.named(*number, self.parting(*number))?);
        }
        let stays = |number: &&u32| !destroyed.contains(number) && !plan.destroy.contains(number);
        for number in self.set.members.keys().filter(stays).filter(|_| asked.is_some()) {
            added.push(self.set.named(*number, have(asked, None))?);
        }
        Ok(added)
    }

    /// What becomes of a member whose number the lead doesn't have: one with a file that its template has never had was
    /// changed by hand, and is left.
    fn parting(&self, number: u32) -> UnitChange {
        let read = self.set.read;
        let file = file_after(self.intents, self.set.template, read);
        let unit = self.set.members.get(&number).and_then(|(_, found)| found.unit.as_ref());
        match (unit, file) {
            (Some(unit), Some(file)) if unit.hash != file.hash() && !self.has_had(&unit.hash) => UnitChange::Ensure {
                file: Some(file),
                desired: None,
                on_different_file: OnDifferentFile::Keep,
                replicas: None,
            },
            _ => UnitChange::Destroy,
        }
    }

    /// Whether its template has, or had, this file.
    fn has_had(&self, hash: &UnitHash) -> bool {
        let (template, read) = (self.set.template, self.set.read);
        let earlier = read.histories.get(template);
        let had = |(_, History { revisions, .. }): &(_, History)| revisions.iter().any(|former| former.hash == *hash);
        record(template, read).is_some_and(|unit| unit.hash == *hash) || earlier.is_some_and(had)
    }

    /// The desired state that the batch asks of its members: by its own template, or else by its lead's.
    fn desired(&self) -> Option<Desired> {
        let of = |template: &UnitName| match self.intents.iter().find(|intent| intent.name == *template)?.change {
            UnitChange::Ensure { desired, .. } => Some(desired),
            UnitChange::Destroy | UnitChange::Restart => None,
        };
        of(self.set.template).or_else(|| of(self.lead.template)).flatten()
    }

    /// The desired state of new members if there are no others: `inactive` for a rider that is submitted, otherwise
    /// what the lead's have.
    fn of_lead(&self, batch: &Batch) -> Desired {
        if self.intents.iter().any(|intent| intent.name == *self.set.template) {
            return Desired::Inactive;
        }
        let new = batch.intents.iter().filter(|intent| intent.name.number_in(self.lead.template).is_some());
        let asked = new.filter_map(|intent| match intent.change {
            UnitChange::Ensure { desired, .. } => desired,
            UnitChange::Destroy | UnitChange::Restart => None,
        });
        asked.max().or(self.lead.desired()).unwrap_or(Desired::Inactive)
    }

    /// A problem with the rider; in its file, if the batch has that.
    fn problem(&self, what: String) -> Problem {
        let sent = self.intents.iter().find(|intent| intent.name == *self.set.template);
        let line = sent.and_then(|intent| match &intent.change {
            UnitChange::Ensure { file: Some(file), replicas: None, .. } => {
                file.section(SECTION).find(|option| option.name == "Replicas").map(|option| option.line)
            }
            _ => None,
        });
        Problem { unit: self.set.template.to_string(), line, what }
    }
}

impl Set<'_> {
    /// The numbers of its members after the batch.
    fn numbers_after(&self, batch: &Batch) -> BTreeSet<u32> {
        let (destroyed, created) = self.by_name(batch);
        self.members.keys().filter(|number| !destroyed.contains(number)).chain(&created).copied().collect()
    }
}
