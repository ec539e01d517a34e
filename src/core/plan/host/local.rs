//! This host's units without the store: what its disk and its systemd say, as the part of the cluster that this host
//! can answer for. Decides what a unit's last assignment was; must never lead to an action.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::cluster::{Cluster, StoredReport, Versioned};
use crate::model::file::UnitFile;
use crate::model::format::ReportKeyForm;
use crate::model::machine::Machine;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::systemd::UnitState;
use crate::model::unit::{Assignment, Desired, Placement, Target, Unit as UnitRecord};

use super::{DetailsOf, Disk, HostState, Now, Question, Unit};

/// The units that the cluster has installed on this host, as they are now.
#[derive(Debug)]
pub struct LocalUnits {
    state: HostState,
    texts: BTreeMap<UnitName, String>,
    machine: Machine,
}

/// What [`LocalUnits`] amount to.
#[derive(Debug, Clone)]
pub struct HostView {
    /// The host.
    pub host: MachineId,
    /// The host and its units: for each one its file, the assignment that the host carried out last, and the report
    /// that it would write now.
    pub cluster: Cluster,
    /// The files of these units, as they are on disk.
    pub texts: BTreeMap<UnitName, String>,
}

impl LocalUnits {
    /// The units on `disk` of the host `machine`, without foreign ones.
    #[must_use]
    pub fn new(machine: Machine, disk: Disk) -> Self {
        let mut state = HostState::new(machine.id.clone(), Duration::ZERO);
        let texts = disk.files.clone();
        state.read_from_disk(disk);
        let is_foreign: Vec<UnitName> = state.units.keys().filter(|name| state.is_foreign(name)).cloned().collect();
        state.units.retain(|name, unit| unit.file.is_some() && !is_foreign.contains(name));
        for (name, unit) in state.units.iter_mut() {
            unit.assignment = assignment(unit, is_global(&texts, name));
        }
        Self { state, texts, machine }
    }

    /// The units to ask systemd about.
    #[must_use]
    pub fn names(&self) -> Vec<UnitName> {
        self.state.units.keys().cloned().collect()
    }

    /// Apply systemd's answer about all of [`LocalUnits::names`]. Returns those about which it knows more: why they
    /// failed, and how often they were restarted.
    pub fn observed(&mut self, seen: BTreeMap<UnitName, UnitState>, now: Now) -> Vec<UnitName> {
        let question = Question { read: self.names(), recall: Vec::new() };
        self.state.answered(&question, seen, now);
        self.state.units.iter().filter(|(_, unit)| unit.needs_details()).map(|(name, _)| name.clone()).collect()
    }

    /// Apply what systemd knows of `asked`.
    pub fn inspected(&mut self, asked: &[UnitName], details: DetailsOf) {
        self.state.inspected(asked, details);
    }

    /// The result.
    #[must_use]
    pub fn view(self) -> HostView {
        let id = self.machine.id.clone();
        let (mut cluster, mut texts) = (Cluster::default(), BTreeMap::new());
        cluster.machines.insert(id.clone(), self.machine);
        for (name, unit) in self.state.units {
            let (Some(assignment), Some(text)) = (unit.assignment.clone(), self.texts.get(&name)) else { continue };
            texts.insert(name.clone(), text.clone());
            cluster.units.insert(name.clone(), record(&assignment));
            let revision = Revision::default();
            if !assignment.global {
                let value = Placement::On { host: id.clone(), since: 0, from: None, tried: None, moved: None };
                cluster.placements.insert(name.clone(), Versioned { value, revision });
            }
            if let Some(value) = unit.report() {
                let report = StoredReport { value, revision, form: ReportKeyForm::HostFirst };
                cluster.states.entry(name.clone()).or_default().insert(id.clone(), Box::new(report));
            }
            let assignment = Versioned { value: assignment, revision };
            cluster.schedule.entry(id.clone()).or_default().insert(name, assignment);
        }
        HostView { host: id, cluster, texts }
    }
}

/// The assignment that was carried out last. A unit of which nothing was saved is at least loaded.
fn assignment(unit: &Unit, global: bool) -> Option<Assignment> {
    let hash = unit.hash()?.clone();
    let executed = unit.executed.as_ref();
    let (target, generation) =
        executed.map_or((Target::Loaded, Revision::default()), |executed| (executed.target, executed.generation));
    let restart = executed.and_then(|executed| executed.restart);
    // Which templates it brought is recorded nowhere but in the store.
    Some(Assignment { global, restart, ..Assignment::new(hash, target, generation) })
}

fn is_global(texts: &BTreeMap<UnitName, String>, name: &UnitName) -> bool {
    let file = texts.get(name).and_then(|text| UnitFile::parse(text.as_bytes()).ok());
    file.and_then(|file| Constraints::parse(&file).ok()).is_some_and(|constraints| constraints.global)
}

