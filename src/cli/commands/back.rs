//! Which text a unit goes back to, and which units go back with it: those whose texts were replaced in the batches that
//! are undone. Owns these rules, in pure functions of histories; `rollback` asks the cluster.

use std::collections::BTreeMap;

use super::history::{NO_PRESENT, Text};
use crate::api::wire::{FormerRevision, PresentRevision, UnitHistory};
use crate::model::name::{UnitHash, UnitName};
use crate::model::rollout::Verdict;

/// A unit that goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Back<'a> {
    /// The unit.
    pub(super) unit: &'a UnitName,
    /// The text that it has.
    pub(super) present: &'a PresentRevision,
    /// The number of the text that it gets.
    pub(super) to: u64,
    /// The hash of that file.
    pub(super) hash: &'a UnitHash,
    /// The text.
    pub(super) text: &'a str,
}

impl<'a> Back<'a> {
    /// To revision `asked`, or to the last one whose text differs from the present one and whose file hasn't failed in
    /// its last rollout. `None` if the unit has the text already.
    ///
    /// # Errors
    /// Why it can't go back.
    pub(super) fn to(history: &'a UnitHistory, asked: Option<u64>) -> Result<Option<Self>, String> {
        let present = present(history)?;
        let number = match asked {
            Some(number) => number,
            None => default(history, present)?,
        };
        let Text { hash, text } = Text::numbered(history, number)?;
        let back = Self { unit: &history.unit, present, to: number, hash, text };
        Ok(Some(back).filter(|back| !back.has_it()))
    }

    /// To the text that the batch `id` replaced. `None` if the unit has it already.
    ///
    /// # Errors
    /// Why it stays as it is, as the end of a sentence.
    pub(super) fn before(history: &'a UnitHistory, id: &Id) -> Result<Option<Self>, String> {
        let present = present(history).map_err(|_| "was destroyed since".to_owned())?;
        let is_it =
            |former: &&FormerRevision| former.batch.as_ref().is_some_and(|b| (&b.unit, b.revision) == (&id.0, id.1));
        let gone = || "had a text before that is no longer kept".to_owned();
        let former = history.revisions.iter().find(is_it).ok_or_else(gone)?;
        let text = former.text.as_deref().ok_or_else(gone)?;
        let back = Self { unit: &history.unit, present, to: former.revision, hash: &former.hash, text };
        Ok(Some(back).filter(|back| !back.has_it()))
    }

    /// The number of the text that it gets, as a text of its own.
    pub(super) fn revision(&self) -> u64 {
        self.present.revision.saturating_add(1)
    }

    fn has_it(&self) -> bool {
        self.present.text.as_deref() == Some(self.text)
    }
}

fn present(history: &UnitHistory) -> Result<&PresentRevision, String> {
    let destroyed = || match history.revisions.first() {
        Some(last) if last.destroyed => {
            let (unit, number) = (&history.unit, last.revision);
            format!(
                "it was destroyed; to have it back, `fleetctl cat --revision {number} {unit} > {unit}` and `fleetctl \
                 submit {unit}`"
            )
        }
        _ => NO_PRESENT.into(),
    };
    history.present.as_ref().ok_or_else(destroyed)
}

/// The last revision whose text differs from the present one, is there, and hasn't failed.
fn default(history: &UnitHistory, present: &PresentRevision) -> Result<u64, String> {
    let differs = |former: &&FormerRevision| former.text.is_some() && former.text != present.text;
    let mut others = history.revisions.iter().filter(differs).peekable();
    let is_there = others.peek().is_some();
    let failed = |hash| history.outcome(hash).is_some_and(|known| known.verdict == Verdict::Failed);
    let good = others.find(|former| !failed(&former.hash)).map(|former| former.revision);
    good.ok_or_else(|| match is_there {
        true => "the rollouts of all earlier revisions have failed; name the one to go back to".into(),
        false => "there is no earlier revision".into(),
    })
}

/// What a batch is called in the histories of all its units.
pub(super) type Id = (UnitName, u64);

/// The units whose texts were replaced together with revision `to` of `history` or a later one, each with the first of
/// these batches; and whether some of these batches can't say any more.
pub(super) fn companions(history: &UnitHistory, to: u64) -> (BTreeMap<UnitName, Id>, bool) {
    let (mut units, mut unknown) = (BTreeMap::new(), false);
    let undone = history.revisions.iter().rev().filter(|former| former.revision >= to);
    for batch in undone.filter_map(|former| former.batch.as_ref()) {
        unknown |= batch.with.is_empty();
        for unit in &batch.with {
            units.entry(unit.clone()).or_insert_with(|| (batch.unit.clone(), batch.revision));
        }
    }
    (units, unknown)
}

