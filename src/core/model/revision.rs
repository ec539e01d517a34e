//! The store's logical time. Independent of any store.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of the commit that wrote something; only grows. 0 is before the first commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The next revision, at which a watch continues that has delivered everything up to `self`. The largest one, which
    /// only a record can have that somebody else has written, is its own.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A moment of a store's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// The id of the cluster whose history it is; 0 if it has none, or none is known.
    pub cluster: u64,
    /// The revision.
    pub revision: Revision,
}

impl Moment {
    /// Whether a store that is at `now` may have lost what was there at this moment: it was restored from a backup, or
    /// replaced, because its revision is lower or its id is another one. A store of a later revision without an id
    /// passes for the same.
    #[must_use]
    pub fn is_lost_at(self, now: Self) -> bool {
        let is_other = self.cluster != 0 && now.cluster != 0 && now.cluster != self.cluster;
        is_other || now.revision < self.revision
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_lost_data_if_its_revision_is_lower_or_its_id_another_one() {
        let at = |cluster, revision| Moment { cluster, revision: Revision(revision) };
        for (seen, now, expected) in [
            (at(0, 0), at(7, 5), false),
            (at(7, 5), at(7, 5), false),
            (at(7, 5), at(7, 6), false),
            (at(7, 5), at(7, 4), true),
            (at(7, 5), at(8, 5), true),
            (at(7, 5), at(8, 6), true),
            (at(0, 5), at(8, 6), false),
            (at(7, 5), at(0, 6), false),
            (at(0, 5), at(0, 4), true),
        ] {
            assert_eq!(seen.is_lost_at(now), expected, "{seen:?} {now:?}");
        }
    }
}
