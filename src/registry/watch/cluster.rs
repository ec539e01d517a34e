//! Reads the cluster, then every change of it. Owns one consistent order of all changes, by one watch over all keys:
//! several watches, one for each family, could deliver a unit's end before its beginning.

use crate::model::cluster::{Change, Cluster};
use crate::model::revision::Revision;
use crate::registry::decode;
use crate::registry::keys::{self, Key};
use crate::registry::presence::Presences;
use crate::registry::reader::Reader;
use crate::registry::records::file::FileRecord;
use crate::store::{Batch, Error, Event, Store, Watch};

use super::event_key;

/// What is followed. Assignments are included because a unit is gone only when no host has it any more. Nothing that is
/// watched shows the roster, the metadata, the settings and what is asked of hosts, which are small; lists do, if they
/// are answered from this copy while the store is unreachable.
const FAMILIES: [&str; 11] = [
    keys::UNITS,
    keys::PLACEMENTS,
    keys::GATES,
    keys::ROLLOUTS,
    keys::STATES,
    keys::SCHEDULE,
    keys::MACHINES,
    keys::ROSTER,
    keys::METADATA,
    keys::HOSTS,
    keys::SETTINGS,
];

/// What is delivered next.
#[derive(Debug)]
pub(super) enum Update {
    /// The complete cluster without files, which replaces everything delivered before.
    Picture(Box<Cluster>),
    /// The next changes, and the revision that they lead to.
    Changes(Revision, Vec<Change>),
}

/// The cluster, as it is read from the store.
#[derive(Debug)]
pub(super) struct Changes<S> {
    reader: Reader<S>,
    /// Whose reports count.
    presences: Presences,
    watch: Option<Watch>,
}

impl<S: Store> Changes<S> {
    pub(super) fn new(reader: Reader<S>) -> Self {
        Self { reader, presences: Presences::default(), watch: None }
    }

    /// The next update. The first one is [`Update::Picture`], and so is the first after a gap. Must be awaited to its
    /// end: a list that is cancelled starts over.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`]: create a new one.
    pub(super) async fn next(&mut self) -> Result<Update, Error> {
        loop {
            let Some(watch) = &mut self.watch else { return self.list().await };
            match watch.next().await {
                Ok(batch) => return Ok(Update::Changes(batch.revision, self.changes(batch))),
                Err(Error::Compacted) => self.watch = None,
                Err(error) => return Err(error),
            }
        }
    }

    async fn list(&mut self) -> Result<Update, Error> {
        let (cluster, presences) = self.reader.whole(&FAMILIES).await?;
        self.presences = presences;
        self.watch = Some(self.reader.store().watch("", cluster.revision.next()));
        Ok(Update::Picture(Box::new(cluster)))
    }

    fn changes(&mut self, batch: Batch) -> Vec<Change> {
        let mut changes = Vec::new();
        for event in batch.events {
            if let Event::Put(kv) = &event
                && kv.key.starts_with(keys::FILES)
            {
                // The text is sent with the unit that has it, so the store need not be asked for it.
                if let (Ok(Key::File(hash)), Ok(record)) = (Key::parse(&kv.key), decode::<FileRecord>(kv)) {
                    self.reader.learn(&hash, &record);
                }
            } else if FAMILIES.iter().any(|family| event_key(&event).starts_with(family)) {
                changes.extend(self.reader.change(&mut self.presences, &event));
            }
        }
        changes
    }
}
