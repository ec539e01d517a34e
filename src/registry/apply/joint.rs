//! Which units get other texts in the same batch, so that one can go back with the others. Owns the field `batch` of
//! histories; pure. A batch of several transactions, or of several attempts, stays one batch.

use std::collections::BTreeMap;

use crate::model::history;
use crate::model::name::{UnitHash, UnitName};
use crate::registry::sets::Batch;
use crate::registry::units::Decision;

use super::Done;

/// The most units that are noted as one batch. More of them, for example those of a backup, are no release that anybody
/// takes back by one of its units, and each record of the store has a limit.
const MOST: usize = 100;

/// The units of a batch that get other texts.
#[derive(Debug)]
pub(super) struct Joint {
    /// The first of them, which is written no later than the others.
    first: UnitName,
    /// The number of the text that it loses.
    n: u64,
    /// The others.
    others: Vec<UnitName>,
}

impl Joint {
    /// Those of `decisions`, if there are several; `begun` if that has been written already.
    pub(super) fn of(batch: &Batch, decisions: &BTreeMap<usize, Decision>, begun: Option<Self>) -> Option<Self> {
        if begun.is_some() {
            return begun;
        }
        let lost = decisions.iter().filter_map(|(index, decision)| {
            let write = decision.write.as_ref()?;
            let n = write.history.as_ref()?.1.revisions.last()?.n;
            Some((&batch.intents[*index].name, (&write.record.as_ref()?.hash, n)))
        });
        let replaced: BTreeMap<&UnitName, (&UnitHash, u64)> = lost.clone().collect();
        // An instance that gets the file of its template follows that anyway.
        let follows = |name: &UnitName, hash: &UnitHash| {
            name.template().is_some_and(|template| replaced.get(&template).is_some_and(|(of_it, _)| *of_it == hash))
        };
        let mut own = lost.filter(|(name, (hash, _))| !follows(name, hash));
        let (first, (_, n)) = own.next()?;
        let others: Vec<UnitName> = own.map(|(name, _)| name.clone()).collect();
        (1..MOST).contains(&others.len()).then_some(Self { first: first.clone(), n, others })
    }

    /// Whether the first one was written, so that the others must name it.
    pub(super) fn is_begun(&self, done: &BTreeMap<UnitName, Done>) -> bool {
        done.contains_key(&self.first)
    }

    /// Note it in the histories that are about to be written.
    pub(super) fn note(&self, batch: &Batch, decisions: &mut BTreeMap<usize, Decision>) {
        for (index, decision) in decisions {
            let name = &batch.intents[*index].name;
            let is_first = *name == self.first;
            let former = decision.write.as_mut().and_then(|write| write.history.as_mut());
            if let Some(former) = former.and_then(|(_, history)| history.revisions.last_mut())
                && (is_first || self.others.contains(name))
            {
                let with = if is_first { self.others.clone() } else { Vec::new() };
                former.batch = Some(Box::new(history::Batch { unit: self.first.clone(), n: self.n, with }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::result;
    use super::*;
    use crate::model::history::History;
    use crate::model::revision::Revision;
    use crate::model::unit::{Desired, Outcome, Unit};
    use crate::registry::units::{Intent, UnitChange, Write};

    /// A batch of units, the hash of the file that each gets, and whether it loses one.
    fn batch(units: &[(&str, &str, bool)]) -> (Batch, BTreeMap<usize, Decision>) {
        let name = |name: &str| -> UnitName { name.parse().unwrap() };
        let intent = |unit: &str| Intent { name: name(unit), change: UnitChange::Restart };
        let decision = |(hash, loses): (&str, bool)| {
            let unit = |hash: &str| Unit::new(Desired::Inactive, UnitHash::new(hash), Revision(3));
            let history = loses.then(|| (None, History::default().and(&unit("old"), 9, false)));
            let write = Write { guard: None, record: Some(unit(hash)), texts: Vec::new(), history };
            Decision::new(Outcome::Replaced, Revision(3), Some(write))
        };
        let intents: Vec<Intent> = units.iter().map(|(name, ..)| intent(name)).collect();
        let decisions = units.iter().map(|(_, hash, loses)| decision((hash, *loses))).enumerate().collect();
        let mut batch = Batch::default();
        batch.intents = intents;
        (batch, decisions)
    }

    /// What each unit's history says of the batch: the first unit and the others.
    fn noted(units: &[(&str, &str, bool)], begun: Option<Joint>) -> Vec<String> {
        let (batch, mut decisions) = batch(units);
        if let Some(joint) = Joint::of(&batch, &decisions, begun) {
            joint.note(&batch, &mut decisions);
        }
        let said = |(index, decision): (usize, Decision)| {
            let (_, history) = decision.write?.history?;
            let noted = history.revisions.last()?.batch.clone()?;
            let with: Vec<&str> = noted.with.iter().map(UnitName::as_str).collect();
            Some(format!("{}: {} {} {}", batch.intents[index].name, noted.unit, noted.n, with.join(" ")))
        };
        decisions.into_iter().filter_map(said).collect()
    }

    #[test]
    fn units_that_get_other_texts_together_name_the_first_of_them() {
        let three = [("a.service", "1", true), ("b@.service", "2", true), ("c.service", "3", true)];
        let expected =
            ["a.service: a.service 1 b@.service c.service", "b@.service: a.service 1 ", "c.service: a.service 1 "];
        assert_eq!(noted(&three, None), expected);
        let cases: [&[(&str, &str, bool)]; 3] = [
            // Alone, whatever else the batch creates.
            &[("a.service", "1", true), ("b.service", "2", false)],
            // Instances follow their template.
            &[("b@.service", "2", true), ("b@1.service", "2", true), ("b@2.service", "2", true)],
            &[],
        ];
        for alone in cases {
            assert_eq!(noted(alone, None), Vec::<String>::new());
        }
        // An instance with a file of its own doesn't follow.
        let own = [("b@.service", "2", true), ("b@1.service", "3", true)];
        assert_eq!(noted(&own, None), ["b@.service: b@.service 1 b@1.service", "b@1.service: b@.service 1 "]);
    }

    #[test]
    fn what_an_earlier_attempt_has_begun_goes_on() {
        let begun = Joint { first: "a.service".parse().unwrap(), n: 7, others: vec!["b.service".parse().unwrap()] };
        let decision = Decision::new(Outcome::Replaced, Revision(3), None);
        let done = result("a.service".parse().unwrap(), &decision);
        assert!(begun.is_begun(&[(done.name.clone(), done)].into()));
        assert!(!begun.is_begun(&BTreeMap::new()));
        assert_eq!(noted(&[("b.service", "1", true)], Some(begun)), ["b.service: a.service 7 "]);
    }

    #[test]
    fn a_whole_cluster_is_no_batch_to_take_back() {
        let names: Vec<String> = (0..=MOST).map(|n| format!("u{n}.service")).collect();
        let units = |count: usize| -> Vec<(&str, &str, bool)> {
            names.iter().take(count).map(|name| (name.as_str(), "1", true)).collect()
        };
        assert_eq!(noted(&units(MOST), None).len(), MOST);
        assert_eq!(noted(&units(MOST + 1), None).len(), 0);
    }
}
