//! Whether a requested operation on a unit is done, and if not, what it waits for. This is decided only here: the API
//! sends the result, and `fleetctl` reads it. Pure, and without time: if a state counts only after it has lasted, the
//! caller waits.

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::progress::{Operation, Progress};
use crate::model::rollout::{Phase, Rollout};
use crate::model::systemd::{ActiveState, JobKind, JobResult, LoadState};
use crate::model::unit::{Desired, Placement, Target, Unit, UnitReport};

use super::gate::hosts::launched_on;
use super::gate::is_spare;

/// What is expected of a unit: that its current record is carried out, because of `operation`.
#[derive(Debug, Clone, Copy)]
pub struct Expectation<'a> {
    /// The unit.
    pub unit: &'a UnitName,
    /// The requested operation.
    pub operation: Operation,
    /// Whether its file says `Global=true`.
    pub global: bool,
}

/// Whether a unit exists in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The unit exists.
    There,
    /// It was destroyed, and a host must still stop and remove it.
    Leaving,
    /// It doesn't exist.
    Gone,
}

/// Whether `unit` exists in `cluster`. A spare doesn't, to those who request something of units.
#[must_use]
pub fn presence(cluster: &Cluster, unit: &UnitName) -> Presence {
    if cluster.units.contains_key(unit) {
        Presence::There
    } else if is_spare(cluster, unit) {
        Presence::Gone
    } else if cluster.placements.contains_key(unit) || cluster.schedule.values().any(|host| host.contains_key(unit)) {
        Presence::Leaving
    } else {
        Presence::Gone
    }
}

/// Units that were destroyed and that a host must still stop and remove, and no spares. A unit may occur more than
/// once.
pub fn leaving(cluster: &Cluster) -> impl Iterator<Item = &UnitName> {
    let left = cluster.placements.keys().chain(cluster.schedule.values().flat_map(|host| host.keys()));
    left.filter(|name| !cluster.units.contains_key(*name) && !is_spare(cluster, name))
}

/// Whether the host of a non-global unit has reported that it carried out the unit's current record.
#[must_use]
pub fn is_carried_out(cluster: &Cluster, name: &UnitName) -> bool {
    let Some(unit) = cluster.units.get(name) else { return false };
    let target = match unit.desired {
        Desired::Inactive => return cluster.placed_on(name).is_none() && cluster.reports(name).next().is_none(),
        Desired::Loaded => Target::Loaded,
        Desired::Launched if cluster.done(name).is_some() => return true,
        Desired::Launched => Target::Launched,
    };
    let report = cluster.placed_on(name).and_then(|host| cluster.report(name, host));
    report.is_some_and(|report| report.target == target && report.generation >= unit.generation)
}

/// The progress of `expectation`. `cluster` must contain everything that concerns the unit, including the assignments
/// of a global unit.
#[must_use]
pub fn progress(cluster: &Cluster, expectation: &Expectation<'_>) -> Progress {
    let Expectation { unit: name, operation, global } = *expectation;
    let Some(unit) = cluster.units.get(name) else {
        return Progress::of_absent(operation, presence(cluster, name) == Presence::Leaving);
    };
    if matches!(operation, Operation::Start | Operation::Restart)
        && let Some(progress) = behind_gate(cluster, name, unit)
    {
        return progress;
    }
    let question = Question { cluster, name, unit, operation, reports: cluster.reports(name).collect() };
    match operation {
        Operation::Destroy => Progress::Waiting(question.leaving()),
        Operation::Unload if cluster.placed_on(name).is_none() && question.reports.is_empty() => Progress::Done,
        Operation::Unload => Progress::Waiting(question.leaving()),
        _ if global => question.everywhere(),
        _ => question.on_its_host(),
    }
}

