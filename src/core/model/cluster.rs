//! The cluster as one value, and the changes that lead from one state to the next. The engine keeps a copy of it, and
//! `plan` computes on it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::format::ReportKeyForm;
use super::history::KeptTexts;
use super::machine::{KnownHost, Machine, Metadata};
use super::maintenance::Maintenance;
use super::name::{MachineId, UnitHash, UnitName};
use super::placement::Constraints;
use super::revision::Revision;
use super::rollout::{Gate, Rollout};
use super::settings::Settings;
use super::small::SmallMap;
use super::unit::{Assignment, Desired, Done, Placement, Taken, Target, Tried, Unit, UnitReport};

/// A value and the commit that wrote it, for guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The commit that wrote it; [`Revision::default`] if it is planned and not yet observed in the store.
    pub revision: Revision,
}

/// A report as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReport {
    /// The report.
    pub value: UnitReport,
    /// The commit that wrote it.
    pub revision: Revision,
    /// How its key is spelled.
    pub form: ReportKeyForm,
}

/// Everything that determines where units run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// The revision of this state in the store.
    pub revision: Revision,
    /// The submitted units.
    pub units: BTreeMap<UnitName, Unit>,
    /// The constraints of each file, with unresolved specifiers, and the commit that wrote the file.
    pub files: BTreeMap<UnitHash, Versioned<Arc<Constraints>>>,
    /// The earlier texts of units, also of those that were destroyed, and the commit that wrote them.
    pub histories: BTreeMap<UnitName, Versioned<KeptTexts>>,
    /// The hosts that are registered.
    pub machines: BTreeMap<MachineId, Machine>,
    /// What is remembered of hosts, including those that are gone.
    pub roster: BTreeMap<MachineId, Versioned<KnownHost>>,
    /// Dynamic metadata, which is kept while a host is absent.
    pub metadata: BTreeMap<MachineId, Metadata>,
    /// What was asked of hosts, which is kept while a host is absent.
    pub maintenance: BTreeMap<MachineId, Versioned<Maintenance>>,
    /// The settings of the whole cluster.
    pub settings: Settings,
    /// The units that go on with another file than that of their record.
    pub gates: BTreeMap<UnitName, Versioned<Gate>>,
    /// The last rollout of each set and unit that has had one.
    pub rollouts: BTreeMap<UnitName, Versioned<Rollout>>,
    /// The placement of each non-global unit.
    pub placements: BTreeMap<UnitName, Versioned<Placement>>,
    /// The assignments of each host, including dead hosts.
    pub schedule: BTreeMap<MachineId, BTreeMap<UnitName, Versioned<Assignment>>>,
    /// The reports of each host.
    pub states: BTreeMap<UnitName, SmallMap<MachineId, Box<StoredReport>>>,
}

/// One change of a [`Cluster`]. `None` is a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A unit was submitted, changed or destroyed.
    Unit(UnitName, Option<Unit>),
    /// A file was added or deleted.
    File(UnitHash, Option<Versioned<Arc<Constraints>>>),
    /// The earlier texts of a unit changed.
    History(UnitName, Option<Versioned<KeptTexts>>),
    /// A host was registered, changed or removed.
    Machine(MachineId, Option<Machine>),
    /// What is remembered of a host changed.
    Roster(MachineId, Option<Versioned<KnownHost>>),
    /// A host's dynamic metadata changed.
    Metadata(MachineId, String, Option<String>),
    /// What is asked of a host changed.
    Maintenance(MachineId, Option<Versioned<Maintenance>>),
    /// The settings of the whole cluster changed.
    Settings(Option<Versioned<Settings>>),
    /// A unit was given another file than that of its record, or was let through to that one.
    Gate(UnitName, Option<Versioned<Gate>>),
    /// A rollout began or got further.
    Rollout(UnitName, Option<Versioned<Rollout>>),
    /// A unit was placed, or its reasons for waiting changed.
    Placement(UnitName, Option<Versioned<Placement>>),
    /// An assignment changed.
    Assignment(MachineId, UnitName, Option<Versioned<Assignment>>),
    /// A report changed under a key of this form.
    Report(UnitName, MachineId, ReportKeyForm, Option<Versioned<UnitReport>>),
}

