//! The reasons against a host. Owns their wording; must never look at a cluster.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::glob::Glob;
use crate::model::name::UnitName;
use crate::model::placement::Condition;
use crate::model::placement::port::Port;
use crate::model::placement::preference::Crowd;
use crate::model::rule::Rule;

use super::shortage::Shortage;

/// How far apart the numbers of units would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skew {
    /// The units that are counted.
    pub crowd: Crowd,
    /// The key.
    pub key: String,
    /// The host's value of it, and how many units are on hosts with it.
    pub here: (Option<String>, usize),
    /// The value with the fewest of them.
    pub least: (Option<String>, usize),
    /// `MaxSkew=`.
    pub most: u32,
}

/// Why a unit can't be on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The host isn't registered.
    Dead,
    /// The host is cordoned or drained, and the unit would be new there, or is global and leaves it last.
    Cordoned {
        /// Which of the two, by whom, and why.
        asked: String,
    },
    /// `MachineID=` names another host.
    MachineId {
        /// The id that it names.
        wanted: String,
    },
    /// The host's metadata doesn't have a value that `MachineMetadata=` requires.
    Metadata {
        /// The key.
        key: String,
        /// The host's value.
        found: Option<String>,
        /// The accepted values.
        wanted: BTreeSet<String>,
    },
    /// Another condition of `MachineMetadata=` doesn't hold.
    Condition {
        /// The condition.
        asked: Condition,
        /// The host's value.
        found: Option<String>,
    },
    /// `MachineOf=` names a unit that isn't on the host.
    MachineOf {
        /// That unit.
        peer: String,
        /// Whether that unit is on another host.
        placed: bool,
    },
    /// The `Conflicts=` of one of two units matches the other.
    Conflict {
        /// The other unit.
        with: UnitName,
        /// The pattern that matches.
        glob: Glob,
        /// Whether the pattern is in the other unit's file.
        declared_there: bool,
        /// Whether the other unit is leaving.
        leaving: bool,
    },
    /// The host's value of the key in `Spread=` has more units than `MaxSkew=` allows.
    Spread(Box<Skew>),
    /// Another unit on the host has a port of `Port=`.
    Port {
        /// The port.
        port: Port,
        /// That unit.
        of: UnitName,
        /// Whether it is leaving.
        leaving: bool,
    },
    /// The host has too little memory or CPU left.
    Resources(Box<Shortage>),
    /// A unit on the host replaces this one.
    Replaced {
        /// That unit.
        by: UnitName,
        /// The pattern that matches.
        glob: Glob,
    },
}

impl Misfit {
    /// The other unit that the misfit is about, if there is one.
    #[must_use]
    pub fn other(&self) -> Option<&str> {
        match self {
            Self::MachineOf { peer, .. } => Some(peer),
            Self::Conflict { with: other, .. } | Self::Replaced { by: other, .. } | Self::Port { of: other, .. } => {
                Some(other.as_str())
            }
            Self::Dead
            | Self::Cordoned { .. }
            | Self::MachineId { .. }
            | Self::Metadata { .. }
            | Self::Condition { .. }
            | Self::Spread(_)
            | Self::Resources(_) => None,
        }
    }

    /// The rule that is broken.
    #[must_use]
    pub fn rule(&self) -> Rule {
        match self {
            Self::Dead => Rule::Alive,
            Self::Cordoned { .. } => Rule::Cordoned,
            Self::MachineId { .. } => Rule::MachineId,
            Self::Metadata { .. } | Self::Condition { .. } => Rule::Metadata,
            Self::MachineOf { .. } => Rule::MachineOf,
            Self::Conflict { .. } => Rule::Conflicts,
            Self::Replaced { .. } => Rule::Replaces,
            Self::Spread(_) => Rule::Spread,
            Self::Port { .. } => Rule::Port,
            Self::Resources(_) => Rule::Resources,
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead => write!(f, "the host is gone"),
            Self::Cordoned { asked } => f.write_str(asked),
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
            Self::Condition { asked, found: Some(value) } => {
                write!(f, "metadata {} is {value}, wanted {}", asked.key, asked.wanted())
            }
            Self::Condition { asked, found: None } => write!(f, "no metadata {}, wanted {}", asked.key, asked.wanted()),
            Self::MachineOf { peer, placed: true } => write!(f, "{peer} isn't placed there"),
            Self::MachineOf { peer, placed: false } => write!(f, "{peer} isn't placed anywhere"),
            Self::Conflict { with, glob, declared_there, leaving } => {
                let runs = runs(*leaving);
                let whose = if *declared_there { " of its file" } else { "" };
                write!(f, "conflicts with {with}, which {runs} (Conflicts={glob}{whose})")
            }
            Self::Spread(skew) => {
                let Skew { crowd, key, here, least, most } = &**skew;
                let (here, least) = (in_value(key, here), in_value(key, least));
                write!(f, "of {crowd} there are {here} and {least} (MaxSkew={most})")
            }
            Self::Port { port, of, leaving } => write!(f, "port {port} is that of {of}, which {}", runs(*leaving)),
            Self::Resources(shortage) => shortage.fmt(f),
            Self::Replaced { by, glob } => write!(f, "replaced by {by}, which runs there (Replaces={glob})"),
        }
    }
}

fn runs(leaving: bool) -> &'static str {
    if leaving { "is still stopping there" } else { "runs there" }
}

/// `2 in zone a`.
fn in_value(key: &str, (value, count): &(Option<String>, usize)) -> String {
    match value {
        Some(value) => format!("{count} in {key} {value}"),
        None => format!("{count} without {key}"),
    }
}