/// The progress of a unit whose file was replaced, while its rollout hasn't let it through to the new one. What was
/// requested of it since then is carried out with its old file.
fn behind_gate(cluster: &Cluster, name: &UnitName, unit: &Unit) -> Option<Progress> {
    let gate = cluster.gates.get(name).map(|gate| &gate.value).filter(|gate| !gate.spare)?;
    if unit.hash != gate.target || unit.generation > gate.asked {
        return None;
    }
    // Of a global unit, the hosts that have it get the new file one after another.
    if gate.is_by_host() && launched_on(cluster, name).all(|(host, _)| gate.held_on(host).is_none()) {
        return None;
    }
    let rollout = cluster.rollouts.get(&gate.rollout).map(|rollout| &rollout.value);
    let why = |rollout: &Rollout| rollout.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
    Some(match rollout.filter(|rollout| *rollout.target_of(name) == gate.target) {
        None => Progress::Waiting("its rollout is about to begin".into()),
        Some(rollout) => match rollout.phase {
            Phase::Reverted | Phase::Stuck => Progress::Failed(format!("its rollout failed{}", why(rollout))),
            Phase::Reverting => Progress::Waiting(format!("its rollout failed and is taken back{}", why(rollout))),
            Phase::Paused => Progress::Waiting(format!("its rollout is paused{}", why(rollout))),
            Phase::Waiting => Progress::Waiting("its rollout waits to be promoted".into()),
            Phase::Before => Progress::Waiting("its rollout has yet to reach it (hooks first)".into()),
            Phase::Canary => Progress::Waiting("its rollout has yet to reach it (canaries first)".into()),
            Phase::Rolling | Phase::After | Phase::Done => Progress::Waiting("its rollout has yet to reach it".into()),
        },
    })
}

struct Question<'a> {
    cluster: &'a Cluster,
    name: &'a UnitName,
    unit: &'a Unit,
    operation: Operation,
    /// By host, in order.
    reports: Vec<(&'a MachineId, &'a UnitReport)>,
}

impl Question<'_> {
    fn report(&self, host: &MachineId) -> Option<&UnitReport> {
        let place = self.reports.binary_search_by_key(&host, |(other, _)| other);
        place.ok().map(|at| self.reports[at].1)
    }

    /// The name of a host for people.
    fn host(&self, id: &MachineId) -> String {
        let address = || self.cluster.machines.get(id).map(|machine| machine.ip.as_str());
        let names = self.cluster.hostname(id).into_iter().chain(address());
        names.into_iter().find(|name| !name.is_empty()).unwrap_or(id.short()).into()
    }

    /// What a unit waits for that its host hasn't reported.
    fn awaited(&self, id: &MachineId) -> String {
        let host = self.host(id);
        let is_gone = !self.cluster.machines.contains_key(id) && self.cluster.roster.contains_key(id);
        if is_gone { format!("waiting for {host}, which is gone") } else { format!("waiting for {host}") }
    }

    fn leaving(&self) -> String {
        let host = |(id, report): &(&MachineId, &UnitReport)| format!("{}{}", self.host(id), state_of(report));
        let hosts: Vec<String> = self.reports.iter().map(host).collect();
        if hosts.is_empty() { "leaving its host".into() } else { format!("leaving {}", hosts.join(", ")) }
    }

    fn on_its_host(&self) -> Progress {
        let stops = self.operation == Operation::Stop;
        match self.cluster.placements.get(self.name).map(|placement| &placement.value) {
            None | Some(Placement::Waiting { .. }) if stops => Progress::Done,
            Some(Placement::Done { .. }) if stops || self.cluster.done(self.name).is_some() => Progress::Done,
            None | Some(Placement::Done { .. }) => Progress::Waiting("waiting for a host".into()),
            Some(Placement::Waiting { why, .. }) => Progress::Unplaced(why.clone()),
            Some(Placement::On { host, .. }) => match self.report(host) {
                Some(report) => self.on(host, report),
                None if stops => Progress::Idle(self.awaited(host)),
                None => Progress::Waiting(self.awaited(host)),
            },
        }
    }

    /// A global unit is done when it is done on every host that has it. Hosts to which the scheduler hasn't assigned it
    /// yet are unknown.
    fn everywhere(&self) -> Progress {
        if self.reports.is_empty() {
            return match (self.cluster.placements.get(self.name).map(|placement| &placement.value), self.operation) {
                (_, Operation::Stop) => Progress::Settling,
                (Some(Placement::Waiting { why, .. }), _) => Progress::Unplaced(why.clone()),
                _ => Progress::Waiting("waiting for hosts".into()),
            };
        }
        let mut parts: Vec<Progress> = self.reports.iter().map(|(host, report)| self.on(host, report)).collect();
        parts.extend(self.cluster.schedule.iter().filter_map(|(host, assignments)| {
            let assignment = &assignments.get(self.name)?.value;
            let current = assignment.generation >= self.unit.generation && self.report(host).is_some();
            (assignment.target != Target::Removed && !current)
                .then(|| Progress::Waiting(format!("waiting for {}", self.host(host))))
        }));
        all_of(&parts)
    }

    /// The progress on one host.
    fn on(&self, id: &MachineId, report: &UnitReport) -> Progress {
        let host = self.host(id);
        if report.generation < self.unit.generation {
            let verb = self.operation.verb();
            return Progress::Waiting(format!("waiting for {host} to {verb} it{}", trouble_of(report)));
        }
        if let Some(job) = &report.job {
            return Progress::Waiting(match (job, &report.status) {
                (JobKind::Start | JobKind::Restart, Some(status)) => format!("starting on {host}: {status}"),
                (JobKind::Stop, Some(status)) => format!("stopping on {host}: {status}"),
                _ => format!("{job} job on {host}{}", state_of(report)),
            });
        }
        if let Some(error) = &report.error
            && report.active != ActiveState::Active
        {
            let text = format!("failed on {host}: {error}");
            return match (self.operation, &report.active) {
                (Operation::Stop, ActiveState::Failed) => Progress::Done,
                (Operation::Stop, _) => Progress::Waiting(text),
                // systemd won't retry by itself.
                (Operation::Start | Operation::Restart, ActiveState::Failed) => Progress::Failed(text),
                _ => Progress::Failing(text),
            };
        }
        match self.operation {
            Operation::Start | Operation::Restart => started(report, &host),
            Operation::Load if report.load == LoadState::Loaded => Progress::Done,
            Operation::Load => Progress::Failing(format!("failed on {host}: systemd can't load it ({})", report.load)),
            _ if report.active.has_stopped() => Progress::Done,
            _ => Progress::Waiting(format!("on {host}{}", state_of(report))),
        }
    }
}

