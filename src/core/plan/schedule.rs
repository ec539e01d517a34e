//! Decides which host gets which unit. Owns the scheduler's copy of the cluster, what in it is dirty, and the order in
//! which a round decides. Must never do anything but decide, and must never examine more than a change could concern.
//!
//! ```text
//!  Change --> apply --> cluster + indexes --> dirty --> plan: reconcile assignments        -+
//!                            ^                  ^         then place what has none      +--> decisions
//!                            |                  +-------- then spread globals ----------+
//!                            +----------------------------------------------------------+
//! ```
//!
//! `apply` marks the units dirty that a change could concern. For a waiting unit it records the hosts that the unit may
//! fit now, so that examining it again costs one check and not one for each host. The writes of a round mark units
//! dirty in the same way, until nothing is dirty. A unit is never moved for its own benefit: `fit::displacement` shows
//! why rounds therefore end.

mod against;
mod brake;
mod choose;
mod decision;
mod dirty;
mod group;
mod index;
mod merit;
mod moves;
mod offers;
mod pending;
mod place;
mod reasons;
mod reconcile_unit;
mod roster;
mod round;
mod score;
mod self_check;
mod suppose;
mod taken;
#[cfg(test)]
mod tests;
mod tried;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::history::KeptTexts;
use crate::model::machine::{KnownHost, Machine, Metadata};
use crate::model::maintenance::Maintenance;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::resources::Resources;
use crate::model::revision::Revision;
use crate::model::rollout::Gate;
use crate::model::unit::{Assignment, Target, Unit};

pub use against::Obstacle;
pub use brake::{Brake, Braked};
pub use decision::{Because, Decision, Departure, Fate, Host, HostDecision, HostEvent, Plan, Reason, Report, Write};
use dirty::{DirtySet, Rescan};
use index::{Index, Indexed};
pub use merit::{Load, Measure, Merit};
use tried::Retry;

use super::absence;
use super::once;

/// Units, each on one host or as a whole.
pub type Touched = BTreeSet<(UnitName, Option<MachineId>)>;

/// A cluster that is planned as it changes.
#[derive(Debug, Clone)]
pub struct Scheduler {
    /// Copied for the next change only while a snapshot of it exists.
    cluster: Arc<Cluster>,
    index: Index,
    dirty: DirtySet,
    brake: Brake,
    /// Hosts that aren't registered because they have left, with their units stopped.
    left: BTreeSet<MachineId>,
    /// When the first of the holds on hosts that are gone ends, or the first unit of one is no longer kept for it.
    due: Option<u64>,
    /// Units that are to leave the hosts that they are on, in the next round, and why.
    sent_away: BTreeMap<UnitName, Departure>,
    /// Units that drains took, and that stay where they are although others are brought back, from the next round on.
    kept_away: BTreeSet<UnitName>,
    /// Units that have failed, or had, and what becomes of them in the next round.
    retried: BTreeMap<UnitName, Retry>,
    /// Units that are to move, or on their way.
    moving: BTreeSet<UnitName>,
    /// Units that were to move and stay where they are, from the next round on, and why.
    unmoved: BTreeMap<UnitName, String>,
    /// Units about which a record has changed since they were taken, while there are rollouts, and on which host.
    touched: Touched,
}

impl Scheduler {
    /// Over a cluster as a store has it; everything in it is dirty.
    #[must_use]
    pub fn new(cluster: Cluster) -> Self {
        Self::leaving_out(cluster, BTreeMap::new())
    }

