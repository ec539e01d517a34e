//! Plans as transactions: one unit's writes together where they fit, the leader's key among the guards of each.

use std::collections::BTreeSet;

use crate::metrics::Task;
use crate::model::cluster::Cluster;
use crate::model::name::MachineId;
use crate::model::revision::Revision;
use crate::model::unit::{Assignment, Target};
use crate::plan::schedule::{Decision, Plan, Write};
use crate::registry::keys::{self, Key};
use crate::registry::{delete, put, unchanged};
use crate::store::{Guard, MAX_BYTES, MAX_OPS, Op, Txn};

/// Who may write, and for how long: the leader's key as this leader wrote it last. Held by its lease, so that nothing
/// is written by one that has lost it; and written anew after a commit whose outcome isn't known, so that this commit
/// can't be done late, on top of newer ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fence(pub(super) Revision);

/// Guards and ops that must not be torn apart.
#[derive(Debug, Default)]
struct Writes {
    guards: BTreeSet<Condition>,
    ops: Vec<Op>,
    /// As the store counts them, but a guard as often as it is asked for.
    bytes: usize,
}

/// Left over for the leader's guard.
const RESERVE: usize = 1024;

/// A guard, in an order that finds the same one twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Condition(Key, Option<Revision>);

impl Writes {
    fn fits(&self, more: &Self) -> bool {
        // One guard of each transaction is the leader's.
        self.guards.len() + more.guards.len() < MAX_OPS
            && self.ops.len() + more.ops.len() <= MAX_OPS
            && self.bytes + more.bytes <= MAX_BYTES - RESERVE
    }

    fn extend(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.guards.extend(more.guards);
        self.ops.extend(more.ops);
    }
}

/// The transactions of `plan`, in its order: as few as the store's limits allow, so that what belongs together arrives
/// together.
pub(super) fn transactions(plan: &Plan, cluster: &Cluster, fence: Fence) -> Vec<Txn> {
    let mut groups: Vec<Writes> = Vec::new();
    for parts in plan.decisions.iter().map(|decision| writes(decision, cluster)) {
        let mut whole = Writes::default();
        let mut split = Vec::new();
        for part in parts {
            if !whole.fits(&part) {
                // Only a global's assignments can be more than one transaction takes, and those may be committed one by
                // one.
                split.push(std::mem::take(&mut whole));
            }
            whole.extend(part);
        }
        groups.extend(split);
        match groups.last_mut() {
            Some(group) if group.fits(&whole) => group.extend(whole),
            _ => groups.push(whole),
        }
    }
    groups.into_iter().map(|group| fenced(group.guards.into_iter().map(Condition::guard), group.ops, fence)).collect()
}

/// The files to delete, each for itself: one that came into use again must not keep the others.
pub(super) fn collections(plan: &Plan, fence: Fence) -> Vec<Txn> {
    let collect = |(hash, revision): &(_, _)| {
        let key = Key::File(Clone::clone(hash));
        fenced([unchanged(&key, Some(*revision))], vec![delete(&key)], fence)
    };
    plan.files.iter().map(collect).collect()
}

/// What `txn` does to hosts' assignments, counted.
pub(super) fn tasks(txn: &Txn) -> Vec<(Task, usize)> {
    let new: BTreeSet<&str> = txn
        .guards
        .iter()
        .filter_map(|guard| if let Guard::Absent(key) = guard { Some(&**key) } else { None })
        .collect();
    let task = |op: &Op| match op {
        Op::Delete(key) if key.starts_with(keys::SCHEDULE) => Some(Task::Clear),
        Op::Put { key, .. } if new.contains(key.as_str()) && key.starts_with(keys::SCHEDULE) => Some(Task::Schedule),
        Op::Put { key, value, .. } if key.starts_with(keys::SCHEDULE) => {
            let leaves =
                serde_json::from_slice(value).is_ok_and(|assignment: Assignment| assignment.target == Target::Removed);
            Some(if leaves { Task::Unschedule } else { Task::Update })
        }
        _ => None,
    };
    let mut counts: Vec<(Task, usize)> = Vec::new();
    for task in txn.ops.iter().filter_map(task) {
        match counts.iter_mut().find(|(known, _)| *known == task) {
            Some((_, count)) => *count += 1,
            None => counts.push((task, 1)),
        }
    }
    counts
}

/// `ops`, if `guards` hold and this leader still leads.
pub(super) fn fenced(guards: impl IntoIterator<Item = Guard>, ops: Vec<Op>, fence: Fence) -> Txn {
    let leads = unchanged(&Key::Leader, Some(fence.0));
    Txn { guards: guards.into_iter().chain([leads]).collect(), ops }
}

impl Condition {
    fn guard(self) -> Guard {
        unchanged(&self.0, self.1)
    }
}

