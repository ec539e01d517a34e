//! The invariants of a cluster. They are written as plainly as possible and independently of the scheduler, whose
//! results they check: only the rules of `fit` and `templates` are shared. A unit behind a gate is checked as what it
//! is scheduled as. Must never repair anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::cluster::{Cluster, Versioned};
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::placement::limits::MAX_PLANNED_PATTERNS;
use crate::model::rule::{Reasons, Rule};
use crate::model::unit::{Assignment, Desired, Placement, Target};

use super::absence;
use super::fit::{Misfit, Question, Stance, View as _, first_misfit, fit};
use super::gate::effective;
use super::wanted;

/// When an invariant must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// At every revision of a store that only this program writes to.
    Always,
    /// Once everything is planned and every host has reported.
    Settled,
}

/// A violated invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A unit that isn't global has live assignments on several hosts.
    ManyHosts(UnitName, Vec<MachineId>),
    /// A placement names a host that has no assignment of the unit.
    NoAssignment(UnitName, MachineId),
    /// A live assignment that no placement explains.
    NoPlacement(UnitName, MachineId),
    /// Two live assignments whose files conflict.
    Conflict(MachineId, UnitName, UnitName),
    /// An assignment whose file isn't in the store.
    NoFile(MachineId, UnitName, UnitHash),
    /// A live assignment of a unit whose desired state puts it on no host.
    Unwanted(UnitName, MachineId),
    /// An assignment that differs from what its unit's record requires.
    Stale(UnitName, MachineId),
    /// An assignment of a unit that must still be stopped, or on a dead host.
    Leftover(UnitName, MachineId),
    /// A unit on a host that it doesn't fit.
    Misplaced(UnitName, MachineId, Misfit),
    /// A unit isn't on a host that it fits, and should be.
    Missing(UnitName, MachineId),
    /// A unit that has neither a host nor a reason for waiting.
    Silent(UnitName),
    /// A waiting unit whose stored reasons no longer exclude every host.
    StaleReasons(UnitName),
    /// A placement of a unit that needs none.
    Placement(UnitName),
}

impl Violation {
    /// When the invariant must hold.
    #[must_use]
    pub fn when(&self) -> When {
        match self {
            Self::ManyHosts(..)
            | Self::NoAssignment(..)
            | Self::NoPlacement(..)
            | Self::Conflict(..)
            | Self::NoFile(..) => When::Always,
            _ => When::Settled,
        }
    }
}

/// All violations, first those of invariants that must always hold.
#[must_use]
pub fn check(cluster: &Cluster) -> Vec<Violation> {
    let mut found = always(cluster);
    found.extend(settled(cluster));
    found
}

/// The violations of invariants that must hold at every revision.
#[must_use]
pub fn always(cluster: &Cluster) -> Vec<Violation> {
    let mut found = Vec::new();
    for (host, assignments) in &cluster.schedule {
        for (name, assignment) in assignments {
            if !cluster.files.contains_key(&assignment.value.hash) {
                found.push(Violation::NoFile(host.clone(), name.clone(), assignment.value.hash.clone()));
            }
            if is_live(assignment) && !assignment.value.global && cluster.placed_on(name) != Some(host) {
                found.push(Violation::NoPlacement(name.clone(), host.clone()));
            }
        }
        found.extend(conflicts(cluster, host));
    }
    for (name, placement) in &cluster.placements {
        let Placement::On { host, .. } = &placement.value else { continue };
        if !cluster.schedule.get(host).is_some_and(|assignments| assignments.contains_key(name)) {
            found.push(Violation::NoAssignment(name.clone(), host.clone()));
        }
    }
    for (name, assignments) in by_unit(cluster) {
        let single =
            |(_, assignment): &&(&MachineId, &Versioned<Assignment>)| is_live(assignment) && !assignment.value.global;
        let hosts: Vec<MachineId> = assignments.iter().filter(single).map(|(host, _)| (*host).clone()).collect();
        if hosts.len() > 1 {
            found.push(Violation::ManyHosts(name.clone(), hosts));
        }
    }
    found
}

