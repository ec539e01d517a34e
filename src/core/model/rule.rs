//! The scheduler's rules. Owns their names in records and in summaries; `plan::fit` checks them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A rule of the scheduler, in the order in which rules are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The host is registered.
    Alive,
    /// The host is cordoned.
    Cordoned,
    /// `MachineID=`.
    MachineId,
    /// `MachineMetadata=`.
    Metadata,
    /// `MachineOf=`.
    MachineOf,
    /// `Conflicts=`.
    Conflicts,
    /// `Replaces=`.
    Replaces,
    /// `MaxSkew=`.
    Spread,
    /// `Port=`.
    Port,
    /// `Memory=` and `CPU=`.
    Resources,
}

/// How many registered hosts each rule excludes; each host counts once, under the first rule that it breaks. Empty if
/// no host was checked: there is none, or the unit must wait for a unit that its `MachineOf=` names.
pub type Reasons = BTreeMap<Rule, usize>;

impl Rule {
    /// Its name in a summary: `2 of 3 hosts: conflict`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "gone",
            Self::Cordoned => "cordoned",
            Self::MachineId => "another machine id",
            Self::Metadata => "metadata",
            Self::MachineOf => "without its MachineOf units",
            Self::Conflicts => "conflict",
            Self::Replaces => "replaced there",
            Self::Spread => "too many of its kind",
            Self::Port => "port taken",
            Self::Resources => "too little memory or CPU",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
