//! How good hosts are for units that are taken off theirs: the questions of `plan::rebalance`, answered with the
//! indexes and the order by which units are placed. Must never decide whether a unit is to move.

use crate::model::name::{MachineId, UnitName};
use crate::model::resources::Resources;

use super::super::fit::View as _;
use super::super::fit::preferred::Distance;
use super::super::fit::resources::share;
use super::Scheduler;
use super::index::Indexed;
pub use super::score::Load;
use super::wishes::Wishes;

/// How good a host is for units that are on none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merit {
    /// How far it is from what they prefer.
    pub distance: Distance,
    /// How many of the units that they avoid there avoid them as well, because they are members of the same set.
    pub beside: usize,
    /// How much there is on the host without them.
    pub without: Load,
    /// The same with them.
    pub with: Load,
}

/// Measures hosts for units that are on none.
pub struct Measure<'a> {
    view: Indexed<'a>,
    wishes: Option<Wishes<'a>>,
    resources: Resources,
    units: usize,
}

impl Scheduler {
    /// Suppose that these units aren't on `host`.
    pub fn take_off(&mut self, group: &[UnitName], host: &MachineId) {
        group.iter().for_each(|unit| self.set_assignment(host, unit, None));
    }

    /// Remember what is the same for all hosts, to measure them for these units.
    pub fn prepare(&mut self, group: &[UnitName]) {
        group.iter().for_each(|unit| self.index.find_eligible(&self.cluster, unit));
    }

    /// How good hosts are for these units, of which the first one leads.
    #[must_use]
    pub fn measure(&self, group: &[UnitName]) -> Measure<'_> {
        let view = self.view();
        let wishes = Wishes::of(view, group, &view.members(group));
        let of = |unit: &UnitName| view.constraints(unit).map(|known| known.resources).unwrap_or_default();
        let resources = group.iter().fold(Resources::default(), |sum, unit| sum.with(of(unit)));
        Measure { view, wishes, resources, units: group.len() }
    }

    /// How much there is on a host.
    #[must_use]
    pub fn load(&self, host: &MachineId) -> Load {
        self.index.load(&self.cluster, host)
    }
}

impl Measure<'_> {
    /// Whether no other host that fits can be preferred to this one, while the units are on it. Not known of several
    /// units, which count for each other.
    #[must_use]
    pub fn is_content(&self, host: &MachineId) -> bool {
        self.wishes.as_ref().is_none_or(|wishes| self.units == 1 && wishes.are_fulfilled(host))
    }

    /// How good this host is.
    #[must_use]
    pub fn merit(&self, host: &MachineId) -> Merit {
        let Indexed { cluster, index } = self.view;
        let without = index.load(cluster, host);
        let taken = index.amounts.on(host).amount.with(self.resources);
        let with = Load { share: share(cluster, host, taken), units: without.units + self.units };
        let (distance, beside) = self.wishes.as_ref().map(|wishes| wishes.distance(host)).unwrap_or_default();
        Merit { distance, beside, without, with }
    }
}
