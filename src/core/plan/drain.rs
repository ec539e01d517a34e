//! Which units are told to leave hosts that are drained, to return to hosts that were, or to move because a person
//! asked for it; and which wait or stay, and why. Pure; `timers` is what the leader has seen. Owns the budgets: how
//! many units are on their way at once. Must never decide where a unit goes (`schedule` does), nor write anything.
//!
//! A unit is told to leave only when a host that fits is known, for it and for all that must be with it. So none is
//! stopped in vain, unless the drain says so (`force`).

mod budget;
pub mod group;
pub mod moves;
mod restore;
#[cfg(test)]
pub(in crate::plan) mod tests;
mod timers;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::fit::is_wanted;
use super::schedule::{Departure, Scheduler};
use crate::model::cluster::Cluster;
use crate::model::maintenance::{Drain, Restore};
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Taken, Target};
use budget::Budgets;
use moves::Moves;
pub use timers::Timers;
use timers::{Cause, OnItsWay};

/// What becomes of a unit on a host that is drained; or of one that is to return to such a host, and leaves another one
/// for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is to leave now.
    Leaves,
    /// It was told to leave, and its host has yet to stop it; or it is about to be told, because its placement doesn't
    /// name this host.
    Leaving,
    /// It could go, and waits for this.
    Waits(Wait),
    /// No other host fits it together with these, or not the one that it is to return to. These must be on the same
    /// host: itself, and those that are tied to it.
    Stays(Vec<UnitName>),
    /// It, or this one which must be with it, belongs to the host (`MoveAfterSec=infinity`).
    Bound(UnitName),
    /// It must be with this one, which isn't to return.
    Tied(UnitName),
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
    /// So many units move.
    Moves(u32),
    /// It runs for a rollout, and must run once.
    Hook,
    /// The host that it is to return to, or to leave, is away.
    Away,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { unwell, parallel, set } => write!(f, "{unwell} isn't ready yet (Parallel={parallel} of {set})"),
            Self::Parallel(parallel) => write!(f, "{parallel} units are on their way (--parallel)"),
            Self::Moves(parallel) => write!(f, "{parallel} units move already"),
            Self::Hook => write!(f, "it runs for a rollout"),
            Self::Away => write!(f, "the host is away"),
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
    drained(cluster).filter(|(host, _)| {
        cluster.schedule.get(*host).into_iter().flatten().any(|(_, assignment)| !assignment.value.global)
    })
}

/// The hosts to which units are to return, registered or not.
fn asked_back(cluster: &Cluster) -> impl Iterator<Item = (&MachineId, &Restore)> {
    cluster.maintenance.iter().filter_map(|(host, asked)| Some((host, asked.value.restore.as_deref()?)))
}

/// The units that are to return to `host`.
fn returning<'a>(scheduler: &'a Scheduler, host: &MachineId) -> impl Iterator<Item = &'a UnitName> {
    let is_to_return = |(unit, taken): &(&UnitName, &Taken)| scheduler.cluster().is_to_return(unit, taken);
    scheduler.taken_from(host).filter(is_to_return).map(|(unit, _)| unit)
}

/// The registered hosts to which units are to return that haven't yet, and these.
fn coming_back(scheduler: &Scheduler) -> impl Iterator<Item = (&MachineId, &UnitName)> {
    let there = asked_back(scheduler.cluster()).filter(|(host, _)| scheduler.cluster().machines.contains_key(*host));
    there.flat_map(|(host, _)| returning(scheduler, host).map(move |unit| (host, unit)))
}

/// Whether units are to leave hosts because of a drain, of the end of one, or because a person asked for it.
#[must_use]
pub fn is_under_way(scheduler: &Scheduler) -> bool {
    let moves = || scheduler.asked_to_move().next().is_some();
    under_way(scheduler.cluster()).next().is_some() || coming_back(scheduler).next().is_some() || moves()
}

/// What becomes of units.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Those on hosts that are drained.
    pub drained: Verdicts,
    /// Those that are to return to hosts, by these.
    pub returning: Verdicts,
    /// Those that are to move, and those that go with them.
    pub moving: Moves,
}

/// What becomes of the units that are to leave their hosts, at `now`, in ms since the epoch.
#[must_use]
pub fn look(scheduler: &Scheduler, timers: &Timers, now: u64) -> Found {
    let mut supposed = Supposed::of(scheduler);
    let mut budgets = Budgets::of(scheduler, timers);
    let drained = look_at_drains(scheduler.cluster(), (timers, now), &mut supposed, &mut budgets);
    let returning = restore::look(scheduler, &mut supposed, &mut budgets, &drained);
    let moving = moves::look(scheduler, &mut supposed, &mut budgets, &drained);
    Found { drained, returning, moving }
}

