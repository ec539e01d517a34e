//! Which `Replaces=` are effective. Owns the proof that replacing comes to an end.
//!
//! Let a unit *displace* another when its arrival (`Replaces=`) or its departure (`MachineOf=`) drives the other from
//! its host. If there were a cycle with a `Replaces=` in it (`a` replaces `b`, `b` replaces `c`, `c` replaces `a`; or
//! `r` replaces `a` and depends by `MachineOf=` on a dependent of `a`), units could chase each other for ever. So a
//! `Replaces=` is effective only if it closes no cycle: of those that do, the ones that point from an older unit to a
//! newer one are effective, as long as these alone close none. The effective ones are then free of cycles, except for
//! those of `MachineOf=` alone, whose units move as one. A unit at the top of such an order leaves a host only for
//! reasons that don't come from planning; each unit below leaves at most once for each move of those above: all moves
//! end.

use std::collections::BTreeSet;

use super::{View, precedence};
use crate::model::name::UnitName;

/// Whether the `Replaces=` by which `replacer` matches `replaced` counts.
pub(crate) fn is_effective<V: View>(view: &V, replacer: &UnitName, replaced: &UnitName) -> bool {
    let cluster = view.cluster();
    let leads_to_replacer = |only_older: bool| {
        let mut seen = BTreeSet::from([replaced.clone()]);
        let mut open = vec![replaced.clone()];
        while let Some(name) = open.pop() {
            if name == *replacer {
                return true;
            }
            let mut next = view.dependents(&name);
            if let Some(in_force) = view.constraints_in_force(&name).filter(|in_force| !in_force.replaces.is_empty()) {
                let matching = view.matching(&in_force.replaces, &name).into_iter();
                next.extend(
                    matching.filter(|other| !only_older || precedence(cluster, &name) < precedence(cluster, other)),
                );
            }
            open.extend(next.into_iter().filter(|name| seen.insert(name.clone())));
        }
        false
    };
    !leads_to_replacer(false)
        || (precedence(cluster, replacer) < precedence(cluster, replaced) && !leads_to_replacer(true))
}

/// Every unit that `name` could displace, by one step or many: whose standing a change of `name` can alter.
pub(crate) fn displaced<V: View>(view: &V, name: &UnitName) -> BTreeSet<UnitName> {
    let mut seen = BTreeSet::new();
    let mut open = vec![name.clone()];
    while let Some(name) = open.pop() {
        let mut next = view.dependents(&name);
        if let Some(in_force) = view.constraints_in_force(&name).filter(|in_force| !in_force.replaces.is_empty()) {
            next.extend(view.matching(&in_force.replaces, &name));
        }
        open.extend(next.into_iter().filter(|name| seen.insert(name.clone())));
    }
    seen
}
