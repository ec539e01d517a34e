//! Which units return to the hosts that drains took them from, and which wait or stay where they are, and why. Draws on
//! the same budgets as drains.
//!
//! A restore ends by itself: when all that are left of it stay, the leader notes it with each of them, and what fits
//! later isn't brought back unless somebody asks again.

use std::collections::BTreeMap;

use super::super::fit::is_wanted;
use super::super::schedule::Scheduler;
use super::budget::Budgets;
use super::{Cause, Supposed, Verdict, Verdicts, Wait, asked_back, group, returning};
use crate::model::cluster::Cluster;
use crate::model::maintenance::Restore;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::Target;

/// What becomes of the units that are to return. `drained` has those that leave anyway.
pub(super) fn look(
    scheduler: &Scheduler,
    supposed: &mut Supposed<'_>,
    budgets: &mut Budgets<'_>,
    drained: &Verdicts,
) -> Verdicts {
    let mut found = Verdicts::new();
    for (host, restore) in asked_back(scheduler.cluster()) {
        let mut look = Look { cluster: scheduler.cluster(), host, restore, found: BTreeMap::new() };
        for (home, units) in look.by_home(scheduler, drained) {
            for group in group::groups(look.cluster, group::lives(look.cluster, &home)) {
                if group.iter().any(|unit| units.contains(unit)) {
                    look.judge((&group, &units), supposed, budgets);
                }
            }
        }
        if !look.found.is_empty() {
            found.insert(host.clone(), look.found);
        }
    }
    found
}

/// A look at one host.
struct Look<'a> {
    cluster: &'a Cluster,
    host: &'a MachineId,
    restore: &'a Restore,
    found: BTreeMap<UnitName, Verdict>,
}

impl Look<'_> {
    /// The units that the drain took and that could come, by the hosts that they are on. Of the others, the verdict is
    /// known.
    fn by_home(&mut self, scheduler: &Scheduler, drained: &Verdicts) -> BTreeMap<MachineId, Vec<UnitName>> {
        let mut by_home: BTreeMap<MachineId, Vec<UnitName>> = BTreeMap::new();
        for (unit, taken) in scheduler.taken_from(self.host) {
            let is_asked = taken.drain == self.restore.drain && is_wanted(self.cluster, unit);
            let generation = self.cluster.units.get(unit).map(|unit| unit.generation);
            let Some(home) = self.cluster.placed_on(unit).filter(|_| is_asked) else { continue };
            let assignment = self.cluster.schedule.get(home).and_then(|there| there.get(unit));
            let Some(assignment) = assignment.filter(|_| generation == Some(taken.generation)) else { continue };
            let leaves = drained.get(home).and_then(|units| units.get(unit)) == Some(&Verdict::Leaves);
            if !self.cluster.is_to_return(unit, taken) {
                self.found.insert(unit.clone(), Verdict::Stays(vec![unit.clone()]));
            } else if [self.host, home].iter().any(|host| !self.cluster.machines.contains_key(*host)) {
                // Its own host may only be cut off, and still run it.
                self.found.insert(unit.clone(), Verdict::Waits(Wait::Away));
            } else if leaves || assignment.value.target == Target::Removed {
                self.found.insert(unit.clone(), Verdict::Leaving);
            } else {
                by_home.entry(home.clone()).or_default().push(unit.clone());
            }
        }
        by_home
    }

    /// Units that are on one host and must be together, some of which are to return: all of them come, or none.
    fn judge(
        &mut self,
        (group, units): (&[UnitName], &[UnitName]),
        supposed: &mut Supposed<'_>,
        budgets: &mut Budgets<'_>,
    ) {
        let verdict = self.verdict((group, units), supposed, budgets);
        let comes = verdict == Verdict::Leaves;
        let named = group.iter().filter(|unit| comes || units.contains(unit));
        self.found.extend(named.map(|unit| (unit.clone(), verdict.clone())));
    }

    fn verdict(
        &self,
        (group, units): (&[UnitName], &[UnitName]),
        supposed: &mut Supposed<'_>,
        budgets: &mut Budgets<'_>,
    ) -> Verdict {
        let constraints = |unit: &UnitName| self.cluster.constraints(unit);
        let belongs = |unit: &&UnitName| constraints(unit).is_some_and(|c| c.belongs_to_its_host());
        if let Some(bound) = group.iter().find(belongs) {
            return Verdict::Bound(bound.clone());
        }
        let leads = |unit: &&UnitName| constraints(unit).is_none_or(|c| c.machine_of.is_empty());
        if let Some(tied) = group.iter().find(|unit| !units.contains(unit) && leads(unit)) {
            return Verdict::Tied(tied.clone());
        }
        if !supposed.0.fits_on(group, self.host) {
            return Verdict::Stays(group.to_vec());
        }
        let cause = Cause::Host(self.host.clone());
        if let Some(wait) = group.iter().find_map(|unit| budgets.wait(unit, &cause, self.restore.parallel)) {
            return Verdict::Waits(wait);
        }
        group.iter().for_each(|unit| budgets.take(unit, &cause));
        supposed.0.to_mut().suppose(group, self.host);
        Verdict::Leaves
    }
}

/// The units that stay where they are, now that all others are back.
pub(super) fn over(scheduler: &Scheduler, verdicts: &Verdicts) -> Vec<UnitName> {
    let stays = |verdict: &Verdict| matches!(verdict, Verdict::Stays(_) | Verdict::Bound(_) | Verdict::Tied(_));
    let ended = verdicts.iter().filter(|(_, units)| units.values().all(stays));
    ended.flat_map(|(host, _)| returning(scheduler, host)).cloned().collect()
}
