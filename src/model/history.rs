//! The texts that a unit's file had before. Owns how many of them are kept, and for how long after the unit was
//! destroyed.

use serde::{Deserialize, Serialize};

use super::author::Author;
use super::name::UnitHash;
use super::unit::Unit;

/// How many earlier texts of a unit are kept.
const KEPT: usize = 10;

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
        let n = self.revisions.last().map_or(1, |last| last.n.saturating_add(1));
        let (hash, text) = (unit.hash.clone(), unit.text.clone());
        self.revisions.push(FormerText { n, hash, text, until: at, destroyed, by: None });
        let superfluous = self.revisions.len().saturating_sub(KEPT);
        self.revisions.drain(..superfluous);
        self.gone = destroyed.then_some(at);
        self
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
    fn they_are_kept_for_a_week_after_the_unit_was_destroyed() {
        const WEEK: u64 = 604_800_000;
        let kept = |gone| KeptTexts { keys: Vec::new(), gone };
        assert!(!kept(None).is_over(u64::MAX));
        assert!(!kept(Some(1000)).is_over(1000 + WEEK - 1));
        assert!(kept(Some(1000)).is_over(1000 + WEEK));
    }
}
