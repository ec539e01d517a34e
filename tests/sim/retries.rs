//! What must hold when units that have failed are moved or started again (`Reschedule=`): only what has failed is, not
//! before its delay is over, on three hosts at most, and where it failed isn't forgotten. Owns since when each unit has
//! been failed, or well.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla::model::cluster::Cluster;
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::reschedule::MAX_HOSTS;
use flotilla::model::revision::Revision;
use flotilla::model::systemd::ActiveState;
use flotilla::model::unit::{Placement, Target, Tried, UnitReport};
use flotilla::plan::gate::effective;

/// So long a unit must have been well before its failures are forgotten.
const WELL: Duration = Duration::from_secs(600);

/// What was reported of units.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    units: BTreeMap<(UnitName, MachineId), Known>,
}

/// What was reported of a unit on a host.
#[derive(Debug, Default)]
struct Known {
    /// The generation that failed last, and since when; until when, if it isn't failed any more.
    failed: Option<(Revision, Duration, Option<Duration>)>,
    /// Since when it has been well.
    well: Option<Duration>,
}

impl Retries {
    pub(crate) fn reported(&mut self, name: &UnitName, host: &MachineId, state: Option<&UnitReport>, now: Duration) {
        let known = self.units.entry((name.clone(), host.clone())).or_default();
        let failed = state.filter(|state| has_failed(state)).map(|state| state.generation);
        known.failed = match (failed, known.failed) {
            (Some(generation), Some((before, since, None))) if generation == before => Some((before, since, None)),
            (Some(generation), _) => Some((generation, now, None)),
            (None, Some((before, since, until))) => Some((before, since, until.or(Some(now)))),
            (None, None) => None,
        };
        let well = state.is_some_and(|state| state.is_healthy(false) && state.target == Target::Launched);
        known.well = if well { known.well.or(Some(now)) } else { None };
    }

    /// What is wrong with a placement that is written `now` by a leader that has planned not before `planned`.
    pub(crate) fn placed(
        &self,
        cluster: &Cluster,
        name: &UnitName,
        placement: Option<&Placement>,
        (planned, now): (Duration, Duration),
    ) -> Option<String> {
        let cluster = &*effective(cluster);
        let Some(Placement::On { host, .. }) = placement else { return None };
        let generation = cluster.units.get(name)?.generation;
        let counts = |tried: &&Tried| tried.generation == generation;
        let before = cluster.tried(name).filter(counts);
        let after = placement.and_then(Placement::tried).filter(counts);
        let (times, hosts) = before.map_or((0, &[][..]), |tried| (tried.times, &tried.hosts));
        let now_hosts = after.map_or(&[][..], |tried| &tried.hosts);
        let known = |host: &MachineId| self.units.get(&(name.clone(), host.clone()));
        if !hosts.iter().all(|host| now_hosts.contains(host)) {
            let well = known(host).and_then(|known| known.well);
            let is_over = well.is_some_and(|since| since + WELL <= now) && cluster.placed_on(name) == Some(host);
            return (!is_over).then(|| format!("where {name} has failed is forgotten"));
        }
        let after = after.filter(|after| after.times != times)?;
        let Some(home) = cluster.placed_on(name).filter(|home| *home == host) else {
            return Some(format!("{name} is tried again as it arrives"));
        };
        let failed = known(home).and_then(|known| known.failed);
        let failed = failed.filter(|(.., until)| until.is_none_or(|until| until >= planned));
        let Some((_, since, _)) = failed else { return Some(format!("{name} is tried again, and hasn't failed")) };
        let policy = cluster.constraints(name)?;
        let delay = policy.reschedule.as_ref()?.delay_ms(times, failed_on(hosts, home));
        if now + Duration::from_millis(1) < since + Duration::from_millis(delay) {
            return Some(format!("{name} is tried again before its delay is over"));
        }
        if after.times != times + 1 || after.hosts.len() > MAX_HOSTS {
            return Some(format!("{name} was tried {times} times before, and now {} times", after.times));
        }
        None
    }
}

fn failed_on(hosts: &[MachineId], home: &MachineId) -> usize {
    hosts.len() + usize::from(!hosts.contains(home))
}

fn has_failed(state: &UnitReport) -> bool {
    state.target == Target::Launched && state.active == ActiveState::Failed && state.job.is_none()
}

/// Whether the file of a unit says that it is moved when it has failed.
pub(crate) fn asks(cluster: &Cluster, name: &UnitName) -> bool {
    let file = cluster.units.get(name).and_then(|unit| cluster.files.get(&unit.hash));
    file.is_some_and(|file| file.value.reschedule().is_some())
}

/// The unit which has failed on `host` in this state and is to be moved for that: `name`, or one that it must be with.
pub(crate) fn failing(cluster: &Cluster, host: &MachineId, name: &UnitName) -> Option<UnitName> {
    let cluster = &*effective(cluster);
    let mut open = vec![name.to_string()];
    let mut at = 0;
    while let Some(unit) = open.get(at).and_then(|unit| unit.parse::<UnitName>().ok()) {
        if asks(cluster, &unit) && cluster.report(&unit, host).is_some_and(has_failed) {
            return Some(unit);
        }
        let peers = cluster.constraints(&unit).map(|constraints| constraints.machine_of.clone());
        let peers: Vec<String> = peers.into_iter().flatten().filter(|peer| !open.contains(peer)).collect();
        open.extend(peers);
        at += 1;
    }
    None
}

/// The hosts on which a unit may be no more than as a last resort, and whether it may be moved at all.
pub(crate) fn avoided(cluster: &Cluster, home: &MachineId, name: &UnitName) -> (Vec<MachineId>, bool) {
    let hosts = effective(cluster).tried(name).map(|tried| tried.hosts.clone()).unwrap_or_default();
    let may_move = failed_on(&hosts, home) < MAX_HOSTS;
    (hosts, may_move)
}
