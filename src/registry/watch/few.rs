//! Follows a few units as one host has them. Owns that this costs what happens to them there, and nothing for the rest
//! of the cluster: a watch on each of their keys, and none on a family.
//!
//! Several watches have no common order. An event is therefore only a wakeup: all keys are read again at one revision,
//! and what is reported is the difference between two consistent pictures, as when the whole cluster is followed.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::select_all;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::Placement;
use crate::registry::keys::Key;
use crate::registry::reader::Reader;
use crate::store::{Error, Event, Store, Watch};

use super::{Touched, event_key};

/// The most units that are followed so: each costs the store four watches.
pub const MAX_UNITS: usize = 8;

/// Some units on a host, followed.
#[derive(Debug)]
pub(super) struct Few {
    names: BTreeSet<UnitName>,
    host: MachineId,
    /// By the key that each is for.
    wakeups: BTreeMap<String, Watch>,
    stale: Stale,
}

/// Whether the picture is what the store has. Kept here and not on the stack: a listener that is cancelled must not
/// lose a bell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stale {
    No,
    /// A bell has rung.
    Rung,
    /// There is no picture yet, or there was a gap.
    All,
}

impl Few {
    pub(super) fn new(names: BTreeSet<UnitName>, host: MachineId) -> Self {
        Self { names, host, wakeups: BTreeMap::new(), stale: Stale::All }
    }

    /// Bring `cluster` up to date with the next change. Cancel-safe.
    pub(super) async fn next<S: Store>(&mut self, reader: &Reader<S>, cluster: &mut Cluster) -> Result<Touched, Error> {
        loop {
            if self.stale == Stale::No {
                self.listen(cluster).await?;
                continue;
            }
            let read = match self.read(reader, cluster).await {
                Ok(read) => read,
                // Forgotten between its two halves.
                Err(Error::Compacted) => continue,
                Err(error) => return Err(error),
            };
            *cluster = read;
            self.hang(reader.store(), cluster);
            return Ok(match std::mem::replace(&mut self.stale, Stale::No) {
                Stale::All => Touched::All,
                Stale::No | Stale::Rung => Touched::Units(self.names.clone()),
            });
        }
    }

    /// Wait for one event of any watch.
    async fn listen(&mut self, cluster: &Cluster) -> Result<(), Error> {
        let waits = self.wakeups.iter_mut().map(|(key, watch)| Box::pin(async move { (key, watch.next().await) }));
        let ((key, answer), ..) = select_all(waits).await;
        match answer {
            // A bell that was hung before the picture was read may ring for what is in it; a watch is for all keys that
            // begin like this one.
            Ok(batch)
                if batch.revision > cluster.revision && batch.events.iter().any(|event| event_key(event) == key) =>
            {
                self.stale = Stale::Rung;
            }
            Ok(_) => {}
            Err(Error::Compacted) => {
                self.wakeups.clear();
                self.stale = Stale::All;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The picture that follows `old`. A record that can't be read stays as it was.
    async fn read<S: Store>(&self, reader: &Reader<S>, old: &Cluster) -> Result<Cluster, Error> {
        let mut missing: BTreeSet<String> = self.keys().iter().map(ToString::to_string).collect();
        let (revision, kvs) = reader.points(&missing).await?;
        let mut cluster = Cluster { revision, ..old.clone() };
        for kv in kvs {
            missing.remove(&kv.key);
            if let Some(change) = reader.change(&Event::Put(kv)) {
                cluster.apply(change);
            }
        }
        for key in missing {
            if let Some(change) = reader.change(&Event::Delete(key)) {
                cluster.apply(change);
            }
        }
        // Where a unit is placed is told with that host's name.
        cluster.machines.retain(|id, _| *id == self.host);
        let elsewhere = self.elsewhere(&cluster);
        if !elsewhere.is_empty() {
            reader.add(&mut cluster, &elsewhere).await?;
        }
        Ok(cluster)
    }

    fn keys(&self) -> BTreeSet<Key> {
        let of_unit = |name: &UnitName| {
            let (unit, host) = (|| name.clone(), || self.host.clone());
            [Key::Unit(unit()), Key::Placement(unit()), Key::Schedule(host(), unit()), Key::State(unit(), host())]
        };
        self.names.iter().flat_map(of_unit).chain([Key::Machine(self.host.clone())]).collect()
    }

    /// Other hosts that the units are placed on.
    fn elsewhere(&self, cluster: &Cluster) -> BTreeSet<Key> {
        let placed = cluster.placements.values().filter_map(|placement| match &placement.value {
            Placement::On { host, .. } => Some(host),
            Placement::Waiting { .. } => None,
        });
        placed.filter(|host| **host != self.host).map(|host| Key::Machine(host.clone())).collect()
    }

    /// Have a watch for each key of the picture. Those that hang already go on: what they missed nothing of needs no
    /// new one.
    fn hang<S: Store>(&mut self, store: &S, cluster: &Cluster) {
        let keys = self.keys().into_iter().chain(self.elsewhere(cluster)).map(|key| key.to_string());
        let mut old = std::mem::take(&mut self.wakeups);
        for key in keys {
            let watch = old.remove(&key).unwrap_or_else(|| store.watch(&key, cluster.revision.next()));
            self.wakeups.insert(key, watch);
        }
    }
}
