//! Why a unit is on its host rather than on another, as the cluster is now: the comparison that decides, the next best
//! host, and the better ones that don't fit. Owns how hosts are told apart; `fit::preferred` has the order and its
//! words.

use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;

use super::super::drain::group::{group_of, leader_first};
use super::super::fit::metadata_value;
use super::super::fit::preferred::Rated;
use super::super::schedule::Scheduler;
use super::HostStand;

/// How many of the better hosts are named that don't fit.
const PASSED: usize = 5;

/// Why a unit is on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host.
    pub host: MachineId,
    /// Units that must be on the same host and came with it.
    pub with: Vec<UnitName>,
    /// What decides.
    pub because: Because,
    /// The hosts that would be better and don't fit, the best first, and not all of them.
    pub passed: Vec<HostStand>,
    /// How many there are.
    pub passed_in_all: usize,
}

/// What decides where a unit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// It must be where this other unit is.
    With(UnitName),
    /// No other host fits.
    OnlyHost,
    /// The two best hosts differ in this.
    Compared {
        /// As in `units 1 < 4`: of this host, and of the next best.
        by: String,
        /// The best of the other hosts that fit.
        runner_up: MachineId,
        /// Whether that is better by now. Nothing moves because of it, unless a person asks for a rebalance.
        is_better: bool,
    },
}

impl Place {
    /// Why `unit` is on `host`; `None` if its file isn't known.
    pub(super) fn of(scheduler: &mut Scheduler, unit: &UnitName, host: &MachineId) -> Option<Self> {
        let cluster = scheduler.cluster();
        let group = leader_first(cluster, group_of(cluster, host, unit));
        let constraints = cluster.constraints(&group[0])?;
        let with = group.iter().filter(|other| *other != unit).cloned().collect();
        let there = cluster.schedule.get(host);
        // A unit in whose place no other could be: one that is there anyway.
        let anchor = constraints.machine_of.iter().filter(|peer| !group.iter().any(|unit| unit.as_str() == **peer));
        let anchor = anchor.filter_map(|peer| there?.get_key_value(peer.as_str())).map(|(peer, _)| peer.clone()).next();
        if let Some(anchor) = anchor {
            let (because, passed) = (Because::With(anchor), Vec::new());
            return Some(Self { host: host.clone(), with, because, passed, passed_in_all: 0 });
        }
        Some(scheduler.without(&group, host, |scheduler| {
            let (because, better) = compare(scheduler, &group, host, &constraints);
            let stand = |host: &MachineId| HostStand { host: host.clone(), obstacles: scheduler.against(&group, host) };
            let passed = better.iter().take(PASSED).map(stand).collect();
            Self { host: host.clone(), with, because, passed, passed_in_all: better.len() }
        }))
    }
}

/// What tells `home` from the next best host, and the better hosts that don't fit, the best first; of units that are
/// on none.
fn compare(
    scheduler: &Scheduler,
    group: &[UnitName],
    home: &MachineId,
    constraints: &Constraints,
) -> (Because, Vec<MachineId>) {
    let cluster = scheduler.cluster();
    let spread = constraints.preferences.as_ref().and_then(|preferences| preferences.spread.as_ref());
    let value = |id: &MachineId| spread.and_then(|spread| metadata_value(cluster, id, &spread.key)).map(str::to_owned);
    let measure = scheduler.measure(group);
    let rated = |id: &MachineId| {
        let merit = measure.merit(id);
        let load = (merit.without.share, merit.without.units);
        Rated { distance: merit.distance, load, id: id.clone(), value: value(id) }
    };
    let packs = scheduler.packs(group);
    let own = rated(home);
    // Cordoned hosts are tried last, and fit hardly any unit.
    let others = cluster.machines.keys().filter(|id| *id != home);
    let mut others: Vec<Rated> = others.map(rated).collect();
    others.sort_by(|a, b| a.compared(b, packs));
    let mut better = Vec::new();
    for other in &others {
        let is_better = other.compared(&own, packs).is_lt();
        let group_fits = scheduler.fits_on(group, &other.id);
        if group_fits {
            let by = own.against(other, constraints, packs);
            return (Because::Compared { by, runner_up: other.id.clone(), is_better }, better);
        }
        if is_better && !cluster.is_closed(&other.id) {
            better.push(other.id.clone());
        }
    }
    (Because::OnlyHost, better)
}
