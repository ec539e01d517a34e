//! Reasons against a host. Owns their wording; must never look at a cluster.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::glob::Glob;
use crate::model::name::UnitName;
use crate::model::rule::Rule;

/// Why a unit can't be on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The host isn't alive.
    Dead,
    /// `MachineID=` names another.
    MachineId {
        /// What it names.
        wanted: String,
    },
    /// `MachineMetadata=` asks for something else.
    Metadata {
        /// The key.
        key: String,
        /// The host's value.
        found: Option<String>,
        /// The values that would do.
        wanted: BTreeSet<String>,
    },
    /// `MachineOf=` names a unit that isn't there.
    MachineOf {
        /// That unit.
        peer: String,
        /// Whether it is anywhere.
        placed: bool,
    },
    /// `Conflicts=` of either.
    Conflict {
        /// The other unit.
        with: UnitName,
        /// The pattern that says so.
        glob: Glob,
        /// Whether the pattern stands in the other unit's file.
        declared_there: bool,
        /// Whether the other unit is about to leave.
        leaving: bool,
    },
    /// A unit that replaces this one is there.
    Replaced {
        /// That unit.
        by: UnitName,
        /// The pattern that says so.
        glob: Glob,
    },
}

impl Misfit {
    /// The other unit that it is about, if it is about one.
    #[must_use]
    pub fn other(&self) -> Option<&str> {
        match self {
            Self::MachineOf { peer, .. } => Some(peer),
            Self::Conflict { with: other, .. } | Self::Replaced { by: other, .. } => Some(other.as_str()),
            Self::Dead | Self::MachineId { .. } | Self::Metadata { .. } => None,
        }
    }

    /// The rule that says no.
    #[must_use]
    pub fn rule(&self) -> Rule {
        match self {
            Self::Dead => Rule::Alive,
            Self::MachineId { .. } => Rule::MachineId,
            Self::Metadata { .. } => Rule::Metadata,
            Self::MachineOf { .. } => Rule::MachineOf,
            Self::Conflict { .. } => Rule::Conflicts,
            Self::Replaced { .. } => Rule::Replaces,
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead => write!(f, "the host is gone"),
            Self::MachineId { wanted } => write!(f, "wants machine {wanted}"),
            Self::Metadata { key, found, wanted } => {
                match found {
                    Some(value) => write!(f, "metadata {key} is {value}, wanted ")?,
                    None => write!(f, "no metadata {key}, wanted ")?,
                }
                for (at, value) in wanted.iter().enumerate() {
                    write!(f, "{}{value}", if at == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
            Self::MachineOf { peer, placed: true } => write!(f, "{peer} isn't placed there"),
            Self::MachineOf { peer, placed: false } => write!(f, "{peer} isn't placed anywhere"),
            Self::Conflict { with, glob, declared_there, leaving } => {
                let runs = if *leaving { "is still stopping there" } else { "runs there" };
                let whose = if *declared_there { " of its file" } else { "" };
                write!(f, "conflicts with {with}, which {runs} (Conflicts={glob}{whose})")
            }
            Self::Replaced { by, glob } => write!(f, "replaced by {by}, which runs there (Replaces={glob})"),
        }
    }
}
