//! A host that comes back after the cluster treated it as dead. The leader deletes the assignments of a dead host. For
//! units that can't run anywhere else (global units, and units that name this host), it writes them again when it sees
//! the host. Until then a missing assignment isn't a decision. Owns how long such units keep running; must never keep a
//! unit that the leader could have placed elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;

use super::unit::Known;
use super::{Action, HostState, Log, Now, Unit};

/// How often to read the desired states of these units.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is pending since the host came back.
#[derive(Debug, Default)]
pub(super) struct Returned {
    /// Units that keep running without an assignment; `None` before disk and assignments are known.
    awaiting: Option<BTreeSet<UnitName>>,
    /// Those of them that should have another file now, and its hash: to be compared with what they run with.
    other_files: BTreeMap<UnitName, UnitHash>,
    /// The leader that has seen the host, and the time by which it must have decided.
    leader: Option<(Revision, Duration)>,
    next_look: Duration,
}

impl Returned {
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.awaiting.as_ref().map(|_| self.next_look)
    }
}

impl HostState {
    /// The host is registered, whether or not it was treated as dead before: a daemon that adopts the lease of the
    /// previous one can't know whether that one was still waiting for the leader.
    pub(super) fn begin_return(&mut self) {
        self.returned = Some(Returned::default());
    }

    /// Once disk and assignments are known: determine which units keep running.
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

    /// Read the desired states, if that is due.
    pub(super) fn read_decisions(&self, now: Now) -> Option<Action> {
        let returned = self.returned.as_ref().filter(|returned| returned.next_look <= now.monotonic)?;
        Some(Action::ReadDecisions(returned.awaiting.as_ref()?.iter().cloned().collect()))
    }

    /// Apply the desired states. A unit that was destroyed or is inactive no longer keeps running; one that has another
    /// file is to be compared. `leader` is one that has seen the host, as far as can be told. If such a leader has been
    /// in office for two TTLs (one for its presence grace, one to plan) without assigning the unit, it has decided that
    /// it doesn't fit. One that hasn't seen the host decides nothing, however long its plans take.
    pub(super) fn decided(&mut self, leader: Option<Revision>, wanted: &BTreeMap<UnitName, UnitHash>, now: Now) {
        // Reading from the store may have taken long.
        self.fresh.clear();
        let Some(Returned { awaiting: Some(awaiting), other_files, leader: known, next_look }) = &mut self.returned
        else {
            return;
        };
        *next_look = now.monotonic + LOOK_EVERY;
        *known = match (leader, *known) {
            (Some(leader), Some((before, until))) if leader == before => Some((leader, until)),
            (Some(leader), _) => Some((leader, now.monotonic + 2 * self.ttl)),
            (None, _) => None,
        };
        let over = known.is_some_and(|(_, until)| until <= now.monotonic);
        let has_file = |name: &UnitName| self.units.get(name).is_some_and(|unit| unit.file.is_some());
        let stays = |name: &UnitName| !over && has_file(name) && wanted.contains_key(name);
        let leaving: Vec<UnitName> = awaiting.iter().filter(|name| !stays(name)).cloned().collect();
        let differs = |name: &UnitName, hash: &UnitHash| self.units.get(name).and_then(Unit::hash) != Some(hash);
        let others = wanted.iter().filter(|(name, hash)| awaiting.contains(*name) && differs(name, hash));
        *other_files = others.map(|(name, hash)| (name.clone(), hash.clone())).collect();
        self.leave(leaving);
    }

    /// Compare the other files that some of these units should have. A unit keeps running only if systemd reads the
    /// same from its new file, and that can run nowhere else either.
    pub(super) fn compare_other_files(&mut self) -> Option<Action> {
        let others =
            self.returned.as_ref().map(|returned| &returned.other_files).filter(|others| !others.is_empty())?;
        let missing: BTreeSet<UnitHash> =
            others.values().filter(|hash| !self.texts.contains_key(*hash)).cloned().collect();
        if !missing.is_empty() {
            return Some(Action::Fetch(missing));
        }
        let others = others.clone();
        let leaves = |(name, hash): (UnitName, UnitHash)| {
            let new = self.texts.get(&hash)?.as_ref().ok().map(|text| Known::of(&name, text, &self.id));
            let stays = self.units.get(&name).zip(new).is_some_and(|(unit, new)| new.tied && unit.has_body(new.body));
            (!stays).then_some(name)
        };
        let leaving = others.into_iter().filter_map(leaves).collect();
        if let Some(returned) = &mut self.returned {
            returned.other_files.clear();
        }
        self.leave(leaving);
        None
    }

    /// These units no longer keep running.
    fn leave(&mut self, leaving: Vec<UnitName>) {
        let Some(Returned { awaiting: Some(awaiting), other_files, .. }) = &mut self.returned else { return };
        for name in leaving {
            awaiting.remove(&name);
            other_files.remove(&name);
            self.dirty.insert(name);
        }
        if awaiting.is_empty() {
            self.returned = None;
            // Those that stayed because a unit might have needed them.
            self.dirty.extend(self.units.keys().filter(|name| name.is_template()).cloned());
        }
    }

    /// The leader has assigned the unit again.
    pub(super) fn leader_has_assigned(&mut self, name: &UnitName) {
        let Some(Returned { awaiting: Some(awaiting), other_files, .. }) = &mut self.returned else { return };
        awaiting.remove(name);
        other_files.remove(name);
        if awaiting.is_empty() {
            self.returned = None;
        }
    }
}