/// Checks the files of the assignments, not newer ones that the host doesn't have yet.
fn conflicts(cluster: &Cluster, host: &MachineId) -> Vec<Violation> {
    let constraints = |name: &UnitName, assignment: &Versioned<Assignment>| {
        let file = cluster.files.get(&assignment.value.hash)?;
        Some(Constraints::resolve(&file.value, name))
    };
    let live: Vec<_> = cluster
        .schedule
        .get(host)
        .into_iter()
        .flatten()
        .filter(|(_, assignment)| is_live(assignment))
        .filter_map(|(name, assignment)| Some((name, constraints(name, assignment)?)))
        .collect();
    let declaring = live.iter().filter(|(_, constraints)| !constraints.conflicts.is_empty() && is_planned(constraints));
    let pairs = declaring.flat_map(|(name, constraints)| {
        let excluded =
            |other: &&UnitName| *other != *name && constraints.conflicts.iter().any(|g| g.matches(other.as_str()));
        live.iter().map(|(other, _)| *other).filter(excluded).map(|other| (*name, other)).collect::<Vec<_>>()
    });
    pairs.map(|(name, other)| Violation::Conflict(host.clone(), name.clone(), other.clone())).collect()
}

/// The violations of invariants that must hold once everything is planned and acknowledged.
#[must_use]
pub fn settled(cluster: &Cluster) -> Vec<Violation> {
    let cluster = &*effective(cluster);
    let mut found = Vec::new();
    for (host, assignments) in &cluster.schedule {
        for (name, assignment) in assignments {
            found.extend(misplaced(cluster, host, name, assignment));
        }
    }
    let scheduled = by_unit(cluster);
    let names: BTreeSet<&UnitName> =
        cluster.units.keys().chain(cluster.placements.keys()).chain(scheduled.keys().copied()).collect();
    for name in names {
        let wanted =
            cluster.units.get(name).is_some_and(|unit| unit.desired != Desired::Inactive) && !name.is_template();
        let constraints = cluster.constraints(name).filter(|constraints| is_planned(constraints));
        let placement = cluster.placements.get(name).map(|placement| &placement.value);
        match (wanted, constraints) {
            (true, None) => {}
            (false, _) => found.extend(placement.map(|_| Violation::Placement(name.clone()))),
            (true, Some(constraints)) => {
                let somewhere = scheduled.contains_key(name);
                let word = matches!(placement, Some(Placement::Waiting { .. }));
                match (constraints.global, placement) {
                    (true, Some(_)) if somewhere || !word => found.push(Violation::Placement(name.clone())),
                    (true, None) if !somewhere => found.push(Violation::Silent(name.clone())),
                    (false, None) => found.push(Violation::Silent(name.clone())),
                    _ => {}
                }
                let is_done = cluster.done(name).is_some();
                if constraints.global || !is_done && !matches!(placement, Some(Placement::On { .. })) {
                    found.extend(missing(cluster, name));
                }
                if let Some(Placement::Waiting { reasons, .. }) = placement
                    && constraints.machine_of.is_empty()
                    && !hold(cluster, name, reasons.as_ref())
                {
                    found.push(Violation::StaleReasons(name.clone()));
                }
            }
        }
    }
    found
}

fn misplaced(
    cluster: &Cluster,
    host: &MachineId,
    name: &UnitName,
    assignment: &Versioned<Assignment>,
) -> Option<Violation> {
    let at = || (name.clone(), host.clone());
    if !is_live(assignment) || !cluster.machines.contains_key(host) {
        let waits = absence::waits(cluster, name, host, 0).is_some();
        return (!waits).then(|| Violation::Leftover(name.clone(), host.clone()));
    }
    let unwanted = |(name, host)| Some(Violation::Unwanted(name, host));
    let Some(unit) = cluster.units.get(name).filter(|_| !name.is_template()) else { return unwanted(at()) };
    if unit.desired == Desired::Inactive {
        return unwanted(at());
    }
    let constraints = cluster.constraints_at(name, host)?;
    let wanted = wanted::assignment(cluster, name, host, &constraints)?;
    if assignment.value != wanted {
        return Some(Violation::Stale(name.clone(), host.clone()));
    }
    let question = Question { unit: name, constraints: &constraints, host, stance: Stance::Arrive, with: &[] };
    // Every unit on the host counts, leaving or not: everything has settled. It may have been there before the host was
    // cordoned, or had other metadata, and how units are spread, and what they need of a host, decides only where they
    // arrive.
    let is_new = |misfit: &Misfit| misfit.rule() == Rule::Cordoned;
    let must_leave = first_misfit(cluster, &Question { stance: Stance::Stay, ..question }).is_some_and(|m| is_new(&m));
    let excused = |misfit: &Misfit| match misfit.rule() {
        Rule::Cordoned => !must_leave,
        Rule::Spread | Rule::Port | Rule::Resources => true,
        Rule::Metadata => constraints.belongs_to_its_host(),
        _ => false,
    };
    let misfit = fit(cluster, &question).err()?.into_iter().find(|misfit| !excused(misfit))?;
    Some(Violation::Misplaced(name.clone(), host.clone(), misfit))
}

