//! How many records refer to each stored text. Owns the counts; must never decide what is done with a text.

use std::collections::BTreeMap;

use crate::model::cluster::Cluster;
use crate::model::name::UnitHash;

/// The number of references to each key.
#[derive(Debug, Clone, Default)]
pub(in crate::plan::schedule) struct References(BTreeMap<UnitHash, usize>);

impl References {
    /// The texts that the units and assignments of `cluster` refer to by keys of their own, and the earlier ones.
    pub(super) fn to_texts(cluster: &Cluster) -> Self {
        let mut references = Self::default();
        let assigned = cluster.schedule.values().flat_map(BTreeMap::values).flat_map(|assigned| assigned.value.texts());
        let former = cluster.histories.values().flat_map(|kept| &kept.value.keys);
        let texts = cluster.units.values().filter_map(|unit| unit.text.as_ref()).chain(assigned).chain(former);
        references.changed(None, texts);
        references
    }

    /// A record changed: what it referred to, and what it refers to now.
    pub(in crate::plan::schedule) fn changed<'a>(
        &mut self,
        before: impl IntoIterator<Item = &'a UnitHash>,
        after: impl IntoIterator<Item = &'a UnitHash>,
    ) {
        for key in after {
            *self.0.entry(key.clone()).or_default() += 1;
        }
        for key in before {
            let Some(count) = self.0.get_mut(key) else { continue };
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }

    /// Whether any record refers to `key`.
    pub(super) fn has(&self, key: &UnitHash) -> bool {
        self.0.contains_key(key)
    }
}
