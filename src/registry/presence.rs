//! Which reports are their host's own: those that are bound to the lease of its `machine/` key. A host writes both
//! under one lease, so a report that an earlier presence left, or that someone else wrote, proves nothing. Nothing else
//! decides which reports count: the engine, watches and every read of the API ask here.
//!
//! The lease doesn't authenticate. etcd refuses a single write under a lease whose other keys the user may not write,
//! but not the same write in a transaction. What keeps one host from writing the reports of another one is a role in
//! etcd that is limited to `state/<host>/`.
//!
//! A host that registers with a new lease writes all of its reports again. Until then, a report under its earlier lease
//! that was accepted remains; one that is listed then counts as missing, which proves nothing to anybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::Change;
use crate::model::name::MachineId;
use crate::store::{Event, Kv, LeaseId};

use super::Corrupt;
use super::keys::{self, Key};

/// The leases of the registered hosts.
#[derive(Debug, Default)]
pub struct Presences(BTreeMap<MachineId, Option<LeaseId>>);

impl Presences {
    /// What an event means for a cluster, given all events before it. In a list, hosts come before their reports. A
    /// report that isn't its host's own counts as a deletion.
    ///
    /// # Errors
    /// As [`keys::change`].
    pub fn change(&mut self, event: &Event) -> Result<Option<Change>, Corrupt> {
        self.follow(event);
        let change = keys::change(event)?;
        match (change, event) {
            (Some(Change::Report(unit, host, form, Some(_))), Event::Put(kv)) if !self.vouches(&host, kv) => {
                tracing::debug!(key = kv.key, "a report that isn't bound to its host's lease is ignored");
                Ok(Some(Change::Report(unit, host, form, None)))
            }
            (change, _) => Ok(change),
        }
    }

    /// The hosts that are registered.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<MachineId> {
        self.0.keys().cloned().collect()
    }

    /// The keys `wanted`, and those of the hosts that are needed to decide about reports among them.
    pub(super) fn with_hosts(&self, wanted: &BTreeSet<Key>) -> BTreeSet<String> {
        let host = |key: &Key| match key {
            Key::State(report) if !self.0.contains_key(&report.host) => Some(Key::Machine(report.host.clone())),
            _ => None,
        };
        let hosts = wanted.iter().filter_map(host).map(|key| key.to_string());
        hosts.chain(wanted.iter().map(ToString::to_string)).collect()
    }

    /// Take note of an event that is about a host.
    pub(super) fn follow(&mut self, event: &Event) {
        let key = match event {
            Event::Put(kv) => &kv.key,
            Event::Delete(key) => key,
        };
        // A host that is registered counts, whether or not its record can be read.
        if let Some(Ok(Key::Machine(id))) = key.starts_with(keys::MACHINES).then(|| Key::parse(key)) {
            match event {
                Event::Put(kv) => drop(self.0.insert(id, kv.lease)),
                Event::Delete(_) => drop(self.0.remove(&id)),
            }
        }
    }

    /// Whether the host's key is bound to the same lease as this report of it.
    fn vouches(&self, host: &MachineId, report: &Kv) -> bool {
        self.0.get(host) == Some(&report.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Cluster;
    use crate::model::name::UnitName;
    use crate::model::revision::Revision;

    const HOST: &str = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a";

    fn put(key: String, value: &str, lease: Option<i64>, revision: u64) -> Event {
        let value = value.replace('N', &revision.to_string()).into_bytes();
        Event::Put(Kv { key, value, revision: Revision(revision), lease: lease.map(LeaseId) })
    }

    fn machine(lease: Option<i64>, revision: u64) -> Event {
        put(format!("machine/{HOST}"), "damaged", lease, revision)
    }

    fn report(lease: Option<i64>, revision: u64) -> Event {
        let json = r#"{"generation":1,"target":"gone","hash":"0","load":"","active":"","sub":"N","since":0}"#;
        put(format!("state/{HOST}/a.service"), json, lease, revision)
    }

    /// The report that counts after `events`, by its revision.
    fn counts_after(events: &[Event]) -> Option<String> {
        let (mut presences, mut cluster) = (Presences::default(), Cluster::default());
        for event in events {
            if let Ok(Some(change)) = presences.change(event) {
                cluster.apply(change);
            }
        }
        let unit: UnitName = "a.service".parse().unwrap();
        cluster.report(&unit, &HOST.parse().unwrap()).map(|report| report.sub.clone())
    }

    #[test]
    fn a_report_counts_under_the_lease_of_its_host_only() {
        let gone = || Event::Delete(format!("machine/{HOST}"));
        for (events, expected) in [
            (vec![machine(Some(1), 1), report(Some(1), 2)], Some("2")),
            (vec![machine(Some(1), 1), report(None, 2)], None),
            (vec![machine(Some(1), 1), report(Some(7), 2)], None),
            (vec![report(Some(1), 2)], None),
            // It takes the place of the host's own report in the store, which is therefore missing.
            (vec![machine(Some(1), 1), report(Some(1), 2), report(Some(7), 3)], None),
            (vec![machine(Some(1), 1), report(Some(7), 2), report(Some(1), 3)], Some("3")),
            // The host registers with a new lease: what it has reported stays until it reports it again.
            (vec![machine(Some(1), 1), report(Some(1), 2), machine(Some(5), 3)], Some("2")),
            (vec![machine(Some(1), 1), report(Some(1), 2), machine(Some(5), 3), report(Some(5), 4)], Some("4")),
            // As listed in the middle of that.
            (vec![machine(Some(5), 3), report(Some(1), 2)], None),
            (vec![machine(Some(5), 3), report(Some(1), 2), report(Some(5), 4)], Some("4")),
            (vec![machine(Some(1), 1), gone(), report(Some(1), 2)], None),
        ] {
            assert_eq!(counts_after(&events).as_deref(), expected, "{events:?}");
        }
    }
}
