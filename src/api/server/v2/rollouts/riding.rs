//! Riders in the views of rollouts. Owns that a member of a rider is shown beside the member of the set that has its
//! number.

use std::collections::BTreeMap;

use crate::api::wire::{RidingUnit, RolloutMember, RolloutRider};
use crate::model::name::UnitName;
use crate::model::rollout::riding::RiderFiles;

/// A rider that takes part.
pub(super) fn rider((name, files): (&UnitName, &RiderFiles)) -> RolloutRider {
    RolloutRider { name: name.clone(), target: files.target.clone(), from: files.from.hash.clone() }
}

/// The members, with those that ride with them. One that rides with nobody is shown as a member.
pub(super) fn joined(mut members: Vec<RolloutMember>, riding: Vec<RolloutMember>) -> Vec<RolloutMember> {
    let at: BTreeMap<Option<u32>, usize> =
        members.iter().enumerate().map(|(at, member)| (member.name.number(), at)).collect();
    for unit in riding {
        match at.get(&unit.name.number()).and_then(|at| members.get_mut(*at)) {
            Some(member) => member.riders.push(riding_unit(unit)),
            None => members.push(unit),
        }
    }
    members.iter_mut().for_each(|member| member.riders.sort_by(|one, other| one.name.cmp(&other.name)));
    members
}

fn riding_unit(unit: RolloutMember) -> RidingUnit {
    let RolloutMember { name, hash, machine, ready, since, why, .. } = unit;
    RidingUnit { name, hash, machine, ready, since, why }
}
