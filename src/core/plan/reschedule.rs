//! What becomes of units that their hosts' systemd has given up, if their files say so (`Reschedule=on-failure`): each
//! is moved to a host where it hasn't failed, or started again where it is, and when. Pure; `timers` is what the leader
//! has seen. Owns the delays, and that one host gets one such unit at a time. Must never decide where a unit goes
//! (`schedule` does), nor write anything.
//!
//! ```text
//!  failed --(delay)--> another host fits, where it hasn't failed? --yes--> moves there
//!     ^                     |no, or it has failed on three hosts
//!     |                     +--> started again where it is
//!     +-------- fails again, and the delay doubles; well for ten minutes: all of it is forgotten
//! ```

#[cfg(test)]
mod tests;
mod timers;

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::drain::group::group_of;
use super::gate::is_hook;
use super::schedule::Scheduler;
use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::reschedule::MAX_HOSTS;
use crate::model::rollout::Rollout;
use crate::model::systemd::ActiveState;
use crate::model::unit::{Target, UnitReport};
pub use timers::Timers;
use timers::{Seen, Standing};

/// The unit that a change is about, if its state may follow from it.
pub use timers::about;

/// When a failed unit is tried again, and where it has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// The hosts on which it failed, the one that it is on last.
    pub hosts: Vec<MachineId>,
    /// When it is tried again, in ms since the epoch, by the clock of its host. A leader that came later waits longer.
    pub at: u64,
}

impl Outlook {
    /// Whether it isn't moved any more, because it has failed on so many hosts.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.hosts.len() >= MAX_HOSTS
    }
}

/// What is to come for a unit with these constraints; `None` unless it has failed and is tried again by itself.
#[must_use]
pub fn outlook(cluster: &Cluster, name: &UnitName, constraints: &Constraints) -> Option<Outlook> {
    let policy = constraints.reschedule()?;
    let unit = cluster.units.get(name)?;
    let host = cluster.placed_on(name)?;
    let report = cluster.report(name, host).filter(|report| has_failed(report) && report.hash == unit.hash)?;
    let tried = cluster.tried(name);
    let asked = tried.and_then(|tried| tried.again).unwrap_or_default().max(unit.generation);
    if report.generation < asked || is_under_rollout(cluster, name) {
        return None;
    }
    let hosts = failed_on(cluster, name, host);
    let delay = policy.delay_ms(tried.map_or(0, |tried| tried.times), hosts.len());
    Some(Outlook { hosts, at: report.since.saturating_add(delay) })
}

/// The hosts on which `unit` has failed, now that it has on `host`.
fn failed_on(cluster: &Cluster, unit: &UnitName, host: &MachineId) -> Vec<MachineId> {
    let earlier = cluster.tried(unit).into_iter().flat_map(|tried| &tried.hosts);
    earlier.filter(|earlier| *earlier != host).chain([host]).cloned().collect()
}

fn has_failed(report: &UnitReport) -> bool {
    report.target == Target::Launched && report.active == ActiveState::Failed && report.job.is_none()
}

/// Whether a rollout that the unit takes part in is undecided: then that fails instead.
fn is_under_rollout(cluster: &Cluster, unit: &UnitName) -> bool {
    let set = unit.set();
    let concerns = |name: &UnitName, rollout: &Rollout| {
        let of_set = |set: &UnitName| name == set || rollout.riders.contains_key(set);
        name == unit || set.as_ref().is_some_and(of_set)
    };
    let mut rollouts = cluster.rollouts.iter().map(|(name, rollout)| (name, &rollout.value));
    is_hook(cluster, unit) || rollouts.any(|(name, rollout)| !rollout.phase.is_over() && concerns(name, rollout))
}

/// What is done with one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    /// It goes to another host, with those that must be with it.
    Move(UnitName, Vec<UnitName>),
    /// It is started again where it is.
    Start(UnitName),
    /// Its failures are forgotten.
    Forget(UnitName),
}

/// Have failed units moved or started again whose time has come at `now`, in ms since the epoch.
pub fn step(scheduler: &mut Scheduler, timers: &mut Timers, now: u64) {
    timers.update(scheduler.cluster(), now);
    for act in decide(scheduler, timers, now) {
        match act {
            Act::Move(unit, group) => {
                scheduler.move_away(&group, &unit);
                timers.changed(unit);
            }
            Act::Start(unit) => {
                scheduler.start_again(unit.clone());
                timers.changed(unit);
            }
            Act::Forget(unit) => {
                scheduler.forget_tries(unit.clone());
                timers.changed(unit);
            }
        }
    }
    timers.wind(scheduler.cluster(), now);
}

fn decide(scheduler: &Scheduler, timers: &Timers, now: u64) -> Vec<Act> {
    let due = timers.due_units(scheduler.cluster(), now);
    if due.is_empty() {
        return Vec::new();
    }
    let mut look = Look::of(scheduler, timers, now);
    let act = |(unit, seen): (&UnitName, &Seen)| match seen.standing {
        Standing::Well => Some(Act::Forget(unit.clone())),
        _ => look.act(scheduler, unit, &seen.host),
    };
    due.into_iter().filter_map(act).collect()
}

/// The cluster as it would be if all that are on their way had arrived. The scheduler is copied only if any are.
struct Look<'a> {
    supposed: Cow<'a, Scheduler>,
    /// The hosts that get a unit already.
    busy: BTreeSet<MachineId>,
}

impl<'a> Look<'a> {
    fn of(scheduler: &'a Scheduler, timers: &Timers, now: u64) -> Self {
        let mut look = Self { supposed: Cow::Borrowed(scheduler), busy: timers.arriving_on(now) };
        for (unit, home) in timers.leaving() {
            let group = std::slice::from_ref(unit);
            if let Some(other) = look.supposed.elsewhere(group, home) {
                look.supposed.to_mut().suppose(group, &other);
                look.busy.insert(other);
            }
        }
        look
    }

    /// What is done with `unit`, which has failed on `home`; `None` if it waits.
    fn act(&mut self, scheduler: &Scheduler, unit: &UnitName, home: &MachineId) -> Option<Act> {
        let cluster = scheduler.cluster();
        let is_held = |unit: &UnitName| scheduler.is_sent_away(unit) || is_under_rollout(cluster, unit);
        if is_held(unit) {
            return None;
        }
        let group = group_of(cluster, home, unit);
        let stays =
            |unit: &UnitName| is_held(unit) || cluster.constraints(unit).is_none_or(|c| c.belongs_to_its_host());
        let may_move = failed_on(cluster, unit, home).len() < MAX_HOSTS && !group.iter().any(stays);
        let other = may_move.then(|| self.supposed.untried(&group, home)).flatten();
        let host = other.as_ref().unwrap_or(home);
        if !self.busy.insert(host.clone()) {
            return None;
        }
        let Some(other) = other else { return Some(Act::Start(unit.clone())) };
        self.supposed.to_mut().suppose(&group, &other);
        Some(Act::Move(unit.clone(), group))
    }
}
