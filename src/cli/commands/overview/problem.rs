//! The kinds of problems that need a person: which is worse, what each is about, and how it is marked. Pure; must not
//! know how a problem is found.

use serde::Serialize;

use crate::cli::condition::Kind;
use crate::cli::output::fitted::Tone;

/// What needs a person; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli::commands) enum Problem {
    /// No host leads.
    Leaderless,
    /// etcd's database has reached its quota: nothing can be changed.
    StoreFull,
    /// The databases of etcd's members differ.
    StoreCorrupt,
    /// Many hosts vanished together, and their units are held.
    MassLoss,
    /// A unit's record in the store can't be decoded.
    Damaged,
    /// A rollout has failed, and members aren't healthy with the file before either.
    Stuck,
    /// systemd or the host gave up on a unit.
    Failed,
    /// A unit should run and doesn't.
    Dead,
    /// systemd restarts a unit again and again.
    Restarting,
    /// A unit runs, and its probes say that it isn't ready.
    Unready,
    /// A rollout has failed: its set or unit went back to the file before, and nobody has asked for another one since.
    Reverted,
    /// A host isn't registered, because another live host has its machine id.
    MachineId,
    /// A host is gone.
    Gone,
    /// A member of etcd doesn't answer.
    StoreSilent,
    /// A member of etcd says that something else is wrong.
    StoreAlarm,
    /// A host is to reboot, and can't, or is away: no other one reboots meanwhile.
    Reboot,
    /// The clock of a host is ahead.
    Clock,
    /// The `fleetd` that answers has nearly as many files open as it may have.
    OpenFiles,
    /// A unit fits no host.
    Waiting,
    /// A rollout is paused, by a person or because a member has failed.
    Paused,
    /// A rollout waits until somebody promotes it.
    Unpromoted,
    /// A rollout has been in the same phase for long.
    Slow,
    /// etcd's database is nearly as large as it may get.
    StoreLarge,
    /// Hosts, or members of etcd, have different versions.
    Versions,
}

/// All of them, the worst first.
#[cfg(test)]
impl Problem {
    pub(in crate::cli::commands) const ALL: [Self; 24] = [
        Self::Leaderless,
        Self::StoreFull,
        Self::StoreCorrupt,
        Self::MassLoss,
        Self::Damaged,
        Self::Stuck,
        Self::Failed,
        Self::Dead,
        Self::Restarting,
        Self::Unready,
        Self::Reverted,
        Self::MachineId,
        Self::Gone,
        Self::StoreSilent,
        Self::StoreAlarm,
        Self::Reboot,
        Self::Clock,
        Self::OpenFiles,
        Self::Waiting,
        Self::Paused,
        Self::Unpromoted,
        Self::Slow,
        Self::StoreLarge,
        Self::Versions,
    ];
}

/// What a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Hosts, or the cluster.
    Hosts,
    /// The store.
    Store,
    /// One unit.
    Units,
    /// A rollout.
    Rollouts,
}

impl Problem {
    pub(super) fn about(self) -> About {
        match self {
            Self::Leaderless
            | Self::MassLoss
            | Self::MachineId
            | Self::Gone
            | Self::Reboot
            | Self::Clock
            | Self::OpenFiles
            | Self::Versions => About::Hosts,
            Self::StoreFull | Self::StoreCorrupt | Self::StoreSilent | Self::StoreAlarm | Self::StoreLarge => {
                About::Store
            }
            Self::Damaged | Self::Failed | Self::Dead | Self::Restarting | Self::Unready | Self::Waiting => {
                About::Units
            }
            Self::Stuck | Self::Reverted | Self::Paused | Self::Unpromoted | Self::Slow => About::Rollouts,
        }
    }

    pub(in crate::cli::commands) fn mark(self) -> (&'static str, Tone) {
        match self {
            Self::Leaderless | Self::MassLoss | Self::MachineId | Self::Gone => ("!", Tone::Bad),
            Self::StoreFull | Self::StoreCorrupt | Self::StoreSilent => ("!", Tone::Bad),
            Self::StoreAlarm | Self::StoreLarge | Self::Versions => ("!", Tone::Busy),
            Self::Damaged | Self::Failed | Self::Stuck => (Kind::Failed.mark(), Tone::Bad),
            Self::Reverted => ("!", Tone::Bad),
            Self::Dead => (Kind::Dead.mark(), Tone::Bad),
            Self::Reboot | Self::Clock | Self::OpenFiles => ("!", Tone::Busy),
            Self::Restarting => (Kind::Restarting.mark(), Tone::Busy),
            Self::Unready => (Kind::Unready.mark(), Tone::Busy),
            Self::Waiting | Self::Paused | Self::Unpromoted | Self::Slow => (Kind::Waiting.mark(), Tone::Busy),
        }
    }

    /// The word for programs.
    pub(in crate::cli::commands) fn word(self) -> &'static str {
        match self {
            Self::Leaderless => "leaderless",
            Self::StoreFull => "store-full",
            Self::StoreCorrupt => "store-corrupt",
            Self::StoreSilent => "store-silent",
            Self::StoreAlarm => "store-alarm",
            Self::StoreLarge => "store-large",
            Self::Versions => "versions",
            Self::MassLoss => "mass-loss",
            Self::Damaged => "damaged",
            Self::Stuck => "stuck",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Restarting => "restarting",
            Self::Unready => "unready",
            Self::Reverted => "reverted",
            Self::MachineId => "machine-id",
            Self::Gone => "gone",
            Self::Reboot => "reboot",
            Self::Clock => "clock",
            Self::OpenFiles => "open-files",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Unpromoted => "unpromoted",
            Self::Slow => "slow",
        }
    }

    /// The command that lists all of them.
    pub(super) fn list(self) -> &'static str {
        match self {
            Self::Failed => "list-units --failed",
            Self::Dead => "list-units --state=dead",
            Self::MassLoss | Self::Gone | Self::Reboot | Self::Clock | Self::Versions => "list-machines",
            Self::StoreFull
            | Self::StoreCorrupt
            | Self::StoreSilent
            | Self::StoreAlarm
            | Self::StoreLarge
            | Self::MachineId
            | Self::OpenFiles => "doctor",
            Self::Waiting => "list-units --state=waiting",
            Self::Unready => "list-units --state=unready",
            Self::Stuck | Self::Reverted | Self::Paused | Self::Unpromoted | Self::Slow => "rollout",
            Self::Leaderless | Self::Damaged | Self::Restarting => "list-units",
        }
    }
}
