//! From the views of units that the cluster reports → whose journals must be read, from when until when, and the
//! messages about it. Pure: it gets the time as an argument.

use std::collections::BTreeMap;

use super::render::label;
use crate::api::wire::{MachineRef, UnitView};
use crate::model::name::{MachineId, UnitName};

/// A change of where units are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The unit is on this host now, and was on the other one before.
    Begin(UnitName, MachineRef, Option<MachineId>),
    /// The unit isn't on this host any more.
    End(UnitName, MachineId),
    /// A message for the user.
    Note(String),
}

/// All units that are followed.
#[derive(Debug, Default)]
pub(super) struct Places {
    units: BTreeMap<UnitName, Unit>,
}

#[derive(Debug, Default)]
struct Unit {
    /// The hosts that have, or may still write, entries of the unit.
    on: BTreeMap<MachineId, MachineRef>,
    /// The host on which it was last placed, and whether it still is.
    home: Option<(MachineRef, bool)>,
    /// Whether the current watch has reported it.
    reported: bool,
}

/// The hosts whose journals have entries of `unit`: the one on which it is placed, those on which it runs, and those
/// that it is leaving.
#[must_use]
pub fn hosts(unit: &UnitView) -> BTreeMap<MachineId, MachineRef> {
    let states = unit.states.iter().map(|state| &state.machine);
    states.chain(&unit.machine).map(|machine| (machine.id.clone(), machine.clone())).collect()
}

impl Places {
    /// Record `unit` without a message.
    pub(super) fn start(&mut self, unit: &UnitView) {
        let home = unit.machine.clone().map(|machine| (machine, true));
        self.units.insert(unit.name.clone(), Unit { on: hosts(unit), home, reported: true });
    }

    /// The number of units on a host for which `reached` is true, and the number on any host.
    pub(super) fn count(&self, reached: impl Fn(&MachineId) -> bool) -> (usize, usize) {
        let placed = self.units.values().filter(|unit| !unit.on.is_empty());
        let (mut within, mut all) = (0, 0);
        for unit in placed {
            all += 1;
            within += usize::from(unit.on.keys().any(&reached));
        }
        (within, all)
    }

    /// A new watch begins.
    pub(super) fn watch(&mut self) {
        self.units.values_mut().for_each(|unit| unit.reported = false);
    }

    /// The watch has reported all existing units.
    pub(super) fn synced(&mut self) -> Vec<Change> {
        let gone: Vec<UnitName> =
            self.units.iter().filter(|(_, unit)| !unit.reported).map(|(name, _)| name.clone()).collect();
        gone.iter().flat_map(|name| self.gone(name)).collect()
    }

    /// The cluster has reported a unit.
    pub(super) fn see(&mut self, view: &UnitView) -> Vec<Change> {
        if view.name.is_template() {
            return Vec::new();
        }
        let known = self.units.contains_key(&view.name);
        let unit = self.units.entry(view.name.clone()).or_default();
        unit.reported = true;
        let (now, name) = (hosts(view), label(view.name.as_str()));
        let mut changes = Vec::new();
        let note = match (&unit.home, &view.machine) {
            (Some((old, _)), Some(new)) if old.id != new.id => {
                Some(format!("{name} moved from {} to {}", old.name(), new.name()))
            }
            (Some((_, true)), Some(_)) => None,
            (_, Some(new)) => Some(format!("{name} is on {} now", new.name())),
            (Some((old, true)), None) => Some(format!("{name} is no longer placed on {}", old.name())),
            (_, None) => None,
        };
        changes.extend(note.map(Change::Note));
        if view.global && known {
            let new = now.values().filter(|machine| !unit.on.contains_key(&machine.id));
            changes.extend(new.map(|machine| Change::Note(format!("{name} is on {} too", machine.name()))));
        }
        let before = unit.home.take();
        changes.extend(unit.go(&view.name, now, before.as_ref().map(|(machine, _)| &machine.id)));
        unit.home = match (&view.machine, before) {
            (Some(machine), _) => Some((machine.clone(), true)),
            (None, Some((machine, _))) => Some((machine, false)),
            (None, None) => None,
        };
        changes
    }

    /// The unit was destroyed, or will be as soon as it has stopped: entries of its host are shown until then.
    pub(super) fn gone(&mut self, name: &UnitName) -> Vec<Change> {
        let Some(mut unit) = self.units.remove(name) else { return Vec::new() };
        let mut changes = unit.go(name, BTreeMap::new(), None);
        changes.push(Change::Note(format!("{} was destroyed", label(name.as_str()))));
        changes
    }
}

impl Unit {
    fn go(&mut self, name: &UnitName, now: BTreeMap<MachineId, MachineRef>, before: Option<&MachineId>) -> Vec<Change> {
        let ended = self.on.keys().filter(|id| !now.contains_key(*id)).map(|id| Change::End(name.clone(), id.clone()));
        let begun = now.values().filter(|machine| self.on.get(&machine.id).is_none_or(|old| moved(old, machine)));
        let begun = begun.map(|machine| {
            let from = before.filter(|id| **id != machine.id).cloned();
            Change::Begin(name.clone(), machine.clone(), from)
        });
        let changes = ended.chain(begun).collect();
        self.on = now;
        changes
    }
}

