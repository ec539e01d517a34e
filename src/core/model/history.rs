//! The texts that a unit's file had before. Owns how many of them are kept, and for how long after the unit was
//! destroyed.

use serde::{Deserialize, Serialize};

use super::author::Author;
use super::name::{UnitHash, UnitName};
use super::unit::Unit;

/// How many earlier texts of a unit are kept.
const MAX_FORMER_TEXTS: usize = 10;

/// How long they are kept after the unit was destroyed, in ms: a week.
const KEPT_FOR: u64 = 7 * 24 * 60 * 60 * 1000;

/// The earlier texts of a unit (`history/<unit>`; written by the API with the unit's record).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// The oldest first.
    pub revisions: Vec<FormerText>,
    /// When the unit was destroyed, ms since the epoch. It means nothing once there is a unit of this name again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<u64>,
}

/// A text that a unit's file had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerText {
    /// Its number: 1 for the first one, and the next one for each that was replaced.
    pub n: u64,
    /// The hash of the file.
    pub hash: UnitHash,
    /// The key of the text, as in [`Unit::text`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<UnitHash>,
    /// Until when the unit had it, ms since the epoch.
    pub until: u64,
    /// Whether the unit was destroyed then; otherwise it got another text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub destroyed: bool,
    /// Who asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<Author>>,
    /// Since when the unit had it, ms since the epoch. Earlier versions don't write this or the next two fields, and
    /// lose them when they write the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Who gave it to the unit, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Box<Author>>,
    /// The batch that replaced it, if that replaced the texts of several units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Box<Batch>>,
}

/// A request that replaced the texts of several units, other than instances that follow their template: which one it
/// was. The first of these units also names the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The first of them.
    pub unit: UnitName,
    /// The number of the text that this unit lost.
    pub n: u64,
    /// In the history of the first one: the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<UnitName>,
}

/// The text that a unit has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentText {
    /// Its number: the next one after those of the earlier texts.
    pub n: u64,
    /// Since when the unit has it, ms since the epoch.
    pub since: u64,
    /// Who gave it to the unit, if that is known.
    pub author: Option<Box<Author>>,
}

impl FormerText {
    /// What the text is stored under.
    #[must_use]
    pub fn file_key(&self) -> &UnitHash {
        self.text.as_ref().unwrap_or(&self.hash)
    }
}

/// What the leader needs to know of a [`History`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptTexts {
    /// The keys of the texts.
    pub keys: Vec<UnitHash>,
    /// See [`History::gone`].
    pub gone: Option<u64>,
}

impl KeptTexts {
    /// Whether they are kept no longer if there is no unit of this name at `now`, in ms since the epoch.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        self.gone.is_some_and(|gone| gone.saturating_add(KEPT_FOR) <= now)
    }
}

impl History {
    /// With the present text of `unit`, which gets another one `at` this time (ms since the epoch) or is `destroyed`.
    #[must_use]
    pub fn and(mut self, unit: &Unit, at: u64, destroyed: bool) -> Self {
        let PresentText { n, since, author } = self.present(unit);
        let (hash, text, since) = (unit.hash.clone(), unit.text.clone(), Some(since));
        self.revisions.push(FormerText { n, hash, text, until: at, destroyed, by: None, since, author, batch: None });
        let superfluous = self.revisions.len().saturating_sub(MAX_FORMER_TEXTS);
        self.revisions.drain(..superfluous);
        self.gone = destroyed.then_some(at);
        self
    }

    /// The present text of `unit`.
    #[must_use]
    pub fn present(&self, unit: &Unit) -> PresentText {
        let last = self.revisions.last();
        let n = last.map_or(1, |last| last.n.saturating_add(1));
        match last.filter(|last| !last.destroyed) {
            Some(last) => PresentText { n, since: last.until, author: last.by.clone() },
            None => PresentText { n, since: unit.submitted, author: unit.submitter().cloned().map(Box::new) },
        }
    }

    /// Since when the unit had its text `index`, and who gave it to the unit, as far as that is known. Earlier versions
    /// wrote only when and by whom a text came to its end, which was the beginning of the next one.
    #[must_use]
    pub fn beginning(&self, index: usize) -> (Option<u64>, Option<&Author>) {
        let Some(former) = self.revisions.get(index) else { return (None, None) };
        let before = index.checked_sub(1).and_then(|before| self.revisions.get(before));
        match before.filter(|before| !before.destroyed && former.since.is_none()) {
            Some(before) => (Some(before.until), before.by.as_deref()),
            None => (former.since, former.author.as_deref()),
        }
    }

