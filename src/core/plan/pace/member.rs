//! One member of a rollout, as it is now. Values; must never decide anything.

use crate::model::name::{MachineId, UnitName};
use crate::model::rollout::MemberName;

/// What is known of one member now, together with the units that ride with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: MemberName,
    /// The unit that its state is that of: itself, or one that rides with it.
    pub about: UnitName,
    /// What its host is called, if it is a global unit.
    pub hostname: Option<String>,
    /// Whether it only stands in while others are replaced.
    pub spare: bool,
    /// Whether it has, or is to have, another file than the new one: it is behind its gate, or was added as a spare by
    /// an earlier rollout, or has gone back to the file before. One with riders is as long as any of its units is.
    pub gated: bool,
    /// Whether it is `gated`, and other units of it have their new files, which they have to give back if the rollout
    /// fails.
    pub partly: bool,
    /// Whether it is `gated`, and its state is that of a unit of it that would keep its file: the new one of the member
    /// changes nothing about that.
    pub keeps: bool,
    /// Whether a unit of it has no host, although others have: until that has been so for a while, it isn't healthy,
    /// and after that it is as the others are.
    pub lacks: bool,
    /// Whether its host would lose it with the new file. It is a global unit then, and the last to get that file.
    pub leaves: bool,
    /// The host that it is assigned to.
    pub host: Option<MachineId>,
    /// How it is with the file that it is to have.
    pub state: MemberState,
    /// Whether it serves although its host has yet to carry out what it was told: systemd reads the same from the file
    /// that it runs, and doesn't stop it for the other one.
    pub goes_on: bool,
}

impl Member {
    pub(super) fn is_gone(&self) -> bool {
        self.state.is_gone()
    }

    pub(super) fn serves(&self) -> bool {
        self.state == MemberState::Healthy || self.goes_on
    }

    /// As sentences about its state name it: `web@1.service`, `agent.service on n2`.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.hostname {
            Some(host) => format!("{} on {host}", self.about),
            None => self.about.to_string(),
        }
    }

    /// Whether all of it has the files before.
    pub(super) fn is_back(&self) -> bool {
        self.gated && !self.partly
    }
}

/// How a member is with the file that it is to have: the new one, or the one before while it is behind its gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberState {
    /// Its host has started it, and it is ready.
    Healthy,
    /// Its host has started it, and it isn't ready yet, for this reason if one is known.
    Pending(Option<String>),
    /// Its host hasn't started it yet, or can't, for this reason.
    Assigned(Option<String>),
    /// It has failed, as a sentence with its name.
    Failed(String),
    /// The host that it is assigned to is gone.
    Away,
    /// It is assigned to no host.
    Unplaced,
    /// It is a spare that no host fits: nobody waits for it.
    FitsNowhere,
}

impl MemberState {
    /// Whether it has no host, or that is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Away | Self::Unplaced | Self::FitsNowhere)
    }

    /// Whether its host, which is there, has yet to carry out what it was told.
    pub(in crate::plan) fn is_silent(&self) -> bool {
        *self == Self::Assigned(None)
    }
}
