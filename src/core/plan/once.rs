//! Units that run once: when one has run to its end. Pure; must never decide what follows (`schedule` does).

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::systemd::{ActiveState, JobResult};
use crate::model::unit::{Desired, Target};

use super::gate::is_hook;

/// The host on which unit `name`, which runs once (`RunOnce=`, or as a hook of a rollout) and is assigned there, has
/// run to its end and ended well, and the generation with which it did, as the host reports it. `None` for any other
/// unit.
#[must_use]
pub fn has_ended<'a>(cluster: &'a Cluster, name: &UnitName) -> Option<(&'a MachineId, Revision)> {
    let host = cluster.placed_on(name)?;
    let report = cluster.report(name, host).filter(|report| report.active == ActiveState::Inactive)?;
    let unit = cluster.units.get(name).filter(|unit| unit.desired == Desired::Launched)?;
    let file = &cluster.files.get(&unit.hash)?.value;
    let assignment = &cluster.schedule.get(host)?.get(name)?.value;
    let asked = cluster.record_on(name, host)?.generation;
    let is_assigned =
        assignment.target == Target::Launched && assignment.generation == asked && assignment.hash == unit.hash;
    let is_about = report.target == Target::Launched
        && report.generation >= assignment.generation
        && report.hash == assignment.hash
        && report.error.is_none();
    let has_ended = is_assigned && is_about && report.job.is_none() && report.result == Some(JobResult::Done);
    let runs_once = file.run_once || is_hook(cluster, name);
    (runs_once && file.ends && has_ended).then_some((host, assignment.generation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::model::cluster::{Change, Versioned};
    use crate::model::file::UnitFile;
    use crate::model::format::ReportKeyForm;
    use crate::model::placement::Constraints;
    use crate::model::unit::{Assignment, Placement, Unit, UnitReport};

    const ONCE: &str = "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Fleet]\nRunOnce=yes\n";

    /// What differs from a unit that has ended.
    type Differs = fn(&mut Unit, &mut Assignment, &mut UnitReport);

    /// A unit of generation 7 on one host, as `change` has it and its report.
    fn ended(text: &str, change: impl FnOnce(&mut Unit, &mut Assignment, &mut UnitReport)) -> bool {
        let name: UnitName = "job.service".parse().unwrap();
        let host: MachineId = "1".repeat(32).parse().unwrap();
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        let mut unit = Unit::new(Desired::Launched, file.hash(), Revision(7));
        let mut assignment = Assignment::new(file.hash(), Target::Launched, Revision(7));
        let mut report: UnitReport = serde_json::from_value(serde_json::json!({
            "generation": 7, "target": "launched", "hash": file.hash(), "load": "loaded", "active": "inactive",
            "sub": "dead", "result": "done", "since": 0,
        }))
        .unwrap();
        change(&mut unit, &mut assignment, &mut report);
        fn read<T>(value: T) -> Versioned<T> {
            Versioned { value, revision: Revision(7) }
        }
        let mut cluster = Cluster::default();
        let constraints = Arc::new(Constraints::parse(&file).unwrap());
        cluster.apply(Change::File(file.hash(), Some(read(constraints))));
        cluster.apply(Change::Unit(name.clone(), Some(unit)));
        cluster.apply(Change::Placement(
            name.clone(),
            Some(read(Placement::On { host: host.clone(), since: 0, from: None, tried: None, moved: None })),
        ));
        cluster.apply(Change::Assignment(host.clone(), name.clone(), Some(read(assignment))));
        cluster.apply(Change::Report(name.clone(), host.clone(), ReportKeyForm::HostFirst, Some(read(report))));
        has_ended(&cluster, &name) == Some((&host, Revision(7)))
    }

    #[test]
    fn what_has_run_to_its_end_as_it_was_asked_to() {
        assert!(ended(ONCE, |_, _, _| {}));
        let without = ONCE.replace("RunOnce=yes", "RunOnce=no");
        assert!(!ended(&without, |_, _, _| {}), "any other oneshot");
        assert!(!ended(&ONCE.replace("Type=oneshot\n", ""), |_, _, _| {}), "it doesn't end by itself");
        let not: [(&str, Differs); 9] = [
            ("it runs", |_, _, report| report.active = "activating".into()),
            ("it failed", |_, _, report| report.active = "failed".into()),
            ("its job is queued", |_, _, report| report.job = Some("start".into())),
            ("its job was cancelled", |_, _, report| report.result = Some("canceled".into())),
            ("an earlier run", |_, _, report| report.generation = Revision(6)),
            ("it is loaded", |_, _, report| report.target = Target::Loaded),
            ("another file", |_, _, report| report.hash = crate::model::name::UnitHash::new("0")),
            ("it is asked for again", |unit, _, _| unit.generation = Revision(9)),
            ("it leaves", |_, assignment, _| assignment.target = Target::Removed),
        ];
        for (case, change) in not {
            assert!(!ended(ONCE, change), "{case}");
        }
    }
}
