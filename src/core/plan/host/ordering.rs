//! Decides which starts are deferred. A start job pulls in all units that are required, including those that are being
//! stopped, and systemd would cancel their stop jobs for it. Must never start or stop anything.

use std::collections::BTreeSet;

use crate::model::name::UnitName;
use crate::model::systemd::JobKind;
use crate::model::unit::Target;
use crate::plan::converge::{Step, Steps, next};

use super::{HostState, Log, Unit};

impl HostState {
    /// Defer those starts in `steps` that would bring back a unit that is leaving. They are decided on again in every
    /// pass.
    pub(super) fn defer_starts(&mut self, steps: &mut Steps) {
        let waits = |name: &UnitName| self.pulls_in(name, |other| self.is_leaving(other));
        let (deferred, now): (Vec<_>, Vec<_>) = std::mem::take(&mut steps.start).into_iter().partition(waits);
        steps.start = now;
        self.log.extend(deferred.iter().cloned().map(Log::Deferred));
        self.deferred.extend(deferred);
    }

    /// Whether `name` pulls in, directly or not, a unit for which `condition` holds.
    fn pulls_in(&self, name: &UnitName, condition: impl Fn(&UnitName) -> bool) -> bool {
        self.reaches(name, Unit::pulls, condition)
    }

    /// Whether a unit that satisfies `condition` is reachable from `name` through `names`.
    fn reaches(
        &self,
        name: &UnitName,
        names: impl Fn(&Unit) -> &[UnitName],
        condition: impl Fn(&UnitName) -> bool,
    ) -> bool {
        let named = |name: &UnitName| self.units.get(name).map_or(&[][..], &names);
        let mut open: Vec<&UnitName> = named(name).iter().collect();
        let mut seen: BTreeSet<&UnitName> = BTreeSet::from([name]);
        while let Some(other) = open.pop() {
            if seen.insert(other) {
                if condition(other) {
                    return true;
                }
                open.extend(named(other));
            }
        }
        false
    }

    /// Whether a unit is being stopped, or will be stopped or removed; or was removed and may still be in memory.
    fn is_leaving(&self, name: &UnitName) -> bool {
        if self.unloading.contains_key(name) {
            return true;
        }
        let Some(unit) = self.units.get(name).filter(|unit| !unit.unreadable && unit.file.is_some()) else {
            return false;
        };
        let seen = unit.seen();
        let stopping = seen.job == Some(JobKind::Stop);
        if self.is_protected(name) {
            // The cluster didn't decide this, but an operator may be stopping it.
            return stopping;
        }
        let leaves = unit.assignment.as_ref().is_none_or(|assignment| assignment.target == Target::Removed);
        leaves || stopping || next(unit.assignment.as_ref(), &seen) == Some(Step::Stop)
    }

    /// Whether a unit is being stopped or will be stopped, and won't be started again.
    pub(super) fn stays_down(&self, name: &UnitName) -> bool {
        let Some(unit) = self.units.get(name).filter(|unit| !unit.is_launched() && !unit.unreadable) else {
            return false;
        };
        let seen = unit.seen();
        !self.is_protected(name)
            && (seen.job == Some(JobKind::Stop) || next(unit.assignment.as_ref(), &seen) == Some(Step::Stop))
    }

    /// Whether a unit that satisfies `condition` takes `name` down with it, directly or not.
    pub(super) fn is_bound_to(&self, name: &UnitName, condition: impl Fn(&UnitName) -> bool) -> bool {
        self.reaches(name, Unit::binds, condition)
    }
}
