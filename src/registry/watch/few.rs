//! Follows a few units by name. Owns that this costs only what happens to these units, and nothing for the rest of the
//! cluster: one watch on each of their keys, and none on a family.
//!
//! Several watches have no common order. An event is therefore only a wakeup: all keys are read again at one revision,
//! and the difference between two consistent states is reported, as when the whole cluster is followed.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::select_all;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::Placement;
use crate::registry::keys::{self, Key};
use crate::registry::reader::Reader;
use crate::store::{Error, Event, Store, Watch};

use super::{Touched, event_key};

/// The most units that are followed in this way: each costs the store up to four watches.
pub const MAX_UNITS: usize = 8;

/// Units that are followed.
#[derive(Debug)]
pub(super) struct Few {
    names: BTreeSet<UnitName>,
    /// The only host whose assignments and reports count; `None` for all hosts.
    host: Option<MachineId>,
    /// By the key or prefix that each watches.
    wakeups: BTreeMap<String, Watch>,
    stale: Stale,
    cluster: Cluster,
    /// Units that were seen to run on one host at a time; after they are destroyed, this can't be seen any more.
    single: BTreeSet<UnitName>,
}

/// Whether the copy matches the store. Kept here and not on the stack: a caller that stops waiting must not lose a
/// wakeup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stale {
    No,
    /// Something has changed.
    Changed,
    /// Nothing was read yet, or there was a gap.
    All,
}

impl Few {
    /// Follow `names`, on `host` or in the whole cluster, unless that turns out to need more than their keys.
    pub(super) fn new(names: BTreeSet<UnitName>, host: Option<MachineId>) -> Self {
        let (wakeups, cluster, single) = (BTreeMap::new(), Cluster::default(), BTreeSet::new());
        Self { names, host, wakeups, stale: Stale::All, cluster, single }
    }

    /// The units as of the last [`Few::next`], and the hosts that have them.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The next change; `None` if the keys of these units aren't sufficient, so that the whole cluster must be followed
    /// instead. Cancel-safe.
    pub(super) async fn next<S: Store>(&mut self, reader: &Reader<S>) -> Result<Option<Touched>, Error> {
        loop {
            if self.stale == Stale::No {
                self.listen().await?;
                continue;
            }
            let read = match self.read(reader).await {
                Ok(read) => read,
                // The revision was compacted between the two reads.
                Err(Error::Compacted) => continue,
                Err(error) => return Err(error),
            };
            if self.host.is_none() && !self.is_enough(reader, &read).await? {
                return Ok(None);
            }
            self.cluster = read;
            self.hang(reader.store());
            return Ok(Some(match std::mem::replace(&mut self.stale, Stale::No) {
                Stale::All => Touched::All,
                Stale::No | Stale::Changed => Touched::Units(self.names.clone()),
            }));
        }
    }

