//! The scheduler's rules by name. Owns how they are called in records and in summaries; what they check is
//! `plan::fit`'s.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A rule of the scheduler, in the order in which the rules are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The host is alive.
    Alive,
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
}

/// How many live hosts each rule excludes, each host counted once, under the first rule that it breaks. Empty when no
/// host was checked: there is none, or the unit first waits for a unit that its `MachineOf=` names.
pub type Reasons = BTreeMap<Rule, usize>;

impl Rule {
    /// In a summary: `2 of 3 hosts: conflict`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "gone",
            Self::MachineId => "another machine id",
            Self::Metadata => "metadata",
            Self::MachineOf => "without its MachineOf units",
            Self::Conflicts => "conflict",
            Self::Replaces => "replaced there",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
