//! A host that the cluster took for dead and that is back. The leader deletes the assignments of a dead host; those of
//! units that can run nowhere else instead (global units, units that name this host) it writes again as soon as it sees
//! the host. Until then a missing assignment is no decision. Owns how long such units keep running; must never keep one
//! that the leader could have placed elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;

use super::{Action, HostState, Log, Now, Unit};

/// How often to look what is wanted of the units in question.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The time since the host has come back.
#[derive(Debug, Default)]
pub(super) struct Returned {
    /// Units whose assignments are missing and that keep running; `None` before disk and assignments are known.
    awaiting: Option<BTreeSet<UnitName>>,
    /// The leader that is to decide, and when it has had enough time.
    leader: Option<(Revision, Duration)>,
    next_look: Duration,
}

impl Returned {
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.awaiting.as_ref().map(|_| self.next_look)
    }
}

impl HostState {
    /// The host is registered, after it was taken for dead or not: a daemon that adopts the lease of the one before it
    /// can't know whether that one had just come back and was waiting for the leader.
    pub(super) fn begin_return(&mut self) {
        self.returned = Some(Returned::default());
    }

    /// Once disk and assignments are known: which units keep running.
    pub(super) fn await_leader(&mut self) {
        let undecided = self.returned.as_ref().is_some_and(|returned| returned.awaiting.is_none());
        if !undecided || !self.assignments_known {
            return;
        }
        let ours = |unit: &Unit| unit.assignment.is_none() && !unit.unreadable && unit.executed.is_some();
        let tied = |unit: &Unit| unit.file.as_ref().is_some_and(|file| file.tied);
        let units = self.units.iter().filter(|(name, unit)| ours(unit) && tied(unit) && !self.is_protected(name));
        let awaiting: BTreeSet<UnitName> = units.map(|(name, _)| name.clone()).collect();
        if awaiting.is_empty() {
            self.returned = None;
            return;
        }
        self.log.push(Log::AwaitsLeader(awaiting.iter().cloned().collect()));
        self.returned = Some(Returned { awaiting: Some(awaiting), ..Returned::default() });
    }

    /// Whether the unit keeps running until the leader has decided.
    pub(super) fn awaits_leader(&self, name: &UnitName) -> bool {
        let awaiting = self.returned.as_ref().and_then(|returned| returned.awaiting.as_ref());
        awaiting.is_some_and(|awaiting| awaiting.contains(name))
    }

    /// Look what is wanted of them, if it is time.
    pub(super) fn read_decisions(&self, now: Now) -> Option<Action> {
        let returned = self.returned.as_ref().filter(|returned| returned.next_look <= now.monotonic)?;
        Some(Action::ReadDecisions(returned.awaiting.as_ref()?.iter().cloned().collect()))
    }

    /// What is wanted of them. A unit that is destroyed, inactive or has another file has no reason to keep running. A
    /// leader that has been in office for two TTLs since the host came back (one to believe that hosts are dead, one to
    /// plan) and has assigned nothing has decided that the host doesn't fit.
    pub(super) fn decided(&mut self, leader: Option<Revision>, wanted: &BTreeMap<UnitName, UnitHash>, now: Now) {
        // The store was asked, which may have taken long.
        self.fresh.clear();
        let Some(Returned { awaiting: Some(awaiting), leader: known, next_look }) = &mut self.returned else { return };
        *next_look = now.monotonic + LOOK_EVERY;
        *known = match (leader, *known) {
            (Some(leader), Some((before, until))) if leader == before => Some((leader, until)),
            (Some(leader), _) => Some((leader, now.monotonic + 2 * self.ttl)),
            (None, _) => None,
        };
        let over = known.is_some_and(|(_, until)| until <= now.monotonic);
        let units = &self.units;
        let stays = |name: &UnitName| {
            let hash = units.get(name).and_then(Unit::hash);
            !over && hash.is_some() && wanted.get(name) == hash
        };
        let leaving: Vec<UnitName> = awaiting.iter().filter(|name| !stays(name)).cloned().collect();
        for name in leaving {
            awaiting.remove(&name);
            self.dirty.insert(name);
        }
        if awaiting.is_empty() {
            self.returned = None;
        }
    }

    /// The leader has assigned the unit (again).
    pub(super) fn leader_has_assigned(&mut self, name: &UnitName) {
        let Some(Returned { awaiting: Some(awaiting), .. }) = &mut self.returned else { return };
        awaiting.remove(name);
        if awaiting.is_empty() {
            self.returned = None;
        }
    }
}
