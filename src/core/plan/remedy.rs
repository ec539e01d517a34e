//! The nearest fixes of a unit that waits: what a person could do so that it is placed. Pure. Owns what counts as one,
//! what is cheaper than what, and how many are tried; each is tried by the real scheduler on a copy of the cluster, so
//! that none is ever wrong. Must never change anything, nor judge by itself whether a host fits.
//!
//! The work is bounded by [`ATTEMPTS`]: so many fixes at most are tried, whatever the size of the cluster, and the same
//! cluster always has the same ones. A fix that would make another unit leave its host counts as none, except that of a
//! unit that is moved and placed elsewhere.

mod attempt;
mod candidates;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::file::UnitFile;
use crate::model::name::{MachineId, UnitName};

use super::account::stands;
use super::explain::{Standing, standing};
use super::schedule::Scheduler;
use super::trial::Trial;
use candidates::{Candidate, Kind, candidates};

/// The most fixes that are told.
pub const MOST: usize = 3;

/// The most fixes that are tried.
pub const ATTEMPTS: usize = 24;

/// The most hosts on which the same kind of fix is tried.
const OF_A_KIND: usize = 4;

/// What a person could do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Start a unit that must be on the same host (`MachineOf=`).
    Start(UnitName),
    /// Let a host take units again.
    Open {
        /// The host.
        host: MachineId,
        /// Whether it is cordoned.
        cordoned: bool,
        /// Whether it is drained.
        drained: bool,
    },
    /// Give a host metadata, or take some from it.
    Metadata {
        /// The host.
        host: MachineId,
        /// What it gets.
        set: BTreeMap<String, String>,
        /// What it has no longer.
        unset: BTreeSet<String>,
    },
    /// Move another unit to a host that fits it.
    Move {
        /// The unit.
        unit: UnitName,
        /// The host that it goes to.
        to: MachineId,
    },
    /// Take an option out of the unit's file.
    Drop {
        /// The units that have this file: the unit, or the members of its set.
        units: Vec<UnitName>,
        /// The line of the option.
        line: usize,
        /// The option: `Conflicts=web@*`.
        option: String,
    },
    /// Add a host with the metadata and the hardware of this one, and without its units.
    Join {
        /// That host.
        like: MachineId,
    },
}

/// Steps that together place a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// What to do.
    pub steps: Vec<Step>,
    /// The host on which the unit is placed then; `None` if that is the one to add.
    pub host: Option<MachineId>,
}

/// The nearest fixes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remedies {
    /// The host on which it is placed without any, once hosts have stopped what leaves them.
    pub by_itself: Option<MachineId>,
    /// The fixes, the cheapest first, and at most [`MOST`].
    pub found: Vec<Remedy>,
    /// How many were tried.
    pub attempts: usize,
}

/// The nearest fixes of `unit`, which waits and whose file is `file`, at `now`, in ms since the epoch. A unit that
/// doesn't wait has none.
///
/// Afterwards everything in `scheduler` is decided that was about to be decided, and nothing else has changed.
#[must_use]
pub fn remedies(scheduler: &mut Scheduler, unit: &UnitName, file: Option<&UnitFile>, now: u64) -> Remedies {
    if standing(scheduler.cluster(), unit) != Standing::Waiting {
        return Remedies::default();
    }
    let mut trial = Trial::settled(scheduler, now);
    if let Some(host) = trial.placed_on(unit) {
        return Remedies { by_itself: Some(host), ..Remedies::default() };
    }
    let group = trial.scheduler().arriving_with(unit);
    if trial.scheduler().exclude_each_other(&group) {
        return Remedies::default();
    }
    let stands = stands(trial.scheduler(), &group);
    let all = candidates(trial.scheduler(), (unit, &group), &stands, file);
    search(&mut trial, unit, all)
}

/// Try candidates, the cheapest first.
fn search(trial: &mut Trial<'_>, unit: &UnitName, all: Vec<Candidate>) -> Remedies {
    let mut remedies = Remedies::default();
    let mut tried: BTreeMap<BTreeSet<Kind>, usize> = BTreeMap::new();
    let mut done: Vec<BTreeSet<Kind>> = Vec::new();
    for candidate in all {
        if remedies.found.len() >= MOST || remedies.attempts >= ATTEMPTS {
            break;
        }
        // Whoever can do less won't do more.
        let kinds = candidate.kinds();
        let times = tried.entry(kinds.clone()).or_default();
        if *times >= OF_A_KIND || done.iter().any(|done| done.is_subset(&kinds)) {
            continue;
        }
        *times += 1;
        remedies.attempts += 1;
        let Some(steps) = candidate.steps(trial.scheduler()) else { continue };
        if let Some(remedy) = trial.attempt(unit, steps, &candidate) {
            done.push(kinds);
            remedies.found.push(remedy);
        }
    }
    remedies
}
