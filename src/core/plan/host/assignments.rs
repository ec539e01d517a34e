//! Applies assignments, and decides when a missing assignment means that the unit must be removed. Owns the reaction to
//! a store that was rolled back: lost data must never be taken for a decision.

use std::collections::BTreeMap;

use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::{Moment, Revision};
use crate::model::unit::{Assignment, Target};

use super::{Assigned, Assignments, HostState, Log, Lost, Unit, Unreadable};

impl HostState {
    /// A new presence begins. The assignments may have changed meanwhile, so nothing is done until they are listed
    /// again. The reports in the store are unknown, since they are deleted with a lease.
    pub(super) fn registered(&mut self) {
        self.assignments_known = false;
        self.forget_reports();
        self.begin_return();
        self.lease_is_new();
    }

    /// The assignments have changed.
    pub(super) fn follow(&mut self, assignments: Assignments) {
        match assignments {
            Assignments::Changed(revision, changes) => {
                for (name, assigned) in changes {
                    self.apply_assignment(&name, assigned);
                }
                self.history.revision = self.history.revision.max(revision);
            }
            Assignments::All(at, all) => {
                self.assignments_known = true;
                self.see_history(at);
                let was_assigned = |unit: &Unit| unit.assignment.is_some() || unit.unreadable;
                let gone = self
                    .units
                    .iter()
                    .filter(|(name, unit)| was_assigned(unit) && !all.contains_key(*name) && !name.is_template());
                let gone: Vec<UnitName> = gone.map(|(name, _)| name.clone()).collect();
                for name in gone {
                    self.lose_assignment(&name);
                }
                for (name, assigned) in all {
                    self.apply_assignment(&name, Some(assigned));
                }
                // Units on disk that have no assignment are removed now.
                self.dirty.extend(self.units.keys().cloned());
            }
        }
        self.follow_templates();
    }

    /// Templates are assigned to the host by the units that bring them: each is on the host, loaded, as long as one of
    /// these is assigned to it or still has its file there.
    fn follow_templates(&mut self) {
        let mut brought: BTreeMap<&UnitName, (Revision, &UnitHash, Option<&UnitHash>)> = BTreeMap::new();
        for unit in self.units.values() {
            let Some(assignment) = &unit.assignment else { continue };
            if assignment.target == Target::Removed && unit.file.is_none() {
                continue;
            }
            for (template, hash) in &assignment.templates {
                // While a change of the template arrives, two units may carry different files of it.
                let carried = (assignment.generation, hash, assignment.template_texts.get(template));
                brought.entry(template).and_modify(|known| *known = (*known).max(carried)).or_insert(carried);
            }
        }
        let assigned = |name: &UnitName| self.units.get(name).and_then(|unit| unit.assignment.as_ref());
        let over = self.units.keys().filter(|name| name.is_template() && !brought.contains_key(name));
        let over: Vec<UnitName> = over.cloned().collect();
        let is_carried = |known: &Assignment, (_, hash, text): &(Revision, &UnitHash, Option<&UnitHash>)| {
            known.hash == **hash && known.text.as_ref() == *text
        };
        let changed =
            brought.iter().filter(|(name, carried)| !assigned(name).is_some_and(|known| is_carried(known, carried)));
        let changed: Vec<(UnitName, Assignment)> = changed
            .map(|(name, (generation, hash, text))| {
                let assignment = Assignment::new((*hash).clone(), Target::Loaded, *generation);
                ((*name).clone(), Assignment { global: true, text: text.cloned(), ..assignment })
            })
            .collect();
        for template in over {
            self.mark_dirty(&template).assignment = None;
        }
        for (template, assignment) in changed {
            self.apply_assignment(&template, Some(Ok(assignment)));
        }
    }

