//! Follows a few units by name. Owns that this costs only what happens to these units, and nothing for the rest of the
//! cluster: one watch on each of their keys, and none on a family.
//!
//! Several watches have no common order. An event is therefore only a wakeup: all keys are read again at one revision,
//! and the difference between two consistent states is reported, as when the whole cluster is followed.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::select_all;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::small::SmallMap;
use crate::model::unit::Placement;
use crate::plan::gate::show_spares;
use crate::registry::keys::{Key, rollouts_of};
use crate::registry::reader::Reader;
use crate::store::{Error, Store, Watch};

use super::{Touched, event_key};

/// The most units that are followed in this way: each costs the store up to nine watches.
pub const MAX_UNITS: usize = 8;

/// Units that are followed.
#[derive(Debug)]
pub(super) struct Few {
    names: BTreeSet<UnitName>,
    /// The only host whose assignments and reports count; `None` for all hosts.
    host: Option<MachineId>,
    /// By the key that each watches.
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
            self.watch(reader.store());
            return Ok(Some(match std::mem::replace(&mut self.stale, Stale::No) {
                Stale::All => Touched::All,
                Stale::No | Stale::Changed => Touched::Units(self.names.clone()),
            }));
        }
    }

    /// Wait for one event of any watch.
    async fn listen(&mut self) -> Result<(), Error> {
        let waits = self.wakeups.iter_mut().map(|(key, watch)| Box::pin(async move { (key, watch.next().await) }));
        let ((key, answer), ..) = select_all(waits).await;
        match answer {
            // A watch opened before the read may report changes that the read already contains, and it reports other
            // keys with the same prefix.
            Ok(batch) => {
                let ours = batch.events.iter().any(|event| event_key(event) == key);
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
        let mut cluster = self.cluster.clone();
        reader.refresh(&mut cluster, &self.keys()).await?;
        if self.host.is_none() {
            reader.add_reports(&mut cluster, &self.names).await?;
        }
        let rollouts = rollouts_of(&cluster);
        reader.add(&mut cluster, &rollouts).await?;
        let hosts = self.hosts(&cluster);
        cluster.machines.retain(|id, _| hosts.contains(id));
        reader.add(&mut cluster, &hosts.into_iter().map(Key::Machine).collect()).await?;
        // Who asks for a spare by its name, such as its announcer, is told of it.
        show_spares(&mut cluster);
        Ok(cluster)
    }

    /// The keys of the units, except for the reports of hosts that are only known once the placements are read.
    /// Assignments aren't among them unless it is about one host: a unit that runs on one host at a time has a
    /// placement as long as it has any.
    fn keys(&self) -> BTreeSet<Key> {
        let of_unit = |name: &UnitName| {
            let mut keys = vec![Key::Unit(name.clone()), Key::Placement(name.clone()), Key::Gate(name.clone())];
            if let Some(host) = &self.host {
                // Whether its rollout previews it there.
                keys.extend(name.set().into_iter().chain([name.clone()]).map(Key::Rollout));
                keys.push(Key::Schedule(host.clone(), name.clone()));
                keys.extend(Key::states(host, name));
            }
            keys
        };
        self.names.iter().flat_map(of_unit).collect()
    }

    /// The keys of the reports: of the host that each unit is placed on, and of those that report it.
    fn reports(&self) -> impl Iterator<Item = Key> {
        self.names.iter().flat_map(|name| {
            let reporting = self.cluster.states.get(name).into_iter().flat_map(SmallMap::keys);
            reporting.chain(self.cluster.placed_on(name)).flat_map(move |host| Key::states(host, name))
        })
    }

    /// The hosts that `cluster` names: each is shown with its name and address.
    fn hosts(&self, cluster: &Cluster) -> BTreeSet<MachineId> {
        cluster.named_hosts().chain(&self.host).cloned().collect()
    }

    /// Whether `cluster` is sufficient. It doesn't contain which hosts a global unit is assigned to, nor whether a unit
    /// that was destroyed before it was seen here was global.
    async fn is_enough<S: Store>(&mut self, reader: &Reader<S>, cluster: &Cluster) -> Result<bool, Error> {
        let files = reader.summaries(cluster.units.values().map(|unit| &unit.hash)).await?;
        for name in &self.names {
            let placement = cluster.placements.get(name).map(|placement| &placement.value);
            let single = match (cluster.units.get(name), placement) {
                (Some(unit), _) => !files.get(&unit.hash).is_some_and(|file| file.constraints.global),
                (None, Some(Placement::On { .. } | Placement::Done { .. })) => true,
                (None, _) => self.single.contains(name) && cluster.reports(name).next().is_none(),
            };
            if !single {
                return Ok(false);
            }
            self.single.insert(name.clone());
        }
        Ok(true)
    }

    /// Watch each key. Watches that are open continue: they have missed nothing.
    fn watch<S: Store>(&mut self, store: &S) {
        let machines = self.hosts(&self.cluster).into_iter().map(Key::Machine);
        let rollouts = rollouts_of(&self.cluster);
        let keys = self.keys().into_iter().chain(rollouts).chain(self.reports()).chain(machines);
        let keys: BTreeSet<Key> = keys.collect();
        let mut old = std::mem::take(&mut self.wakeups);
        for key in keys.iter().map(ToString::to_string) {
            let watch = old.remove(&key).unwrap_or_else(|| store.watch(&key, self.cluster.revision.next()));
            self.wakeups.insert(key, watch);
        }
    }
}