    /// Wait for one event of any watch.
    async fn listen(&mut self) -> Result<(), Error> {
        let waits = self.wakeups.iter_mut().map(|(place, watch)| Box::pin(async move { (place, watch.next().await) }));
        let ((place, answer), ..) = select_all(waits).await;
        match answer {
            // A watch opened before the read may report changes that the read already contains, and a watch on a prefix
            // reports other keys with the same prefix.
            Ok(batch) => {
                let ours = batch.events.iter().any(|event| is_in(event_key(event), place));
                if ours && batch.revision > self.cluster.revision {
                    self.stale = Stale::Changed;
                }
            }
            Err(Error::Compacted) => {
                self.wakeups.clear();
                self.stale = Stale::All;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The next copy. A record that can't be decoded stays as it was.
    async fn read<S: Store>(&self, reader: &Reader<S>) -> Result<Cluster, Error> {
        let places = self.places();
        let (revision, kvs) = reader.ranges(places.clone()).await?;
        let mut cluster = Cluster { revision, ..self.cluster.clone() };
        let mut gone = keys_of(&cluster);
        for kv in kvs.into_iter().filter(|kv| places.iter().any(|place| is_in(&kv.key, place))) {
            gone.remove(&kv.key);
            if let Some(change) = reader.change(&Event::Put(kv)) {
                cluster.apply(change);
            }
        }
        for change in gone.into_iter().filter_map(|key| reader.change(&Event::Delete(key))) {
            cluster.apply(change);
        }
        let hosts = self.hosts(&cluster);
        cluster.machines.retain(|id, _| hosts.contains(id));
        reader.add(&mut cluster, &hosts.into_iter().map(Key::Machine).collect()).await?;
        Ok(cluster)
    }

    /// The keys, and prefixes that end with a slash, under which the records of the units are. Assignments aren't
    /// included unless one host is followed: a unit that runs on one host at a time has a placement as long as it has
    /// an assignment.
    fn places(&self) -> BTreeSet<String> {
        let of_unit = |name: &UnitName| {
            let unit = || name.clone();
            let mut places = vec![Key::Unit(unit()).to_string(), Key::Placement(unit()).to_string()];
            match &self.host {
                None => places.push(keys::states_of(name)),
                Some(host) => {
                    let of_host = [Key::Schedule(host.clone(), unit()), Key::State(unit(), host.clone())];
                    places.extend(of_host.iter().map(ToString::to_string));
                }
            }
            places
        };
        self.names.iter().flat_map(of_unit).collect()
    }

    /// The hosts that `cluster` refers to: each is shown with its name and address.
    fn hosts(&self, cluster: &Cluster) -> BTreeSet<MachineId> {
        cluster.named_hosts().chain(&self.host).cloned().collect()
    }

    /// Whether `cluster` is sufficient. It doesn't contain which hosts a global unit is assigned to, nor whether a unit
    /// that was destroyed before it was seen here was global.
    async fn is_enough<S: Store>(&mut self, reader: &Reader<S>, cluster: &Cluster) -> Result<bool, Error> {
        let files = reader.summaries(&cluster.units.values().map(|unit| unit.hash.clone()).collect()).await?;
        for name in &self.names {
            let placement = cluster.placements.get(name).map(|placement| &placement.value);
            let single = match (cluster.units.get(name), placement) {
                (Some(unit), _) => !files.get(&unit.hash).is_some_and(|file| file.constraints.global),
                (None, Some(Placement::On { .. })) => true,
                (None, _) => self.single.contains(name) && cluster.reports(name).next().is_none(),
            };
            if !single {
                return Ok(false);
            }
            self.single.insert(name.clone());
        }
        Ok(true)
    }

    /// Open a watch for each key or prefix. Open ones are kept, since they have missed nothing.
    fn hang<S: Store>(&mut self, store: &S) {
        let machines = self.hosts(&self.cluster).into_iter().map(|host| Key::Machine(host).to_string());
        let mut old = std::mem::take(&mut self.wakeups);
        for place in self.places().into_iter().chain(machines) {
            let watch = old.remove(&place).unwrap_or_else(|| store.watch(&place, self.cluster.revision.next()));
            self.wakeups.insert(place, watch);
        }
    }
}

/// Whether `key` is this key, or has this prefix.
fn is_in(key: &str, place: &str) -> bool {
    key.strip_prefix(place).is_some_and(|rest| rest.is_empty() || place.ends_with('/'))
}

/// The keys of all records that a cluster has of its units.
fn keys_of(cluster: &Cluster) -> BTreeSet<String> {
    let units = cluster.units.keys().cloned().map(Key::Unit);
    let placements = cluster.placements.keys().cloned().map(Key::Placement);
    let assignments = cluster
        .schedule
        .iter()
        .flat_map(|(host, units)| units.keys().map(|name| Key::Schedule(host.clone(), name.clone())));
    let reports =
        cluster.states.iter().flat_map(|(name, hosts)| hosts.keys().map(|host| Key::State(name.clone(), host.clone())));
    units.chain(placements).chain(assignments).chain(reports).map(|key| key.to_string()).collect()
}
