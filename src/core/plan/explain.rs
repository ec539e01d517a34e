//! Explains why a unit isn't where it should be: every host, every broken rule. Pure and unindexed, for single
//! questions; `plan::account` has the whole explanation, of units that run too. Must never contradict the scheduler,
//! whose rules it uses.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Desired, Placement, Target};

use super::absence;
pub use super::absence::Waits;
use super::fit::preferred::{Choice, choice};
use super::fit::{Misfit, Question, Stance, View as _, fit};

/// The standing of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The unit.
    pub unit: UnitName,
    /// The standing.
    pub standing: Standing,
    /// For a unit that waits, leaves or is global: the registered hosts, by id, that don't have it or that it doesn't
    /// fit. For one that belongs to its host: that, if it would no longer fit it.
    pub hosts: Vec<Verdict>,
    /// For a unit with preferences that is placed: why on its host.
    pub choice: Option<Choice>,
}

/// The standing of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is no unit of that name.
    Unknown,
    /// It is a template, of which only instances run.
    Template,
    /// Its desired state is `inactive`.
    Inactive,
    /// Its file isn't known (yet).
    FileUnknown,
    /// It runs once, and has.
    Done {
        /// The host on which it ran.
        host: MachineId,
    },
    /// It is on its host.
    Placed {
        /// The host.
        host: MachineId,
    },
    /// It waits for its host, which is gone.
    Away {
        /// The host.
        host: MachineId,
        /// Its hostname.
        hostname: String,
        /// For how long.
        waits: Waits,
    },
    /// It is global.
    Everywhere {
        /// The number of hosts that have it.
        on: usize,
        /// The number of registered hosts.
        of: usize,
    },
    /// Hosts must still stop it.
    Leaving {
        /// The hosts.
        hosts: Vec<MachineId>,
    },
    /// No host fits, or the scheduler hasn't placed it yet.
    Waiting,
}

/// The result of the rules for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The host.
    pub id: MachineId,
    /// Its hostname.
    pub hostname: String,
    /// Every reason against it; empty if the unit fits.
    pub misfits: Vec<Misfit>,
}

/// Explain where `unit` is and isn't.
#[must_use]
pub fn explain(cluster: &Cluster, unit: &UnitName) -> Explanation {
    let standing = standing(cluster, unit);
    let needs_reasons = matches!(standing, Standing::Waiting | Standing::Leaving { .. } | Standing::Everywhere { .. });
    let verdicts = match &standing {
        _ if needs_reasons => verdicts(cluster, unit, &[]),
        Standing::Placed { host } => stays_nevertheless(cluster, unit, host).into_iter().collect(),
        _ => Vec::new(),
    };
    let is_worth_telling =
        |verdict: &Verdict| !verdict.misfits.is_empty() || !super::fit::live_at(cluster, unit.as_str(), &verdict.id);
    let hosts = verdicts.into_iter().filter(is_worth_telling).collect();
    let choice = match &standing {
        Standing::Placed { host } => choice(cluster, unit, host),
        _ => None,
    };
    Explanation { unit: unit.clone(), standing, hosts, choice }
}

/// What every registered host, by id, would say to `unit`, whatever its desired state; `with` are units that would
/// arrive at the same time. Nothing is said of a unit whose file isn't known.
#[must_use]
pub fn verdicts(cluster: &Cluster, unit: &UnitName, with: &[UnitName]) -> Vec<Verdict> {
    if cluster.constraints(unit).is_none() {
        return Vec::new();
    }
    let with = together(cluster, unit, with);
    cluster.machines.keys().filter_map(|host| verdict_of(cluster, unit, host, &with)).collect()
}

/// Those of `with` that are on the same host as `unit`, because they name each other in `MachineOf=`, directly or not.
fn together(cluster: &Cluster, unit: &UnitName, with: &[UnitName]) -> Vec<UnitName> {
    let named = |name: &UnitName| cluster.constraints(name).map(|constraints| constraints.machine_of.clone());
    let mut rest: Vec<_> = with.iter().map(|name| (name, named(name).unwrap_or_default())).collect();
    let (mut together, mut open) = (Vec::new(), vec![(unit.clone(), named(unit).unwrap_or_default())]);
    while let Some((name, peers)) = open.pop() {
        let is_one = |(other, named): &(&UnitName, BTreeSet<String>)| {
            peers.contains(other.as_str()) || named.contains(name.as_str())
        };
        for (other, peers) in rest.extract_if(.., |other| is_one(other)) {
            together.push(other.clone());
            open.push((other.clone(), peers));
        }
    }
    together.sort();
    together
}

