//! What people have asked of a host, apart from its units: that it is cordoned, or drained. Owns how it is worded.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::author::Author;
use super::revision::Revision;

/// What was asked of a host (`host/<id>`; written by the API, kept while the host is gone). Later versions may add
/// fields, which have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Maintenance {
    /// Set while no new unit is to be placed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<Cordon>,
    /// Set while the host is to have as few units as possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Box<Drain>>,
    /// What was last asked for when the host was undrained: that what the drain took is brought back. It stays when
    /// all that fits is back, and means nothing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Box<Restore>>,
}

/// That no new unit is to be placed on a host. What runs there stays, global units are placed nevertheless, and so are
/// units that must be on the same host as one that stays there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
pub struct Cordon {
    /// Since when, in ms since the epoch.
    #[serde(default)]
    pub since: u64,
    /// Why, in the words of whoever asked for it; empty if nothing was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<Author>>,
}

/// That units are to leave a host, and no new one is to be placed on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
pub struct Drain {
    /// The revision of the store at which it was asked for: another one is another drain.
    pub generation: Revision,
    /// The generation of the drain that this one goes on with, if the host was drained already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Revision>,
    /// Since when, in ms since the epoch.
    #[serde(default)]
    pub since: u64,
    /// How many units that belong to no set may be on their way at once.
    #[serde(default = "Drain::parallel")]
    pub parallel: u32,
    /// After so many seconds, no budget counts any more.
    #[serde(default = "Drain::deadline")]
    pub deadline: u64,
    /// Whether global units leave too, when nothing else is left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub globals: bool,
    /// Whether units leave that no other host fits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Whether it is for a reboot, and ends by itself when the host is back. A person's drain doesn't.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reboot: bool,
    /// Why, in the words of whoever asked for it; empty if nothing was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<Author>>,
}

/// That what a drain took from a host is brought back, as far as it still fits there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
pub struct Restore {
    /// The revision of the store at which it was asked for.
    pub generation: Revision,
    /// When the drain began.
    pub drain: Revision,
    /// How many units that belong to no set may be on their way at once.
    #[serde(default = "Drain::parallel")]
    pub parallel: u32,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<Author>>,
}

impl Drain {
    /// When units began to leave because of it.
    #[must_use]
    pub fn began(&self) -> Revision {
        self.began.unwrap_or(self.generation)
    }

    /// Unless said otherwise.
    #[must_use]
    pub fn parallel() -> u32 {
        10
    }

    /// Unless said otherwise, in seconds.
    #[must_use]
    pub fn deadline() -> u64 {
        3600
    }
}

impl Maintenance {
    /// Whether nothing is asked of the host: then there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cordon.is_none() && self.drain.is_none() && self.restore.is_none()
    }

    /// When the drain began that the host is in, or whose units are brought back.
    #[must_use]
    pub fn drain_began(&self) -> Option<Revision> {
        let drain = self.drain.as_ref().map(|drain| drain.began());
        drain.or_else(|| self.restore.as_ref().map(|restore| restore.drain))
    }

    /// Why no new unit is to be placed there, as a sentence; `None` if new units may be.
    #[must_use]
    pub fn closed(&self) -> Option<String> {
        let drained = self.drain.as_ref().map(ToString::to_string);
        drained.or_else(|| self.cordon.as_ref().map(ToString::to_string))
    }
}

/// `cordoned by ci: kernel`
fn said(f: &mut fmt::Formatter<'_>, what: &str, by: Option<&Author>, why: &str) -> fmt::Result {
    f.write_str(what)?;
    if let Some(name) = by.and_then(Author::name) {
        write!(f, " by {name}")?;
    }
    if why.is_empty() { Ok(()) } else { write!(f, ": {why}") }
}

/// `drained by ci: kernel`
impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        said(f, "drained", self.by.as_deref(), &self.why)
    }
}

/// `cordoned by ci: kernel`
impl fmt::Display for Cordon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        said(f, "cordoned", self.by.as_deref(), &self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cordon_says_by_whom_and_why_as_far_as_that_is_known() {
        let ci = || Some(Box::new(Author { uid: Some(1001), user: "ci".into(), ..Author::default() }));
        let said = |why: &str, by| Cordon { since: 5, why: why.into(), by }.to_string();
        assert_eq!(said("kernel", ci()), "cordoned by ci: kernel");
        assert_eq!(said("", ci()), "cordoned by ci");
        assert_eq!(said("kernel", None), "cordoned: kernel");
        assert_eq!(said("", Some(Box::default())), "cordoned");
    }
}
