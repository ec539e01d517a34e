//! How hosts are lost: their leases end, the leader holds their units for as long as it would, and each unit waits for
//! its host for as long as its file says. Owns that only the time of these hosts passes, so that nothing that waits for
//! another host is moved because of it. Must never decide about units.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::machine::{Gone, Held, KnownHost};
use crate::model::name::{MachineId, UnitName};

use super::super::absence::{self, Waits};
use super::super::schedule::{Plan, Reason};
use super::super::trial::Trial;

/// How often the leader decides and hosts carry that out.
const ROUNDS: usize = 50;

/// How many different times of `MoveAfterSec=` are waited out.
const TIMES: usize = 100;

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The units that were placed: when, as a number that grows, why there, and how long after the loss, in ms.
    pub(super) placed: BTreeMap<UnitName, (usize, String, u64)>,
    /// The units about which something was decided.
    pub(super) touched: BTreeSet<UnitName>,
    /// The units about which something was decided on one host.
    pub(super) on_hosts: BTreeSet<(MachineId, UnitName)>,
    /// For how long units were held because many hosts were lost, in ms.
    pub(super) held: Option<u64>,
    /// Whether it came to an end.
    pub(super) is_complete: bool,
    /// How many decisions there were.
    pub(super) decisions: usize,
    /// How long after the loss it is, in ms.
    elapsed: u64,
}

impl Course {
    /// These hosts are lost for good, and everything follows, unless it `is_enough` before.
    pub(super) fn lose(&mut self, trial: &mut Trial<'_>, lost: &BTreeSet<MachineId>, is_enough: &dyn Fn() -> bool) {
        let ended: Vec<Change> = lost.iter().flat_map(|host| ends(trial.cluster(), host)).collect();
        trial.tell(ended);
        self.is_complete = self.go_on(trial);
        // While it isn't known yet whether others follow, and then because many have.
        for _ in 0..2 {
            let holds: Vec<Change> = lost.iter().filter_map(|host| self.over(trial, host)).collect();
            if holds.is_empty() {
                break;
            }
            trial.tell(holds);
            self.is_complete &= self.go_on(trial);
        }
        for _ in 0..TIMES {
            let Some(after) = lost.iter().filter_map(|host| next(trial, host)).min() else { return };
            if is_enough() {
                break;
            }
            self.elapsed = self.elapsed.saturating_add(after);
            let earlier: Vec<Change> = lost.iter().filter_map(|host| gone_for(trial.cluster(), host, after)).collect();
            trial.tell(earlier);
            self.is_complete &= self.go_on(trial);
        }
        self.is_complete = false;
    }

    fn go_on(&mut self, trial: &mut Trial<'_>) -> bool {
        trial.go_on(ROUNDS, |_, plan| self.see(plan))
    }

    fn see(&mut self, plan: &Plan) {
        for decision in &plan.decisions {
            self.decisions += 1;
            self.touched.insert(decision.unit.clone());
            let hosts = decision.assignments.iter().map(|(host, _)| (host.clone(), decision.unit.clone()));
            self.on_hosts.extend(hosts);
            if let Reason::Placed { because, .. } = &decision.why {
                self.placed.insert(decision.unit.clone(), (self.decisions, because.to_string(), self.elapsed));
            }
        }
    }

    /// That the hold on the units of a host is over.
    fn over(&mut self, trial: &Trial<'_>, host: &MachineId) -> Option<Change> {
        let held = gone(trial.cluster(), host)?.1.held.filter(|held| held.until > trial.now())?;
        if held.mass_loss {
            self.held = self.held.max(Some(held.until - trial.now()));
        }
        let held = Some(Held { until: trial.now(), ..held });
        changed(trial.cluster(), host, |gone| gone.held = held)
    }
}

/// What ends with the lease of a host: its registration, and its reports.
fn ends(cluster: &Cluster, host: &MachineId) -> Vec<Change> {
    if !cluster.machines.contains_key(host) {
        return Vec::new();
    }
    let reported = cluster.schedule.get(host).into_iter().flat_map(BTreeMap::keys);
    let report = |unit: &UnitName| {
        let form = cluster.states.get(unit)?.get(host)?.form;
        Some(Change::Report(unit.clone(), host.clone(), form, None))
    };
    reported.filter_map(report).chain([Change::Machine(host.clone(), None)]).collect()
}

/// How long it takes from now until the next unit of a host has waited for it long enough, in ms.
fn next(trial: &Trial<'_>, host: &MachineId) -> Option<u64> {
    let (cluster, now) = (trial.cluster(), trial.now());
    let since = gone(cluster, host)?.1.since;
    let units = cluster.schedule.get(host)?.keys();
    let ends = units.filter_map(|unit| match absence::waits(cluster, unit, host, now)? {
        // The time of a host that is gone can't begin before the epoch.
        Waits::Until(end) => end.checked_sub(now).filter(|after| (1..=since).contains(after)),
        Waits::ForGood => None,
    });
    ends.min()
}

/// That a host has been gone for so much longer.
fn gone_for(cluster: &Cluster, host: &MachineId, longer: u64) -> Option<Change> {
    changed(cluster, host, |gone| gone.since = gone.since.saturating_sub(longer))
}

/// What is remembered of a host that isn't registered.
fn gone<'a>(cluster: &'a Cluster, host: &MachineId) -> Option<(&'a KnownHost, Gone)> {
    let known = &cluster.roster.get(host).filter(|_| !cluster.machines.contains_key(host))?.value;
    Some((known, known.gone?))
}

fn changed(cluster: &Cluster, host: &MachineId, change: impl FnOnce(&mut Gone)) -> Option<Change> {
    let (known, mut gone) = gone(cluster, host)?;
    change(&mut gone);
    let value = KnownHost { gone: Some(gone), ..known.clone() };
    Some(Change::Roster(host.clone(), Some(Versioned { value, revision: cluster.revision })))
}