/// The unit's record in the store, as far as the assignment tells.
fn record(assignment: &Assignment) -> UnitRecord {
    let Assignment { hash, target, generation, restart, .. } = assignment.clone();
    let desired = if target == Target::Launched { Desired::Launched } else { Desired::Loaded };
    UnitRecord { restart, ..UnitRecord::new(desired, hash, generation) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::systemd::{ActiveState, Details, LoadState};
    use crate::plan::host::Executed;
    use crate::plan::host::boot::StateSince;

    const NOW: Now = Now { monotonic: Duration::ZERO, wall_ms: 9000 };

    fn name(name: &str) -> UnitName {
        name.parse().unwrap()
    }

    fn machine() -> Machine {
        let text = r#"{"id":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","ip":"","hostname":"n1","version":"","boot_id":""}"#;
        serde_json::from_str(text).unwrap()
    }

    fn disk(files: &[(&str, &str)], executed: &[(&str, Executed)], foreign: &[&str]) -> Disk {
        Disk {
            files: files.iter().map(|(unit, text)| (name(unit), (*text).to_owned())).collect(),
            executed: Some(executed.iter().map(|(unit, executed)| (name(unit), executed.clone())).collect()),
            foreign: Some(foreign.iter().map(|unit| name(unit)).collect()),
        }
    }

    fn systemd(active: ActiveState, sub: &str) -> UnitState {
        UnitState { load: LoadState::Loaded, active, sub: sub.into(), job: None }
    }

    #[test]
    fn a_host_answers_for_what_it_carried_out_and_nothing_else() {
        let state = Some(StateSince { active: ActiveState::Active, sub: "running".into(), since: 5000, ready: false });
        let started = |generation| Executed::new(Revision(generation), Target::Launched);
        let executed = [
            ("all.service", started(4)),
            ("down.service", started(3)),
            ("gone.service", Executed::new(Revision(8), Target::Removed)),
            ("web.service", Executed { state, ..started(7) }),
        ];
        let runs = "[Service]\nExecStart=/bin/a\n";
        let global = "[Service]\nExecStart=/bin/a\n[X-Fleet]\nGlobal=true\n";
        let files = [
            ("all.service", global),
            ("down.service", runs),
            ("new.service", runs),
            ("theirs.service", runs),
            ("web.service", runs),
        ];
        let mut units = LocalUnits::new(machine(), disk(&files, &executed, &["theirs.service"]));
        assert_eq!(units.names(), ["all", "down", "new", "web"].map(|unit| name(&format!("{unit}.service"))));
        let seen = BTreeMap::from([
            (name("all.service"), systemd(ActiveState::Active, "running")),
            (name("down.service"), systemd(ActiveState::Failed, "failed")),
            (name("new.service"), systemd(ActiveState::Inactive, "dead")),
            (name("web.service"), systemd(ActiveState::Active, "running")),
        ]);
        let more = units.observed(seen, NOW);
        assert_eq!(more, [name("down.service")]);
        let details =
            Details { result: "exit-code".into(), exit: Some("exited 1/FAILURE".into()), ..Details::default() };
        units.inspected(&more, BTreeMap::from([(name("down.service"), details)]));

        let HostView { host, cluster, texts } = units.view();
        assert_eq!(host, machine().id);
        let id = machine().id;
        let desired: Vec<_> = cluster.units.iter().map(|(name, unit)| (name.as_str(), unit.desired)).collect();
        let (loaded, launched) = (Desired::Loaded, Desired::Launched);
        assert_eq!(
            desired,
            [("all.service", launched), ("down.service", launched), ("new.service", loaded), ("web.service", launched)]
        );
        assert_eq!(cluster.placed_on(&name("all.service")), None, "a global unit has no place");
        assert_eq!(cluster.placed_on(&name("web.service")), Some(&id));
        let report = |unit: &str| cluster.report(&name(unit), &id);
        let web = report("web.service").unwrap();
        assert_eq!((web.generation, web.active.as_str(), web.since), (Revision(7), "active", 5000), "as it was saved");
        let down = report("down.service").unwrap();
        assert!(down.missing && down.since == 9000, "{down:?}");
        assert_eq!(down.failure.as_ref().unwrap().sentence(), "exit status 1/FAILURE");
        assert_eq!(report("new.service"), None, "nothing was carried out");
        assert_eq!(texts.keys().collect::<Vec<_>>(), cluster.units.keys().collect::<Vec<_>>());
    }

    #[test]
    fn a_host_without_a_boot_state_answers_for_nothing() {
        let files = BTreeMap::from([(name("a.service"), "[Service]\nExecStart=/bin/a\n".to_owned())]);
        let units = LocalUnits::new(machine(), Disk { files, executed: None, foreign: None });
        assert_eq!(units.names(), []);
        let HostView { cluster, .. } = units.view();
        assert_eq!((cluster.machines.len(), cluster.units.len()), (1, 0));
    }
}