    /// As [`Self::new`], without planning these units as long as they have these files: they stay where they are, and
    /// nothing heeds what they ask of others.
    #[must_use]
    pub fn leaving_out(cluster: Cluster, units: BTreeMap<UnitName, UnitHash>) -> Self {
        let index = Index::of(&cluster, units);
        let mut dirty = DirtySet::default();
        for name in cluster.units.keys().chain(cluster.placements.keys()).chain(index.nodes.keys()) {
            dirty.unit(name, Rescan::Keep);
        }
        for hash in cluster.files.keys() {
            dirty.file(hash);
        }
        for host in cluster.machines.keys().chain(cluster.roster.keys()) {
            dirty.host(&cluster, host);
        }
        let (cluster, brake) = (Arc::new(cluster), Brake::off());
        let (left, sent_away, kept_away, retried, touched) = Default::default();
        let (moving, unmoved, due) = (moves::moving(&cluster), BTreeMap::new(), None);
        let mut scheduler =
            Self { cluster, index, dirty, brake, left, due, sent_away, kept_away, retried, moving, unmoved, touched };
        scheduler.holds_changed(0);
        scheduler
    }

    /// With this brake on mass loss; without, units of hosts that are gone are moved at once.
    #[must_use]
    pub fn with_brake(self, brake: Brake) -> Self {
        Self { brake, ..self }
    }

