//! How much there is on the hosts that take part, as it changes with each move. Owns which hosts can't be emptier than
//! another one; must never decide whether units are to move.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::super::fit::resources::offered;
use super::super::schedule::{Load, Scheduler};
use crate::model::name::MachineId;
use crate::model::resources::{Kind, Resources};

/// A host in the order in which units leave: the fullest first.
pub(super) type Full = (Reverse<Load>, MachineId);

/// What is on the hosts.
#[derive(Debug, Default)]
pub(super) struct Levels {
    loads: BTreeMap<MachineId, Load>,
    full: BTreeSet<Full>,
    /// How many of them have so many units.
    units: BTreeMap<usize, usize>,
    /// The most that one of them offers; without a limit if one of them offers nothing.
    most: [u64; 2],
}

impl Levels {
    pub(super) fn of(scheduler: &Scheduler, open: &BTreeSet<MachineId>) -> Self {
        let most = Kind::ALL.map(|kind| {
            let offers = open.iter().map(|host| offered(scheduler.cluster(), host, kind));
            offers.map(|amount| if amount == 0 { u64::MAX } else { amount }).max().unwrap_or(u64::MAX)
        });
        let mut levels = Self { most, ..Self::default() };
        for host in open {
            levels.put(host, scheduler.load(host));
        }
        levels
    }

    fn put(&mut self, host: &MachineId, load: Load) {
        self.loads.insert(host.clone(), load);
        self.full.insert((Reverse(load), host.clone()));
        *self.units.entry(load.units).or_default() += 1;
    }

    /// There is so much on a host now.
    pub(super) fn changed(&mut self, host: &MachineId, load: Load) {
        let Some(before) = self.loads.get(host).copied() else { return };
        self.full.remove(&(Reverse(before), host.clone()));
        if let Some(count) = self.units.get_mut(&before.units) {
            *count -= 1;
            if *count == 0 {
                self.units.remove(&before.units);
            }
        }
        self.put(host, load);
    }

    /// The fullest host after this one, or of all.
    pub(super) fn next(&self, after: Option<&Full>) -> Option<Full> {
        let after = after.map_or(Bound::Unbounded, |full| Bound::Excluded(full.clone()));
        self.full.range((after, Bound::Unbounded)).next().cloned()
    }

    /// The least share of any host that units take who take this, in percent, rounded down.
    pub(super) fn share(&self, takes: Resources) -> u64 {
        let of = |(kind, most): (Kind, u64)| u128::from(takes.of(kind)) * 100 / u128::from(most.max(1));
        let least = Kind::ALL.into_iter().zip(self.most).map(of).min().unwrap_or_default();
        u64::try_from(least).unwrap_or(u64::MAX)
    }

    /// Whether a host may have fewer units than `home` without these.
    fn may_have_fewer(&self, home: Load, units: usize) -> bool {
        let fewest = self.units.first_key_value().map_or(0, |(units, _)| *units);
        fewest + units < home.units
    }

    /// Whether a host may be emptier for so many units on `home`, which take this share of a host at least, if they
    /// take any. It has less of memory or CPU taken, with them, or fewer units.
    pub(super) fn may_be_emptier(&self, home: Load, units: usize, takes: Option<u64>) -> bool {
        let least = self.full.last().map_or(0, |(Reverse(load), _)| load.share);
        self.may_have_fewer(home, units) || takes.is_some_and(|share| least.saturating_add(share) < home.share)
    }

    /// The share that must be free of them on an emptier host: more is taken of the others without these units than of
    /// `home` with them. `None` if that alone excludes none, because some have fewer units.
    pub(super) fn below(&self, home: &MachineId, units: usize, takes: Option<u64>) -> Option<u64> {
        let home = self.loads.get(home).copied().filter(|home| !self.may_have_fewer(*home, units))?;
        Some(home.share.saturating_sub(takes.unwrap_or_default()))
    }
}
