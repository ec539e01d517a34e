//! What the scheduler finds wrong with itself: it plans from scratch and compares. Pure; must never mend anything.

use std::collections::BTreeSet;

use super::super::check::{Violation, always};
use super::Scheduler;
use crate::model::cluster::Cluster;
use crate::model::name::{UnitHash, UnitName};

impl Scheduler {
    /// The invariants that don't hold, and what a plan from scratch would decide otherwise, each as a sentence. Empty
    /// while anything is dirty, and always unless there is a bug. That files are missing which are `damaged` in the
    /// store is none.
    #[must_use]
    pub fn check_itself(&self, now_ms: u64, damaged: &BTreeSet<UnitHash>) -> Vec<String> {
        if self.is_dirty() || self.due.is_some_and(|due| due <= now_ms) {
            return Vec::new();
        }
        // What a unit that isn't planned asks of others is heeded by nothing.
        let is_left_out = |unit: &UnitName| self.index.is_left_out(&self.cluster, unit);
        let excused = |violation: &Violation| match violation {
            Violation::Conflict(_, unit, _) => is_left_out(unit),
            Violation::NoFile(.., hash) => damaged.contains(hash),
            _ => false,
        };
        let broken = always(&self.cluster).into_iter().filter(|violation| !excused(violation));
        let mut from_scratch = Self::leaving_out(Cluster::clone(&self.cluster), self.index.left_out.clone());
        from_scratch.brake = self.brake;
        let from_scratch = from_scratch.plan(now_ms);
        let others = from_scratch.decisions.iter().map(ToString::to_string);
        let others = others.chain(from_scratch.hosts.iter().map(ToString::to_string));
        let miscounted = self.index.miscounted(&self.cluster);
        broken
            .map(|violation| format!("the schedule breaks a rule: {violation}"))
            .chain(others.map(|decision| format!("planning from scratch would decide otherwise: {decision}")))
            .chain(miscounted.map(|host| format!("what units take of {host} is counted wrongly")))
            .collect()
    }
}
