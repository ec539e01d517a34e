//! Which line of a unit file a misfit comes from. Reads each option with the parser that reads whole files, so that a
//! line is found however it is spelled. Must never judge whether the misfit is right.

use std::sync::Arc;

use crate::model::file::{UnitFile, UnitOption};
use crate::model::name::UnitName;
use crate::model::placement::{Constraints, SECTION};
use crate::model::resources::Kind;

use super::super::fit::Misfit;

/// The unit whose file has the option because of which `unit` doesn't fit; `None` if no file has, as with a cordon.
#[must_use]
pub fn declared_by<'a>(unit: &'a UnitName, misfit: &'a Misfit) -> Option<&'a UnitName> {
    match misfit {
        Misfit::Dead | Misfit::Cordoned { .. } => None,
        Misfit::Conflict { with: other, declared_there: true, .. } | Misfit::Replaced { by: other, .. } => Some(other),
        Misfit::MachineId { .. }
        | Misfit::Metadata { .. }
        | Misfit::Condition { .. }
        | Misfit::MachineOf { .. }
        | Misfit::Conflict { declared_there: false, .. }
        | Misfit::Spread(_)
        | Misfit::Port { .. }
        | Misfit::Resources(_) => Some(unit),
    }
}

/// The options of a unit's file, each read alone.
pub struct Lines<'a>(Vec<(&'a UnitOption, Option<Arc<Constraints>>)>);

impl<'a> Lines<'a> {
    /// Those of `file`, which is that of `unit`.
    #[must_use]
    pub fn of(file: &'a UnitFile, unit: &UnitName) -> Self {
        let alone = |option: &UnitOption| {
            let file = UnitFile::from_options(std::slice::from_ref(option)).ok()?;
            Some(Constraints::resolve(&Arc::new(Constraints::parse(&file).ok()?), unit))
        };
        Self(file.section(SECTION).map(|option| (option, alone(option))).collect())
    }

    /// The option from which a misfit comes that is [declared by](declared_by) the unit. `None` if there is none,
    /// because the file was replaced meanwhile.
    #[must_use]
    pub fn find(&self, misfit: &Misfit) -> Option<&'a UnitOption> {
        let named = |name: &str| self.0.iter().find(|(option, _)| option.name == name);
        let asking = || self.0.iter().find(|(_, alone)| alone.as_ref().is_some_and(|alone| asks(alone, misfit)));
        let found = match misfit {
            Misfit::Dead | Misfit::Cordoned { .. } => None,
            Misfit::Spread(_) => named("MaxSkew"),
            Misfit::Resources(shortage) => named(match shortage.kind {
                Kind::Memory => "Memory",
                Kind::Cpu => "CPU",
            }),
            // `Port=auto` says nothing without the sockets of its file.
            Misfit::Port { .. } => asking().or_else(|| named("Port")),
            _ => asking(),
        };
        found.map(|(option, _)| *option)
    }
}

/// Whether an option alone asks for what the misfit is about.
fn asks(alone: &Constraints, misfit: &Misfit) -> bool {
    match misfit {
        Misfit::MachineId { wanted } => alone.machine_id.as_ref() == Some(wanted),
        Misfit::Metadata { key, .. } => alone.metadata.contains_key(key),
        Misfit::Condition { asked, .. } => alone.conditions.contains(asked),
        Misfit::MachineOf { peer, .. } => alone.machine_of.contains(peer),
        Misfit::Conflict { glob, .. } => alone.conflicts.contains(glob),
        Misfit::Replaced { glob, .. } => alone.replaces.contains(glob),
        Misfit::Port { port, .. } => alone.ports.as_ref().is_some_and(|ports| ports.known().contains(port)),
        Misfit::Dead | Misfit::Cordoned { .. } | Misfit::Spread(_) | Misfit::Resources(_) => false,
    }
}
