//! Spares: extra members that exist only by their gates, and only while a rollout needs them. Owns their names, and
//! those of the riders that come and go with them. Must never decide how many there are (`pace` does).

use crate::model::cluster::{Change, Cluster};
use crate::model::name::{UnitHash, UnitName};
use crate::model::rollout::{File, Gate, Rollout};
use crate::model::unit::{Desired, Unit};

use super::super::gate::{instances, is_spare, launched, next_generation, spares_of};
use super::super::schedule::Scheduler;
use super::{GateEvent, Rollouts};

/// Whether `gate` is that of a spare of the rollout `name`, or of a rider of one.
fn is_of(gate: &Gate, name: &UnitName) -> bool {
    gate.spare && gate.rollout == *name
}

/// The spares of the rollout `name`, in the order of their numbers.
pub(super) fn of(cluster: &Cluster, name: &UnitName) -> Vec<UnitName> {
    let mut spares: Vec<UnitName> = spares_of(cluster, name, name).map(|(unit, _)| unit.clone()).collect();
    spares.sort_by_key(UnitName::number);
    spares
}

impl Rollouts {
    /// Add `count` spares to the set `name`, which has this record, with numbers above those of all its instances, and
    /// with each the riders that members have.
    pub(super) fn add_spares(
        &mut self,
        scheduler: &mut Scheduler,
        (name, subject): (&UnitName, &Unit),
        rollout: &Rollout,
        count: usize,
    ) {
        if count == 0 {
            return;
        }
        let cluster = scheduler.cluster();
        let file = |rider: &UnitName| {
            let launched = file_of(cluster, rider)?;
            let takes_part = rollout.riders.contains_key(rider);
            Some(if takes_part { new_file(cluster, rider, &rollout.riders[rider].target) } else { launched })
        };
        let riders: Vec<(UnitName, File)> =
            subject.riders().filter_map(|rider| Some((rider.clone(), file(rider)?))).collect();
        let own = new_file(cluster, name, &rollout.target);
        let groups: Vec<(&UnitName, &File)> =
            std::iter::once((name, &own)).chain(riders.iter().map(|(rider, file)| (rider, file))).collect();
        let numbers: Vec<u32> = instances(cluster, name).filter_map(UnitName::number).collect();
        self.examined += numbers.len();
        let highest = numbers.into_iter().max().unwrap_or_default();
        let names =
            |number| groups.iter().map(|(template, _)| template.numbered(number).ok()).collect::<Option<Vec<_>>>();
        let is_free = |unit: &UnitName| !cluster.units.contains_key(unit) && !self.unreadable.contains(unit);
        let free = (highest.saturating_add(1)..).map_while(names).filter(|names| names.iter().all(is_free));
        let free: Vec<Vec<UnitName>> = free.take(count).collect();
        for (unit, (_, file)) in free.iter().flat_map(|names| names.iter().zip(&groups)) {
            self.give_spare(scheduler, unit, (name, &rollout.target), file);
        }
    }

    /// Have a spare, or a unit that came with it, run the new file.
    pub(super) fn renew_spare(
        &mut self,
        scheduler: &mut Scheduler,
        spare: &UnitName,
        (name, rollout): (&UnitName, &Rollout),
    ) {
        let (cluster, target) = (scheduler.cluster(), rollout.target_of(spare));
        let has_it = cluster.gates.get(spare).is_some_and(|gate| gate.value.hash == *target);
        if let Some(template) = spare.set().filter(|_| !has_it) {
            let file = new_file(cluster, &template, target);
            self.give_spare(scheduler, spare, (name, &rollout.target), &file);
        }
    }

    /// Have a spare of the rollout `name` to `target` run `file`.
    pub(super) fn give_spare(
        &mut self,
        scheduler: &mut Scheduler,
        spare: &UnitName,
        (name, target): (&UnitName, &UnitHash),
        file: &File,
    ) {
        let cluster = scheduler.cluster();
        let runs = launched(cluster, spare).map(|(_, runs)| runs.generation);
        let generation = next_generation(cluster, None, runs);
        let gate = Gate { spare: true, ..Gate::new(name, target, file.held(generation, None), generation) };
        let unit = Unit::spare(&gate);
        self.set_gate(scheduler, spare, Some(gate), GateEvent::SpareGiven);
        scheduler.apply(Change::Unit(spare.clone(), Some(unit)));
    }

    /// Have a spare no longer, nor the riders that came with it.
    pub(super) fn end_spare(&mut self, scheduler: &mut Scheduler, spare: &UnitName) {
        let cluster = scheduler.cluster();
        let Some(rollout) = cluster.gates.get(spare).map(|gate| gate.value.rollout.clone()) else { return };
        let with_it = |unit: &UnitName| unit == spare || unit.number() == spare.number();
        let all = cluster.gates.iter().filter(|(unit, gate)| is_of(&gate.value, &rollout) && with_it(unit));
        for unit in all.map(|(unit, _)| unit.clone()).collect::<Vec<_>>() {
            self.set_gate(scheduler, &unit, None, GateEvent::SpareEnded);
            scheduler.apply(Change::Unit(unit, None));
        }
    }

    /// Have no spares of the rollout `name` any more.
    pub(super) fn end_spares(&mut self, scheduler: &mut Scheduler, name: &UnitName) {
        for spare in of(scheduler.cluster(), name) {
            self.end_spare(scheduler, &spare);
        }
    }
}

/// The file with this hash, which a template has.
fn new_file(cluster: &Cluster, template: &UnitName, target: &UnitHash) -> File {
    let record = cluster.units.get(template).filter(|record| record.hash == *target);
    File { hash: target.clone(), text: record.and_then(|record| record.text.clone()) }
}

/// The file with which the instances of a rider are launched, behind their gates if they have any.
fn file_of(cluster: &Cluster, rider: &UnitName) -> Option<File> {
    let all = instances(cluster, rider).filter(|name| !is_spare(cluster, name));
    let launched = all.filter_map(|name| cluster.units.get(name)).find(|unit| unit.desired == Desired::Launched)?;
    Some(File { hash: launched.hash.clone(), text: launched.text.clone() })
}
