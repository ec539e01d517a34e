//! The units that a question is about. Owns which ranges of keys can contain the answer; reads nothing itself.

use std::collections::BTreeSet;

use crate::model::cluster::Change;
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitName};

use super::keys;

/// A question about more names and patterns than this reads whole families instead of a range for each.
const MAX_RANGES: usize = 32;

/// Reports are read with a range for each name or pattern and each host, up to this many; otherwise all are read.
const MAX_REPORT_RANGES: usize = 1000;

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

    /// Whether it includes every unit.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(self, Self::All)
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
            | Change::History(name, _)
            | Change::Gate(name, _)
            | Change::Placement(name, _)
            | Change::Assignment(_, name, _)
            | Change::Report(name, ..) => self.has(name),
            // The rollout of a set concerns its members.
            Change::Rollout(..) => true,
            Change::File(..) | Change::Machine(..) | Change::Roster(..) => true,
            Change::Metadata(..) | Change::Maintenance(..) | Change::Settings(..) => true,
        }
    }

    /// The ranges of a family that contain the scope, and possibly more, to be filtered. `hosts` are the hosts that are
    /// registered: only they have reports.
    pub(super) fn prefixes(&self, family: &str, hosts: &BTreeSet<MachineId>) -> BTreeSet<String> {
        let whole = || BTreeSet::from([family.to_owned()]);
        match (family, self.beginnings()) {
            (keys::UNITS | keys::PLACEMENTS | keys::GATES, Some(names)) => {
                names.into_iter().map(|name| format!("{family}{name}")).collect()
            }
            (keys::STATES, Some(names)) if names.len() * (hosts.len() + 1) <= MAX_REPORT_RANGES => {
                let prefixes = |name: &&str| {
                    let of_host = |host: &MachineId| format!("{}{name}", keys::states_of(host));
                    let unit_first = std::iter::once(format!("{family}{name}"));
                    unit_first.chain(hosts.iter().map(of_host)).collect::<Vec<_>>()
                };
                names.iter().flat_map(prefixes).collect()
            }
            _ => whole(),
        }
    }

    /// What the names of its units begin with; `None` if these are too many, or if nothing is known of them.
    fn beginnings(&self) -> Option<Vec<&str>> {
        match self {
            Self::All => None,
            Self::One(name) => Some(vec![name.as_str()]),
            Self::Some { names, globs } if names.len() + globs.len() <= MAX_RANGES => {
                let names = names.iter().map(|name| &**name);
                let mut all: Vec<&str> = globs.iter().map(Glob::literal_prefix).chain(names).collect();
                all.sort_unstable();
                // `web@` covers `web@1`: in sorted order the shorter one precedes all that it covers.
                all.dedup_by(|later, earlier| later.starts_with(&**earlier));
                Some(all).filter(|all| all != &[""])
            }
            Self::Some { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a";

    fn prefixes(globs: &[&str], family: &str) -> Vec<String> {
        let scope = Scope::of(globs.iter().map(|glob| glob.parse().unwrap()).collect());
        scope.prefixes(family, &[HOST.parse().unwrap()].into()).into_iter().collect()
    }

    #[test]
    fn only_what_can_match_is_read() {
        assert_eq!(prefixes(&[], keys::UNITS), ["unit/"]);
        assert_eq!(prefixes(&["web@*", "web@1.service", "db.service"], keys::UNITS), ["unit/db.service", "unit/web@"]);
        assert_eq!(prefixes(&["web*"], keys::MACHINES), ["machine/"]);
        assert_eq!(prefixes(&["*"], keys::STATES), ["state/"]);
        assert_eq!(prefixes(&["web*"], keys::STATES), [format!("state/{HOST}/web"), "state/web".to_owned()]);
        let one = Scope::One("a.service".parse().unwrap());
        assert_eq!(one.prefixes(keys::PLACEMENTS, &BTreeSet::new()), ["placement/a.service".to_owned()].into());
    }

    #[test]
    fn in_a_large_cluster_all_reports_are_read_at_once() {
        let hosts = (1..=MAX_REPORT_RANGES).map(|number| format!("{number:032x}").parse().unwrap()).collect();
        let scope = Scope::of(vec!["web*".parse().unwrap()]);
        assert_eq!(scope.prefixes(keys::STATES, &hosts), ["state/".to_owned()].into());
    }
}
