//! The result of a planning round: which keys to write, under which guards, and why. Plain values; must never decide
//! anything.

mod hosts;

use std::fmt;

use crate::model::cluster::{Change, Versioned};
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::{Assignment, Placement};

use super::super::fit::Misfit;
pub use hosts::{Fate, HostDecision, HostEvent};

/// What to commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a plan that isn't committed leaves the scheduler ahead of the store"]
pub struct Plan {
    /// In the order in which to commit them: first those that only remove, so that no unit arrives on a host before the
    /// units that it conflicts with were told to leave it; then chains of `MachineOf=` together, the colocation target
    /// first. If committing stops between any two of them, the cluster is consistent.
    pub decisions: Vec<Decision>,
    /// What changes in the roster, to be committed after the decisions: what became of a host's units is true then.
    pub hosts: Vec<HostDecision>,
    /// The earlier texts of units that were destroyed a week ago, to be deleted if they haven't changed since.
    pub histories: Vec<(UnitName, Revision)>,
    /// Files that no unit, assignment or history refers to any more, to be deleted if they haven't changed since.
    pub files: Vec<(UnitHash, Revision)>,
    /// What the round did.
    pub report: Report,
}

/// Counts of what a planning round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Units that were examined.
    pub examined: usize,
    /// Units that wait for a host after the round.
    pub waiting: usize,
}

/// What to write about one unit, all in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The unit.
    pub unit: UnitName,
    /// Its placement, if that changes.
    pub placement: Option<Write<Placement>>,
    /// Its assignments that change. A global unit may have many; each of these may be committed alone.
    pub assignments: Vec<(MachineId, Write<Assignment>)>,
    /// Why.
    pub why: Reason,
}

/// One key to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write<T> {
    /// The guard: the key is absent, or unchanged since this revision. [`Revision::default`] stands for a value that
    /// was planned earlier and hasn't been seen in the store yet.
    pub before: Option<Revision>,
    /// The new value; `None` deletes.
    pub after: Option<T>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.hosts.is_empty() && self.histories.is_empty() && self.files.is_empty()
    }
}

impl Decision {
    /// The change that the store's watch will deliver once this is committed as `revision`.
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

/// A host, as people refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its identity.
    pub id: MachineId,
    /// Its name, unless the cluster has forgotten it.
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

/// Why a decision was made, as a sentence for operators without the unit's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is assigned to a host.
    Placed {
        /// The host.
        host: Host,
        /// Why this host.
        because: Because,
        /// The host that it leaves, if it moves.
        left: Option<(Host, Departure)>,
    },
    /// It stays on its host with another file, target or generation.
    Updated {
        /// The host.
        host: Host,
    },
    /// It must leave a host, which has to stop it first.
    Leaves {
        /// The host.
        host: Host,
        /// Why.
        because: Departure,
    },
    /// A host has stopped it, or is dead; it isn't placed again in the same decision.
    Left {
        /// The host.
        host: Host,
        /// Why.
        because: Departure,
    },
    /// It stays where it is, although others return to the host that a drain took them from.
    StaysAway {
        /// That host.
        from: Host,
    },
    /// It has failed there, and is started again.
    Again {
        /// The host.
        host: Host,
        /// How often it was moved or started again, with this time.
        times: u32,
    },
    /// It has been well for a while, so that a failure is its first one again.
    Recovered {
        /// The host.
        host: Host,
    },
    /// It stays where it is, although a person wanted it elsewhere.
    StaysUnmoved {
        /// Why, as a sentence.
        why: String,
    },
    /// No host fits.
    Waits {
        /// The summary, as in its placement.
        why: String,
        /// The host that it was just evicted from, if any.
        left: Option<(Host, Departure)>,
    },
    /// It runs once, and has: it is on no host any longer.
    Done {
        /// The host on which it ran.
        host: Host,
    },
    /// It no longer needs a placement: its desired state is inactive, or it is global and has hosts.
    Forgotten,
}