fn look_at_drains(
    cluster: &Cluster,
    (timers, now): (&Timers, u64),
    supposed: &mut Supposed<'_>,
    budgets: &mut Budgets<'_>,
) -> Verdicts {
    let mut found = Verdicts::new();
    for (host, drain) in drained(cluster) {
        let verdicts = found.entry(host.clone()).or_default();
        let mut movable = Vec::new();
        for (unit, assignment) in cluster.schedule.get(host).into_iter().flatten() {
            let is_there = assignment.value.target != Target::Removed;
            match is_wanted(cluster, unit) {
                true if assignment.value.global => drop(verdicts.insert(unit.clone(), Verdict::Global)),
                true if is_there && cluster.placed_on(unit) == Some(host) => movable.push(unit.clone()),
                // The leader has told it to leave, or is about to: it repairs a store that contradicts itself.
                true => drop(verdicts.insert(unit.clone(), Verdict::Leaving)),
                false => {}
            }
        }
        let is_over = timers.is_over(host, drain, now);
        for group in least_important_first(cluster, group::groups(cluster, movable)) {
            let belongs = |unit: &&UnitName| cluster.constraints(unit).is_some_and(|c| c.belongs_to_its_host());
            if let Some(bound) = group.iter().find(belongs) {
                verdicts.extend(group.iter().map(|unit| (unit.clone(), Verdict::Bound(bound.clone()))));
                continue;
            }
            let verdict = supposed.verdict(budgets, (host, drain, is_over), &group);
            verdicts.extend(group.iter().map(|unit| (unit.clone(), verdict.clone())));
        }
    }
    found
}

/// Groups in the order in which it is their turn: those with a lower `Priority=` are first, and of those with the same
/// one their order stays. The highest one of a group counts: whoever must not be disturbed isn't before its time.
fn least_important_first(cluster: &Cluster, mut groups: Vec<Vec<UnitName>>) -> Vec<Vec<UnitName>> {
    let priority = |unit: &UnitName| cluster.constraints(unit).map_or(0, |constraints| constraints.priority());
    groups.sort_by_cached_key(|group| group.iter().map(priority).max());
    groups
}

/// Tell the units to leave that are to leave now, for another host or for the one that they return to. Returns whether
/// it is to be done again as soon as what is about to be placed is placed: until then, it isn't known who can return,
/// or move.
pub fn step(scheduler: &mut Scheduler, timers: &mut Timers, now: u64) -> bool {
    if scheduler.cluster().maintenance.is_empty() && !is_under_way(scheduler) {
        return false;
    }
    timers.see(scheduler.cluster(), now);
    let Found { drained, mut returning, mut moving } = look(scheduler, timers, now);
    let is_early = !(returning.is_empty() && moving.is_empty()) && scheduler.is_about_to_place();
    if is_early {
        returning.clear();
        moving.clear();
    }
    moves::step(scheduler, timers, moving);
    let stay = restore::over(scheduler, &returning);
    stay.into_iter().for_each(|unit| scheduler.keep_away(unit));
    for (all, why) in [(drained, Departure::Drained), (returning, Departure::Returns)] {
        for (host, units) in all {
            for (unit, _) in units.into_iter().filter(|(_, verdict)| *verdict == Verdict::Leaves) {
                let home = scheduler.cluster().placed_on(&unit).cloned();
                let (home, cause) = (home.unwrap_or_else(|| host.clone()), Cause::Host(host.clone()));
                timers.leaves(unit.clone(), OnItsWay { home, cause });
                scheduler.send_away(unit, why.clone());
            }
        }
    }
    is_early
}

/// The cluster as it would be if all that leave drained hosts were on others already. The scheduler is copied only if
/// any do, so that what stays on a drained host costs later looks no copy.
struct Supposed<'a>(Cow<'a, Scheduler>);

impl<'a> Supposed<'a> {
    fn of(scheduler: &'a Scheduler) -> Self {
        let mut supposed = Self(Cow::Borrowed(scheduler));
        let cluster = scheduler.cluster();
        let there = drained(cluster).filter_map(|(host, _)| Some((host, cluster.schedule.get(host)?)));
        let leaves = there.flat_map(|(host, there)| there.keys().map(move |unit| (host, unit)));
        let returns = coming_back(scheduler).filter_map(|(_, unit)| Some((cluster.placed_on(unit)?, unit)));
        let returns = returns.filter(|(home, _)| cluster.asked_of(home).is_none_or(|asked| asked.drain.is_none()));
        for (host, unit) in leaves.chain(returns) {
            let assignment =
                cluster.schedule.get(host).and_then(|there| there.get(unit)).map(|assignment| &assignment.value);
            let moves = assignment.is_some_and(|assignment| assignment.target == Target::Removed && !assignment.global);
            let is_sent =
                cluster.placements.get(unit).and_then(|known| known.value.moved()).is_some_and(|m| m.to.is_some());
            if moves
                && !is_sent
                && is_wanted(cluster, unit)
                && let Some(other) = supposed.0.elsewhere(std::slice::from_ref(unit), host)
            {
                supposed.0.to_mut().suppose(std::slice::from_ref(unit), &other);
            }
        }
        for (unit, to) in scheduler.on_their_way() {
            supposed.0.to_mut().suppose(std::slice::from_ref(unit), to);
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
        let cause = Cause::Host(host.clone());
        if !is_over && let Some(wait) = group.iter().find_map(|unit| budgets.wait(unit, &cause, drain.parallel)) {
            return Verdict::Waits(wait);
        }
        group.iter().for_each(|unit| budgets.take(unit, &cause));
        if let Some(other) = other {
            self.0.to_mut().suppose(group, &other);
        }
        Verdict::Leaves
    }
}
