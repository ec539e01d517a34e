//! Follows what units are and do: a cluster as it is, then as it changes. Owns one consistent order of all of it, by
//! one watch over all keys: several watches, one for each family, would tell a unit's end before its beginning.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use tokio_util::task::AbortOnDropHandle;

use crate::model::cluster::{Change, Cluster};
use crate::model::name::UnitName;
use crate::model::unit::Placement;
use crate::store::{Batch, Error, Event, Store, Watch};

use super::{Touched, event_key};
use crate::registry::decode;
use crate::registry::keys::{self, Key};
use crate::registry::reader::Reader;
use crate::registry::records::file::FileRecord;
use crate::registry::scope::Scope;

/// What is followed. Assignments belong to it because a unit is only gone when no host has it any more.
const FAMILIES: [&str; 5] = [keys::UNITS, keys::PLACEMENTS, keys::STATES, keys::SCHEDULE, keys::MACHINES];

/// So many batches that are ready are taken in at once, so that a storm of changes is told in few steps.
const COALESCED: usize = 64;

/// A cluster, followed. It holds no files.
#[derive(Debug)]
pub(super) struct Follower<S> {
    reader: Reader<S>,
    scope: Scope,
    cluster: Cluster,
    watch: Option<Watch>,
    /// The next picture, while it is read: a task, so that it goes on when whoever waits for it is cancelled.
    listing: Option<AbortOnDropHandle<Result<Cluster, Error>>>,
}

impl<S: Store> Follower<S> {
    /// Follow the units of `scope`.
    #[must_use]
    pub(super) fn new(reader: Reader<S>, scope: Scope) -> Self {
        Self { reader, scope, cluster: Cluster::default(), watch: None, listing: None }
    }

    /// The cluster as of the last [`Follower::next`].
    #[must_use]
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The next change. The first one is [`Touched::All`], and so is the one after a gap. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`]: make a new one.
    pub(super) async fn next(&mut self) -> Result<Touched, Error> {
        loop {
            let Some(watch) = &mut self.watch else { return self.list().await };
            match watch.next().await {
                Ok(batch) => {
                    let mut touched = BTreeSet::new();
                    self.take(batch, &mut touched);
                    for _ in 1..COALESCED {
                        match self.watch.as_mut().and_then(|watch| watch.next().now_or_never()) {
                            Some(Ok(batch)) => self.take(batch, &mut touched),
                            // What has been taken in is told first; listing anew then finds what is wrong, if it lasts.
                            Some(Err(_)) => self.watch = None,
                            None => break,
                        }
                    }
                    if !touched.is_empty() {
                        return Ok(Touched::Units(touched));
                    }
                }
                Err(Error::Compacted) => self.watch = None,
                Err(error) => return Err(error),
            }
        }
    }

    async fn list(&mut self) -> Result<Touched, Error> {
        let (reader, scope) = (&self.reader, &self.scope);
        let listing = self.listing.get_or_insert_with(|| {
            let (reader, scope) = (reader.clone(), scope.clone());
            AbortOnDropHandle::new(tokio::spawn(async move { reader.cluster(&FAMILIES, &scope).await }))
        });
        let listed = listing.await;
        self.listing = None;
        self.cluster =
            listed.map_err(|error| Error::Unavailable(format!("reading the cluster broke off: {error}")))??;
        self.watch = Some(self.reader.store().watch("", self.cluster.revision.next()));
        Ok(Touched::All)
    }

    fn take(&mut self, batch: Batch, touched: &mut BTreeSet<UnitName>) {
        self.cluster.revision = batch.revision;
        for event in batch.events {
            if let Event::Put(kv) = &event
                && kv.key.starts_with(keys::FILES)
            {
                // The text travels with the unit that has it: no need to ask the store for it.
                if let (Ok(Key::File(hash)), Ok(record)) = (Key::parse(&kv.key), decode::<FileRecord>(kv)) {
                    self.reader.learn(&hash, &record);
                }
                continue;
            }
            if !FAMILIES.iter().any(|family| event_key(&event).starts_with(family)) {
                continue;
            }
            let Some(change) = self.reader.change(&event).filter(|change| self.scope.takes(change)) else { continue };
            self.touch(&change, touched);
            self.cluster.apply(change);
        }
    }

    fn touch(&self, change: &Change, touched: &mut BTreeSet<UnitName>) {
        match change {
            Change::Unit(name, _)
            | Change::Placement(name, _)
            | Change::Assignment(_, name, _)
            | Change::Report(name, _, _) => drop(touched.insert(name.clone())),
            // A host's name and address stand beside each of its units; its birth and its death are rare.
            Change::Machine(id, _) => {
                let placed = self.cluster.placements.iter().filter_map(|(name, placement)| match &placement.value {
                    Placement::On { host, .. } => (host == id).then_some(name),
                    Placement::Waiting { .. } => None,
                });
                let reported =
                    self.cluster.states.iter().filter_map(|(name, states)| states.contains_key(id).then_some(name));
                touched.extend(placed.chain(reported).cloned());
            }
            Change::File(..) | Change::Metadata(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::registry::slow::Slow;
    use crate::store::embedded::Embedded;

    /// A family takes a second, and so do the others after it.
    #[tokio::test(start_paused = true)]
    async fn a_picture_that_is_waited_for_impatiently_is_read_once() {
        let mut follower = Follower::new(Reader::new(Slow(Embedded::in_memory())), Scope::All);
        let mut waited = 0;
        while timeout(Duration::from_millis(700), follower.next()).await.is_err() {
            waited += 1;
            assert!(waited < 10, "it begins anew each time");
        }
        assert!(waited > 0);
    }
}