/// The progress of a global unit from that of its hosts: the worst kind, with all texts of that kind.
fn all_of(parts: &[Progress]) -> Progress {
    let texts = |kind: fn(&Progress) -> Option<&str>| -> Option<String> {
        let texts: Vec<&str> = parts.iter().filter_map(kind).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    };
    if parts.iter().any(|part| matches!(part, Progress::Failed(_))) {
        // All failures are reported together; hosts that are still working continue.
        let text = texts(|part| match part {
            Progress::Failed(why) | Progress::Failing(why) => Some(why),
            _ => None,
        });
        return Progress::Failed(text.unwrap_or_default());
    }
    if let Some(text) = texts(|part| if let Progress::Failing(why) = part { Some(why) } else { None }) {
        return Progress::Failing(text);
    }
    if let Some(text) = texts(|part| if let Progress::Waiting(what) = part { Some(what) } else { None }) {
        return Progress::Waiting(text);
    }
    match texts(|part| if let Progress::Idle(what) = part { Some(what) } else { None }) {
        Some(text) => Progress::Idle(text),
        None => Progress::Settling,
    }
}

fn started(report: &UnitReport, host: &str) -> Progress {
    let result = report.result.as_ref();
    let went_wrong = || {
        if let Some(failure) = &report.failure {
            let restarts = restarts_of(report).map_or(String::new(), |text| format!(", {text}"));
            return format!("failed on {host}: {}{restarts}", failure.sentence());
        }
        let detail = match result {
            Some(JobResult::Dependency) => "a unit it needs failed".into(),
            Some(JobResult::Timeout) => "systemd's start job timed out".into(),
            Some(JobResult::Canceled) => "its start was cancelled by another job".into(),
            Some(result @ (JobResult::Failed | JobResult::Invalid | JobResult::Assert | JobResult::Unsupported)) => {
                format!("systemd's start job ended as `{result}`")
            }
            _ => "it failed after it was started".into(),
        };
        let load = if report.load.is_unusable() { format!(", load state {}", report.load) } else { String::new() };
        format!("failed on {host}: {detail}, now {} ({}){load}", report.active, report.sub)
    };
    match (&report.active, result) {
        (active, _) if active.is_active() => {
            let why = report.health.as_ref().map_or(String::new(), |why| format!(": {why}"));
            if report.is_ready() { Progress::Done } else { Progress::Waiting(format!("not ready on {host}{why}")) }
        }
        (ActiveState::Failed, _) => Progress::Failed(went_wrong()),
        // A unit that it requires may be started in the same batch.
        (_, Some(JobResult::Dependency)) => Progress::Failing(went_wrong()),
        (_, Some(result)) if result.is_failure() => Progress::Failed(went_wrong()),
        // systemd starts it again after a while, and it may fail again.
        (ActiveState::Activating, _) if report.failure.is_some() => Progress::Failing(went_wrong()),
        // A finished oneshot, or a unit whose conditions weren't met: for systemd both are done.
        (ActiveState::Inactive, Some(JobResult::Done | JobResult::Skipped)) => Progress::Done,
        _ if report.load.is_unusable() => Progress::Failing(went_wrong()),
        // After a restart of its fleetd, a host may not know how a job ended.
        (ActiveState::Inactive, None) => Progress::Idle(format!("starting on {host}{}", state_of(report))),
        _ => Progress::Waiting(format!("starting on {host}{}", state_of(report))),
    }
}

