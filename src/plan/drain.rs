//! Which units are told to leave hosts that are drained, and which wait or stay, and why. Pure; `timers` is what the
//! leader has seen. Owns the budgets: how many units are on their way at once. Must never decide where a unit goes
//! (`schedule` does), nor write anything.
//!
//! A unit is told to leave only when a host that fits is known, for it and for all that must be with it. So none is
//! stopped in vain, unless the drain says so (`force`).

mod budget;
mod group;
#[cfg(test)]
mod tests;
mod timers;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::fit::is_wanted;
use super::schedule::Scheduler;
use crate::model::cluster::Cluster;
use crate::model::maintenance::Drain;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::Target;
use budget::Budgets;
pub use timers::Timers;

/// What becomes of a unit on a host that is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is to leave now.
    Leaves,
    /// It was told to leave, and its host has yet to stop it.
    Leaving,
    /// It could go, and waits for this.
    Waits(Wait),
    /// No other host fits it together with these, which must be on the same host: itself, and those that are tied to
    /// it.
    Stays(Vec<UnitName>),
    /// It, or this one which must be with it, belongs to the host (`MoveAfterSec=infinity`).
    Bound(UnitName),
    /// It is global: it belongs to the host.
    Global,
}

/// What a unit that could go waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Other members of its set aren't well.
    Set {
        /// One of those.
        unwell: UnitName,
        /// How many may be.
        parallel: usize,
        /// The set.
        set: UnitName,
    },
    /// So many units are on their way.
    Parallel(u32),
    /// It runs for a rollout, and must run once.
    Hook,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { unwell, parallel, set } => write!(f, "{unwell} isn't ready yet (Parallel={parallel} of {set})"),
            Self::Parallel(parallel) => write!(f, "{parallel} units are on their way (--parallel)"),
            Self::Hook => write!(f, "it runs for a rollout"),
        }
    }
}

/// What becomes of the units on hosts, by host.
pub type Verdicts = BTreeMap<MachineId, BTreeMap<UnitName, Verdict>>;

/// The hosts that are registered and drained.
fn drained(cluster: &Cluster) -> impl Iterator<Item = (&MachineId, &Drain)> {
    let drained = cluster.maintenance.iter().filter_map(|(host, asked)| Some((host, asked.value.drain.as_deref()?)));
    drained.filter(|(host, _)| cluster.machines.contains_key(*host))
}

/// Those with something left on them that isn't global.
pub fn under_way(cluster: &Cluster) -> impl Iterator<Item = (&MachineId, &Drain)> {
    drained(cluster)
        .filter(|(host, _)| cluster.schedule.get(*host).into_iter().flatten().any(|(_, told)| !told.value.global))
}

/// What becomes of the units on the hosts that are drained, at `now`, in ms since the epoch.
#[must_use]
pub fn look(scheduler: &Scheduler, timers: &Timers, now: u64) -> Verdicts {
    let cluster = scheduler.cluster();
    let mut found = Verdicts::new();
    let mut supposed = Supposed::of(scheduler);
    let mut budgets = Budgets::of(cluster, timers);
    for (host, drain) in drained(cluster) {
        let verdicts = found.entry(host.clone()).or_default();
        let mut movable = Vec::new();
        for (unit, told) in cluster.schedule.get(host).into_iter().flatten() {
            let is_there = told.value.target != Target::Removed;
            match is_wanted(cluster, unit) {
                true if told.value.global => drop(verdicts.insert(unit.clone(), Verdict::Global)),
                true if !is_there => drop(verdicts.insert(unit.clone(), Verdict::Leaving)),
                true if cluster.placed_on(unit) == Some(host) => movable.push(unit.clone()),
                _ => {}
            }
        }
        let is_over = timers.is_over(host, drain, now);
        for group in group::groups(cluster, movable) {
            let belongs = |unit: &&UnitName| cluster.constraints(unit).is_some_and(|c| c.belongs_to_its_host());
            if let Some(bound) = group.iter().find(belongs) {
                verdicts.extend(group.iter().map(|unit| (unit.clone(), Verdict::Bound(bound.clone()))));
                continue;
            }
            let verdict = supposed.verdict(&mut budgets, (host, drain, is_over), &group);
            verdicts.extend(group.iter().map(|unit| (unit.clone(), verdict.clone())));
        }
    }
    found
}

/// Tell the units to leave that are to leave now.
pub fn step(scheduler: &mut Scheduler, timers: &mut Timers, now: u64) {
    if scheduler.cluster().maintenance.is_empty() {
        return;
    }
    timers.see(scheduler.cluster(), now);
    for (host, units) in look(scheduler, timers, now) {
        for (unit, _) in units.into_iter().filter(|(_, verdict)| *verdict == Verdict::Leaves) {
            scheduler.send_away(unit.clone());
            timers.leaves(unit, host.clone());
        }
    }
}

/// The cluster as it would be if all that leave drained hosts were on others already. The scheduler is copied only if
/// any do, so that what stays on a drained host costs later looks no copy.
struct Supposed<'a>(Cow<'a, Scheduler>);

impl<'a> Supposed<'a> {
    fn of(scheduler: &'a Scheduler) -> Self {
        let mut supposed = Self(Cow::Borrowed(scheduler));
        let cluster = scheduler.cluster();
        let there = drained(cluster).filter_map(|(host, _)| Some((host, cluster.schedule.get(host)?)));
        for (host, (unit, told)) in there.flat_map(|(host, there)| there.iter().map(move |told| (host, told))) {
            let moves = told.value.target == Target::Removed && !told.value.global && is_wanted(cluster, unit);
            if moves && let Some(other) = supposed.0.elsewhere(std::slice::from_ref(unit), host) {
                supposed.0.to_mut().suppose(std::slice::from_ref(unit), &other);
            }
        }
        supposed
    }

    fn verdict(
        &mut self,
        budgets: &mut Budgets<'_>,
        (host, drain, is_over): (&MachineId, &Drain, bool),
        group: &[UnitName],
    ) -> Verdict {
        let other = self.0.elsewhere(group, host);
        if other.is_none() && !drain.force {
            return Verdict::Stays(group.to_vec());
        }
        if !is_over && let Some(wait) = group.iter().find_map(|unit| budgets.wait(unit, host, drain)) {
            return Verdict::Waits(wait);
        }
        group.iter().for_each(|unit| budgets.take(unit, host));
        if let Some(other) = other {
            self.0.to_mut().suppose(group, &other);
        }
        Verdict::Leaves
    }
}
