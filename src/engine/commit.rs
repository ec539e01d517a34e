//! Turns a plan into transactions. Owns which guards protect a decision's writes; must never decide anything.

use crate::metrics::{AskedMove, Rescheduled, Task};
use crate::model::author::Author;
use crate::model::cluster::Cluster;
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::unit::{Assignment, Target};
use crate::plan::rollouts::{GateWrite, RolloutWrite, Writes};
use crate::plan::schedule::{Decision, Departure, HostDecision, HostEvent, Plan, Reason, Write};
use crate::registry::commit::batch::{Expected, Group, Packed, Step, pack};
use crate::registry::keys::Key;
use crate::registry::records::{assignment, placement};

/// The leader's key as this leader last wrote it, which guards every transaction of the leader. The key is bound to the
/// leader's lease, so a leader that has lost its lease can't write. After a commit with an unknown outcome the key is
/// written again, so that the commit can't take effect late, on top of newer ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fence(pub(super) Revision);

impl Fence {
    pub(super) fn guard(self) -> (Key, Expected) {
        (Key::Leader, Some(self.0))
    }
}

/// What a step of a plan does once it is committed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Done {
    /// How it is counted; a placement isn't counted.
    pub(super) task: Option<Task>,
    /// The decisions of which it is the last step.
    pub(super) completes: Vec<Completed>,
}

/// A decision that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Completed {
    /// About a unit, with the reason.
    Unit(UnitName, Reason),
    /// About a host.
    Host(HostDecision),
    /// About the gate of a unit.
    Gate(GateWrite),
    /// About a rollout.
    Rollout(RolloutWrite),
}

impl Completed {
    /// What became of a unit that had failed, if it is about one.
    pub(super) fn rescheduled(&self) -> Option<Rescheduled> {
        match self {
            Self::Unit(_, Reason::Leaves { because: Departure::Failed { with: None }, .. }) => Some(Rescheduled::Move),
            Self::Unit(_, Reason::Again { .. }) => Some(Rescheduled::Start),
            _ => None,
        }
    }

    /// What became of a unit that a person wants on another host, if it is about one.
    pub(super) fn asked_move(&self) -> Option<AskedMove> {
        match self {
            Self::Unit(_, Reason::Leaves { because: Departure::Moves { .. }, .. }) => Some(AskedMove::Move),
            Self::Unit(_, Reason::StaysUnmoved { .. }) => Some(AskedMove::Stay),
            _ => None,
        }
    }

    /// Log it. A host that is gone is a warning: a person has to look at it.
    pub(super) fn log(&self) {
        match self {
            Self::Unit(unit, why) => tracing::info!(%unit, "{why}"),
            Self::Gate(gate) => tracing::info!(unit = %gate.rollout.0, "{gate}"),
            Self::Rollout(rollout) if !rollout.is_news => {}
            Self::Rollout(rollout) if rollout.has_failed() => tracing::warn!(unit = %rollout.name, "{rollout}"),
            Self::Rollout(rollout) => tracing::info!(unit = %rollout.name, "{rollout}"),
            Self::Host(decision) => match decision.why {
                HostEvent::Gone { .. } => tracing::warn!(machine = %decision.host, "{decision}"),
                // The leader announces a mass loss once, for all of its hosts.
                HostEvent::Held(_) if decision.is_mass_loss() => {}
                HostEvent::Held(_) | HostEvent::Dated | HostEvent::Back(..) | HostEvent::Dropped(_) => {
                    tracing::info!(machine = %decision.host, "{decision}")
                }
                // The host has logged these itself.
                HostEvent::Joined | HostEvent::Changed => {}
            },
        }
    }
}

/// The transactions of `plan` and of the rollouts before it, with the author `by`, in their order: as few as the
/// store's limits allow, so that related changes arrive together. Only the assignments of a global unit can exceed one
/// transaction; each of them may be committed alone. Gates that are closed come first, then what the rollouts have
/// decided. A gate of a unit that is assigned anew is written in the same transaction: whoever leads next finds neither
/// or both.
pub(super) fn transactions(
    plan: &Plan,
    rollouts: Writes,
    cluster: &Cluster,
    by: &Author,
    fence: Fence,
) -> Vec<Packed<Done>> {
    let Writes { mut gates, rollouts } = rollouts;
    let mut units = Vec::with_capacity(plan.decisions.len());
    for decision in &plan.decisions {
        units.push(group(decision, gates.remove(&decision.unit), cluster, by));
    }
    let first = gates.into_values().map(|write| gate(Step::new(Done::default()), write).into());
    let rollouts = rollouts.into_iter().map(rollout);
    pack(first.chain(rollouts).chain(units).chain(plan.hosts.iter().map(remember)), Some(fence.guard()))
}

/// A step that also writes a gate.
fn gate(step: Step<Done>, write: GateWrite) -> Step<Done> {
    let GateWrite { unit, write: Write { before, after }, .. } = &write;
    let mut step = match (before, after) {
        (None, None) => step,
        _ => step.replace(Key::Gate(unit.clone()), *before, after.as_ref()),
    };
    step.tag.completes.push(Completed::Gate(write));
    step
}

/// The step of one rollout.
fn rollout(write: RolloutWrite) -> Group<Done> {
    let Write { before, after } = &write.write;
    let mut step = Step::new(Done::default()).replace(Key::Rollout(write.name.clone()), *before, after.as_ref());
    step.tag.completes.push(Completed::Rollout(write));
    step.into()
}