/// What this host would say; `None` if it isn't registered.
#[must_use]
pub fn verdict_of(cluster: &Cluster, unit: &UnitName, host: &MachineId, with: &[UnitName]) -> Option<Verdict> {
    let hostname = cluster.machines.get(host)?.hostname.clone();
    let has_it = super::fit::live_at(cluster, unit.as_str(), host);
    let stance = if has_it { Stance::Stay } else { Stance::Arrive };
    let constraints = cluster.constraints_at(unit, host).unwrap_or_default();
    let question = Question { unit, constraints: &constraints, host, stance, with };
    let misfits = fit(cluster, &question).err().unwrap_or_default();
    Some(Verdict { id: host.clone(), hostname, misfits })
}

/// What would keep a unit from coming to its host, to which it belongs (`MoveAfterSec=infinity`).
pub(in crate::plan) fn stays_nevertheless(cluster: &Cluster, unit: &UnitName, host: &MachineId) -> Option<Verdict> {
    let constraints = cluster.constraints_at(unit, host).filter(|constraints| constraints.belongs_to_its_host())?;
    let hostname = cluster.machines.get(host)?.hostname.clone();
    let misfits = super::fit::metadata(cluster, &constraints, host);
    (!misfits.is_empty()).then(|| Verdict { id: host.clone(), hostname, misfits })
}

pub(in crate::plan) fn standing(cluster: &Cluster, unit: &UnitName) -> Standing {
    let assignments =
        || cluster.schedule.iter().filter_map(|(host, assignments)| Some((host, &assignments.get(unit)?.value)));
    let leaving: Vec<MachineId> = assignments()
        .filter(|(_, assignment)| assignment.target == Target::Removed)
        .map(|(host, _)| host.clone())
        .collect();
    let Some(record) = cluster.units.get(unit) else {
        return if leaving.is_empty() { Standing::Unknown } else { Standing::Leaving { hosts: leaving } };
    };
    if unit.is_template() {
        return Standing::Template;
    }
    if record.desired == Desired::Inactive {
        return if leaving.is_empty() { Standing::Inactive } else { Standing::Leaving { hosts: leaving } };
    }
    let Some(constraints) = cluster.constraints(unit) else { return Standing::FileUnknown };
    if constraints.global {
        let on = assignments()
            .filter(|(host, assignment)| assignment.target != Target::Removed && cluster.machines.contains_key(*host));
        return Standing::Everywhere { on: on.count(), of: cluster.machines.len() };
    }
    if !leaving.is_empty() {
        return Standing::Leaving { hosts: leaving };
    }
    match cluster.placements.get(unit).map(|placement| &placement.value) {
        Some(Placement::Done { done, .. }) if cluster.done(unit).is_some() => {
            Standing::Done { host: done.host.clone() }
        }
        Some(Placement::On { host, .. }) if super::fit::live_at(cluster, unit.as_str(), host) => {
            let hostname = || cluster.hostname(host).unwrap_or(host.short()).to_owned();
            match absence::waits(cluster, unit, host, 0) {
                Some(waits) => Standing::Away { host: host.clone(), hostname: hostname(), waits },
                None => Standing::Placed { host: host.clone() },
            }
        }
        _ => Standing::Waiting,
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "no such unit"),
            Self::Template => write!(f, "a template: only its instances run"),
            Self::Inactive => write!(f, "its desired state is inactive"),
            Self::FileUnknown => write!(f, "its file isn't known yet"),
            Self::Done { host } => write!(f, "has run once on {}, and is done", host.short()),
            Self::Placed { host } => write!(f, "placed on {}", host.short()),
            Self::Away { hostname, waits: Waits::Until(_), .. } => {
                write!(f, "waits for {hostname}, which is gone, until its MoveAfterSec= is over")
            }
            Self::Away { hostname, waits: Waits::ForGood, .. } => write!(
                f,
                "waits for {hostname}, which is gone and to which it belongs (MoveAfterSec=infinity); if it won't be \
                 back: fleetctl forget {hostname}"
            ),
            Self::Everywhere { on, of } => write!(f, "global, on {on} of {of} hosts"),
            Self::Leaving { hosts } => {
                let hosts: Vec<&str> = hosts.iter().map(MachineId::short).collect();
                write!(f, "waits for {} to stop it", hosts.join(" and "))
            }
            Self::Waiting => write!(f, "can't run anywhere yet"),
        }
    }
}

/// For people: the standing, then a line for each host that doesn't fit.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.unit, self.standing)?;
        for verdict in &self.hosts {
            for misfit in &verdict.misfits {
                write!(f, "\n  {}  {misfit}", verdict.hostname)?;
            }
        }
        if let Some(choice) = &self.choice {
            write!(f, "\n  {choice}")?;
        }
        Ok(())
    }
}