    fn apply_assignment(&mut self, name: &UnitName, assigned: Option<Assigned>) {
        if !self.units.contains_key(name) {
            self.unseen.insert(name.clone());
        }
        if assigned.is_some() {
            if self.history.orphans.remove(name) {
                self.unsaved.history = true;
            }
            self.leader_has_assigned(name);
        }
        match assigned {
            None => self.lose_assignment(name),
            Some(Ok(assignment)) => {
                let unit = self.mark_dirty(name);
                let taken_over = unit.executed.as_mut().is_some_and(|executed| executed.take_over(&assignment));
                (unit.assignment, unit.held_until, unit.unreadable) = (Some(assignment), None, false);
                self.unsaved.executed |= taken_over;
            }
            Some(Err(Unreadable)) => self.mark_dirty(name).unreadable = true,
        }
    }

    /// An assignment is gone. The leader deletes it without having asked for the removal of the unit only if it treats
    /// this host as dead. The agent may learn this from the deletion first: if its lease was ended before it expired.
    fn lose_assignment(&mut self, name: &UnitName) {
        let unit = self.mark_dirty(name);
        unit.unreadable = false;
        unit.held_until = None;
        let lost = unit.assignment.take();
        if lost.is_some_and(|lost| lost.target != Target::Removed) && !name.is_template() {
            self.begin_return();
        }
    }

    /// A store whose revision is lower than one observed earlier has lost data (etcd was set up from scratch, or from
    /// an old backup), and so has one with another id, whatever its revision is. A missing assignment then isn't a
    /// decision: such units keep running until they are assigned again. After that they are treated like any other
    /// unit, and the new history is trusted as the old one was.
    fn see_history(&mut self, now: Moment) {
        let known = Moment { cluster: self.history.cluster, revision: self.history.revision };
        if known.is_lost_at(now) {
            self.log.push(Log::StoreRolledBack { seen: known.revision, now: now.revision });
            (self.history.rolled_back, self.history.revision) = (true, now.revision);
            // The store may have earlier ones.
            self.forget_reports();
        }
        self.history.cluster = now.cluster;
        self.history.revision = self.history.revision.max(now.revision);
    }

    /// After a rollback of the store, once assignments and disk are known: record the units that keep running.
    pub(super) fn protect_orphans(&mut self) {
        if !self.history.rolled_back || !self.assignments_known {
            return;
        }
        self.renumber();
        let orphan = |unit: &Unit| unit.assignment.is_none() && !unit.unreadable && unit.file.is_some();
        let orphans = self.units.iter().filter(|(name, unit)| orphan(unit) && !self.is_foreign(name));
        let orphans: Vec<UnitName> = orphans.map(|(name, _)| name.clone()).collect();
        self.history.orphans.extend(orphans);
        self.history.rolled_back = false;
        // Saved at once: the new history will soon have reached the old revision.
        (self.unsaved.history, self.unsaved.first) = (true, true);
    }

    /// Generations and restarts that the store has lost are lower again, and will be used a second time. A unit whose
    /// assignment went back to an earlier generation with the same target needs nothing, also if the leader assigns it
    /// only later; and a later generation must not count as carried out.
    fn renumber(&mut self) {
        let at = self.history.revision;
        for unit in self.units.values_mut() {
            unit.stopped_for = None;
            let Some(executed) = &mut unit.executed else { continue };
            executed.rewrites = None;
            let generation = executed.generation;
            executed.lost = Some(Lost { generation, at });
            let same = unit.assignment.as_ref().filter(|assignment| {
                assignment.target == executed.target && assignment.generation <= executed.generation
            });
            match same {
                Some(assignment) => {
                    executed.renumber(assignment.generation);
                    executed.restart = assignment.restart;
                }
                // A request that is made now has the generation `at`.
                None => executed.renumber(generation.min(Revision(at.0.saturating_sub(1)))),
            }
        }
        self.unsaved.executed = true;
    }

    /// Whether the store was rolled back, and that wasn't dealt with yet.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        self.history.rolled_back
    }

    /// Whether the store has lost the unit's record.
    pub(super) fn is_orphan(&self, name: &UnitName) -> bool {
        self.history.rolled_back || self.history.orphans.contains(name)
    }
}
