//! How much memory and CPU of a host the units on it take, and how much it offers. Owns the sums, found by searching;
//! the scheduler keeps the same in its index. Units that declare nothing take nothing.

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::resources::{Kind, Resources};
use crate::model::unit::Target;

/// What units on a host take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// All of them together.
    pub amount: Resources,
    /// How many they are.
    pub units: usize,
}

impl Taken {
    /// The same with a unit that takes this.
    #[must_use]
    pub fn and(self, amount: Resources) -> Self {
        Self { amount: self.amount.with(amount), units: self.units + usize::from(!amount.is_none()) }
    }

    /// The same without a unit that takes this.
    #[must_use]
    pub fn but(self, amount: Resources) -> Self {
        let units = self.units.saturating_sub(usize::from(!amount.is_none()));
        Self { amount: self.amount.without(amount), units }
    }
}

/// What a unit takes of a host that has it or is to have it: what the file says that it has, or must have, there.
#[must_use]
pub fn declared(cluster: &Cluster, unit: &UnitName, host: &MachineId) -> Resources {
    let file = cluster.file_on(unit, host).and_then(|hash| cluster.files.get(hash));
    file.map(|file| file.value.resources).unwrap_or_default()
}

/// What all units take that are assigned to a host, also while they are loaded only, or have yet to leave.
#[must_use]
pub fn taken_on(cluster: &Cluster, host: &MachineId) -> Taken {
    let there = cluster.schedule.get(host).into_iter().flat_map(|there| there.keys());
    there.fold(Taken::default(), |taken, unit| taken.and(declared(cluster, unit, host)))
}

/// How much of something units can take of a host: what it has, less what is reserved, by the percentage of the
/// cluster. Nothing of a host that doesn't report what it has.
#[must_use]
pub fn offered(cluster: &Cluster, host: &MachineId, kind: Kind) -> u64 {
    let Some((machine, has)) = cluster.machines.get(host).and_then(|machine| Some((machine, machine.has(kind)?)))
    else {
        return 0;
    };
    let percent = u128::from(overcommit(cluster, kind));
    let offered = u128::from(has.saturating_sub(machine.reserved.of(kind))) * percent / 100;
    u64::try_from(offered).unwrap_or(u64::MAX)
}

/// How much of what a host has can be taken, in percent.
pub(super) fn overcommit(cluster: &Cluster, kind: Kind) -> u32 {
    match kind {
        Kind::Memory => cluster.settings.overcommit_memory(),
        Kind::Cpu => cluster.settings.overcommit_cpu(),
    }
}

/// The larger share of what a host offers that is taken, in whole percent. All of it if it offers nothing.
#[must_use]
pub fn share(cluster: &Cluster, host: &MachineId, taken: Resources) -> u64 {
    Kind::ALL.into_iter().map(|kind| share_of(cluster, host, kind, taken)).max().unwrap_or_default()
}

/// The same of one kind.
#[must_use]
pub fn share_of(cluster: &Cluster, host: &MachineId, kind: Kind, taken: Resources) -> u64 {
    let taken = taken.of(kind);
    if taken == 0 {
        return 0;
    }
    let percent = (u128::from(taken) * 100).checked_div(u128::from(offered(cluster, host, kind)));
    percent.map_or(100, |percent| u64::try_from(percent).unwrap_or(u64::MAX))
}

/// Whether a host says that it runs a unit.
pub(super) fn runs(cluster: &Cluster, unit: &UnitName, host: &MachineId) -> bool {
    cluster.report(unit, host).is_some_and(|report| report.target == Target::Launched)
}
