//! The leader's picture of the cluster, fed by the mirror. Owns what to do with records that can't be read: skip them loudly, keep
//! them from harming their neighbours, and clear away those that only the engine writes.

use std::collections::BTreeMap;

use crate::model::cluster::{Change, Cluster};
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::unit::{Desired, Target, Unit};
use crate::plan::schedule::Scheduler;
use crate::registry::keys::{Key, change};
use crate::registry::mirror::Update;
use crate::store::{Event, Guard, Kv, LeaseId, Op, Txn};

use super::commit::{Fence, fenced};

/// What the leader knows.
#[derive(Debug, Default)]
pub(super) struct Picture {
    scheduler: Option<Scheduler>,
    revision: Revision,
    leader: Option<LeaseId>,
    /// Damaged records of the engine's own families, to be deleted if unchanged since.
    damaged: BTreeMap<String, Revision>,
}

impl Picture {
    /// The planner, once the first list is in.
    pub(super) fn scheduler(&mut self) -> Option<&mut Scheduler> {
        self.scheduler.as_mut()
    }

    /// Up to where the store's history is in the picture.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// The lease that the leader's key is bound to.
    pub(super) fn leader(&self) -> Option<LeaseId> {
        self.leader
    }

    /// Take in what the mirror hands out.
    pub(super) fn follow(&mut self, update: Update) {
        match update {
            Update::Reset { revision, kvs } => self.reset(revision, kvs),
            Update::Batch(batch) => {
                for event in batch.events {
                    self.see_leader(&event);
                    if let Some(change) = self.read(&event)
                        && let Some(scheduler) = &mut self.scheduler
                    {
                        scheduler.apply(change);
                    }
                }
                self.revision = batch.revision;
            }
        }
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.advance(self.revision);
        }
    }

    /// What clears damaged records away; whoever they were about is then planned anew.
    pub(super) fn repairs(&mut self, fence: Fence) -> Vec<Txn> {
        let repair = |(key, revision): (String, Revision)| {
            fenced([Guard::Unchanged(key.clone(), revision)], vec![Op::Delete(key)], fence)
        };
        std::mem::take(&mut self.damaged).into_iter().map(repair).collect()
    }

    fn reset(&mut self, revision: Revision, kvs: Vec<Kv>) {
        self.leader = None;
        self.damaged.clear();
        let mut cluster = Cluster { revision, ..Cluster::default() };
        let mut unreadable = Vec::new();
        for kv in kvs {
            let key = kv.key.clone();
            let event = Event::Put(kv);
            self.see_leader(&event);
            match self.read(&event) {
                Some(change) => cluster.apply(change),
                None => unreadable.extend(Key::parse(&key)),
            }
        }
        for key in unreadable {
            if let Key::Unit(name) = key {
                preserve(&mut cluster, &name);
            }
        }
        self.revision = revision;
        self.scheduler = Some(Scheduler::new(cluster));
    }

    fn see_leader(&mut self, event: &Event) {
        let leader = Key::Leader.to_string();
        match event {
            Event::Put(kv) if kv.key == leader => self.leader = kv.lease,
            Event::Delete(key) if *key == leader => self.leader = None,
            _ => {}
        }
    }

    fn read(&mut self, event: &Event) -> Option<Change> {
        match change(event) {
            Ok(change) => change,
            Err(corrupt) => {
                tracing::warn!("{corrupt}");
                if let Event::Put(kv) = event
                    && let Ok(Key::Placement(_) | Key::Schedule(..)) = Key::parse(&kv.key)
                {
                    self.damaged.insert(kv.key.clone(), kv.revision);
                }
                None
            }
        }
    }
}

/// A unit whose record can't be read goes on as it is: what its host was told is taken for what is wanted.
fn preserve(cluster: &mut Cluster, name: &UnitName) {
    let entry = cluster.schedule.values().filter_map(|slice| slice.get(name)).find(|e| e.value.target != Target::Gone);
    if let Some(entry) = entry.map(|entry| entry.value.clone()) {
        let desired = if entry.target == Target::Launched { Desired::Launched } else { Desired::Loaded };
        let unit = Unit { desired, hash: entry.hash, generation: entry.generation, submitted: 0 };
        cluster.apply(Change::Unit(name.clone(), Some(unit)));
    }
}
