//! Answers of a `fleetd` that is older than this client: missing fields are computed here, with the same function that
//! a newer `fleetd` uses. Owns the conversion of a view back to the records that it was made of.

use std::collections::BTreeMap;

use crate::api::wire::{MachineRef, Operation, Progress, UnitView};
use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::format::ReportKeyForm;
use crate::model::machine::Machine;
use crate::model::revision::Revision;
use crate::model::unit::{Assignment, Done, Placement, Unit};
use crate::plan::progress::{Expectation, progress};

/// The progress of `operation` for the unit of `view`, or else of the operation that leads to its desired state.
#[must_use]
pub fn progress_of(view: &UnitView, operation: Option<Operation>) -> Progress {
    let operation = operation.unwrap_or_else(|| Operation::towards(view.desired));
    progress(&records(view), &Expectation { unit: &view.name, operation, global: view.global })
}

/// The records that `view` was made of, as far as progress depends on them.
fn records(view: &UnitView) -> Cluster {
    let UnitView { name, desired, generation, hash, .. } = view;
    let mut cluster = Cluster::default();
    let unit = Unit::new(*desired, hash.clone(), *generation);
    cluster.units.insert(name.clone(), unit);
    let hosts = view.hosts.iter().map(|order| &order.machine);
    let reporting = view.states.iter().map(|state| &state.machine);
    cluster.machines =
        view.machine.iter().chain(hosts).chain(reporting).map(|host| (host.id.clone(), machine(host))).collect();
    let on = view.machine.as_ref().map(|host| match view.done {
        Some(since) => Placement::Done { done: Done { host: host.id.clone(), generation: *generation }, since },
        None => Placement::On { host: host.id.clone(), since: 0, from: None, tried: None, moved: None },
    });
    let waiting =
        view.waiting.as_ref().map(|why| Placement::Waiting { why: why.clone(), reasons: None, tried: None, since: 0 });
    if let Some(placement) = on.or(waiting) {
        cluster.placements.insert(name.clone(), read(placement));
    }
    for order in &view.hosts {
        let (hash, target, generation) = (hash.clone(), order.target, order.generation);
        let assignment = Assignment { global: true, ..Assignment::new(hash, target, generation) };
        cluster.schedule.insert(order.machine.id.clone(), BTreeMap::from([(name.clone(), read(assignment))]));
    }
    for state in &view.states {
        let report = Some(read(state.report.clone()));
        cluster.apply(Change::Report(name.clone(), state.machine.id.clone(), ReportKeyForm::HostFirst, report));
    }
    cluster
}

fn read<T>(value: T) -> Versioned<T> {
    Versioned { value, revision: Revision::default() }
}

fn machine(host: &MachineRef) -> Machine {
    let MachineRef { id, ip, hostname } = host.clone();
    Machine { ip, ..Machine::new(id, hostname) }
}
