//! The gate of a global unit, host by host: which file each host goes on with. Owns the form in which that is stored;
//! must never decide which host is next.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{File, Gate};
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::revision::Revision;

/// The hosts for which the gate of a global unit says something else than for all others: `None` was let through, and
/// has the file of the unit's record.
pub type Hosts = BTreeMap<MachineId, Option<HeldFile>>;

/// A file that a unit goes on with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeldFile {
    /// Its hash.
    pub hash: UnitHash,
    /// The key of its text, as in [`Unit::text`](crate::model::unit::Unit::text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<UnitHash>,
    /// The generation of an assignment with this file.
    pub generation: Revision,
    /// As in [`Unit::restart`](crate::model::unit::Unit::restart), for such an assignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Revision>,
}

/// The same, borrowed from a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<'a> {
    /// The hash of the file.
    pub hash: &'a UnitHash,
    /// The key of its text.
    pub text: Option<&'a UnitHash>,
    /// The generation of an assignment with it.
    pub generation: Revision,
    /// The restart of such an assignment.
    pub restart: Option<Revision>,
}

impl File {
    /// The same as what a unit goes on with, which this generation is to be assigned with.
    #[must_use]
    pub fn held(&self, generation: Revision, restart: Option<Revision>) -> HeldFile {
        HeldFile { hash: self.hash.clone(), text: self.text.clone(), generation, restart }
    }
}

impl From<Held<'_>> for HeldFile {
    fn from(held: Held<'_>) -> Self {
        let Held { hash, text, generation, restart } = held;
        Self { hash: hash.clone(), text: text.cloned(), generation, restart }
    }
}

impl<'a> From<&'a HeldFile> for Held<'a> {
    fn from(file: &'a HeldFile) -> Self {
        let HeldFile { hash, text, generation, restart } = file;
        Self { hash, text: text.as_ref(), generation: *generation, restart: *restart }
    }
}

impl Gate {
    /// One of the rollout `rollout` to `target`, behind which a unit goes on with `file`. `asked` is the generation of
    /// the unit's record.
    #[must_use]
    pub fn new(rollout: &UnitName, target: &UnitHash, file: HeldFile, asked: Revision) -> Self {
        let HeldFile { hash, text, generation, restart } = file;
        let (hook, spare, hosts) = (false, false, None);
        Self {
            hook,
            spare,
            rollout: rollout.clone(),
            target: target.clone(),
            hash,
            text,
            generation,
            restart,
            asked,
            hosts,
        }
    }

    /// Whether it is that of a global unit, and says for each host which file that goes on with.
    #[must_use]
    pub fn is_by_host(&self) -> bool {
        self.hosts.is_some()
    }

    /// The file that the gate names for a unit, or for all hosts of a global unit that it doesn't name.
    #[must_use]
    pub fn held(&self) -> Held<'_> {
        let Self { hash, text, generation, restart, .. } = self;
        Held { hash, text: text.as_ref(), generation: *generation, restart: *restart }
    }

    /// The file that a global unit goes on with on `host`; `None` if it has the file of its record there, and for any
    /// other unit.
    #[must_use]
    pub fn held_on(&self, host: &MachineId) -> Option<Held<'_>> {
        let held = match self.hosts.as_ref()?.get(host) {
            Some(None) => return None,
            Some(Some(file)) => Held::from(file),
            None => self.held(),
        };
        (*held.hash != self.target).then_some(held)
    }

    /// The files that it names, some more than once.
    pub fn files(&self) -> impl Iterator<Item = &UnitHash> {
        let own = std::iter::once(&self.hash).chain(&self.text);
        let hosts = self.hosts.iter().flat_map(|hosts| hosts.values()).flatten();
        own.chain(hosts.flat_map(|file| std::iter::once(&file.hash).chain(&file.text)))
    }

    /// The hosts on which it names another file than `other`, of those that either of them names.
    #[must_use]
    pub fn hosts_that_differ<'a>(&'a self, other: &'a Self) -> Vec<&'a MachineId> {
        let gates = [self, other].into_iter().filter_map(|gate| gate.hosts.as_deref());
        let mut all: Vec<&MachineId> = gates.flat_map(BTreeMap::keys).collect();
        all.sort();
        all.dedup();
        all.retain(|host| self.held_on(host) != other.held_on(host));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_isnt_named_goes_on_with_the_gates_file() {
        let host = |at: u8| format!("{at:032x}").parse::<MachineId>().unwrap();
        let file =
            |hash: &str| HeldFile { hash: UnitHash::new(hash), text: None, generation: Revision(5), restart: None };
        let hosts: Hosts = [(host(1), None), (host(2), Some(file("bad"))), (host(3), Some(file("new")))].into();
        let gate = Gate::new(&"g.service".parse().unwrap(), &UnitHash::new("new"), file("old"), Revision(7));
        let gate = Gate { hosts: Some(Box::new(hosts)), ..gate };
        let held = |gate: &Gate| (1..=4).map(|at| gate.held_on(&host(at)).map(|held| held.hash.to_string())).collect();
        let all: Vec<Option<String>> = held(&gate);
        assert_eq!(all, [None, Some("bad".into()), None, Some("old".into())]);
        let mut other = gate.clone();
        other.hosts.as_mut().unwrap().extend([(host(2), None), (host(3), None), (host(5), None)]);
        assert_eq!(gate.hosts_that_differ(&other), [&host(2), &host(5)]);
        // Of any other unit, it says nothing of hosts.
        let all: Vec<Option<String>> = held(&Gate { hosts: None, ..gate });
        assert_eq!(all, [None, None, None, None]);
    }
}
