//! Gives units a host, or a reason why they wait. Owns the records that are written for each; must never move a unit
//! that has a host: `reconcile_unit` decides which units leave.

use std::collections::BTreeSet;

use crate::model::name::{MachineId, UnitName};
use crate::model::unit::Placement;

use super::super::fit::is_wanted;
use super::decision::{Because, Reason};
use super::dirty::Rescan;
use super::group::{Group, Groups};
use super::round::{Round, Unplaced};
use super::tried::forgotten;

impl Round<'_> {
    /// Place one unit: its colocation targets before it, its dependents together with it.
    pub(super) fn place(&mut self, unit: &UnitName) {
        let Group { core, whole } = Groups { view: self.scheduler.view(), unplaced: &self.unplaced }.next(unit);
        // A cycle is examined on every host where any of its members must be.
        let mut rescan = Rescan::Hosts(BTreeSet::new());
        for known in core.iter().filter_map(|name| self.unplaced.get(name)) {
            rescan.widen(known.rescan.clone());
        }
        for name in &whole {
            self.scheduler.index.find_eligible(&self.scheduler.cluster, name);
        }
        let view = self.scheduler.view();
        let ready = core.iter().all(|name| view.is_ready(name));
        let choose = |group: &[UnitName]| {
            let avoided = self.avoided(group);
            let back = || self.return_to(group).filter(|(host, _)| !avoided.contains(host));
            let found = self.move_to(group).or_else(back);
            found.or_else(|| view.choose(group, &rescan, &self.infeasible, &avoided))
        };
        let (members, found) = match ready.then(|| choose(&whole)).flatten() {
            Some(found) => (whole, Some(found)),
            None if ready && whole.len() > core.len() => {
                let found = choose(&core);
                (core, found)
            }
            None => (core, None),
        };
        match found {
            Some((host, because)) => members.iter().for_each(|name| self.put(name, &host, &because)),
            None => members.iter().for_each(|name| self.wait(name, &members, &rescan)),
        }
        for name in &members {
            self.unplaced.remove(name);
        }
    }

    fn put(&mut self, unit: &UnitName, host: &MachineId, because: &Because) {
        // One that is done may be named by a cycle.
        let Some(constraints) = self.constraints(unit).filter(|_| self.scheduler.cluster.done(unit).is_none()) else {
            return;
        };
        let known = self.unplaced.remove(unit).map(|known| (known.left, known.from, known.tried));
        let (left, from, tried) = known.unwrap_or_default();
        let from = self.remembered(unit, host, from);
        let left = left.map(|(host, why)| (self.host(&host), why));
        let moved = self.moved(unit);
        self.set_placement(unit, Some(Placement::On { host: host.clone(), since: self.now, from, tried, moved }));
        // After the placement, which may have a greater generation than the unit's record.
        let assignment = self.wanted_assignment(unit, host, &constraints);
        self.set_assignment(unit, host, assignment);
        self.pending.why(unit, Reason::Placed { host: self.host(host), because: because.clone(), left });
    }

    /// No host fits.
    fn wait(&mut self, unit: &UnitName, group: &[UnitName], tried: &Rescan) {
        if !is_wanted(&self.scheduler.cluster, unit)
            || self.scheduler.cluster.done(unit).is_some()
            || self.constraints(unit).is_none_or(|constraints| constraints.global)
        {
            return; // only named by a cycle
        }
        // A member of a cycle is retried as long as any of them is.
        let unplaced = self.unplaced.remove(unit).unwrap_or_else(|| Unplaced::of(tried));
        self.explain_waiting(unit, group, unplaced);
    }

    /// Store why a unit waits, unless its placement already says so.
    fn explain_waiting(&mut self, unit: &UnitName, group: &[UnitName], unplaced: Unplaced) {
        let Unplaced { rescan, left, tried, .. } = unplaced;
        let view = self.scheduler.view();
        let stored = view.cluster.placements.get(unit).map(|placement| &placement.value);
        let mut since = self.now;
        if let Some(Placement::Waiting { reasons, since: known, .. }) = stored {
            since = *known;
            if let Some(reasons) = reasons
                && self.infeasible.still_hold(view, reasons, (unit, group), &rescan)
            {
                return;
            }
        }
        let why = self.infeasible.explain(view, unit, group);
        let tried = tried.as_deref().and_then(forgotten).map(Box::new);
        let placement = Placement::Waiting { why: why.sentence.clone(), reasons: Some(why.reasons), tried, since };
        if stored != Some(&placement) {
            let left = left.map(|(host, why)| (self.host(&host), why));
            self.set_placement(unit, Some(placement));
            self.pending.why(unit, Reason::Waits { why: why.sentence, left });
        }
    }

    /// Assign a global unit to a host, if it fits there.
    pub(super) fn spread(&mut self, unit: &UnitName, host: &MachineId) {
        let Some(node) = self.scheduler.index.nodes.get(unit) else { return };
        let constraints = self.scheduler.view().on((unit, node), host);
        let Some(constraints) = constraints.filter(|constraints| constraints.global) else { return };
        let free = self.scheduler.assignment(host, unit).is_none();
        if free
            && self.scheduler.view().first_violation(unit, node, host, &[]).is_none()
            && let Some(assignment) = self.wanted_assignment(unit, host, &constraints)
        {
            self.set_assignment(unit, host, Some(assignment));
            let because = Because::LeastLoaded { passed: 0 };
            self.pending.why_at(unit, host, Reason::Placed { host: self.host(host), because, left: None });
        }
    }

    /// A global unit has a placement only while it has no assignment.
    pub(super) fn settle(&mut self, unit: &UnitName, rescan: &Rescan) {
        if self.scheduler.index.is_anywhere(unit.as_str()) {
            self.set_placement(unit, None);
        } else {
            self.explain_waiting(unit, &[], Unplaced::of(rescan));
        }
    }
}
