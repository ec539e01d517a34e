//! Reconciles the assignments of a unit: deletes those that were acknowledged as removed or whose host is dead, tells
//! hosts to remove the unit where it must not be, and updates the rest. Owns the state machine of an assignment; must
//! never choose a host.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::rule::Reasons;
use crate::model::unit::{Assignment, Done, Placement, Target};

use super::super::absence::{self, Waits};
use super::super::fit::{Question, Stance, is_wanted};
use super::super::{once, wanted};
use super::decision::{Departure, Reason};
use super::dirty::Rescan;
use super::round::{Round, Unplaced};
use super::tried::forgotten;
use super::{brake, roster};

/// What a unit that isn't planned waits for.
const LEFT_OUT: &str = "for a file with fewer patterns: its Conflicts= and Replaces= cost too much to plan";

impl Round<'_> {
    /// Examine the assignments and the placement of one unit, and queue it if it needs a host.
    pub(super) fn reconcile_unit(&mut self, unit: &UnitName, rescan: Rescan) {
        self.report.examined += 1;
        let wanted = is_wanted(&self.scheduler.cluster, unit);
        let constraints = self.constraints(unit);
        match constraints {
            None if wanted && self.scheduler.index.is_left_out(&self.scheduler.cluster, unit) => {
                self.reconcile_left_out(unit);
            }
            None if wanted => {} // its file will come, and bring it here again
            Some(constraints) if wanted && constraints.global => self.reconcile_global(unit, rescan),
            Some(constraints) if wanted => self.reconcile_single(unit, &constraints, rescan),
            _ => self.reconcile_unwanted(unit),
        }
    }

    fn reconcile_unwanted(&mut self, unit: &UnitName) {
        let known = self.scheduler.cluster.units.contains_key(unit);
        self.clear(unit, None);
        for host in self.live_hosts(unit) {
            self.leave(unit, &host, if known { Departure::Unwanted } else { Departure::Destroyed });
        }
        if !self.scheduler.index.is_anywhere(unit.as_str()) {
            self.set_placement(unit, None);
        }
    }

    /// A unit that isn't planned stays where it is; if it is on no host, its placement gives the reason.
    fn reconcile_left_out(&mut self, unit: &UnitName) {
        let tried = self.scheduler.cluster.tried(unit).and_then(forgotten).map(Box::new);
        self.clear(unit, None);
        if !self.scheduler.index.is_anywhere(unit.as_str()) {
            let placements = &self.scheduler.cluster.placements;
            let since = match placements.get(unit).map(|placement| &placement.value) {
                Some(Placement::Waiting { since, .. }) => *since,
                _ => self.now,
            };
            let (why, reasons) = (LEFT_OUT.into(), Some(Reasons::new()));
            self.set_placement(unit, Some(Placement::Waiting { why, reasons, tried, since }));
            self.pending.why(unit, Reason::Waits { why: LEFT_OUT.into(), left: None });
        }
    }

    fn reconcile_single(&mut self, unit: &UnitName, constraints: &Arc<Constraints>, rescan: Rescan) {
        if self.is_done(unit) {
            self.live_hosts(unit).iter().for_each(|host| self.leave(unit, host, Departure::Done));
            self.clear(unit, None);
            return;
        }
        self.stay_away(unit);
        self.stay_unmoved(unit);
        self.note_tries(unit);
        let (from, to) = (self.taken(unit), self.moves_to(unit));
        let tried = self.scheduler.cluster.tried(unit).cloned().map(Box::new);
        let left = self.clear(unit, None);
        let placement = self.scheduler.cluster.placements.get(unit).map(|placement| placement.value.clone());
        let home = placement.as_ref().and_then(Placement::host);
        let mut stays = false;
        for host in self.live_hosts(unit) {
            if Some(&host) == home
                && let Some(why) = self.scheduler.sent_away.remove(unit)
            {
                stays = true;
                self.send(unit, &host, why);
            } else if Some(&host) == home {
                stays = true;
                self.stay_or_leave(unit, constraints, &host);
            } else {
                self.leave(unit, &host, Departure::Unexplained);
            }
        }
        if stays && self.scheduler.index.is_anywhere(unit.as_str()) {
            return;
        }
        // A unit that is still assigned to some host waits for that host's report.
        if !self.scheduler.index.is_anywhere(unit.as_str()) {
            let rescan = match placement {
                Some(Placement::Waiting { .. }) if left.is_none() => rescan,
                _ => Rescan::Explain,
            };
            self.queue_place(unit, Unplaced { rescan, left, from, tried, to });
        }
    }

    /// Whether a unit has run once and is done, by its placement or now by the report of its host.
    fn is_done(&mut self, unit: &UnitName) -> bool {
        let Some((host, generation)) = once::has_ended(&self.scheduler.cluster, unit) else {
            return self.scheduler.cluster.done(unit).is_some();
        };
        let done = Done { host: host.clone(), generation };
        let reason = Reason::Done { host: self.host(host) };
        self.set_placement(unit, Some(Placement::Done { done, since: self.now }));
        self.pending.why(unit, reason);
        true
    }

    fn reconcile_global(&mut self, unit: &UnitName, rescan: Rescan) {
        let settle = rescan.clone();
        let hosts = match rescan {
            Rescan::Hosts(hosts) => hosts.into_iter().collect(),
            Rescan::Keep | Rescan::Explain => {
                let mut all: Vec<MachineId> = self.scheduler.cluster.machines.keys().cloned().collect();
                all.extend(self.scheduler.index.hosts(unit.as_str()));
                all.sort();
                all.dedup();
                all
            }
        };
        for host in hosts {
            self.clear(unit, Some(&host));
            match self.scheduler.assignment(&host, unit).map(|assignment| assignment.value.target) {
                None => self.queue_spread(unit, &host),
                Some(Target::Removed) => {}
                Some(_) => {
                    let node = self.scheduler.index.nodes.get(unit);
                    let constraints = node.and_then(|node| self.scheduler.view().on((unit, node), &host));
                    if let Some(constraints) = constraints.map(Cow::into_owned) {
                        self.stay_or_leave(unit, &constraints, &host);
                    }
                }
            }
        }
        self.queue_settle(unit, settle);
    }

    /// Whether a host is gone, and this unit of it isn't moved yet. It is looked at again when it may be.
    fn is_held(&mut self, unit: &UnitName, host: &MachineId) -> bool {
        let waits = absence::waits(&self.scheduler.cluster, unit, host, self.now);
        if let Some(Waits::Until(end)) = waits {
            self.scheduler.due = Some(self.scheduler.due.map_or(end, |due| due.min(end)));
            // Otherwise, the unit would wait until the clock of an earlier leader is right.
            if roster::is_ahead(&self.scheduler.cluster, host, self.now) {
                self.scheduler.dirty.held_host(host);
            }
        }
        waits.is_some_and(|waits| waits.go_on(self.now)) || brake::is_held(&self.scheduler.cluster, host, self.now)
    }

    /// Delete assignments that have ended, because the host is dead or has acknowledged. A placement on such a host is
    /// deleted in the same transaction, even while other hosts have yet to acknowledge. Returns the last host that was
    /// left. Only moves are held: a unit that isn't to run any more leaves a dead host at once.
    fn clear(&mut self, unit: &UnitName, only: Option<&MachineId>) -> Option<(MachineId, Departure)> {
        let mut left = None;
        let hosts = match only {
            Some(host) => vec![host.clone()],
            None => self.scheduler.index.hosts(unit.as_str()),
        };
        let would_move = is_wanted(&self.scheduler.cluster, unit);
        for host in hosts {
            let because =
                if self.scheduler.assignment(&host, unit).is_none() || (would_move && self.is_held(unit, &host)) {
                    continue;
                } else if !self.scheduler.cluster.machines.contains_key(&host) {
                    Departure::HostGone
                } else if self.scheduler.is_acknowledged(&host, unit) {
                    Departure::Stopped
                } else {
                    continue;
                };
            self.set_assignment(unit, &host, None);
            if self.scheduler.cluster.placed_on(unit) == Some(&host) {
                self.set_placement(unit, None);
            }
            let name = self.host(&host);
            self.pending.why_at(unit, &host, Reason::Left { host: name, because: because.clone() });
            left = Some((host, because));
        }
        left
    }

    fn live_hosts(&self, unit: &UnitName) -> Vec<MachineId> {
        let mut hosts = self.scheduler.index.hosts(unit.as_str());
        hosts.retain(|host| {
            self.scheduler.assignment(host, unit).is_some_and(|assignment| assignment.value.target != Target::Removed)
        });
        hosts
    }

    fn stay_or_leave(&mut self, unit: &UnitName, constraints: &Arc<Constraints>, host: &MachineId) {
        // It is examined again when the host is back, or when the hold is over.
        if self.is_held(unit, host) {
            return;
        }
        let question = Question { unit, constraints, host, stance: Stance::Stay, with: &[] };
        while let Some(misfit) = self.scheduler.first_misfit(&question) {
            // No unit leaves because of another one that may itself leave. Each iteration takes a unit from the dirty
            // set, so this ends.
            let dirty = misfit.other().and_then(|other| self.scheduler.dirty.take_unit(other));
            let Some((other, rescan)) = dirty else {
                return self.leave(unit, host, Departure::Misfit(misfit));
            };
            self.reconcile_unit(&other, rescan);
        }
        let Some(assignment) = self.wanted_assignment(unit, host, constraints) else { return };
        if self.scheduler.assignment(host, unit).map(|known| &known.value) != Some(&assignment) {
            self.set_assignment(unit, host, Some(assignment));
            self.pending.why_at(unit, host, Reason::Updated { host: self.host(host) });
        }
    }

    /// The assignment that a host must have of a unit that belongs there.
    pub(super) fn wanted_assignment(
        &self,
        unit: &UnitName,
        host: &MachineId,
        constraints: &Constraints,
    ) -> Option<Assignment> {
        wanted::assignment(&self.scheduler.cluster, unit, host, constraints)
    }

    /// Tell a host to stop and remove a unit. An assignment that was made in this round is withdrawn instead.
    pub(super) fn leave(&mut self, unit: &UnitName, host: &MachineId, because: Departure) {
        if self.pending.is_new(unit, host) {
            if !self.pending.may_take_back(unit) {
                return;
            }
            self.set_assignment(unit, host, None);
            self.scheduler.dirty.unit(unit, Rescan::Explain);
            return;
        }
        let Some(assignment) = self.scheduler.assignment(host, unit) else { return };
        // Greater than the assignment's previous generation, even if the store's revision isn't known here.
        let generation = self.scheduler.cluster.revision.max(assignment.value.generation.next());
        let gone = Assignment { target: Target::Removed, generation, ..assignment.value.clone() };
        self.set_assignment(unit, host, Some(gone));
        self.pending.why_at(unit, host, Reason::Leaves { host: self.host(host), because });
    }
}
