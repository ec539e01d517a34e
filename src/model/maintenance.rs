//! What people have asked of a host, apart from its units: that it is cordoned. Owns how it is worded.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::author::Author;

/// What was asked of a host (`host/<id>`; written by the API, kept while the host is gone). Later versions may add
/// fields, which have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Maintenance {
    /// Set while no new unit is to be placed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<Cordon>,
}

/// That no new unit is to be placed on a host. What runs there stays, global units are placed nevertheless, and so are
/// units that must be on the same host as one that stays there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

impl Maintenance {
    /// Whether nothing is asked of the host: then there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cordon.is_none()
    }
}

/// `cordoned by ci: kernel`
impl fmt::Display for Cordon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cordoned")?;
        if let Some(name) = self.by.as_ref().and_then(|by| by.name()) {
            write!(f, " by {name}")?;
        }
        if self.why.is_empty() { Ok(()) } else { write!(f, ": {}", self.why) }
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
