//! The format of the store: how keys are spelled, as a number that grows with each change that an older daemon could
//! not read.
//!
//! Each host registers with the newest format that its daemon reads and writes. The leader publishes the lowest one of
//! all registered hosts, and every host writes that one. Daemons of different versions can therefore run side by side,
//! and each reads the format of the others.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A format of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Format(u32);

impl Format {
    /// The format of daemons that didn't register with one.
    pub const FIRST: Self = Self(1);
    /// The newest format of this version.
    pub const CURRENT: Self = Self(2);

    /// How this format spells the keys of reports.
    #[must_use]
    pub fn report_key(self) -> ReportKeyForm {
        if self < Self(2) { ReportKeyForm::UnitFirst } else { ReportKeyForm::HostFirst }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Format {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::FIRST
    }
}

/// How the key of a report is spelled. Both forms are always read, and a host writes each report in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportKeyForm {
    /// `state/<unit>/<host>`, of the first format.
    UnitFirst,
    /// `state/<host>/<unit>`, since format 2: what a host may write has one prefix.
    HostFirst,
}

impl ReportKeyForm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::UnitFirst, Self::HostFirst];

    /// All but this one.
    pub fn others(self) -> impl Iterator<Item = Self> + Clone {
        Self::ALL.into_iter().filter(move |form| *form != self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_formats_are_read_as_numbers_and_spell_reports_as_the_current_one() {
        let later: Format = serde_json::from_str("7").unwrap();
        assert!(later > Format::CURRENT && Format::CURRENT > Format::FIRST);
        assert_eq!(later.report_key(), Format::CURRENT.report_key());
        assert_ne!(Format::FIRST.report_key(), Format::CURRENT.report_key());
        assert_eq!(serde_json::to_string(&later).unwrap(), "7");
    }
}
