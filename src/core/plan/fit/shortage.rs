//! Whether a host has as much memory and CPU left as a unit takes that arrives. Owns the comparison and its words.

use std::fmt;

use crate::model::name::UnitName;
use crate::model::resources::Kind;

use super::resources::{Taken, declared, offered, overcommit, runs};
use super::{Question, Stance, View};

/// That a host has too little left of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Of what.
    pub kind: Kind,
    /// How much is wanted,
    pub wanted: u64,
    /// by how many units that arrive together.
    pub arriving: usize,
    /// How much the host has; `None` if it doesn't report that.
    pub has: Option<u64>,
    /// How much of it its configuration keeps from units.
    pub reserved: u64,
    /// How much of the rest can be taken, in percent.
    pub overcommit: u32,
    /// What is taken.
    pub taken: Taken,
}

/// What a host has too little of for a unit that arrives, together with those that arrive with it. A unit that is there
/// stays there, also if the host has too little for all that are there; and one that runs there already, although the
/// store has lost its assignment, isn't new.
pub(super) fn shortages<V: View>(view: &V, question: &Question<'_>) -> Vec<Shortage> {
    let Question { unit, constraints, host, stance, with } = *question;
    let (own, cluster) = (constraints.resources, view.cluster());
    if own.is_none() || stance != Stance::Arrive || runs(cluster, unit, host) {
        return Vec::new();
    }
    let is_there = |name: &UnitName| cluster.schedule.get(host).is_some_and(|there| there.contains_key(name));
    let mut taken = view.taken_on(host);
    let mut wanted = Taken::default().and(own);
    if is_there(unit) {
        taken = taken.but(declared(cluster, unit, host));
    }
    for peer in with.iter().filter(|peer| *peer != unit) {
        let amount = declared(cluster, peer, host);
        wanted = wanted.and(amount);
        if is_there(peer) {
            taken = taken.but(amount);
        }
    }
    let shortage = |kind: Kind| {
        let total = taken.amount.of(kind).saturating_add(wanted.amount.of(kind));
        (own.of(kind) > 0 && total > offered(cluster, host, kind)).then(|| Shortage {
            kind,
            wanted: wanted.amount.of(kind),
            arriving: wanted.units,
            has: cluster.machines.get(host).and_then(|machine| machine.has(kind)),
            reserved: cluster.machines.get(host).map_or(0, |machine| machine.reserved.of(kind)),
            overcommit: overcommit(cluster, kind),
            taken,
        })
    };
    Kind::ALL.into_iter().filter_map(shortage).collect()
}

/// `512 MiB of memory wanted, 300 MiB free (7.7 GiB, 400 MiB reserved, 7 GiB taken by 12 units)`
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, wanted, arriving, has, reserved, overcommit, taken } = self;
        write!(f, "{} of {} wanted", kind.shown(*wanted), kind.name())?;
        if *arriving > 1 {
            write!(f, " by {arriving} units together")?;
        }
        let Some(has) = has else { return write!(f, ", and the host doesn't report how much it has") };
        let offered = u128::from(has.saturating_sub(*reserved)) * u128::from(*overcommit) / 100;
        let there = taken.amount.of(*kind);
        let free = u64::try_from(offered.saturating_sub(u128::from(there))).unwrap_or(u64::MAX);
        write!(f, ", {} free ({}", kind.shown(free), kind.shown(*has))?;
        if *reserved > 0 {
            write!(f, ", {} reserved", kind.shown(*reserved))?;
        }
        if *overcommit != 100 {
            write!(f, ", overcommitted to {overcommit}%")?;
        }
        let units = if taken.units == 1 { "1 unit".into() } else { format!("{} units", taken.units) };
        write!(f, ", {} taken by {units})", kind.shown(there))
    }
}
