//! Since when hosts that are registered haven't carried out what they are told. Owns what the judge of rollouts takes
//! for a silent host; knows the records only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla::model::cluster::Cluster;
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::unit::{Assignment, Target, UnitReport};

use super::{assigned, launched};

/// By unit and host, since when the host hasn't carried out what it is told.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// Of units that are launched, with the file of that: whoever waits for one doesn't begin anew because the unit is
    /// to be restarted meanwhile.
    launched: BTreeMap<(UnitName, MachineId), (UnitHash, Duration)>,
    /// Of units that are to leave the host.
    leaving: BTreeMap<(UnitName, MachineId), Duration>,
}

impl Silence {
    /// Take in the cluster as it is `now`.
    pub(crate) fn look(&mut self, cluster: &Cluster, now: Duration) {
        let is_silent = |name: &UnitName, host: &MachineId, told: &Assignment| {
            let report = cluster.report(name, host);
            let is_done = |report: &UnitReport| report.hash == told.hash && report.generation >= told.generation;
            cluster.machines.contains_key(host)
                && !report.is_some_and(|report| is_done(report) || report.error.is_some())
        };
        let silent = launched(cluster).filter(|(name, host, told)| is_silent(name, host, told));
        let known = std::mem::take(&mut self.launched);
        let since = |(name, host, told): (&UnitName, &MachineId, &Assignment)| {
            let key = (name.clone(), host.clone());
            let since = known.get(&key).filter(|(file, _)| *file == told.hash).map_or(now, |(_, since)| *since);
            (key, (told.hash.clone(), since))
        };
        self.launched = silent.map(since).collect();
        let is_told =
            |told: &Assignment, host: &MachineId| told.target == Target::Removed && cluster.machines.contains_key(host);
        let left = |name: &UnitName, host: &MachineId, told: &Assignment| {
            let report = cluster.report(name, host);
            report.is_some_and(|report| report.target == Target::Removed && report.generation >= told.generation)
        };
        let leaving = assigned(cluster).filter(|(name, host, told)| is_told(told, host) && !left(name, host, told));
        let known = std::mem::take(&mut self.leaving);
        let since = |(name, host, _): (&UnitName, &MachineId, &Assignment)| {
            let key = (name.clone(), host.clone());
            let since = known.get(&key).copied().unwrap_or(now);
            (key, since)
        };
        self.leaving = leaving.map(since).collect();
    }

    /// The members that nobody has to wait for any longer after `time`.
    pub(super) fn after(&self, time: Duration, now: Duration) -> BTreeSet<&(UnitName, MachineId)> {
        let all = self.launched.iter().filter(|(_, (_, since))| is_over(*since, time, now));
        all.map(|(member, _)| member).collect()
    }

    /// The units that hosts have kept for `time` although they are to leave them.
    pub(super) fn staying_after(&self, time: Duration, now: Duration) -> BTreeSet<&UnitName> {
        let all = self.leaving.iter().filter(|(_, since)| is_over(**since, time, now));
        all.map(|((unit, _), _)| unit).collect()
    }
}

/// Whether the leader may have seen that so much `time` has passed: it decides before it is seen what it has written.
fn is_over(since: Duration, time: Duration, now: Duration) -> bool {
    now.saturating_sub(since) >= time.saturating_sub(Duration::from_secs(1))
}
