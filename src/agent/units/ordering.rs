//! Who waits for whom before it is started: a start pulls in all that the unit needs, also what is just being stopped,
//! and systemd would give up that stop for it. Owns what a unit's file says of that; must never start or stop anything.

use std::collections::BTreeSet;

use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::unit::Target;
use crate::plan::converge::{Job, Step, Steps, next};

use super::Units;
use crate::agent::unit::Unit;

/// Options that make systemd start other units with this one.
const PULLS: [&str; 4] = ["Requires", "BindsTo", "Wants", "Upholds"];

/// Those whose units take this one with them when they are stopped.
const BINDS: [&str; 4] = ["Requires", "BindsTo", "Requisite", "PartOf"];

/// What a unit's file says of others. Empty for most, and small.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::agent) struct Needs {
    /// Those started with it.
    pulls: Box<[UnitName]>,
    /// Those that take it with them.
    binds: Box<[UnitName]>,
}

impl Needs {
    /// Of `name`, whose file is `file`.
    pub(in crate::agent) fn of(name: &UnitName, file: &UnitFile) -> Self {
        let named = |options: &[&str]| -> Box<[UnitName]> {
            let values = file.section("Unit").filter(|option| options.contains(&&*option.name));
            let words = values.flat_map(|option| option.value.split_ascii_whitespace());
            // A name that isn't one concerns no unit of ours.
            let names: BTreeSet<UnitName> = words.filter_map(|word| name.expand(word).parse().ok()).collect();
            names.into_iter().collect()
        };
        Self { pulls: named(&PULLS), binds: named(&BINDS) }
    }
}

impl Units {
    /// Take those out of `steps` whose start would bring back what is on its way out; they are looked at again at every
    /// pass.
    pub(super) fn defer_starts(&mut self, steps: &mut Steps) {
        let waits = |name: &UnitName| self.pulls_in(name, |other| self.is_going(other));
        let (deferred, now): (Vec<_>, Vec<_>) = std::mem::take(&mut steps.start).into_iter().partition(waits);
        steps.start = now;
        self.deferred.extend(deferred);
    }

    /// Whether `name` pulls in, directly or not, a unit that is `so`.
    fn pulls_in(&self, name: &UnitName, so: impl Fn(&UnitName) -> bool) -> bool {
        let pulls = |name: &UnitName| self.units.get(name).map_or(&[][..], |unit| &unit.needs.pulls);
        let mut open: Vec<&UnitName> = pulls(name).iter().collect();
        let mut seen: BTreeSet<&UnitName> = BTreeSet::from([name]);
        while let Some(other) = open.pop() {
            if seen.insert(other) {
                if so(other) {
                    return true;
                }
                open.extend(pulls(other));
            }
        }
        false
    }

    /// Whether a unit is being stopped, or is to be stopped or removed; or was, and systemd may not have noticed.
    fn is_going(&self, name: &UnitName) -> bool {
        if self.forgotten.contains_key(name) {
            return true;
        }
        let Some(unit) = self.units.get(name).filter(|unit| !unit.unreadable && unit.file.is_some()) else {
            return false;
        };
        let seen = unit.seen();
        if self.is_protected(name) {
            // None of the cluster's business, but somebody may be stopping it.
            return seen.job == Some(Job::Stop);
        }
        let leaves = unit.entry.as_ref().is_none_or(|entry| entry.target == Target::Removed);
        leaves || seen.job == Some(Job::Stop) || next(unit.entry.as_ref(), &seen) == Some(Step::Stop)
    }

    /// Those that run and that systemd will stop with `names`.
    pub(super) fn bound_to(&self, names: &BTreeSet<UnitName>) -> BTreeSet<UnitName> {
        let mut going = names.clone();
        loop {
            let bound = |unit: &Unit| unit.needs.binds.iter().any(|other| going.contains(other));
            let more: Vec<UnitName> = self
                .units
                .iter()
                .filter(|(name, unit)| !going.contains(*name) && unit.seen().running && bound(unit))
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                return going.difference(names).cloned().collect();
            }
            going.extend(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_those_it_needs() {
        let text = b"[Unit]\nRequires=db@%i.service net.target\nWants=log.service\nRequisite=disk.mount\n\
            After=x.service\n[Service]\nExecStart=/a\n";
        let name: UnitName = "app@1.service".parse().unwrap();
        let needs = Needs::of(&name, &UnitFile::parse(text).unwrap());
        let names = |names: &[UnitName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&needs.pulls), ["db@1.service", "log.service", "net.target"]);
        assert_eq!(names(&needs.binds), ["db@1.service", "disk.mount", "net.target"]);
    }
}