fn writes(decision: &Decision, cluster: &Cluster) -> Vec<Writes> {
    fn write<T: serde::Serialize>(key: Key, write: &Write<T>) -> Writes {
        let op = write.after.as_ref().map_or_else(|| delete(&key), |value| put(&key, value, None));
        let name = key.to_string().len();
        let bytes = name + if let Op::Put { key, value, .. } = &op { key.len() + value.len() } else { name };
        Writes { guards: BTreeSet::from([Condition(key, write.before)]), ops: vec![op], bytes }
    }
    let placement = decision.placement.iter().map(|change| write(Key::Placement(decision.unit.clone()), change));
    let assignment = |(host, change): &(MachineId, Write<_>)| {
        let mut writes = write(Key::Schedule(host.clone(), decision.unit.clone()), change);
        if change.after.is_none() && !cluster.machines.contains_key(host) {
            // Nobody has said that the unit is stopped there: only a host that is still dead may be taken for it. One
            // that has come back in the meantime runs it, or is about to.
            let machine = Key::Machine(host.clone());
            writes.bytes += machine.to_string().len();
            writes.guards.insert(Condition(machine, None));
        }
        writes
    };
    placement.chain(decision.assignments.iter().map(assignment)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::{UnitHash, UnitName};
    use crate::model::unit::Placement;
    use crate::plan::schedule::Reason;

    fn decision(name: &str, hosts: usize) -> Decision {
        let unit: UnitName = name.parse().unwrap();
        let assignment = |host: usize| {
            let id: MachineId = format!("{:032x}", host + 1).parse().unwrap();
            let assignment = Assignment {
                hash: UnitHash::new("a"),
                target: Target::Launched,
                global: true,
                generation: Revision(1),
                restart: None,
            };
            (id, Write { before: None, after: Some(assignment) })
        };
        Decision { unit, placement: None, assignments: (0..hosts).map(assignment).collect(), why: Reason::Forgotten }
    }

    #[test]
    fn transactions_stay_within_the_limit_and_are_fenced() {
        let decisions = vec![decision("a.service", 3), decision("b.service", 300), decision("c.service", 100)];
        let plan = Plan { decisions, ..Plan::default() };
        let txns = transactions(&plan, &Cluster::default(), Fence(Revision(7)));
        assert_eq!(txns.iter().map(|txn| txn.ops.len()).sum::<usize>(), 403);
        for txn in &txns {
            assert!(txn.guards.len() <= MAX_OPS && txn.ops.len() <= MAX_OPS);
            assert!(txn.guards.contains(&Guard::Unchanged("leader".into(), Revision(7))));
        }
    }

    #[test]
    fn transactions_stay_within_the_limit_of_bytes() {
        let waits = |at: usize| {
            let placement = Placement::Waiting { why: "x".repeat(100_000), reasons: None, since: 0 };
            let placement = Some(Write { before: None, after: Some(placement) });
            Decision { placement, assignments: Vec::new(), ..decision(&format!("{at}.service"), 0) }
        };
        let plan = Plan { decisions: (0..30).map(waits).collect(), ..Plan::default() };
        let txns = transactions(&plan, &Cluster::default(), Fence(Revision(7)));
        assert_eq!(txns.iter().map(|txn| txn.ops.len()).collect::<Vec<_>>(), [10, 10, 10]);
    }

    #[test]
    fn tasks_are_what_becomes_of_entries() {
        let assignment = |target| Assignment {
            hash: UnitHash::new("a"),
            target,
            global: false,
            generation: Revision(1),
            restart: None,
        };
        let mut all = decision("a.service", 4);
        let before = Some(Revision(3));
        all.assignments[1].1 = Write { before, after: Some(assignment(Target::Removed)) };
        all.assignments[2].1 = Write { before, after: Some(assignment(Target::Loaded)) };
        all.assignments[3].1 = Write { before, after: None };
        let plan = Plan { decisions: vec![all], ..Plan::default() };
        let txns = transactions(&plan, &Cluster::default(), Fence(Revision(7)));
        let all = [Task::Schedule, Task::Unschedule, Task::Update, Task::Clear];
        assert_eq!(tasks(&txns[0]), all.map(|task| (task, 1)));
    }

    #[test]
    fn a_unit_leaves_without_a_word_only_a_host_that_is_still_dead() {
        let mut left = decision("a.service", 1);
        left.assignments[0].1 = Write { before: Some(Revision(3)), after: None };
        let plan = Plan { decisions: vec![left], ..Plan::default() };
        let txns = transactions(&plan, &Cluster::default(), Fence(Revision(7)));
        let dead = Guard::Absent(format!("machine/{:032x}", 1));
        assert!(txns[0].guards.contains(&dead), "{:?}", txns[0].guards);
    }

    #[test]
    fn a_unit_that_fits_is_never_torn_apart() {
        let plan = Plan { decisions: vec![decision("a.service", 100), decision("b.service", 100)], ..Plan::default() };
        let sizes: Vec<usize> =
            transactions(&plan, &Cluster::default(), Fence(Revision(7))).iter().map(|txn| txn.ops.len()).collect();
        assert_eq!(sizes, [100, 100]);
    }
}
