//! Hooks: units that a rollout runs once, before its members or after them. A hook is launched by its gate, whatever
//! its own record says, until every rollout that waits for this run has its result. Owns these gates. Must never decide
//! which hook is next, nor what follows from its end (`pace` does).

use crate::model::cluster::Cluster;
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::rollout::{File, Gate, HookRun, Rollout};
use crate::model::unit::{Placement, Unit};

use super::super::gate::{is_hook, next_generation};
use super::super::pace::{Member, MemberState};
use super::super::schedule::Scheduler;
use super::{GateEvent, Rollouts, member};

/// The hook that a rollout waits for, in a cluster with the units as they are scheduled. `None` if its gate is lost.
pub(super) fn running(cluster: &Cluster, rollout: &Rollout) -> Option<Member> {
    let run = rollout.running()?;
    cluster.gates.get(&run.unit).filter(|gate| gate.value.hook && gate.value.generation == run.generation)?;
    let hook = member::unit(cluster, &run.unit);
    let state = match (hook.state, cluster.placements.get(&run.unit).map(|placement| &placement.value)) {
        // That it is done is in the store before its result counts: it can't run again then.
        (MemberState::Healthy, Some(Placement::On { .. })) => MemberState::Pending(None),
        (MemberState::Unplaced, Some(Placement::Waiting { why, .. })) => {
            MemberState::Assigned(Some(format!("it fits no host: {why}")))
        }
        (state, _) => state,
    };
    Some(Member { state, ..hook })
}

/// Whether a unit can run as a hook.
pub(super) fn can_run(cluster: &Cluster, unit: &UnitName) -> Result<(), String> {
    let Some(record) = cluster.units.get(unit) else {
        return Err(format!("there is no {unit}, which runs before or after the members"));
    };
    let Some(file) = cluster.files.get(&record.hash) else { return Err(format!("the file of {unit} isn't known")) };
    match (file.value.ends, file.value.global) {
        (false, _) => Err(format!("{unit} never ends: Type=oneshot is needed")),
        (true, true) => Err(format!("{unit} is global, and can't run once")),
        (true, false) => Ok(()),
    }
}

impl Rollouts {
    /// Have `unit` run as a hook of the rollout `name`, whose set or unit has this record. A run that was begun after
    /// the rollout was requested counts for it as well; one that another rollout still waits for is left to end first.
    /// Returns whether it runs.
    pub(super) fn begin_hook(
        &mut self,
        scheduler: &mut Scheduler,
        (name, subject): (&UnitName, &Unit),
        (unit, after): (&UnitName, bool),
        now: u64,
    ) -> bool {
        let cluster = scheduler.cluster();
        let Some(rollout) = cluster.rollouts.get(name).map(|rollout| rollout.value.clone()) else { return false };
        let Some(record) = self.record(cluster, unit).cloned() else { return false };
        if rollout.stopping.as_ref().is_some_and(|hook| hook != unit && is_somewhere(cluster, hook)) {
            return false;
        }
        let asked = subject.generation.max(rollout.heeded);
        let known = cluster.gates.get(unit).map(|gate| &gate.value).filter(|gate| gate.hook);
        let generation = match known {
            Some(gate) if gate.generation >= asked && gate.hash == record.hash => gate.generation,
            Some(_) if self.is_awaited(cluster, unit) => return false,
            _ => {
                let generation = next_generation(cluster, Some(&record), runs_of(cluster, unit));
                let file = File { hash: record.hash.clone(), text: record.text.clone() };
                let held = file.held(generation, Some(generation));
                let gate = Gate { hook: true, ..Gate::new(name, &rollout.target, held, record.generation) };
                self.set_gate(scheduler, unit, Some(gate), GateEvent::HookBegun);
                self.schedule(scheduler, unit, record);
                generation
            }
        };
        let mut rollout = Rollout { stopping: None, ..rollout };
        rollout.hooks.push(HookRun { unit: unit.clone(), after, generation, since: now, host: None, took: None });
        self.set_rollout(scheduler, name, Some(rollout));
        true
    }