    /// The cluster as it will be when everything planned is committed.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The same, shared instead of copied: later changes don't affect it.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster)
    }

    /// The units whose records, gates, placements, assignments or reports have changed since the last call, or whose
    /// hosts have come or gone; with the host, if it is about that alone. While there are no rollouts, none are noted.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    fn touch(&mut self, name: &UnitName, host: Option<&MachineId>) {
        if !self.cluster.rollouts.is_empty() {
            self.touched.insert((name.clone(), host.cloned()));
        }
    }

    /// Whether [`Self::plan`] has anything to look at, apart from what is [due](Self::due).
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// When there will be something to look at because a hold on the units of a host that is gone ends, or a unit has
    /// waited for it long enough, in ms since the epoch.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// Whether what is decided depends on how much time passes, so that `now_ms` must not be set meanwhile.
    #[must_use]
    pub fn is_timing(&self, now_ms: u64) -> bool {
        self.due.is_some() || self.brake.is_timing(&self.cluster, now_ms)
    }

    /// The hosts that are held because they vanished together; `None` while there are none.
    #[must_use]
    pub fn braked(&self) -> Option<Braked> {
        self.due.and_then(|_| Braked::of(&self.cluster))
    }

    /// The store is at `revision`, and all changes up to it were applied. New `gone` assignments take it as their
    /// generation.
    pub fn advance(&mut self, revision: Revision) {
        let revision = self.cluster.revision.max(revision);
        self.cluster_mut().revision = revision;
    }

    /// Decide everything that is dirty. The cluster is then as it will be once all of it is committed, with
    /// [`Revision::default`] on what the store hasn't confirmed yet; a plan that fails to commit must be answered by
    /// applying what the store has instead.
    pub fn plan(&mut self, now_ms: u64) -> Plan {
        let is_due = self.due.is_some_and(|due| due <= now_ms);
        if self.due.is_some() {
            self.look_at_holds(now_ms);
        }
        if is_due {
            self.look_at_absences(now_ms);
        }
        let plan = round::Round::new(self, now_ms).run();
        self.sent_away.clear();
        self.kept_away.clear();
        self.retried.clear();
        self.unmoved.clear();
        if is_due || !plan.hosts.is_empty() {
            self.holds_changed(now_ms);
        }
        plan
    }

    /// Look at the hosts whose holds are over, and at their units, and at those whose holds can't be as long as they
    /// say.
    fn look_at_holds(&mut self, now_ms: u64) {
        let held = |host: &MachineId| Some((host.clone(), brake::held(&self.cluster, host)?));
        for (host, held) in self.cluster.roster.keys().filter_map(held).collect::<Vec<_>>() {
            if held.until <= now_ms {
                self.dirty.held_host(&host);
                self.mark_host(&host);
            } else if held.until > self.brake.latest(held, now_ms) {
                self.dirty.held_host(&host);
            }
        }
    }

    /// Look at the units that have waited for their hosts long enough.
    fn look_at_absences(&mut self, now_ms: u64) {
        for (host, unit, _) in absence::ends(&self.cluster).filter(|(.., end)| *end <= now_ms) {
            self.dirty.at(unit, host);
        }
    }

    /// Units whose waiting has ended by `now_ms` have been looked at.
    fn holds_changed(&mut self, now_ms: u64) {
        let held = self.cluster.roster.keys().filter_map(|host| brake::held(&self.cluster, host));
        let ends = absence::ends(&self.cluster).map(|(_, _, end)| end).filter(|end| *end > now_ms);
        self.due = held.map(|held| held.until).chain(ends).min();
    }

    /// Take in a change that the store reported.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Unit(name, unit) => self.apply_unit(name, unit),
            Change::File(hash, file) => self.apply_file(hash, file),
            Change::History(name, kept) => self.set_history(name, kept),
            Change::Machine(id, machine) => self.apply_machine(id, machine),
            Change::Roster(id, known) => self.apply_roster(id, known),
            Change::Metadata(id, key, value) => {
                let same = self.cluster.metadata.get(&id).and_then(|metadata| metadata.get(&key)) == value.as_ref();
                self.cluster_mut().apply(Change::Metadata(id.clone(), key, value));
                if !same && self.cluster.machines.contains_key(&id) {
                    self.host_changed(&id);
                }
            }
            Change::Maintenance(id, asked) => self.apply_maintenance(id, asked),
            Change::Settings(settings) => self.apply_settings(settings),
            Change::Gate(name, gate) => self.apply_gate(name, gate),
            Change::Rollout(..) => self.cluster_mut().apply(change),
            Change::Placement(name, placement) => {
                let known = self.cluster.placements.get(&name).map(|known| &known.value);
                if known != placement.as_ref().map(|placement| &placement.value) {
                    self.index.placement_changed(&name, placement.as_ref().map(|placement| &placement.value));
                    self.dirty.unit(&name, Rescan::Keep);
                }
                self.touch(&name, None);
                self.cluster_mut().apply(Change::Placement(name.clone(), placement));
                self.move_changed(&name);
            }
            Change::Assignment(host, name, assignment) => self.apply_assignment(host, name, assignment),
            Change::Report(name, host, form, report) => {
                self.touch(&name, Some(&host));
                self.mark_running(&host, &name, report.as_ref().map(|report| report.value.target));
                let acknowledges = report.as_ref().is_some_and(|report| report.value.target == Target::Removed);
                self.cluster_mut().apply(Change::Report(name.clone(), host.clone(), form, report));
                if acknowledges && self.is_acknowledged(&host, &name) || once::has_ended(&self.cluster, &name).is_some()
                {
                    self.dirty.unit(&name, Rescan::Keep);
                }
            }
        }
    }

    /// A unit is to leave the host that it is on, in the next round. It is placed again as soon as it has stopped.
    pub fn send_away(&mut self, unit: UnitName, why: Departure) {
        self.dirty.unit(&unit, Rescan::Keep);
        self.sent_away.insert(unit, why);
    }

    /// Files are kept from now on that nothing in the cluster refers to (`after`), and others no longer (`before`).
    pub fn hold(&mut self, before: &[&UnitHash], after: &[&UnitHash]) {
        self.index.held.changed(before.iter().copied(), after.iter().copied());
        self.dirty.files(before.iter().copied());
    }

    /// Look at the earlier texts of units that are kept no longer at `now_ms`, in the next round.
    pub fn expire(&mut self, now_ms: u64) {
        for (name, kept) in &self.cluster.histories {
            if kept.value.is_over(now_ms) && !self.cluster.units.contains_key(name) {
                self.dirty.history(name);
            }
        }
    }

    fn apply_machine(&mut self, id: MachineId, machine: Option<Machine>) {
        fn offers(machine: &Machine) -> ([&Metadata; 2], Resources) {
            ([&machine.metadata, &machine.builtin], machine.reserved)
        }
        let same = self.cluster.machines.get(&id).map(offers) == machine.as_ref().map(offers);
        let was_held = brake::held(&self.cluster, &id).is_some();
        if machine.is_some() {
            self.left.remove(&id);
        } else if self.cluster.machines.get(&id).is_some_and(|machine| machine.leaving) {
            self.left.insert(id.clone());
        }
        self.cluster_mut().apply(Change::Machine(id.clone(), machine));
        self.dirty.host(&self.cluster, &id);
        let assigned = self.cluster.schedule.get(&id).filter(|_| !self.cluster.rollouts.is_empty());
        self.touched.extend(assigned.into_iter().flat_map(BTreeMap::keys).map(|name| (name.clone(), Some(id.clone()))));
        if was_held {
            self.holds_changed(0);
        }
        if !same {
            self.host_changed(&id);
        }
    }

    fn apply_maintenance(&mut self, id: MachineId, asked: Option<Versioned<Maintenance>>) {
        let same = self.cluster.asked_of(&id) == asked.as_ref().map(|asked| &asked.value);
        self.cluster_mut().apply(Change::Maintenance(id.clone(), asked));
        if !same && self.cluster.machines.contains_key(&id) {
            self.host_changed(&id);
        }
    }

    fn set_history(&mut self, name: UnitName, kept: Option<Versioned<KeptTexts>>) {
        let before = self.cluster.histories.get(&name).map_or_else(Vec::new, |kept| kept.value.keys.clone());
        self.index.texts.changed(&before, kept.iter().flat_map(|kept| &kept.value.keys));
        self.dirty.files(before.iter());
        self.cluster_mut().apply(Change::History(name, kept));
    }

    fn apply_roster(&mut self, id: MachineId, known: Option<Versioned<KnownHost>>) {
        let gone = |cluster: &Cluster| cluster.roster.get(&id).map(|known| known.value.gone);
        let before = gone(&self.cluster);
        self.cluster_mut().apply(Change::Roster(id.clone(), known));
        self.dirty.host(&self.cluster, &id);
        let after = gone(&self.cluster);
        if before != after {
            self.holds_changed(0);
        }
        // Somebody has forgotten the host, so its units needn't be held, nor wait for it, any longer.
        if before.is_some() && after.is_none() && !self.cluster.machines.contains_key(&id) {
            self.mark_host(&id);
        }
    }

    fn apply_unit(&mut self, name: UnitName, unit: Option<Unit>) {
        let before = self.cluster.units.get(&name).cloned();
        if before == unit {
            return;
        }
        self.touch(&name, None);
        self.mark_neighbours(&name);
        let old_text = before.as_ref().and_then(|unit| unit.text.clone());
        self.index.texts.changed(&old_text, unit.as_ref().and_then(|unit| unit.text.as_ref()));
        self.dirty.files(old_text.iter());
        let hash = before.map(|unit| unit.hash);
        self.cluster_mut().apply(Change::Unit(name.clone(), unit));
        self.index.unit_changed(&self.cluster, &name, hash.as_ref());
        self.recount_all(&name);
        self.move_changed(&name);
        self.dirty.files(hash.iter());
        self.mark_neighbours(&name);
        self.mark_bringing(&name);
        self.dirty.unit(&name, Rescan::Explain);
    }

    /// Only the gate of a global unit changes what is scheduled: on the hosts for which it says something else.
    fn apply_gate(&mut self, name: UnitName, gate: Option<Versioned<Gate>>) {
        let by_host =
            |gate: Option<&Versioned<Gate>>| gate.map(|gate| &gate.value).filter(|gate| gate.is_by_host()).cloned();
        let (before, after) = (by_host(self.cluster.gates.get(&name)), by_host(gate.as_ref()));
        if before == after {
            let is_same =
                self.cluster.gates.get(&name).map(|gate| &gate.value) == gate.as_ref().map(|gate| &gate.value);
            if !is_same {
                self.touch(&name, None);
            }
            return self.cluster_mut().apply(Change::Gate(name, gate));
        }
        let [old, new] = [&before, &after].map(|gate| gate.iter().flat_map(Gate::files).collect::<BTreeSet<_>>());
        let are_files_others = old != new;
        if are_files_others {
            self.mark_neighbours(&name);
            self.index.held.changed(old.iter().copied(), new.iter().copied());
            self.dirty.files(old.iter().copied());
        }
        self.cluster_mut().apply(Change::Gate(name.clone(), gate));
        if are_files_others {
            let hash = self.cluster.units.get(&name).map(|unit| unit.hash.clone());
            self.index.unit_changed(&self.cluster, &name, hash.as_ref());
            self.mark_neighbours(&name);
        }
        self.recount_all(&name);
        let is_same =
            |one: &Gate, two: &Gate| (one.held(), &one.target, one.asked) == (two.held(), &two.target, two.asked);
        match before.zip(after) {
            Some((before, after)) if is_same(&before, &after) => {
                for host in before.hosts_that_differ(&after) {
                    self.dirty.at(&name, host);
                    self.touch(&name, Some(host));
                }
            }
            _ => {
                self.dirty.unit(&name, Rescan::Explain);
                self.touch(&name, None);
            }
        }
    }

    fn apply_assignment(&mut self, host: MachineId, name: UnitName, assignment: Option<Versioned<Assignment>>) {
        let known = self.assignment(&host, &name).map(|known| &known.value);
        if known == assignment.as_ref().map(|assignment| &assignment.value) {
            self.cluster_mut().apply(Change::Assignment(host, name, assignment));
        } else {
            self.dirty.unit(&name, Rescan::Keep);
            self.set_assignment(&host, &name, assignment);
            self.mark_neighbours(&name);
        }
    }

    fn host_changed(&mut self, id: &MachineId) {
        self.index.host_changed(&self.cluster, id);
        self.mark_host(id);
    }

    fn apply_file(&mut self, hash: UnitHash, file: Option<Versioned<Arc<Constraints>>>) {
        let same = self.cluster.files.get(&hash).map(|known| &known.value) == file.as_ref().map(|file| &file.value);
        let mut users = if same { Vec::new() } else { self.index.users(&hash) };
        let names_it = |gate: &Gate| gate.is_by_host() && gate.files().any(|named| *named == hash);
        let gates = self.cluster.gates.iter().filter(|(_, gate)| !same && names_it(&gate.value));
        users.extend(gates.map(|(name, _)| name.clone()));
        for name in &users {
            self.mark_neighbours(name);
        }
        self.cluster_mut().apply(Change::File(hash.clone(), file));
        if !same {
            self.index.file_changed(&hash);
        }
        for name in &users {
            self.index.unit_changed(&self.cluster, name, None);
            self.recount_all(name);
            self.mark_neighbours(name);
            self.mark_bringing(name);
            self.dirty.unit(name, Rescan::Explain);
        }
        if self.cluster.files.contains_key(&hash) && !self.index.is_referred_to(&hash) {
            self.dirty.file(&hash);
        }
    }

    fn assignment(&self, host: &MachineId, name: &UnitName) -> Option<&Versioned<Assignment>> {
        self.cluster.schedule.get(host)?.get(name)
    }

    /// Whether the host has said that it carried out the `gone` assignment it has.
    fn is_acknowledged(&self, host: &MachineId, name: &UnitName) -> bool {
        let state = self.cluster.report(name, host);
        self.assignment(host, name).zip(state).is_some_and(|(assignment, state)| {
            let gone = assignment.value.target == Target::Removed && state.target == Target::Removed;
            gone && state.generation == assignment.value.generation
        })
    }

    fn cluster_mut(&mut self) -> &mut Cluster {
        Arc::make_mut(&mut self.cluster)
    }

    fn view(&self) -> Indexed<'_> {
        Indexed { cluster: &self.cluster, index: &self.index }
    }
}