/// `web@.service: revision 10, the file of 7; web-image@.service with it`.
pub(super) fn said(first: &Back<'_>, others: &[Back<'_>]) -> String {
    let one = |back: &Back<'_>| format!("{}: revision {}, the file of {}", back.unit, back.revision(), back.to);
    let names: Vec<&str> = others.iter().map(|back| back.unit.as_str()).collect();
    let with = match &*names {
        [] => String::new(),
        [one] => format!("; {one} with it"),
        [more @ .., last] => format!("; {} and {last} with it", more.join(", ")),
    };
    one(first) + &with
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::history;
    use super::*;
    use crate::api::wire::{FileOutcomeView, ReplacingBatch};

    fn name(name: &str) -> UnitName {
        name.parse().unwrap()
    }

    /// The batch that replaced revision `n` of web.service.
    fn batch(n: u64, with: &[&str]) -> Option<ReplacingBatch> {
        Some(ReplacingBatch {
            unit: name("web.service"),
            revision: n,
            with: with.iter().map(|unit| name(unit)).collect(),
        })
    }

    fn to(history: &UnitHistory, asked: Option<u64>) -> Result<Option<(u64, u64)>, String> {
        Ok(Back::to(history, asked)?.map(|back| (back.to, back.revision())))
    }

    #[test]
    fn it_goes_to_the_last_text_that_differs_or_to_the_one_that_is_asked_for() {
        let four = history("web.service", "d", &["c", "b", "a"]);
        assert_eq!(to(&four, None), Ok(Some((3, 5))));
        assert_eq!(to(&four, Some(1)), Ok(Some((1, 5))));
        assert_eq!(to(&four, Some(4)), Ok(None), "that is the present one");
        // It went back before: the one after that is the last that differs.
        let back = history("web.service", "b", &["c", "b", "b"]);
        assert_eq!((to(&back, None), to(&back, Some(2))), (Ok(Some((3, 5))), Ok(None)));
        let mut lost = history("web.service", "c", &["b", "a"]);
        lost.revisions[0].text = None;
        assert_eq!(to(&lost, None), Ok(Some((1, 4))));
        assert_eq!(to(&lost, Some(2)), Err("the store has lost the text of revision 2".into()));
        lost.revisions.truncate(1);
        assert_eq!(to(&lost, Some(1)), Err("revision 1 is gone; 2 to 3 are there".into()));
        for only in [history("web.service", "a", &[]), history("web.service", "a", &["a", "a"])] {
            assert_eq!(to(&only, None), Err("there is no earlier revision".into()));
        }
        let mut gone = history("web.service", "b", &["a"]);
        gone.present = None;
        assert_eq!(to(&gone, None), Err(NO_PRESENT.into()));
        gone.revisions[0].destroyed = true;
        let why = to(&gone, None).unwrap_err();
        assert!(
            why.starts_with("it was destroyed; to have it back, `fleetctl cat --revision 1 web.service > "),
            "{why}"
        );
    }

    #[test]
    fn it_never_goes_to_a_file_that_failed_by_itself() {
        let to = |asked, failed: &[usize]| {
            let mut four = history("web.service", "d", &["c", "b", "a"]);
            let outcome = |index: &usize| {
                let (hash, verdict) = (four.revisions[*index].hash.clone(), Verdict::Failed);
                FileOutcomeView { hash, verdict, why: None }
            };
            four.outcomes = failed.iter().map(outcome).collect();
            to(&four, asked).map(|back| back.map(|back| back.0))
        };
        assert_eq!(to(None, &[0]), Ok(Some(2)));
        assert_eq!(to(None, &[0, 1]), Ok(Some(1)));
        let why = "the rollouts of all earlier revisions have failed; name the one to go back to";
        assert_eq!(to(None, &[0, 1, 2]), Err(why.into()));
        assert_eq!(to(Some(3), &[0]), Ok(Some(3)), "it was named");
    }

    #[test]
    fn all_batches_that_are_undone_bring_their_units_each_the_first_of_them() {
        let mut web = history("web.service", "d", &["c", "b", "a"]);
        web.revisions[0].batch = batch(3, &["log.service", "db.service"]);
        web.revisions[2].batch = batch(1, &["log.service"]);
        let of =
            |to| companions(&web, to).0.into_iter().map(|(unit, (_, n))| format!("{unit} {n}")).collect::<Vec<_>>();
        assert_eq!(of(3), ["db.service 3", "log.service 3"]);
        assert_eq!(of(2), ["db.service 3", "log.service 3"]);
        assert_eq!(of(1), ["db.service 3", "log.service 1"]);
        assert!(!companions(&web, 1).1);
        web.revisions[0].batch = batch(3, &[]);
        assert_eq!((companions(&web, 3).0.len(), companions(&web, 3).1), (0, true));
    }

    #[test]
    fn a_companion_goes_to_what_it_had_before_the_batch() {
        let mut log = history("log.service", "c", &["b", "a"]);
        log.revisions[1].batch = batch(3, &["web.service"]);
        let before = |log: &UnitHistory, n| {
            Back::before(log, &(name("web.service"), n)).map(|back| back.map(|back| (back.to, back.revision())))
        };
        assert_eq!(before(&log, 3), Ok(Some((1, 4))));
        assert_eq!(before(&log, 4), Err("had a text before that is no longer kept".into()));
        let mut same = history("log.service", "a", &["b", "a"]);
        same.revisions[1].batch = batch(3, &["web.service"]);
        assert_eq!(before(&same, 3), Ok(None));
        log.revisions[1].text = None;
        assert_eq!(before(&log, 3), Err("had a text before that is no longer kept".into()));
        log.present = None;
        assert_eq!(before(&log, 3), Err("was destroyed since".into()));
    }

    #[test]
    fn what_goes_back_is_said_in_one_line() {
        let histories = ["web@.service", "log@.service", "db.service"].map(|unit| history(unit, "c", &["b", "a"]));
        let backs: Vec<Back<'_>> = histories.iter().filter_map(|one| Back::to(one, Some(1)).unwrap()).collect();
        let line = "web@.service: revision 4, the file of 1";
        assert_eq!(said(&backs[0], &[]), line);
        assert_eq!(said(&backs[0], &backs[1..2]), format!("{line}; log@.service with it"));
        assert_eq!(said(&backs[0], &backs[1..]), format!("{line}; log@.service and db.service with it"));
    }
}