    /// Whether a rollout waits for the present run of a hook.
    fn is_awaited(&self, cluster: &Cluster, unit: &UnitName) -> bool {
        let generation = cluster.gates.get(unit).map(|gate| gate.value.generation);
        self.waiting_for(cluster, unit).any(|(_, run)| Some(run.generation) == generation)
    }

    /// The rollouts that wait for a run of `unit`.
    pub(super) fn waiting_for<'a>(
        &'a self,
        cluster: &'a Cluster,
        unit: &'a UnitName,
    ) -> impl Iterator<Item = (&'a UnitName, &'a HookRun)> {
        let runs = self.active.iter().filter_map(|name| Some((name, cluster.rollouts.get(name)?.value.running()?)));
        runs.filter(move |(_, run)| run.unit == *unit)
    }

    /// End the runs of hooks that no rollout waits for any longer. Returns whether there were any: another rollout may
    /// have waited for that.
    pub(super) fn end_hooks(&mut self, scheduler: &mut Scheduler) -> bool {
        let cluster = scheduler.cluster();
        let ended: Vec<UnitName> = self.hooks.iter().filter(|unit| !self.is_awaited(cluster, unit)).cloned().collect();
        for unit in &ended {
            self.set_gate(scheduler, unit, None, GateEvent::HookEnded);
            if let Some(record) = self.asked.get(unit).cloned() {
                self.schedule(scheduler, unit, record);
            }
        }
        if !ended.is_empty() {
            self.dirty.extend(self.active.iter().cloned());
        }
        !ended.is_empty()
    }

    /// Remember whether a unit has the gate of a hook.
    pub(super) fn note_hook(&mut self, cluster: &Cluster, unit: &UnitName) {
        if is_hook(cluster, unit) {
            self.hooks.insert(unit.clone());
        } else {
            self.hooks.remove(unit);
        }
    }
}

/// Whether a host that is there has yet to remove a unit.
fn is_somewhere(cluster: &Cluster, unit: &UnitName) -> bool {
    cluster
        .schedule
        .iter()
        .any(|(host, assignments)| assignments.contains_key(unit) && cluster.machines.contains_key(host))
}

/// The generations of all assignments of a unit, and of its last run.
fn runs_of<'a>(cluster: &'a Cluster, unit: &'a UnitName) -> impl Iterator<Item = Revision> + 'a {
    let assigned =
        cluster.schedule.values().filter_map(|host| host.get(unit)).map(|assignment| assignment.value.generation);
    let done = cluster.placements.get(unit).and_then(|placement| placement.value.done());
    assigned.chain(done.map(|done| done.generation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Versioned;
    use crate::model::file::UnitFile;
    use crate::model::placement::Constraints;
    use crate::model::unit::Desired;

    #[test]
    fn what_cannot_run_as_a_hook() {
        let mut cluster = Cluster::default();
        let unit: UnitName = "a.service".parse().unwrap();
        let missing = "there is no a.service, which runs before or after the members";
        assert_eq!(can_run(&cluster, &unit), Err(missing.into()));
        for (sections, expected) in [
            ("Type=oneshot", Ok(())),
            ("Type=exec", Err("a.service never ends: Type=oneshot is needed")),
            ("Type=oneshot\nRemainAfterExit=yes", Err("a.service never ends: Type=oneshot is needed")),
            ("Type=oneshot\n[X-Fleet]\nGlobal=true", Err("a.service is global, and can't run once")),
        ] {
            let file = UnitFile::parse(format!("[Service]\nExecStart=/a\n{sections}\n").as_bytes()).unwrap();
            let record = Unit::new(Desired::Inactive, file.hash(), Revision(1));
            cluster.units.insert(unit.clone(), record);
            assert_eq!(can_run(&cluster, &unit), Err("the file of a.service isn't known".into()));
            let value = Constraints::parse(&file).unwrap().into();
            cluster.files.insert(file.hash(), Versioned { value, revision: Revision(1) });
            assert_eq!(can_run(&cluster, &unit), expected.map_err(String::from), "{sections}");
        }
    }
}
