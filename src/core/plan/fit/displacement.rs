//! Which `Replaces=` are effective. Owns the proof that evictions come to an end.
//!
//! A unit *displaces* another if its arrival (`Replaces=`) or its departure (`MachineOf=`) forces the other to leave
//! its host. In a cycle that contains a `Replaces=` (`a` replaces `b`, `b` replaces `c`, `c` replaces `a`; or `r`
//! replaces `a` and depends by `MachineOf=` on a dependent of `a`), units could evict each other without end. A
//! `Replaces=` is therefore effective only if it closes no cycle. Of those that close one, the ones that point from an
//! older unit to a newer one are effective, provided that these alone close none. The effective ones then have no
//! cycles except those of `MachineOf=` alone, whose units move as one. A unit at the top of this order leaves a host
//! only for reasons outside planning, and each unit below leaves at most once for each move of those above it, so the
//! moves end.

use std::collections::BTreeSet;

use super::{View, precedence};
use crate::model::name::UnitName;

/// Whether the `Replaces=` by which `replacer` matches `replaced` is effective.
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

/// All units that `name` could displace, directly or indirectly: a change of `name` can change their placement.
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
