//! The whole explanation of a unit: what each host has against it, or why it is on the host that it has, since when,
//! and what would make it move. From the scheduler's indexes, so that it costs little in a large cluster. Must never
//! decide anything.

mod held;
pub mod line;
mod place;
#[cfg(test)]
mod tests;

use crate::model::cluster::Cluster;
use crate::model::move_after::MoveAfter;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::unit::Placement;

use super::explain::{self, Standing};
use super::fit::live_at;
use super::schedule::{Obstacle, Scheduler};
pub use held::held;
pub use place::{Because, Place};

/// Why a unit is where it is, or waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The unit.
    pub unit: UnitName,
    /// Its standing.
    pub standing: Standing,
    /// Since when it is on its host, waits, or is done, in ms since the epoch.
    pub since: Option<u64>,
    /// The other units without a host that it must be with: it is placed where all of them fit.
    pub with: Vec<UnitName>,
    /// Whether these can't share any host, because they exclude each other.
    pub apart: bool,
    /// Of a unit that waits or leaves, and of a global one: the registered hosts, by id, that don't have it or that it
    /// doesn't fit. Of one that is placed: its host, if it only stays there because it belongs to it.
    pub hosts: Vec<HostStand>,
    /// Of one that is placed: why it is on this host rather than on another.
    pub place: Option<Place>,
    /// Of one that is placed: what would make it move, as parts of a sentence.
    pub moves: Vec<String>,
}

/// What a host has against a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStand {
    /// The host.
    pub host: MachineId,
    /// Every rule that speaks against it; empty if the unit fits.
    pub obstacles: Vec<Obstacle>,
}

impl Account {
    /// Whether a host fits, so that it is about to be placed.
    #[must_use]
    pub fn fits_somewhere(&self) -> bool {
        !self.apart && self.hosts.iter().any(|stand| stand.obstacles.is_empty())
    }
}

/// The whole explanation of `unit`. What is placed is looked at as if it weren't, and is afterwards where it was.
#[must_use]
pub fn account(scheduler: &mut Scheduler, unit: &UnitName) -> Account {
    let standing = explain::standing(scheduler.cluster(), unit);
    let group = scheduler.arriving_with(unit);
    let waits = matches!(standing, Standing::Waiting);
    let apart = waits && scheduler.exclude_each_other(&group);
    let hosts = match &standing {
        Standing::Waiting => stands(scheduler, &group),
        Standing::Leaving { .. } | Standing::Everywhere { .. } => {
            let mut stands = stands(scheduler, std::slice::from_ref(unit));
            stands.retain(|it| !it.obstacles.is_empty() || !live_at(scheduler.cluster(), unit.as_str(), &it.host));
            stands
        }
        Standing::Placed { host } => stays_nevertheless(scheduler, unit, host).into_iter().collect(),
        _ => Vec::new(),
    };
    let (place, moves) = match &standing {
        Standing::Placed { host } => {
            let host = host.clone();
            (Place::of(scheduler, unit, &host), moves(scheduler.cluster(), unit, &host))
        }
        _ => (None, Vec::new()),
    };
    let with = group.into_iter().filter(|other| waits && other != unit).collect();
    let since = since(scheduler.cluster(), unit);
    Account { unit: unit.clone(), standing, since, with, apart, hosts, place, moves }
}

/// What each registered host, by id, has against units that would be placed together; nothing is known of units that
/// aren't planned.
pub(in crate::plan) fn stands(scheduler: &Scheduler, group: &[UnitName]) -> Vec<HostStand> {
    if !scheduler.plans(group) {
        return Vec::new();
    }
    let stand = |host: &MachineId| HostStand { host: host.clone(), obstacles: scheduler.against(group, host) };
    scheduler.cluster().machines.keys().map(stand).collect()
}

/// What would keep a unit from coming to its host, to which it belongs (`MoveAfterSec=infinity`).
fn stays_nevertheless(scheduler: &Scheduler, unit: &UnitName, host: &MachineId) -> Option<HostStand> {
    let verdict = explain::stays_nevertheless(scheduler.cluster(), unit, host)?;
    let obstacle = |misfit| Obstacle { unit: unit.clone(), misfit };
    Some(HostStand { host: verdict.id, obstacles: verdict.misfits.into_iter().map(obstacle).collect() })
}

fn since(cluster: &Cluster, unit: &UnitName) -> Option<u64> {
    match &cluster.placements.get(unit)?.value {
        Placement::On { since, .. } | Placement::Waiting { since, .. } | Placement::Done { since, .. } => Some(*since),
    }
}

/// What would make a unit leave its host, as far as its file and its host are concerned.
fn moves(cluster: &Cluster, unit: &UnitName, host: &MachineId) -> Vec<String> {
    let Some(constraints) = cluster.constraints(unit) else { return Vec::new() };
    let name = cluster.hostname(host).unwrap_or(host.short());
    if constraints.belongs_to_its_host() {
        let why = format!("it belongs to {name}: MoveAfterSec=infinity");
        return vec![format!("a person names another host (`fleetctl move`; {why})")];
    }
    let mut all = Vec::new();
    match constraints.move_after {
        MoveAfter::AT_ONCE => all.push(format!("{name} is gone")),
        after => all.push(format!("{name} has been gone for {after} (MoveAfterSec=)")),
    }
    all.push(format!("{name} is drained"));
    if asks_for_metadata(&constraints) {
        all.push(format!("{name} no longer has the metadata of its MachineMetadata="));
    }
    let peers: Vec<&str> = constraints.machine_of.iter().map(String::as_str).collect();
    if !peers.is_empty() {
        all.push(format!("{} moves (MachineOf=)", peers.join(" or ")));
    }
    if constraints.reschedule().is_some() {
        all.push("it fails (Reschedule=on-failure)".into());
    }
    all.push("a person moves it (`fleetctl move`)".into());
    all
}

fn asks_for_metadata(constraints: &Constraints) -> bool {
    !constraints.metadata.is_empty() || !constraints.conditions.is_empty()
}
