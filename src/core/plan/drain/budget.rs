//! How many units may be away at a time: of a set, `Parallel=` of its rollouts, which draw on the same; of other units
//! from a host or to one, what the drain or the restore says; of those that are moved, ten. A unit that isn't well
//! serves nobody, and may always go, as may one that no longer fits its host: that one leaves anyway. One of which its
//! host says nothing yet may serve: it keeps the budget, and makes no room for others.

use std::collections::BTreeMap;

use super::super::gate::{instances, is_hook, is_spare};
use super::super::pace::MemberState;
use super::super::rollouts::member_of;
use super::super::schedule::Scheduler;
use super::{Cause, Timers, Wait};
use crate::model::cluster::Cluster;
use crate::model::name::UnitName;
use crate::model::unit::Desired;

/// What is left of the budgets.
pub(super) struct Budgets<'a> {
    scheduler: &'a Scheduler,
    sets: BTreeMap<UnitName, SetBudget>,
    /// The units without a set that are on their way, by what they are for.
    moving: BTreeMap<Cause, usize>,
}

/// How the members of a set stand.
struct SetBudget {
    parallel: usize,
    /// Members that have a host.
    placed: usize,
    healthy: usize,
    /// One that isn't.
    unwell: Option<UnitName>,
}

impl<'a> Budgets<'a> {
    pub(super) fn of(scheduler: &'a Scheduler, timers: &Timers) -> Self {
        Self { scheduler, sets: BTreeMap::new(), moving: timers.moving(scheduler) }
    }

    /// What `unit` waits for, of those with this `cause`; `None` if it may go.
    pub(super) fn wait(&mut self, unit: &UnitName, cause: &Cause, parallel: u32) -> Option<Wait> {
        let cluster = self.scheduler.cluster();
        if is_hook(cluster, unit) {
            return Some(Wait::Hook);
        }
        let Some(set) = set_of(cluster, unit) else {
            let moving = self.moving.get(cause).copied().unwrap_or_default();
            let wait = match cause {
                Cause::Host(_) => Wait::Parallel(parallel),
                Cause::Asked => Wait::Moves(parallel),
            };
            return (moving >= parallel as usize).then_some(wait);
        };
        let may_serve = is_healthy(self.scheduler, unit) || is_unknown(cluster, unit);
        let budget = self.set(&set);
        let is_free = !may_serve || budget.healthy + budget.parallel > budget.placed;
        let unwell = budget.unwell.clone().unwrap_or_else(|| unit.clone());
        (!is_free).then_some(Wait::Set { unwell, parallel: budget.parallel, set })
    }

    /// `unit` leaves for this.
    pub(super) fn take(&mut self, unit: &UnitName, cause: &Cause) {
        let Some(set) = set_of(self.scheduler.cluster(), unit) else {
            *self.moving.entry(cause.clone()).or_default() += 1;
            return;
        };
        let is_healthy = is_healthy(self.scheduler, unit);
        let budget = self.set(&set);
        budget.healthy -= usize::from(is_healthy);
        budget.unwell.get_or_insert_with(|| unit.clone());
    }

    fn set(&mut self, set: &UnitName) -> &mut SetBudget {
        let scheduler = self.scheduler;
        self.sets.entry(set.clone()).or_insert_with(|| SetBudget::of(scheduler, set))
    }
}

impl SetBudget {
    fn of(scheduler: &Scheduler, set: &UnitName) -> Self {
        let cluster = scheduler.cluster();
        // One that somebody has stopped is none, as in rollouts.
        let is_member = |name: &&UnitName| cluster.units.get(*name).is_some_and(|m| m.desired == Desired::Launched);
        let members = instances(cluster, set).filter(is_member);
        let states: Vec<(&UnitName, MemberState)> =
            members.map(|name| (name, member_of(cluster, name).state)).collect();
        let placed: Vec<_> = states.iter().filter(|(_, state)| !state.is_gone()).collect();
        let (healthy, unwell): (Vec<_>, Vec<_>) =
            placed.iter().copied().partition(|(name, state)| goes_on(scheduler, name, state));
        // Spares serve and are away as the others are; a share is one of those that they stand in for, as in rollouts.
        let own = states.iter().filter(|(name, _)| !is_spare(cluster, name)).count();
        let file = cluster.units.get(set).and_then(|unit| cluster.files.get(&unit.hash));
        let policy = file.and_then(|file| file.value.rollout.as_deref().cloned()).unwrap_or_default();
        Self {
            parallel: policy.parallel.at_least_one_of(own),
            placed: placed.len(),
            healthy: healthy.len(),
            unwell: unwell.first().map(|(name, _)| (*name).clone()),
        }
    }
}

fn is_healthy(scheduler: &Scheduler, unit: &UnitName) -> bool {
    goes_on(scheduler, unit, &member_of(scheduler.cluster(), unit).state)
}

/// Whether a unit in this state serves, and goes on to if it isn't sent away.
fn goes_on(scheduler: &Scheduler, unit: &UnitName, state: &MemberState) -> bool {
    *state == MemberState::Healthy && !scheduler.no_longer_fits(unit)
}

/// Whether its host is there and has no report of it that counts. A leader that begins to lead just when a host has
/// registered with a new lease knows nothing of units that have run all along.
fn is_unknown(cluster: &Cluster, unit: &UnitName) -> bool {
    let host = cluster.placed_on(unit).filter(|host| cluster.machines.contains_key(*host));
    host.is_some_and(|host| cluster.report(unit, host).is_none())
}

/// The set that a unit is a member of.
fn set_of(cluster: &Cluster, unit: &UnitName) -> Option<UnitName> {
    unit.set().filter(|set| cluster.units.get(set).is_some_and(|set| set.replicas.is_some()))
}