    /// What the leader needs to know of it.
    #[must_use]
    pub fn kept(&self) -> KeptTexts {
        let keys = self.revisions.iter().map(|former| former.file_key().clone()).collect();
        KeptTexts { keys, gone: self.gone }
    }
}

#[cfg(test)]
mod tests {
    use super::super::revision::Revision;
    use super::super::unit::Desired;
    use super::*;

    #[test]
    fn the_last_texts_are_kept_and_their_numbers_go_on() {
        let unit = |hash: &str| Unit::new(Desired::Loaded, UnitHash::new(hash), Revision(1));
        let mut history = History::default();
        for number in 0..12 {
            history = history.and(&unit(&number.to_string()), number, false);
        }
        let numbers: Vec<u64> = history.revisions.iter().map(|former| former.n).collect();
        assert_eq!((numbers, history.gone), ((3..=12).collect(), None));
        let own = Unit { text: Some(UnitHash::new("t")), ..unit("x") };
        let history = history.and(&own, 500, true);
        let last = history.revisions.last().unwrap();
        assert_eq!((last.n, last.file_key().as_str(), last.destroyed, history.gone), (13, "t", true, Some(500)));
        assert_eq!(history.kept().keys.last(), Some(&UnitHash::new("t")));
    }

    #[test]
    fn each_text_has_the_one_who_gave_it_to_the_unit() {
        let author = |user: &str| Some(Box::new(Author { user: user.into(), ..Author::default() }));
        let unit = |hash: &str, by| {
            let first = Unit::new(Desired::Loaded, UnitHash::new(hash), Revision(1));
            Unit { submitted: 5, by, ..first }
        };
        // Someone else has started it since.
        let started = Unit { submitter: author("ann"), ..unit("a", author("bob")) };
        let mut history = History::default();
        assert_eq!(history.present(&unit("a", author("ann"))), history.present(&started));
        assert_eq!(history.present(&started), PresentText { n: 1, since: 5, author: author("ann") });
        history = history.and(&started, 10, false);
        history.revisions[0].by = author("cy");
        assert_eq!((history.revisions[0].since, &history.revisions[0].author), (Some(5), &author("ann")));
        let stopped = Unit { submitter: author("ann"), ..unit("b", author("bob")) };
        assert_eq!(history.present(&stopped), PresentText { n: 2, since: 10, author: author("cy") });
        history = history.and(&stopped, 20, true);
        history.revisions[1].by = author("dee");
        assert_eq!((history.revisions[1].since, &history.revisions[1].author), (Some(10), &author("cy")));
        // After it was destroyed, another unit of its name begins with a text that somebody submits.
        let again = Unit { submitted: 30, ..unit("c", author("eve")) };
        assert_eq!(history.present(&again), PresentText { n: 3, since: 30, author: author("eve") });
        let beginnings = |history: &History| -> Vec<(Option<u64>, Option<String>)> {
            let of = |index| history.beginning(index);
            (0..4).map(of).map(|(since, author)| (since, author.map(|by| by.user.clone()))).collect()
        };
        history = history.and(&again, 40, false);
        history.revisions[2].by = author("fay");
        let all = [(Some(5), Some("ann".into())), (Some(10), Some("cy".into())), (Some(30), Some("eve".into()))];
        assert_eq!(beginnings(&history), [&all[..], &[(None, None)]].concat());
        // An earlier version wrote none of it: what follows from the text before is known.
        for former in &mut history.revisions {
            (former.since, former.author) = (None, None);
        }
        let known = [(None, None), (Some(10), Some("cy".into())), (None, None), (None, None)];
        assert_eq!(beginnings(&history), known);
    }

    #[test]
    fn they_are_kept_for_a_week_after_the_unit_was_destroyed() {
        const WEEK: u64 = 604_800_000;
        let kept = |gone| KeptTexts { keys: Vec::new(), gone };
        assert!(!kept(None).is_over(u64::MAX));
        assert!(!kept(Some(1000)).is_over(1000 + WEEK - 1));
        assert!(kept(Some(1000)).is_over(1000 + WEEK));
    }
}
