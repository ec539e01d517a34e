//! Plans as transactions: one unit's writes together where they fit, the leader's key among the guards of each.

use crate::plan::schedule::{Decision, Plan, Write};
use crate::registry::keys::Key;
use crate::registry::{delete, put, unchanged};
use crate::store::{Guard, LeaseId, MAX_OPS, Op, Txn};

/// Guards and ops that must not be torn apart.
type Writes = Vec<(Guard, Op)>;

/// The transactions of `plan`, in its order: as few as the store's limit allows, so that what belongs together arrives together.
pub(super) fn transactions(plan: &Plan, lease: LeaseId) -> Vec<Txn> {
    // One guard of each transaction is the leader's.
    const ROOM: usize = MAX_OPS - 1;
    let mut groups: Vec<Writes> = Vec::new();
    for writes in plan.decisions.iter().map(writes) {
        match groups.last_mut() {
            Some(group) if group.len() + writes.len() <= ROOM => group.extend(writes),
            // Only a global's entries can be more than one transaction takes, and those may be committed one by one.
            _ => groups.extend(writes.chunks(ROOM).map(<[_]>::to_vec)),
        }
    }
    groups.into_iter().map(|group| fenced(group, lease)).collect()
}

/// The files to delete, each for itself: one that came into use again must not keep the others.
pub(super) fn collections(plan: &Plan, lease: LeaseId) -> Vec<Txn> {
    let collect = |(hash, revision): &(_, _)| {
        let key = Key::File(Clone::clone(hash));
        fenced(vec![(unchanged(&key, Some(*revision)), delete(&key))], lease)
    };
    plan.files.iter().map(collect).collect()
}

/// `writes`, if `lease` still leads.
pub(super) fn fenced(writes: Writes, lease: LeaseId) -> Txn {
    let (mut guards, ops): (Vec<Guard>, Vec<Op>) = writes.into_iter().unzip();
    guards.push(Guard::Held(Key::Leader.to_string(), lease));
    Txn { guards, ops }
}

fn writes(decision: &Decision) -> Writes {
    fn write<T: serde::Serialize>(key: &Key, write: &Write<T>) -> (Guard, Op) {
        let op = write.after.as_ref().map_or_else(|| delete(key), |value| put(key, value, None));
        (unchanged(key, write.before), op)
    }
    let placement = decision.placement.iter().map(|change| write(&Key::Placement(decision.unit.clone()), change));
    let entry = |(host, change): &(crate::model::name::MachineId, Write<_>)| {
        write(&Key::Schedule(host.clone(), decision.unit.clone()), change)
    };
    placement.chain(decision.entries.iter().map(entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::{MachineId, UnitHash, UnitName};
    use crate::model::revision::Revision;
    use crate::model::unit::{Entry, Target};
    use crate::plan::schedule::Reason;

    fn decision(name: &str, hosts: usize) -> Decision {
        let unit: UnitName = name.parse().unwrap();
        let entry = |host: usize| {
            let id: MachineId = format!("{:032x}", host + 1).parse().unwrap();
            let entry =
                Entry { hash: UnitHash::new("a"), target: Target::Launched, global: true, generation: Revision(1) };
            (id, Write { before: None, after: Some(entry) })
        };
        Decision { unit, placement: None, entries: (0..hosts).map(entry).collect(), why: Reason::Forgotten }
    }

    #[test]
    fn transactions_stay_within_the_limit_and_are_fenced() {
        let decisions = vec![decision("a.service", 3), decision("b.service", 300), decision("c.service", 100)];
        let plan = Plan { decisions, ..Plan::default() };
        let txns = transactions(&plan, LeaseId(7));
        assert_eq!(txns.iter().map(|txn| txn.ops.len()).sum::<usize>(), 403);
        for txn in &txns {
            assert!(txn.guards.len() <= MAX_OPS && txn.ops.len() <= MAX_OPS);
            assert!(txn.guards.contains(&Guard::Held("leader".into(), LeaseId(7))));
        }
    }

    #[test]
    fn a_unit_that_fits_is_never_torn_apart() {
        let plan = Plan { decisions: vec![decision("a.service", 100), decision("b.service", 100)], ..Plan::default() };
        let sizes: Vec<usize> = transactions(&plan, LeaseId(7)).iter().map(|txn| txn.ops.len()).collect();
        assert_eq!(sizes, [100, 100]);
    }
}