/// Whether the host has another address. A host that left the cluster has none, and keeps its last one.
fn moved(old: &MachineRef, new: &MachineRef) -> bool {
    !new.ip.is_empty() && old.ip != new.ip
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::UnitHash;
    use crate::model::revision::Revision;
    use crate::model::unit::Desired;
    use crate::model::unit::testing::report;

    fn machine(number: u8) -> MachineRef {
        let id = format!("{number:032x}").parse().unwrap();
        MachineRef { id, ip: format!("10.0.0.{number}"), hostname: format!("n{number}") }
    }

    /// A unit placed on a host, with reports of others.
    fn view(name: &str, home: Option<u8>, states: &[u8]) -> UnitView {
        let state = |number: &u8| crate::api::wire::StateView {
            machine: machine(*number),
            preview: false,
            report: report("1 loaded active running"),
        };
        UnitView {
            name: name.parse().unwrap(),
            hash: UnitHash::new("0"),
            description: String::new(),
            global: false,
            replicas: None,
            desired: Desired::Launched,
            current: String::new(),
            generation: Revision(1),
            machine: home.map(machine),
            done: None,
            hosts: Vec::new(),
            waiting: None,
            retry: None,
            progress: None,
            states: states.iter().map(state).collect(),
        }
    }

    fn shown(changes: Vec<Change>) -> Vec<String> {
        let one = |change| match change {
            Change::Begin(unit, machine, None) => format!("+{unit} {}", machine.hostname),
            Change::Begin(unit, machine, Some(from)) => {
                format!("+{unit} {} after n{}", machine.hostname, from.as_str().trim_start_matches('0'))
            }
            Change::End(unit, id) => format!("-{unit} n{}", id.as_str().trim_start_matches('0')),
            Change::Note(note) => note,
        };
        changes.into_iter().map(one).collect()
    }

    #[test]
    fn a_move_is_read_on_both_hosts_until_the_old_one_is_done() {
        let mut places = Places::default();
        places.start(&view("web@2.service", Some(3), &[3]));
        assert_eq!(shown(places.see(&view("web@2.service", Some(3), &[3]))), Vec::<String>::new());
        // Its old host is still stopping it when it has no host, or a new one already.
        assert_eq!(shown(places.see(&view("web@2.service", None, &[3]))), ["web@2 is no longer placed on n3"]);
        assert_eq!(
            shown(places.see(&view("web@2.service", Some(1), &[3]))),
            ["web@2 moved from n3 to n1", "+web@2.service n1 after n3"]
        );
        assert_eq!(shown(places.see(&view("web@2.service", Some(1), &[1]))), ["-web@2.service n3"]);
        assert_eq!(places.count(|id| *id == machine(3).id), (0, 1));
    }

    #[test]
    fn units_come_and_go() {
        let mut places = Places::default();
        assert_eq!(shown(places.see(&view("a.service", Some(1), &[]))), ["a is on n1 now", "+a.service n1"]);
        assert_eq!(shown(places.see(&view("web@.service", None, &[]))), Vec::<String>::new());
        places.watch();
        assert_eq!(shown(places.see(&view("b.timer", None, &[]))), Vec::<String>::new());
        assert_eq!(shown(places.synced()), ["-a.service n1", "a was destroyed"]);
        assert_eq!(shown(places.gone(&"b.timer".parse().unwrap())), ["b.timer was destroyed"]);
        assert_eq!(shown(places.gone(&"b.timer".parse().unwrap())), Vec::<String>::new());
        assert_eq!(shown(places.see(&view("a.service", Some(2), &[2]))), ["a is on n2 now", "+a.service n2"]);
    }

    #[test]
    fn a_global_is_wherever_it_says_so() {
        let mut places = Places::default();
        let global = |states: &[u8]| UnitView { global: true, ..view("g.service", None, states) };
        places.start(&global(&[1, 2]));
        assert_eq!(shown(places.see(&global(&[1, 2, 3]))), ["g is on n3 too", "+g.service n3"]);
        assert_eq!(shown(places.see(&global(&[1, 3]))), ["-g.service n2"]);
        let placed = BTreeMap::from([(machine(1).id, ()), (machine(3).id, ())]);
        assert_eq!(places.count(|id| placed.contains_key(id)), (1, 1));
    }

    #[test]
    fn a_host_with_another_address_is_told_of_again() {
        let mut places = Places::default();
        places.start(&view("a.service", Some(1), &[1]));
        let mut there = view("a.service", Some(1), &[]);
        there.machine.as_mut().unwrap().ip = String::new();
        assert_eq!(shown(places.see(&there)), Vec::<String>::new());
        there.machine.as_mut().unwrap().ip = "10.0.0.9".into();
        assert_eq!(shown(places.see(&there)), ["+a.service n1"]);
    }
}
