//! Who comes back after a replacement or a restart: systemd stops the units that need one that is stopped, and starts
//! none of them again. Owns who ran before; must never start what didn't.

use std::collections::BTreeSet;

use crate::model::name::UnitName;
use crate::model::unit::Target;
use crate::plan::converge::Job;

use super::Units;
use crate::agent::boot_state::Executed;
use crate::agent::unit::Unit;

impl Units {
    /// These are about to be stopped, some only for a new file or to be started again.
    pub(in crate::agent) fn stopping(&mut self, names: &[UnitName]) {
        let returning: BTreeSet<UnitName> =
            names.iter().filter(|name| self.units.get(*name).is_some_and(Unit::is_replaced)).cloned().collect();
        if returning.is_empty() {
            return;
        }
        // Noted before it happens: the daemon may not be there to see it.
        for name in self.bound_to(&returning).iter().filter(|name| !names.contains(name)) {
            self.mark_returning(name);
        }
        self.replacing.extend(returning);
    }

    /// These have a stop job. Those that are stopped for a restart aren't stopped for it again, whoever starts them
    /// now.
    pub(in crate::agent) fn stopped(&mut self, name: &UnitName) {
        let unit = self.mark_dirty(name);
        unit.stopped_for = unit.entry.as_ref().and_then(|entry| entry.restart).filter(|_| unit.is_restarting());
    }

    /// These are about to be started, some after they were stopped for it: that half of a restart is over. Whether any
    /// is.
    pub(in crate::agent) fn restarting(&mut self, names: &[UnitName]) -> bool {
        let mut any = false;
        for name in names {
            let Some(unit) = self.units.get_mut(name).filter(|unit| unit.is_restarting()) else { continue };
            let asked = unit.entry.as_ref().and_then(|entry| entry.restart);
            if let Some(record) = &mut unit.record {
                (record.restart, record.undone, any) = (asked, true, true);
            }
        }
        any
    }

    /// A unit has a stop job. If nobody here has asked for that while others are replaced, it is stopped with them,
    /// whatever its file says. A job that has ended tells nothing: it may have been a start.
    pub(in crate::agent) fn is_stopped_too(&mut self, name: &UnitName) {
        if !self.replacing.is_empty() {
            self.mark_returning(name);
        }
    }

    fn mark_returning(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let launched = unit.entry.as_ref().is_some_and(|entry| entry.target == Target::Launched);
        let stays = |record: &&mut Executed| launched && record.target == Target::Launched && !record.undone;
        if let Some(record) = unit.record.as_mut().filter(stays) {
            record.returning = true;
            self.records_changed = true;
        }
    }

    /// Those that were stopped too, once all new files are there and all that are restarted have stopped.
    pub(in crate::agent) fn replaced(&mut self) -> Vec<UnitName> {
        let units = &self.units;
        self.replacing.retain(|name| units.get(name).is_some_and(Unit::is_replaced));
        let returns = |unit: &Unit| unit.record.as_ref().is_some_and(|record| record.returning);
        if !self.followed || !self.replacing.is_empty() {
            return Vec::new();
        }
        self.units.iter().filter(|(_, unit)| returns(unit)).map(|(name, _)| name.clone()).collect()
    }

    /// Start those of `names` again that don't run any more.
    pub(in crate::agent) fn restart_dependents(&mut self, names: &[UnitName]) {
        for name in names {
            let down = |unit: &Unit| !unit.seen().running || unit.seen().job == Some(Job::Stop);
            let down = self.units.get(name).is_some_and(down);
            let unit = self.mark_dirty(name);
            unit.retry |= down;
            if let Some(record) = &mut unit.record {
                record.returning = false;
            }
            self.records_changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::model::name::UnitHash;
    use crate::model::revision::Revision;
    use crate::model::unit::Assignment;
    use crate::systemd::{self, Event};

    #[test]
    fn the_end_of_a_start_is_no_stop_although_it_was_seen_before_it_was_heard_of() {
        let name: UnitName = "once.service".parse().unwrap();
        let mut units = Units::new(Clock::simulated(0));
        units.followed = true;
        units.replacing.insert("other.service".parse().unwrap());
        let (hash, target, generation) = (UnitHash::new("a"), Target::Launched, Revision(1));
        units.mark_dirty(&name).entry = Some(Assignment { hash, target, global: false, generation, restart: None });
        units.record(&name, None);
        let over = systemd::Unit { load: "loaded".into(), active: "inactive".into(), sub: "dead".into(), job: None };
        units.observe([(name.clone(), over)].into());
        units.on_event(&Event::JobDone { unit: name.clone(), result: "done".into() });
        let returning = |units: &Units| units.get(&name).unwrap().record.as_ref().unwrap().returning;
        assert!(!returning(&units));
        let stopping =
            systemd::Unit { load: "loaded".into(), active: "active".into(), sub: "".into(), job: Some("stop".into()) };
        units.observe([(name.clone(), stopping)].into());
        assert!(returning(&units));
    }
}
