//! What a planning round hands over: which keys to write, under which guards, and why. Plain values; must never decide
//! anything.

use std::fmt;

use crate::model::cluster::{Change, Versioned};
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::{Assignment, Placement};

use super::super::fit::Misfit;

/// What to commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a plan that isn't committed leaves the scheduler ahead of the store"]
pub struct Plan {
    /// In the order to commit them: those that only leave first, so that no file matches_on a host before what it
    /// conflicts with was told to go; then chains of `MachineOf=` together, leader first. A commit that stops anywhere
    /// between leaves a sound cluster.
    pub decisions: Vec<Decision>,
    /// Files that no unit and no assignment refers to any more: to delete if unchanged since.
    pub files: Vec<(UnitHash, Revision)>,
    /// What it took.
    pub report: Report,
}

/// What a planning round did, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Units looked at.
    pub examined: usize,
    /// Units waiting for a host when it was done.
    pub waiting: usize,
}

/// What to write about one unit, all in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The unit.
    pub unit: UnitName,
    /// Its placement, if that changes.
    pub placement: Option<Write<Placement>>,
    /// Its assignments that change. Many hosts for a global: each of these may be committed alone.
    pub assignments: Vec<(MachineId, Write<Assignment>)>,
    /// Why.
    pub why: Reason,
}

/// One key to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write<T> {
    /// The guard: absent, or unchanged since this revision. [`Revision::default`] is that of a value that was planned
    /// earlier and isn't yet seen in the store.
    pub before: Option<Revision>,
    /// The new value; `None` deletes.
    pub after: Option<T>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.files.is_empty()
    }
}

impl Decision {
    /// What the store's watch will say once this is committed as `revision`.
    pub fn changes(&self, revision: Revision) -> impl Iterator<Item = Change> {
        fn seen<T: Clone>(write: &Write<T>, revision: Revision) -> Option<Versioned<T>> {
            write.after.clone().map(|value| Versioned { value, revision })
        }
        let assignment = move |(host, write): &(MachineId, Write<Assignment>)| {
            Change::Assignment(host.clone(), self.unit.clone(), seen(write, revision))
        };
        let placement =
            self.placement.iter().map(move |write| Change::Placement(self.unit.clone(), seen(write, revision)));
        self.assignments.iter().map(assignment).chain(placement)
    }
}

/// As a line of the log: `web.service placed on n1 (3ec325e8): the least loaded host that fits`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.unit, self.why)
    }
}

/// A host, as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its identity.
    pub id: MachineId,
    /// Its name; unknown once it is dead.
    pub name: Option<String>,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.id.short()),
            None => f.write_str(self.id.short()),
        }
    }
}

/// Why a decision was taken: the operator's sentence, without the unit's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It goes to a host.
    Placed {
        /// The host.
        host: Host,
        /// How many less loaded hosts were passed over because they don't fit.
        passed: usize,
        /// What it leaves behind, if it moves.
        left: Option<(Host, Departure)>,
    },
    /// It stays where it is with another file, target or generation.
    Updated {
        /// The host.
        host: Host,
    },
    /// It is to leave a host, which must stop it first.
    Leaves {
        /// The host.
        host: Host,
        /// Why.
        because: Departure,
    },
    /// A host has stopped it, or is gone; it isn't placed again in the same decision.
    Left {
        /// The host.
        host: Host,
        /// Why.
        because: Departure,
    },
    /// No host fits.
    Waits {
        /// The summary, as in its placement.
        why: String,
        /// The host it was driven from, if it just was.
        left: Option<(Host, Departure)>,
    },
    /// It no longer needs a placement: its desired state is inactive, or it is global and has hosts.
    Forgotten,
}

/// Why a unit leaves a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Departure {
    /// The host died.
    HostGone,
    /// The host has stopped it.
    Stopped,
    /// Its desired state no longer puts it on a host: inactive, or a template.
    Unwanted,
    /// It was destroyed.
    Destroyed,
    /// It isn't where its placement says: a crash, or a hand in the store.
    Unexplained,
    /// A rule.
    Misfit(Misfit),
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostGone => write!(f, "the host is gone"),
            Self::Stopped => write!(f, "stopped there"),
            Self::Unwanted => write!(f, "its desired state is inactive"),
            Self::Destroyed => write!(f, "it was destroyed"),
            Self::Unexplained => write!(f, "its placement says otherwise"),
            Self::Misfit(misfit) => misfit.fmt(f),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placed { host, passed, left } => {
                match left {
                    Some((from, because)) if from.id == host.id => write!(f, "comes back to {host}: {because}; ")?,
                    Some((from, because)) => write!(f, "moves from {from} to {host}: {because}; ")?,
                    None => write!(f, "placed on {host}: ")?,
                }
                match passed {
                    0 => write!(f, "the least loaded host"),
                    passed => write!(f, "the least loaded host that fits ({passed} passed over)"),
                }
            }
            Self::Updated { host } => write!(f, "updated on {host}"),
            Self::Leaves { host, because } => write!(f, "leaves {host}: {because}"),
            Self::Left { host, because } => write!(f, "left {host}: {because}"),
            Self::Waits { why, left: None } => write!(f, "waits: {why}"),
            Self::Waits { why, left: Some((from, because)) } => write!(f, "left {from}: {because}; waits: {why}"),
            Self::Forgotten => write!(f, "needs no placement any more"),
        }
    }
}