/// Why a host was chosen among those that fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// The unit already runs there: the store has lost its record.
    Runs,
    /// A drain took the unit from there, and it is to return.
    WasThere,
    /// A person wants the unit there.
    Asked,
    /// The least of its memory and CPU is taken, and among equals it has the fewest assignments.
    LeastLoaded {
        /// How many less loaded hosts were skipped because they don't fit.
        passed: usize,
    },
    /// Of the hosts that fit, the most of its memory and CPU is taken (`placement=pack`).
    Fullest,
    /// It is spread, and no value of the key with a host that fits has fewer of the units that count.
    Spread {
        /// The key.
        key: String,
        /// The host's value of it.
        value: Option<String>,
        /// How many there are without this one.
        there: usize,
    },
    /// No host that fits has fewer units that it avoids, or, among those with as many, is more as it prefers.
    Preferred {
        /// How many units that it avoids are on the host.
        avoided: usize,
        /// How many lines of its `MachinePrefers=` don't hold.
        missed: usize,
    },
    /// The unit is a member of a set, and no host that fits has fewer members of it.
    FewestMembers {
        /// How many the host has without this one.
        there: usize,
    },
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => write!(f, "it already runs there"),
            Self::Spread { key, value: Some(value), there } => {
                write!(f, "no {key} with a host that fits has fewer of its kind than {value} ({there})")
            }
            Self::Spread { key, value: None, there } => {
                write!(f, "no {key} with a host that fits has fewer of its kind than the hosts without one ({there})")
            }
            Self::WasThere => write!(f, "it was there before the drain"),
            Self::Asked => write!(f, "it was asked to move there"),
            Self::Preferred { avoided: 0, missed: 0 } => write!(f, "the least loaded host that is as it prefers"),
            Self::Preferred { avoided, missed } => {
                write!(
                    f,
                    "no host that fits is more as it prefers ({avoided} avoided units, {missed} preferences not met)"
                )
            }
            Self::FewestMembers { there: 0 } => write!(f, "no other member of its set is there"),
            Self::FewestMembers { there } => write!(f, "no host that fits has fewer members of its set ({there})"),
            Self::Fullest => write!(f, "the fullest host that fits"),
            Self::LeastLoaded { passed: 0 } => write!(f, "the least loaded host"),
            Self::LeastLoaded { passed } => write!(f, "the least loaded host that fits ({passed} passed over)"),
        }
    }
}

/// Why a unit leaves a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Departure {
    /// The host died.
    HostGone,
    /// The host has stopped it.
    Stopped,
    /// It runs once, and has.
    Done,
    /// Its desired state no longer puts it on a host: inactive, or a template.
    Unwanted,
    /// It was destroyed.
    Destroyed,
    /// It isn't where its placement says, after a crash or a manual change in the store.
    Unexplained,
    /// The host is drained.
    Drained,
    /// It is to return to the host that a drain took it from.
    Returns,
    /// It has failed there.
    Failed {
        /// The unit that has, if it is one that this one must be with.
        with: Option<UnitName>,
    },
    /// It was asked to move.
    Moves {
        /// The host that it moves to.
        to: Host,
    },
    /// It breaks a rule.
    Misfit(Misfit),
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostGone => write!(f, "the host is gone"),
            Self::Stopped => write!(f, "stopped there"),
            Self::Done => write!(f, "it has run once, and is done"),
            Self::Unwanted => write!(f, "its desired state is inactive"),
            Self::Destroyed => write!(f, "it was destroyed"),
            Self::Unexplained => write!(f, "its placement says otherwise"),
            Self::Drained => write!(f, "the host is drained"),
            Self::Returns => write!(f, "it returns to the host that a drain took it from"),
            Self::Failed { with: None } => write!(f, "it has failed there (Reschedule=on-failure)"),
            Self::Failed { with: Some(unit) } => write!(f, "it moves with {unit}, which has failed there"),
            Self::Moves { to } => write!(f, "it was asked to move, and fits {to}"),
            Self::Misfit(misfit) => misfit.fmt(f),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placed { host, because, left } => {
                match left {
                    Some((from, why)) if from.id == host.id => write!(f, "comes back to {host}: {why}; ")?,
                    Some((from, why)) => write!(f, "moves from {from} to {host}: {why}; ")?,
                    None => write!(f, "placed on {host}: ")?,
                }
                because.fmt(f)
            }
            Self::Updated { host } => write!(f, "updated on {host}"),
            Self::Leaves { host, because } => write!(f, "leaves {host}: {because}"),
            Self::Left { host, because } => write!(f, "left {host}: {because}"),
            Self::Waits { why, left: None } => write!(f, "waits: {why}"),
            Self::Waits { why, left: Some((from, because)) } => write!(f, "left {from}: {because}; waits: {why}"),
            Self::StaysAway { from } => write!(f, "stays away from {from}, which it doesn't fit any more"),
            Self::Again { host, times } => write!(f, "has failed on {host}, and is started again there (try {times})"),
            Self::Recovered { host } => write!(f, "has been well on {host} for a while: its failures are forgotten"),
            Self::StaysUnmoved { why } => write!(f, "isn't moved: {why}"),
            Self::Done { host } => write!(f, "is done on {host}, and leaves it"),
            Self::Forgotten => write!(f, "needs no placement any more"),
        }
    }
}
