//! Which ports units need for themselves, and on which hosts such units are. Owns that this follows from constraints
//! and assignments; holds nothing in a cluster without `Port=`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::placement::port::Port;
use crate::model::small::SmallMap;

use super::{Node, put};

/// The ports.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Ports(BTreeMap<Port, Units>);

/// The units that need a port.
#[derive(Debug, Clone, Default)]
struct Units {
    names: BTreeSet<UnitName>,
    /// How many of them each host has.
    on: BTreeMap<MachineId, usize>,
}

static NONE: BTreeSet<Port> = BTreeSet::new();

/// The ports that these constraints ask for.
pub(in super::super) fn asked(constraints: Option<&Constraints>) -> &BTreeSet<Port> {
    constraints.and_then(|constraints| constraints.ports.as_ref()).map_or(&NONE, |ports| ports.known())
}

/// The ports of a unit where it has assignments.
pub(in super::super) fn ports_of(node: &Node) -> &BTreeSet<Port> {
    asked(node.in_force.as_deref())
}

impl Ports {
    /// Unit `name`, which `hosts` have, needs other ports.
    pub(super) fn changed(
        &mut self,
        name: &UnitName,
        hosts: &SmallMap<MachineId, ()>,
        (old, new): (&BTreeSet<Port>, &BTreeSet<Port>),
    ) {
        for (port, comes) in old.iter().map(|port| (port, false)).chain(new.iter().map(|port| (port, true))) {
            let units = self.0.entry(*port).or_default();
            put(&mut units.names, name, comes);
            hosts.keys().for_each(|host| units.count(host, comes));
            if units.names.is_empty() {
                self.0.remove(port);
            }
        }
    }

    /// A host has a unit with these ports from now on, or no longer.
    pub(super) fn count(&mut self, ports: &BTreeSet<Port>, host: &MachineId, there: bool) {
        for port in ports {
            if let Some(units) = self.0.get_mut(port) {
                units.count(host, there);
            }
        }
    }

    /// Whether `host` has another unit with one of these ports than the one that has them, which is `there` or not.
    pub(super) fn is_taken(&self, ports: &BTreeSet<Port>, host: &MachineId, there: bool) -> bool {
        let count = |port: &Port| self.0.get(port).and_then(|units| units.on.get(host)).copied().unwrap_or_default();
        ports.iter().any(|port| count(port) > usize::from(there))
    }

    /// The units that need one of these ports.
    pub(in super::super) fn users<'a>(&'a self, ports: &'a BTreeSet<Port>) -> impl Iterator<Item = &'a UnitName> {
        ports.iter().filter_map(|port| self.0.get(port)).flat_map(|units| &units.names)
    }
}

impl Units {
    fn count(&mut self, host: &MachineId, there: bool) {
        let count = self.on.entry(host.clone()).or_default();
        *count = if there { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.on.remove(host);
        }
    }
}
