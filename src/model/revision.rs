//! The store's logical time. Independent of any store.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of the commit that wrote something; only grows. 0 is before the first commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