/// Whether the stored reasons count every registered host, and each of these breaks one of the counted rules. A unit
/// that waits for a unit that it names has no hosts to count, and a group breaks rules as a whole: neither is checked.
fn hold(cluster: &Cluster, name: &UnitName, reasons: Option<&Reasons>) -> bool {
    let Some(reasons) = reasons else { return false };
    let excluded = |host: &MachineId| {
        let Some(constraints) = cluster.constraints_at(name, host) else { return true };
        let question = Question { unit: name, constraints: &constraints, host, stance: Stance::Arrive, with: &[] };
        let misfits = fit(cluster, &question).err().unwrap_or_default();
        misfits.iter().any(|misfit| reasons.contains_key(&misfit.rule()))
    };
    reasons.values().sum::<usize>() == cluster.machines.len() && cluster.machines.keys().all(excluded)
}

/// Registered hosts that fit a unit and don't have it.
fn missing(cluster: &Cluster, name: &UnitName) -> Vec<Violation> {
    let free = |host: &&MachineId| {
        let Some(constraints) = cluster.constraints_at(name, host) else { return false };
        let question = Question { unit: name, constraints: &constraints, host, stance: Stance::Arrive, with: &[] };
        let has_it = cluster.schedule.get(host).is_some_and(|assignments| assignments.contains_key(name));
        !has_it && first_misfit(cluster, &question).is_none()
    };
    cluster.machines.keys().filter(free).map(|host| Violation::Missing(name.clone(), host.clone())).collect()
}

/// The scheduler leaves a unit with too many patterns where it is, and ignores its patterns.
fn is_planned(constraints: &Constraints) -> bool {
    constraints.patterns() <= MAX_PLANNED_PATTERNS
}

fn is_live(assignment: &Versioned<Assignment>) -> bool {
    assignment.value.target != Target::Removed
}

/// All assignments, grouped by unit.
fn by_unit(cluster: &Cluster) -> BTreeMap<&UnitName, Vec<(&MachineId, &Versioned<Assignment>)>> {
    let mut units: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (host, assignments) in &cluster.schedule {
        for (name, assignment) in assignments {
            units.entry(name).or_default().push((host, assignment));
        }
    }
    units
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManyHosts(unit, hosts) => write!(f, "{unit} is on {} hosts", hosts.len()),
            Self::NoAssignment(unit, host) => {
                write!(f, "{unit} is placed on {} and has no assignment there", host.short())
            }
            Self::NoPlacement(unit, host) => write!(f, "{unit} has an assignment on {} and no placement", host.short()),
            Self::Conflict(host, unit, with) => write!(f, "{unit} conflicts with {with} on {}", host.short()),
            Self::NoFile(host, unit, hash) => write!(f, "{unit} on {} has no file {}", host.short(), hash.short()),
            Self::Unwanted(unit, host) => write!(f, "{unit} is on {} and shouldn't be on any host", host.short()),
            Self::Stale(unit, host) => write!(f, "{unit} on {} isn't up to date", host.short()),
            Self::Leftover(unit, host) => write!(f, "{unit} has yet to leave {}", host.short()),
            Self::Misplaced(unit, host, misfit) => write!(f, "{unit} doesn't fit {}: {misfit}", host.short()),
            Self::Missing(unit, host) => write!(f, "{unit} fits {} and isn't there", host.short()),
            Self::Silent(unit) => write!(f, "{unit} has neither a host nor a reason"),
            Self::StaleReasons(unit) => write!(f, "{unit} waits, and its reasons don't exclude every host"),
            Self::Placement(unit) => write!(f, "{unit} has a placement and needs none"),
        }
    }
}
