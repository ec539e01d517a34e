//! Which unit makes planning expensive. Owns the estimate, and when a unit is the cause of a plan that took too long;
//! must never depend on how planning is done.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::cluster::Cluster;
use crate::model::name::{UnitHash, UnitName};

/// A unit with fewer comparisons than this can't take seconds: a comparison takes less than a microsecond.
const SUSPICIOUS: usize = 1_000_000;

/// What one unit's patterns cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) unit: UnitName,
    pub(super) hash: UnitHash,
    /// The patterns of its `Conflicts=` and `Replaces=`.
    pub(super) patterns: usize,
    /// The names that each of them is compared with.
    pub(super) names: usize,
}

impl Cost {
    /// The cost of a unit with this file; `None` while the file isn't known.
    pub(super) fn of(cluster: &Cluster, unit: &UnitName, hash: &UnitHash) -> Option<Self> {
        let patterns = cluster.files.get(hash)?.value.patterns();
        Some(Self { unit: unit.clone(), hash: hash.clone(), patterns, names: cluster.units.len() })
    }

    fn comparisons(&self) -> usize {
        self.patterns.saturating_mul(self.names)
    }
}

/// The most expensive unit so far, shared with a thread that may never return.
#[derive(Debug, Clone, Default)]
pub(super) struct Suspect(Arc<Mutex<Option<Cost>>>);

impl Suspect {
    /// Account for one unit that is about to be planned.
    pub(super) fn consider(&self, cost: Option<Cost>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let more = |cost: &Cost| known.as_ref().is_none_or(|known| cost.comparisons() > known.comparisons());
        if let Some(cost) = cost.filter(more) {
            *known = Some(cost);
        }
    }

    /// Account for all units.
    pub(super) fn consider_all(&self, cluster: &Cluster) {
        let costs = cluster.units.iter().filter_map(|(unit, record)| Cost::of(cluster, unit, &record.hash));
        self.consider(costs.max_by_key(Cost::comparisons));
    }

    /// The unit to leave out because leadership ended while planning took `took`, if one was the cause.
    pub(super) fn blamed(&self, took: Duration, ttl: Duration) -> Option<Cost> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.filter(|cost| took >= ttl && cost.comparisons() >= SUSPICIOUS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::{Change, Versioned};
    use crate::model::file::UnitFile;
    use crate::model::placement::Constraints;
    use crate::model::revision::Revision;
    use crate::model::unit::{Desired, Unit};

    /// As many units, each with a file of its own; the first with this many patterns.
    fn cluster(units: usize, patterns: usize) -> Cluster {
        let mut cluster = Cluster::default();
        for at in 0..units {
            let section: String =
                (0..if at == 0 { patterns } else { 1 }).map(|pattern| format!("Conflicts=*{pattern}x{at}\n")).collect();
            let file = UnitFile::parse(format!("[X-Fleet]\n{section}").as_bytes()).unwrap();
            let value = Constraints::parse(&file).unwrap().into();
            let revision = Revision(1);
            let hash = file.hash();
            let unit = Unit::new(Desired::Launched, hash.clone(), revision);
            cluster.apply(Change::File(hash, Some(Versioned { value, revision })));
            cluster.apply(Change::Unit(format!("u{at}.service").parse().unwrap(), Some(unit)));
        }
        cluster
    }

    #[test]
    fn the_most_expensive_unit_is_blamed_for_a_long_plan_and_only_if_it_can_be() {
        let second = Duration::from_secs(1);
        let cases = [(1_001, 1_000, 10, true), (1_001, 1_000, 9, false), (900, 1_000, 60, false)];
        for (units, patterns, seconds, blamed) in cases {
            let suspect = Suspect::default();
            suspect.consider_all(&cluster(units, patterns));
            let found = suspect.blamed(second * seconds, second * 10);
            let expected = blamed.then(|| ("u0.service".to_owned(), patterns, units));
            assert_eq!(found.map(|cost| (cost.unit.to_string(), cost.patterns, cost.names)), expected);
        }
    }

    #[test]
    fn a_cheaper_unit_doesnt_hide_a_more_expensive_one() {
        let suspect = Suspect::default();
        for (unit, patterns) in [("u0.service", 9_000), ("u1.service", 1)] {
            suspect.consider(Some(Cost {
                unit: unit.parse().unwrap(),
                hash: UnitHash::new("a"),
                patterns,
                names: 200,
            }));
        }
        let blamed = suspect.blamed(Duration::MAX, Duration::ZERO).map(|cost| cost.unit.to_string());
        assert_eq!(blamed.as_deref(), Some("u0.service"));
    }
}