/// How often systemd has restarted the unit, if it has: `3 restarts`.
fn restarts_of(report: &UnitReport) -> Option<String> {
    match report.restarts {
        0 => None,
        1 => Some("1 restart".into()),
        count => Some(format!("{count} restarts")),
    }
}

fn state_of(report: &UnitReport) -> String {
    let UnitReport { active, sub, .. } = report;
    let trouble = trouble_of(report);
    if *active == ActiveState::Unknown { trouble } else { format!(" ({active}, {sub}){trouble}") }
}

fn trouble_of(report: &UnitReport) -> String {
    report.error.as_ref().map_or(String::new(), |error| format!(": {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::{Change, Versioned};
    use crate::model::format::ReportKeyForm;
    use crate::model::machine::Machine;
    use crate::model::name::UnitHash;
    use crate::model::revision::Revision;
    use crate::model::unit::Assignment;
    use crate::model::unit::testing::report;

    fn id(number: usize) -> MachineId {
        format!("{number:032x}").parse().unwrap()
    }

    fn name() -> UnitName {
        "a.service".parse().unwrap()
    }

    /// A unit of generation 7 that is placed on n1, or not, and the reports of n1, n2, …
    fn cluster(desired: Desired, placed: bool, reports: &[&str]) -> Cluster {
        let mut cluster = Cluster::default();
        let unit = Unit::new(desired, UnitHash::new("0"), Revision(7));
        cluster.units.insert(name(), unit);
        for number in 1..4 {
            let ip = format!("10.0.0.{number}");
            let machine = Machine { ip, ..Machine::new(id(number), format!("n{number}")) };
            cluster.machines.insert(id(number), machine);
        }
        if placed {
            place(&mut cluster, Placement::On { host: id(1), since: 0, from: None, tried: None, moved: None });
        }
        for (index, text) in reports.iter().enumerate() {
            let report = Versioned { value: report(text), revision: Revision::default() };
            cluster.apply(Change::Report(name(), id(index + 1), ReportKeyForm::HostFirst, Some(report)));
        }
        cluster
    }

    fn place(cluster: &mut Cluster, value: Placement) {
        cluster.placements.insert(name(), Versioned { value, revision: Revision(8) });
    }

    fn assign(cluster: &mut Cluster, host: usize, generation: u64, target: Target) {
        let (hash, generation) = (UnitHash::new("0"), Revision(generation));
        let value = Assignment { global: true, ..Assignment::new(hash, target, generation) };
        let assignment = Versioned { value, revision: Revision(8) };
        cluster.schedule.entry(id(host)).or_default().insert(name(), assignment);
    }

    fn shown(cluster: &Cluster, operation: Operation, global: bool) -> String {
        match progress(cluster, &Expectation { unit: &name(), operation, global }) {
            Progress::Done => "done".into(),
            Progress::Settling => "settling".into(),
            Progress::Idle(what) => format!("idle {what}"),
            Progress::Failed(why) => format!("FAILED {why}"),
            Progress::Failing(why) => format!("failing {why}"),
            Progress::Unplaced(why) => format!("unplaced {why}"),
            Progress::Waiting(what) => format!("waiting {what}"),
        }
    }

    #[test]
    fn a_start_is_done_when_systemd_says_so() {
        let cases = [
            ("7 loaded active running", "done"),
            ("8 loaded active running", "done"),
            ("7 loaded active exited result=done", "done"),
            ("7 loaded inactive dead result=done", "done"),
            ("7 loaded reloading reload", "done"),
            ("6 loaded active running", "waiting waiting for n1 to start it"),
            ("6 loaded failed failed result=failed", "waiting waiting for n1 to start it"),
            ("6 loaded inactive dead error=full", "waiting waiting for n1 to start it: full"),
            ("7 loaded activating start-pre job=start", "waiting start job on n1 (activating, start-pre)"),
            ("7 loaded activating start job=start status=loading", "waiting starting on n1: loading"),
            ("7 loaded inactive dead job=start result=failed", "waiting start job on n1 (inactive, dead)"),
            ("7 loaded activating auto-restart result=done", "waiting starting on n1 (activating, auto-restart)"),
            (
                "7 loaded activating auto-restart result=failed",
                "FAILED failed on n1: systemd's start job ended as `failed`, now activating (auto-restart)",
            ),
            ("7 loaded activating auto-restart result=done exit=7", "failing failed on n1: exit status 7"),
            (
                "7 loaded failed failed result=done exit=203/EXEC restarts=5",
                "FAILED failed on n1: exit status 203/EXEC, 5 restarts",
            ),
            (
                "7 loaded failed failed result=failed exit=1/FAILURE restarts=1",
                "FAILED failed on n1: exit status 1/FAILURE, 1 restart",
            ),
            ("7 loaded active running restarts=4", "done"),
            ("7 loaded inactive dead", "idle starting on n1 (inactive, dead)"),
            (
                "7 loaded failed failed result=failed",
                "FAILED failed on n1: systemd's start job ended as `failed`, now failed (failed)",
            ),
            (
                "7 loaded failed failed result=done",
                "FAILED failed on n1: it failed after it was started, now failed (failed)",
            ),
            (
                "7 loaded inactive dead result=timeout",
                "FAILED failed on n1: systemd's start job timed out, now inactive (dead)",
            ),
            (
                "7 loaded inactive dead result=dependency",
                "failing failed on n1: a unit it needs failed, now inactive (dead)",
            ),
            (
                "7 not-found inactive dead",
                "failing failed on n1: it failed after it was started, now inactive (dead), load state not-found",
            ),
            ("7 bad-setting inactive dead error=no-ExecStart", "failing failed on n1: no-ExecStart"),
            ("7 loaded failed failed error=203/EXEC", "FAILED failed on n1: 203/EXEC"),
            ("7 loaded active running error=stale", "done"),
            ("7 loaded active running ready=yes", "done"),
            ("7 loaded reloading reload ready=yes", "done"),
            ("7 loaded refreshing refresh-extensions", "done"),
            ("7 loaded refreshing refresh-extensions ready=yes", "done"),
            ("7 loaded refreshing refresh-extensions ready=no", "waiting not ready on n1"),
            ("7 loaded active running ready=no", "waiting not ready on n1"),
            ("7 loaded active running ready=no health=tcp:80:refused", "waiting not ready on n1: tcp:80:refused"),
            ("6 loaded active running ready=no", "waiting waiting for n1 to start it"),
            ("7 loaded activating start ready=no", "waiting starting on n1 (activating, start)"),
            ("7 loaded failed failed ready=no exit=7", "FAILED failed on n1: exit status 7"),
        ];
        for (state, expected) in cases {
            assert_eq!(
                shown(&cluster(Desired::Launched, true, &[state]), Operation::Start, false),
                expected,
                "{state}"
            );
        }
        let restarted = cluster(Desired::Launched, true, &["6 loaded active running"]);
        assert_eq!(shown(&restarted, Operation::Restart, false), "waiting waiting for n1 to restart it");
    }

    #[test]
    fn other_operations_have_their_own_end() {
        use Desired::{Inactive, Loaded};
        use Operation::{Destroy, Load, Stop, Unload};
        let cases: &[(Operation, Desired, bool, &[&str], &str)] = &[
            (Load, Loaded, true, &["7 loaded inactive dead"], "done"),
            (
                Load,
                Loaded,
                true,
                &["7 loaded deactivating stop job=stop"],
                "waiting stop job on n1 (deactivating, stop)",
            ),
            (
                Load,
                Loaded,
                true,
                &["7 bad-setting inactive dead"],
                "failing failed on n1: systemd can't load it (bad-setting)",
            ),
            (Load, Loaded, true, &["7 loaded active running ready=no"], "done"),
            (Load, Loaded, true, &[], "waiting waiting for n1"),
            (Load, Loaded, false, &[], "waiting waiting for a host"),
            (Stop, Loaded, true, &["7 loaded inactive dead"], "done"),
            (Stop, Loaded, true, &["7 loaded failed failed result=done"], "done"),
            (Stop, Loaded, true, &["6 loaded active running"], "waiting waiting for n1 to stop it"),
            (
                Stop,
                Loaded,
                true,
                &["7 loaded deactivating stop-sigterm job=stop"],
                "waiting stop job on n1 (deactivating, stop-sigterm)",
            ),
            (
                Stop,
                Loaded,
                true,
                &["7 loaded active running error=refused"],
                "waiting on n1 (active, running): refused",
            ),
            (Stop, Loaded, true, &[], "idle waiting for n1"),
            (Stop, Loaded, false, &[], "done"),
            (Unload, Inactive, false, &[], "done"),
            (Unload, Inactive, true, &["6 loaded active running"], "waiting leaving n1 (active, running)"),
            (Unload, Inactive, false, &["9 loaded deactivating stop job=stop gone"], "done"),
            (Destroy, Loaded, false, &[], "waiting leaving its host"),
            (Destroy, Loaded, true, &["6 loaded active running"], "waiting leaving n1 (active, running)"),
        ];
        for (operation, desired, placed, reports, expected) in cases {
            let said = shown(&cluster(*desired, *placed, reports), *operation, false);
            assert_eq!(said, *expected, "{operation:?} {reports:?}");
        }
    }

    #[test]
    fn a_unit_that_no_host_fits_says_so_unless_it_is_to_stop() {
        for (desired, operation, expected) in [
            (Desired::Launched, Operation::Start, "unplaced 1 of 1 hosts: conflict"),
            (Desired::Loaded, Operation::Load, "unplaced 1 of 1 hosts: conflict"),
            (Desired::Loaded, Operation::Stop, "done"),
        ] {
            let mut cluster = cluster(desired, false, &[]);
            place(
                &mut cluster,
                Placement::Waiting { why: "1 of 1 hosts: conflict".into(), reasons: None, tried: None, since: 0 },
            );
            assert_eq!(shown(&cluster, operation, false), expected, "{operation:?}");
        }
    }

    #[test]
    fn a_unit_is_gone_when_no_host_has_it() {
        let mut cluster = cluster(Desired::Launched, true, &["7 loaded active running"]);
        assert_eq!(presence(&cluster, &name()), Presence::There);
        cluster.units.clear();
        assign(&mut cluster, 1, 9, Target::Removed);
        for _ in 0..2 {
            assert_eq!(presence(&cluster, &name()), Presence::Leaving);
            let waiting = "waiting waiting for its host to stop and forget it";
            assert_eq!(shown(&cluster, Operation::Destroy, false), waiting);
            cluster.placements.clear();
        }
        cluster.schedule.clear();
        assert_eq!(presence(&cluster, &name()), Presence::Gone);
        assert_eq!(shown(&cluster, Operation::Destroy, false), "done");
        assert_eq!(shown(&cluster, Operation::Start, false), "FAILED was destroyed meanwhile");
    }

    #[test]
    fn only_the_host_it_is_placed_on_counts() {
        let mut cluster = cluster(Desired::Launched, true, &["7 loaded active running"]);
        place(&mut cluster, Placement::On { host: id(2), since: 0, from: None, tried: None, moved: None });
        assert_eq!(shown(&cluster, Operation::Start, false), "waiting waiting for n2");
        assert!(!is_carried_out(&cluster, &name()));
        place(&mut cluster, Placement::On { host: id(1), since: 0, from: None, tried: None, moved: None });
        assert!(is_carried_out(&cluster, &name()));
        cluster.units.values_mut().for_each(|unit| unit.generation = Revision(8));
        assert!(!is_carried_out(&cluster, &name()), "that was the generation before");
    }

    #[test]
    fn a_global_unit_is_done_when_all_its_hosts_are() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "waiting waiting for hosts"),
            (&["7 loaded active running", "8 loaded active running"], "settling"),
            (&["7 loaded active running", "6 loaded inactive dead gone"], "settling"),
            (&["7 loaded active running ready=yes", "7 loaded active running ready=no"], "waiting not ready on n2"),
            (&["7 loaded active running", "6 loaded inactive dead"], "waiting waiting for n2 to start it"),
            (&["7 loaded active running", "7 loaded inactive dead"], "idle starting on n2 (inactive, dead)"),
            (
                &["7 loaded failed failed", "7 loaded activating start job=start", "7 loaded inactive dead error=x"],
                "FAILED failed on n1: it failed after it was started, now failed (failed); failed on n3: x",
            ),
        ];
        for (reports, expected) in cases {
            let cluster = cluster(Desired::Launched, false, reports);
            assert_eq!(shown(&cluster, Operation::Start, true), *expected, "{reports:?}");
        }
        let stopped = cluster(Desired::Loaded, false, &[]);
        assert_eq!(shown(&stopped, Operation::Stop, true), "settling");
    }

    /// A host that was assigned a global unit and hasn't reported, and one whose assignment is of an older generation,
    /// are waited for; one that must remove it isn't.
    #[test]
    fn a_global_unit_waits_for_all_hosts_that_were_assigned_it() {
        let mut cluster = cluster(Desired::Launched, false, &["7 loaded active running"]);
        assign(&mut cluster, 1, 7, Target::Launched);
        assert_eq!(shown(&cluster, Operation::Start, true), "settling");
        assign(&mut cluster, 2, 7, Target::Launched);
        assert_eq!(shown(&cluster, Operation::Start, true), "waiting waiting for n2");
        assign(&mut cluster, 2, 9, Target::Removed);
        assert_eq!(shown(&cluster, Operation::Start, true), "settling");
        assign(&mut cluster, 1, 6, Target::Launched);
        assert_eq!(shown(&cluster, Operation::Start, true), "waiting waiting for n1");
    }

    #[test]
    fn behind_its_gate_a_unit_waits_for_its_rollout_and_fails_with_it() {
        use crate::model::rollout::{File, Gate};
        let (old, new) = (UnitHash::new("1"), UnitHash::new("0"));
        let versioned = |value| Versioned { value, revision: Revision(9) };
        let mut cluster = cluster(Desired::Launched, true, &["3 loaded active running"]);
        let held = File { hash: old.clone(), text: None }.held(Revision(3), None);
        let gate = Gate::new(&name(), &new, held, Revision(7));
        cluster.gates.insert(name(), versioned(gate));
        let start = |cluster: &Cluster| {
            progress(cluster, &Expectation { unit: &name(), operation: Operation::Start, global: false })
        };
        let waiting = |why: &str| Progress::Waiting(why.into());
        assert_eq!(start(&cluster), waiting("its rollout is about to begin"));
        let from = File { hash: old.clone(), text: None };
        let rollout = |phase, why: Option<&str>| Rollout {
            why: why.map(Into::into),
            ..Rollout::begun(new.clone(), from.clone(), phase, 0)
        };
        let failed = Progress::Failed("its rollout failed: web@3.service exited".into());
        let cases = [
            (Phase::Before, None, waiting("its rollout has yet to reach it (hooks first)")),
            (Phase::Canary, None, waiting("its rollout has yet to reach it (canaries first)")),
            (Phase::Waiting, None, waiting("its rollout waits to be promoted")),
            (Phase::Rolling, None, waiting("its rollout has yet to reach it")),
            (Phase::Paused, Some("by ann"), waiting("its rollout is paused: by ann")),
            (Phase::Reverting, Some("it broke"), waiting("its rollout failed and is taken back: it broke")),
            (Phase::Stuck, Some("web@3.service exited"), failed.clone()),
            (Phase::Reverted, Some("web@3.service exited"), failed),
        ];
        for (phase, why, expected) in cases {
            let state = Versioned { value: rollout(phase, why), revision: Revision(9) };
            cluster.rollouts.insert(name(), state);
            assert_eq!(start(&cluster), expected);
        }
        // The rollout of the file before says nothing about this one.
        let before = Rollout { target: UnitHash::new("2"), ..rollout(Phase::Reverted, None) };
        cluster.rollouts.insert(name(), Versioned { value: before, revision: Revision(9) });
        assert_eq!(start(&cluster), waiting("its rollout is about to begin"));
        // What is requested later is done with the file of the gate.
        cluster.units.get_mut(&name()).unwrap().generation = Revision(8);
        assert_eq!(start(&cluster), waiting("waiting for n1 to start it"));
    }
}