impl Cluster {
    /// Apply one change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Unit(name, unit) => set(&mut self.units, name, unit),
            Change::File(hash, constraints) => set(&mut self.files, hash, constraints),
            Change::History(name, kept) => set(&mut self.histories, name, kept),
            Change::Machine(id, machine) => set(&mut self.machines, id, machine),
            Change::Roster(id, known) => set(&mut self.roster, id, known),
            Change::Metadata(id, key, value) => set_nested(&mut self.metadata, id, key, value),
            Change::Maintenance(id, asked) => set(&mut self.maintenance, id, asked),
            Change::Settings(settings) => self.settings = settings.map(|it| it.value).unwrap_or_default(),
            Change::Gate(name, gate) => set(&mut self.gates, name, gate),
            Change::Rollout(name, rollout) => set(&mut self.rollouts, name, rollout),
            Change::Placement(name, placement) => set(&mut self.placements, name, placement),
            Change::Assignment(host, name, entry) => set_nested(&mut self.schedule, host, name, entry),
            Change::Report(name, host, form, report) => self.apply_report(name, host, form, report),
        }
    }

    /// A report has two keys only after a host went back to a version that writes the other form: the older one remains
    /// until the lease of the earlier daemon expires. The report that was written last counts, and a deletion counts if
    /// it is that report's.
    fn apply_report(
        &mut self,
        name: UnitName,
        host: MachineId,
        form: ReportKeyForm,
        report: Option<Versioned<UnitReport>>,
    ) {
        let change = |reports: &mut SmallMap<MachineId, Box<StoredReport>>| {
            let outdated = reports.get(&host).is_some_and(|known| match &report {
                Some(report) => report.revision < known.revision,
                None => known.form != form,
            });
            if !outdated {
                let stored = report.map(|Versioned { value, revision }| StoredReport { value, revision, form });
                reports.set(host, stored.map(Box::new));
            }
        };
        change_nested(&mut self.states, name, change, SmallMap::is_empty);
    }

    /// The same cluster with only those units that are in `scope`, and with their files only.
    #[must_use]
    pub fn part(&self, scope: impl Fn(&UnitName) -> bool) -> Self {
        fn only<V: Clone>(map: &BTreeMap<UnitName, V>, scope: &impl Fn(&UnitName) -> bool) -> BTreeMap<UnitName, V> {
            map.iter().filter(|(name, _)| scope(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
        }
        let units = only(&self.units, &scope);
        let file = |unit: &Unit| Some((unit.hash.clone(), self.files.get(&unit.hash)?.clone()));
        Self {
            revision: self.revision,
            files: units.values().filter_map(file).collect(),
            machines: self.machines.clone(),
            roster: self.roster.clone(),
            metadata: self.metadata.clone(),
            maintenance: self.maintenance.clone(),
            settings: self.settings.clone(),
            placements: only(&self.placements, &scope),
            gates: only(&self.gates, &scope),
            rollouts: only(&self.rollouts, &scope),
            histories: only(&self.histories, &scope),
            schedule: self
                .schedule
                .iter()
                .map(|(host, assignments)| (host.clone(), only(assignments, &scope)))
                .collect(),
            states: only(&self.states, &scope),
            units,
        }
    }

    /// The first host that a unit is assigned to, and what it was told.
    #[must_use]
    pub fn first_assigned(&self, name: &UnitName) -> Option<(&MachineId, &Assignment)> {
        self.schedule.iter().find_map(|(host, assignments)| Some((host, &assignments.get(name)?.value)))
    }

    /// A unit whose record can't be decoded stays as it is: its assignment stands in for its desired state.
    pub fn preserve(&mut self, name: &UnitName) {
        let assignment = self.first_assigned(name).map(|(_, assignment)| assignment.clone());
        if let Some(assignment) = assignment.filter(|assignment| assignment.target != Target::Removed) {
            let desired = if assignment.target == Target::Launched { Desired::Launched } else { Desired::Loaded };
            let Assignment { hash, generation, restart, .. } = assignment;
            let unit = Unit { restart, ..Unit::new(desired, hash, generation) };
            self.apply(Change::Unit(name.clone(), Some(unit)));
        }
    }

    /// The host that a unit is placed on. A global unit is placed nowhere.
    #[must_use]
    pub fn placed_on(&self, name: &UnitName) -> Option<&MachineId> {
        self.placements.get(name)?.value.host()
    }

    /// The run of a unit that has run to its end, and since when it is done; `None` if it was asked for again since
    /// then.
    #[must_use]
    pub fn done(&self, name: &UnitName) -> Option<(&Done, u64)> {
        let Placement::Done { done, since } = &self.placements.get(name)?.value else { return None };
        let unit = self.units.get(name)?;
        (unit.desired == Desired::Launched && unit.generation <= done.generation).then_some((done, *since))
    }

    /// What became of a unit after it had failed, unless somebody has asked for it since.
    #[must_use]
    pub fn tried(&self, name: &UnitName) -> Option<&Tried> {
        let tried = self.placements.get(name)?.value.tried()?;
        self.units.get(name).is_some_and(|unit| unit.generation == tried.generation).then_some(tried)
    }

    /// What a host reports of a unit.
    #[must_use]
    pub fn report(&self, name: &UnitName, host: &MachineId) -> Option<&UnitReport> {
        self.states.get(name)?.get(host).map(|stored| &stored.value)
    }

    /// The reports of a unit, without those of hosts that have removed it.
    pub fn reports(&self, name: &UnitName) -> impl Iterator<Item = (&MachineId, &UnitReport)> + use<'_> {
        let all =
            self.states.get(name).into_iter().flat_map(SmallMap::iter).map(|(host, stored)| (host, &stored.value));
        all.filter(|(_, report)| report.target != Target::Removed)
    }

    /// The name of a host that is registered, or that is remembered.
    #[must_use]
    pub fn hostname(&self, id: &MachineId) -> Option<&str> {
        let remembered = || self.roster.get(id).map(|known| known.value.hostname.as_str());
        self.machines.get(id).map(|machine| machine.hostname.as_str()).or_else(remembered)
    }

    /// The hosts that units are placed on or have run on, and that report units. A host may come more than once.
    pub fn named_hosts(&self) -> impl Iterator<Item = &MachineId> {
        let placed = self.placements.values().map(|placement| &placement.value);
        let placed = placed.filter_map(|placement| placement.host().or(placement.done().map(|done| &done.host)));
        let tried = self.placements.values().filter_map(|placement| placement.value.tried());
        let placed = placed.chain(tried.flat_map(|tried| &tried.hosts));
        placed.chain(self.states.values().flat_map(SmallMap::keys))
    }

    /// The constraints of unit `name`, with resolved specifiers; `None` if its file isn't known.
    #[must_use]
    pub fn constraints(&self, name: &UnitName) -> Option<Arc<Constraints>> {
        let file = self.files.get(&self.units.get(name)?.hash)?;
        Some(Constraints::resolve(&file.value, name))
    }

    /// The file that a unit has, or must have, on a host: that of its record; of a global unit that its gate holds back
    /// there, that of the gate; after the unit was destroyed, the one in the host's assignment.
    #[must_use]
    pub fn file_on(&self, name: &UnitName, host: &MachineId) -> Option<&UnitHash> {
        let assigned = || Some(&self.schedule.get(host)?.get(name)?.value.hash);
        let Some(unit) = self.units.get(name) else { return assigned() };
        let held = self.gates.get(name).and_then(|gate| gate.value.held_on(host));
        Some(held.map_or(&unit.hash, |held| held.hash))
    }

    /// The record by which a unit is scheduled on a host: its own; that of a global unit with the file with which its
    /// gate holds it back there; or that of a unit that failed there and was started again, with a generation for this.
    #[must_use]
    pub fn record_on(&self, name: &UnitName, host: &MachineId) -> Option<Cow<'_, Unit>> {
        let unit = self.units.get(name)?;
        let gate = self.gates.get(name).map(|gate| &gate.value);
        if let Some((held, asked)) = gate.and_then(|gate| Some((gate.held_on(host)?, gate.asked))) {
            return Some(Cow::Owned(unit.with(held, asked)));
        }
        let again = self.tried(name).filter(|_| self.placed_on(name) == Some(host)).and_then(|tried| tried.again);
        let again = again.filter(|again| *again > unit.generation);
        Some(again.map_or(Cow::Borrowed(unit), |generation| Cow::Owned(Unit { generation, ..unit.clone() })))
    }

    /// Whether the hosts of a global unit may have different files, because its gate says so.
    #[must_use]
    pub fn is_by_host(&self, name: &UnitName) -> bool {
        self.gates.get(name).is_some_and(|gate| gate.value.is_by_host())
    }

    /// What is asked of a host.
    #[must_use]
    pub fn asked_of(&self, id: &MachineId) -> Option<&Maintenance> {
        self.maintenance.get(id).map(|asked| &asked.value)
    }

    /// Whether no new unit is to be placed on a host: it is cordoned or drained.
    #[must_use]
    pub fn is_closed(&self, id: &MachineId) -> bool {
        self.asked_of(id).is_some_and(|asked| asked.cordon.is_some() || asked.drain.is_some())
    }

    /// Whether a drain took a unit from a host that is to get it back now.
    #[must_use]
    pub fn is_to_return(&self, name: &UnitName, taken: &Taken) -> bool {
        let restore = self.asked_of(&taken.host).and_then(|asked| asked.restore.as_ref());
        let is_wanted =
            restore.is_some_and(|restore| restore.drain == taken.drain && taken.stays != Some(restore.generation));
        is_wanted && self.units.get(name).is_some_and(|unit| unit.generation == taken.generation)
    }

    /// A host's metadata: dynamic metadata takes precedence over static. An empty dynamic value hides the static one.
    #[must_use]
    pub fn effective_metadata(&self, id: &MachineId) -> Metadata {
        let mut metadata = self.machines.get(id).map(|machine| machine.metadata.clone()).unwrap_or_default();
        for (key, value) in self.metadata.get(id).into_iter().flatten() {
            if value.is_empty() {
                metadata.remove(key);
            } else {
                metadata.insert(key.clone(), value.clone());
            }
        }
        metadata
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

fn set_nested<K: Ord + Clone, L: Ord, V>(map: &mut BTreeMap<K, BTreeMap<L, V>>, outer: K, inner: L, value: Option<V>) {
    change_nested(map, outer, |nested| set(nested, inner, value), BTreeMap::is_empty);
}

/// Change the map of `outer`, which is there only while it has an entry.
fn change_nested<K: Ord + Clone, M: Default>(
    map: &mut BTreeMap<K, M>,
    outer: K,
    change: impl FnOnce(&mut M),
    is_empty: impl FnOnce(&M) -> bool,
) {
    let nested = map.entry(outer.clone()).or_default();
    change(nested);
    if is_empty(nested) {
        map.remove(&outer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReportKeyForm::{HostFirst, UnitFirst};

    /// The `sub` of the report that counts after `changes`: of a form, and either a revision that wrote a report or
    /// `None` for a deletion. The report's `sub` is its revision.
    fn counts_after(changes: &[(ReportKeyForm, Option<u64>)]) -> Option<String> {
        let unit: UnitName = "a.service".parse().unwrap();
        let host: MachineId = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        let mut cluster = Cluster::default();
        for (form, revision) in changes {
            let report = revision.map(|revision| {
                let json =
                    r#"{"generation":1,"target":"launched","hash":"0","load":"","active":"","sub":"N","since":0}"#;
                let json = json.replace('N', &revision.to_string());
                Versioned { value: serde_json::from_str(&json).unwrap(), revision: Revision(revision) }
            });
            cluster.apply(Change::Report(unit.clone(), host.clone(), *form, report));
        }
        cluster.report(&unit, &host).map(|report| report.sub.clone())
    }

    #[test]
    fn of_two_keys_of_a_report_the_one_written_last_counts() {
        for (one, other) in [(UnitFirst, HostFirst), (HostFirst, UnitFirst)] {
            let counts = |changes: &[(ReportKeyForm, Option<u64>)]| counts_after(changes);
            // As a watch shows it, and as a list may.
            assert_eq!(counts(&[(one, Some(3)), (other, Some(5))]).as_deref(), Some("5"));
            assert_eq!(counts(&[(other, Some(5)), (one, Some(3))]).as_deref(), Some("5"));
            // One transaction writes the report in the other form and deletes it in this one, in either order.
            assert_eq!(counts(&[(one, Some(3)), (one, None), (other, Some(5))]).as_deref(), Some("5"));
            assert_eq!(counts(&[(one, Some(3)), (other, Some(5)), (one, None)]).as_deref(), Some("5"));
            // The lease of the earlier daemon expires after its host has written the other form.
            assert_eq!(
                counts(&[(one, Some(3)), (other, Some(5)), (one, None), (other, Some(7))]).as_deref(),
                Some("7")
            );
            // A report that was deleted is gone, although an older one remains for a while.
            assert_eq!(counts(&[(one, Some(3)), (other, Some(5)), (other, None)]), None);
            assert_eq!(counts(&[(one, Some(3)), (one, None)]), None);
        }
    }
}
