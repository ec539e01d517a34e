//! The units that a question is about. Owns which ranges of keys can contain the answer; reads nothing itself.

use std::collections::BTreeSet;

use crate::model::cluster::Change;
use crate::model::glob::Glob;
use crate::model::name::UnitName;

use super::keys;

/// A question about more names and patterns than this reads whole families instead of a range for each.
const MAX_RANGES: usize = 32;

/// The units that a question is about. Hosts and their metadata always belong to it.
#[derive(Debug, Clone)]
pub enum Scope {
    /// All.
    All,
    /// Units by name, and units that match a pattern. Names are kept apart because a command may name a thousand units,
    /// and each change in the cluster would be compared with each of them.
    Some {
        /// Names.
        names: BTreeSet<Box<str>>,
        /// Patterns.
        globs: Vec<Glob>,
    },
    /// This one.
    One(UnitName),
}

impl Scope {
    /// Units that match one of `globs`; all units if there are none.
    #[must_use]
    pub fn of(globs: Vec<Glob>) -> Self {
        if globs.is_empty() {
            return Self::All;
        }
        let (names, globs): (Vec<Glob>, Vec<Glob>) = globs.into_iter().partition(Glob::is_literal);
        Self::Some { names: names.iter().map(|name| name.literal_prefix().into()).collect(), globs }
    }

    /// The units `names`.
    #[must_use]
    pub fn named(names: &BTreeSet<UnitName>) -> Self {
        Self::Some { names: names.iter().map(|name| name.as_str().into()).collect(), globs: Vec::new() }
    }

    /// The units that it names, if it has only names and at most `most`.
    #[must_use]
    pub fn names(&self, most: usize) -> Option<BTreeSet<UnitName>> {
        let names: BTreeSet<UnitName> = match self {
            Self::One(name) => [name.clone()].into(),
            Self::Some { names, globs } if globs.is_empty() && names.len() <= most => {
                names.iter().map(|name| name.parse().ok()).collect::<Option<_>>()?
            }
            Self::All | Self::Some { .. } => return None,
        };
        (!names.is_empty()).then_some(names)
    }

    /// Whether it includes `name`.
    #[must_use]
    pub fn has(&self, name: &UnitName) -> bool {
        match self {
            Self::All => true,
            Self::Some { names, globs } => {
                names.contains(name.as_str()) || globs.iter().any(|glob| glob.matches(name.as_str()))
            }
            Self::One(one) => one == name,
        }
    }

    /// Whether it includes what `change` is about.
    #[must_use]
    pub fn takes(&self, change: &Change) -> bool {
        match change {
            Change::Unit(name, _)
            | Change::Placement(name, _)
            | Change::Assignment(_, name, _)
            | Change::Report(name, _, _) => self.has(name),
            Change::File(..) | Change::Machine(..) | Change::Metadata(..) => true,
        }
    }

    /// The ranges of a family that contain the scope, and possibly more, to be filtered.
    pub(super) fn prefixes(&self, family: &str) -> BTreeSet<String> {
        let by_unit = matches!(family, keys::UNITS | keys::PLACEMENTS | keys::STATES);
        match self {
            Self::Some { names, globs } if by_unit && names.len() + globs.len() <= MAX_RANGES => {
                let names = names.iter().map(|name| &**name);
                let mut prefixes: Vec<&str> = globs.iter().map(Glob::literal_prefix).chain(names).collect();
                prefixes.sort_unstable();
                // `web@` covers `web@1`: in sorted order the shorter one precedes all that it covers.
                prefixes.dedup_by(|later, earlier| later.starts_with(&**earlier));
                prefixes.into_iter().map(|prefix| format!("{family}{prefix}")).collect()
            }
            Self::One(name) if family == keys::STATES => [keys::states_of(name)].into(),
            Self::One(name) if by_unit => [format!("{family}{name}")].into(),
            _ => [family.to_owned()].into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(globs: &[&str], family: &str) -> Vec<String> {
        Scope::of(globs.iter().map(|glob| glob.parse().unwrap()).collect()).prefixes(family).into_iter().collect()
    }

    #[test]
    fn only_what_can_match_is_read() {
        assert_eq!(prefixes(&[], keys::UNITS), ["unit/"]);
        assert_eq!(prefixes(&["web@*", "web@1.service", "db.service"], keys::UNITS), ["unit/db.service", "unit/web@"]);
        assert_eq!(prefixes(&["web*"], keys::MACHINES), ["machine/"]);
        assert_eq!(prefixes(&["*"], keys::STATES), ["state/"]);
        let one = Scope::One("a.service".parse().unwrap());
        assert_eq!(one.prefixes(keys::STATES), ["state/a.service/".to_owned()].into());
        assert_eq!(one.prefixes(keys::PLACEMENTS), ["placement/a.service".to_owned()].into());
    }
}