/// The step of one decision about a host. That a host is gone may only be written while it is.
fn remember(decision: &HostDecision) -> Group<Done> {
    let (host, write) = (&decision.host, &decision.write);
    let step = Step::new(Done { task: None, completes: vec![Completed::Host(decision.clone())] });
    let step = step.replace(Key::Roster(host.clone()), write.before, write.after.as_ref());
    match decision.why {
        HostEvent::Gone { .. } | HostEvent::Held(_) | HostEvent::Dated => {
            step.guard(Key::Machine(host.clone()), None).into()
        }
        _ => step.into(),
    }
}

/// The transactions that delete files, and earlier texts before them, one for each, so that a file that is used again
/// doesn't keep the others from being deleted.
pub(super) fn collections(plan: &Plan, fence: Fence) -> Vec<Packed<()>> {
    let collect = |(key, revision): (Key, Revision)| {
        pack([Step::new(()).guard(key.clone(), Some(revision)).delete(key).into()], Some(fence.guard()))
    };
    let histories = plan.histories.iter().map(|(unit, revision)| (Key::History(unit.clone()), *revision));
    let files = plan.files.iter().map(|(hash, revision)| (Key::File(hash.clone()), *revision));
    histories.chain(files).flat_map(collect).collect()
}

/// The steps of one decision, the first of which also writes the unit's gate if it changes.
fn group(decision: &Decision, mut change: Option<GateWrite>, cluster: &Cluster, by: &Author) -> Group<Done> {
    let mut left = usize::from(decision.placement.is_some()) + decision.assignments.len();
    let mut step = move |task| {
        left -= 1;
        let step = Step::new(Done { task, completes: (left == 0).then(|| completed(decision)).into_iter().collect() });
        match change.take() {
            Some(write) => gate(step, write),
            None => step,
        }
    };
    let mut steps = Vec::new();
    if let Some(write) = &decision.placement {
        let key = Key::Placement(decision.unit.clone());
        let after = write.after.as_ref().map(|placement| placement::Signed::new(placement, by));
        steps.push(step(None).replace(key, write.before, after.as_ref()));
    }
    for (host, write) in &decision.assignments {
        let key = Key::Schedule(host.clone(), decision.unit.clone());
        let after = write.after.as_ref().map(|assignment| assignment::Signed { assignment, by });
        let mut step = step(Some(task(write))).replace(key, write.before, after.as_ref());
        if write.after.is_none() && !cluster.machines.contains_key(host) {
            // The host is dead and hasn't reported that the unit is stopped. The assignment may only be deleted while
            // the host is still dead: a host that has come back runs the unit, or is about to.
            step = step.guard(Key::Machine(host.clone()), None);
        }
        steps.push(step);
    }
    steps.into_iter().collect()
}

fn completed(decision: &Decision) -> Completed {
    Completed::Unit(decision.unit.clone(), decision.why.clone())
}

/// How a change of a host's assignment is counted.
fn task(write: &Write<Assignment>) -> Task {
    match (&write.before, &write.after) {
        (_, None) => Task::Clear,
        (None, Some(_)) => Task::Schedule,
        (Some(_), Some(assignment)) if assignment.target == Target::Removed => Task::Unschedule,
        (Some(_), Some(_)) => Task::Update,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::{MachineId, UnitHash};
    use crate::store::Guard;

    fn decision(name: &str, hosts: usize) -> Decision {
        let unit: UnitName = name.parse().unwrap();
        let assignment = |host: usize| {
            let id: MachineId = format!("{:032x}", host + 1).parse().unwrap();
            let assignment =
                Assignment { global: true, ..Assignment::new(UnitHash::new("a"), Target::Launched, Revision(1)) };
            (id, Write { before: None, after: Some(assignment) })
        };
        Decision { unit, placement: None, assignments: (0..hosts).map(assignment).collect(), why: Reason::Forgotten }
    }

    #[test]
    fn tasks_are_what_becomes_of_entries() {
        let assignment = |target| Assignment::new(UnitHash::new("a"), target, Revision(1));
        let mut all = decision("a.service", 4);
        let before = Some(Revision(3));
        all.assignments[1].1 = Write { before, after: Some(assignment(Target::Removed)) };
        all.assignments[2].1 = Write { before, after: Some(assignment(Target::Loaded)) };
        all.assignments[3].1 = Write { before, after: None };
        let plan = Plan { decisions: vec![all], ..Plan::default() };
        let txns = transactions(&plan, Writes::default(), &Cluster::default(), &Author::default(), Fence(Revision(7)));
        let all = [Task::Schedule, Task::Unschedule, Task::Update, Task::Clear];
        let tags = &txns[0].tags;
        assert_eq!(tags.iter().map(|step| step.task).collect::<Vec<_>>(), all.map(Some));
        let completes: Vec<bool> = tags.iter().map(|step| !step.completes.is_empty()).collect();
        assert_eq!(completes, [false, false, false, true], "it is reported once, when all of it is done");
    }

    #[test]
    fn a_unit_leaves_without_a_word_only_a_host_that_is_still_dead() {
        let mut left = decision("a.service", 1);
        left.assignments[0].1 = Write { before: Some(Revision(3)), after: None };
        let plan = Plan { decisions: vec![left], ..Plan::default() };
        let txns = transactions(&plan, Writes::default(), &Cluster::default(), &Author::default(), Fence(Revision(7)));
        let dead = Guard::Absent(format!("machine/{:032x}", 1));
        assert!(txns[0].txn.guards.contains(&dead), "{:?}", txns[0].txn.guards);
    }
}
