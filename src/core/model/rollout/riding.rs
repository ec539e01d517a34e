//! Riders in the rollout of their lead: templates with as many members as the set, whose members get their new files
//! together with those of the same number. Owns which file each unit of such a rollout has before and after it.

use serde::{Deserialize, Serialize};

use super::{File, Rollout};
use crate::model::name::{UnitHash, UnitName};

/// The files of a rider in the rollout of its lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiderFiles {
    /// The hash of the file that its members are to have.
    pub target: UnitHash,
    /// The file before it: the last one that was stable. The same if it hasn't changed.
    pub from: File,
}

impl RiderFiles {
    /// Of a rider whose file hasn't changed.
    #[must_use]
    pub fn unchanged(hash: &UnitHash) -> Self {
        Self { target: hash.clone(), from: File { hash: hash.clone(), text: None } }
    }
}

impl Rollout {
    /// The hash of the file that `unit`, which takes part in it, is to have.
    #[must_use]
    pub fn target_of(&self, unit: &UnitName) -> &UnitHash {
        self.rider_of(unit).map_or(&self.target, |rider| &rider.target)
    }

    /// The file that `unit`, which takes part in it, goes back to.
    #[must_use]
    pub fn from_of(&self, unit: &UnitName) -> &File {
        self.rider_of(unit).map_or(&self.from, |rider| &rider.from)
    }

    /// Whether it brings `unit`, which takes part in it, another file than the one before.
    #[must_use]
    pub fn changes(&self, unit: &UnitName) -> bool {
        *self.target_of(unit) != self.from_of(unit).hash
    }

    /// Whether it changes the files of riders, and not that of the set.
    #[must_use]
    pub fn is_of_riders(&self) -> bool {
        self.target == self.from.hash && self.riders.values().any(|rider| rider.target != rider.from.hash)
    }

    /// The files of the rider that `unit` is a member of; `None` if it is a member of the set itself.
    fn rider_of(&self, unit: &UnitName) -> Option<&RiderFiles> {
        if self.riders.is_empty() {
            return None;
        }
        self.riders.get(&unit.set()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rollout::Phase;

    #[test]
    fn each_unit_has_the_files_of_its_template() {
        let (file, name) = (|hash: &str| UnitHash::new(hash), |text: &str| text.parse::<UnitName>().unwrap());
        let from = File { hash: file("old"), text: None };
        let rider = RiderFiles { target: file("next"), from: File { hash: file("last"), text: None } };
        let kept = RiderFiles::unchanged(&file("same"));
        let riders = [(name("log@.service"), rider), (name("pull@.service"), kept)].into();
        let rollout = Rollout { riders, ..Rollout::begun(file("new"), from, Phase::Rolling, 0) };
        for (unit, target, from) in [
            ("web@1.service", "new", "old"),
            ("log@1.service", "next", "last"),
            ("pull@7.service", "same", "same"),
            // The names of riders and of others begin alike.
            ("log@1.socket", "new", "old"),
        ] {
            let unit = name(unit);
            let files = (rollout.target_of(&unit).as_str(), rollout.from_of(&unit).hash.as_str());
            assert_eq!(files, (target, from), "{unit}");
            assert_eq!(rollout.changes(&unit), target != from, "{unit}");
        }
        assert!(!rollout.is_of_riders());
        let same = File { hash: file("new"), text: None };
        let of_riders = Rollout { from: same, ..rollout };
        assert!(of_riders.is_of_riders());
        assert!(!Rollout { riders: [].into(), ..of_riders }.is_of_riders());
    }
}
