//! Assignments that come, change and vanish, and when a missing one means that its unit has to leave. Owns what is
//! concluded from a store that was rolled back: it must never take lost data for a decision.

use std::collections::BTreeSet;

use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::unit::Assignment;
use crate::registry::keys::Key;
use crate::registry::mirror::Update;
use crate::store;

use super::{Unit, Units};
use crate::agent::boot_state::StoreHistory;

impl Units {
    /// The assignments have changed.
    pub(in crate::agent) fn follow(&mut self, update: Update) {
        match update {
            Update::Batch(batch) => {
                for event in batch.events {
                    match &event {
                        store::Event::Put(kv) => self.apply_assignment(&kv.key, Some(kv)),
                        store::Event::Delete(key) => self.apply_assignment(key, None),
                    }
                }
                self.history.revision = self.history.revision.max(batch.revision);
            }
            Update::Reset { revision, kvs } => {
                self.followed = true;
                self.see_history(revision);
                let named: BTreeSet<&str> = kvs.iter().filter_map(|kv| kv.key.rsplit('/').next()).collect();
                let told = |unit: &Unit| unit.entry.is_some() || unit.unreadable;
                let gone = |name: &UnitName, unit: &Unit| told(unit) && !named.contains(name.as_str());
                let gone: Vec<UnitName> =
                    self.units.iter().filter(|(name, unit)| gone(name, unit)).map(|(name, _)| name.clone()).collect();
                for name in gone {
                    let unit = self.mark_dirty(&name);
                    (unit.entry, unit.unreadable) = (None, false);
                }
                for kv in &kvs {
                    self.apply_assignment(&kv.key, Some(kv));
                }
                // What is on disk and in no entry leaves now.
                self.dirty.extend(self.units.keys().cloned());
            }
        }
    }

    /// A store whose history ends before what was seen of it has lost data (an etcd made anew, an old backup). An entry
    /// that isn't there says nothing then: what has none goes on, until it has one again. From then on it is as any
    /// other, and so is what comes later: the new history is as good as the old one was.
    fn see_history(&mut self, revision: Revision) {
        if revision < self.history.revision {
            tracing::error!(
                seen = %self.history.revision,
                now = %revision,
                "the store has lost data: its revision went back; units that it no longer knows go on running here. \
                 Restore a backup, or submit them again, or stop them with systemctl"
            );
            (self.history.store_rolled_back, self.history.revision) = (true, revision);
        }
        self.history.revision = self.history.revision.max(revision);
    }

    /// After a rollback of the store, once assignments and disk are known: units without an assignment keep running.
    pub(in crate::agent) fn protect_orphans(&mut self) {
        if !self.history.store_rolled_back || !self.followed || self.disk_unread {
            return;
        }
        let forgotten = |unit: &Unit| unit.entry.is_none() && !unit.unreadable && unit.file.is_some();
        let forgotten = self.units.iter().filter(|(name, unit)| forgotten(unit) && !self.is_foreign(name));
        let names: Vec<UnitName> = forgotten.map(|(name, _)| name.clone()).collect();
        self.history.orphans.extend(names);
        // Noted at once: the new history will soon be as long as the old one.
        (self.history.store_rolled_back, self.history_changed) = (false, true);
    }

    /// Whether it has no entry and goes on nevertheless: it was never ours, or the store has forgotten it.
    pub(super) fn is_protected(&self, name: &UnitName) -> bool {
        let told = self.units.get(name).is_some_and(|unit| unit.entry.is_some());
        !told && (self.history.store_rolled_back || self.history.orphans.contains(name) || self.is_foreign(name))
    }

    /// What to note of the store's history, and what was noted before this daemon.
    pub(in crate::agent) fn history(&mut self) -> &mut StoreHistory {
        &mut self.history
    }

    fn apply_assignment(&mut self, key: &str, kv: Option<&store::Kv>) {
        let name = match Key::parse(key) {
            Ok(Key::Schedule(_, name)) => name,
            Ok(_) => return,
            Err(corrupt) => return tracing::warn!("{corrupt}"),
        };
        if !self.units.contains_key(&name) {
            self.unseen.insert(name.clone());
        }
        if kv.is_some() && self.history.orphans.remove(&name) {
            self.history_changed = true;
        }
        let unit = self.mark_dirty(&name);
        match kv.map(crate::registry::decode::<Assignment>).transpose() {
            Ok(entry) => {
                unit.entry = entry;
                unit.held = None;
                unit.unreadable = false;
            }
            Err(corrupt) => {
                tracing::warn!("{corrupt}; the unit stays as it is");
                unit.unreadable = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::model::name::UnitHash;
    use crate::store::Kv;

    #[test]
    fn a_unit_whose_unreadable_entry_is_gone_from_the_list_leaves() {
        let name: UnitName = "a.service".parse().unwrap();
        let mut units = Units::new(Clock::simulated(0));
        units.mark_dirty(&name).file = Some(UnitHash::new("a"));
        let key = format!("schedule/{:032x}/a.service", 1);
        let kv = Kv { key, value: b"{".to_vec(), revision: Revision(1), lease: None };
        units.follow(Update::Reset { revision: Revision(1), kvs: vec![kv] });
        assert!(units.steps().is_empty(), "it stays as it is");
        // Deleted while nobody was there to hear of it.
        units.follow(Update::Reset { revision: Revision(9), kvs: vec![] });
        assert_eq!(units.steps().remove, [name]);
    }
}
