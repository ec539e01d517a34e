//! A map for what nearly every unit has one of, and a few units have thousands: reports, hosts. A `BTreeMap` with one
//! entry takes the room of eleven. Owns only how the entries are kept; must never differ from a `BTreeMap` in which
//! they are, nor in their order.

use std::collections::BTreeMap;

/// A map that gets more entries than this keeps them in a tree, so that inserting never costs more than O(log n).
const MOST: usize = 8;

/// A map in the order of its keys that takes little room while it has few entries.
#[derive(Debug, Clone)]
pub struct SmallMap<K, V> {
    /// Sorted. Empty if `many` isn't.
    few: Vec<(K, V)>,
    many: BTreeMap<K, V>,
}

impl<K: Ord, V> SmallMap<K, V> {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        match self.place(key) {
            Ok(at) => Some(&self.few[at].1),
            Err(_) => self.many.get(key),
        }
    }

    /// Whether `key` has a value.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Gives `key` this value. Returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if !self.many.is_empty() {
            return self.many.insert(key, value);
        }
        match self.place(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.few[at].1, value)),
            Err(_) if self.few.len() == MOST => {
                self.many.extend(std::mem::take(&mut self.few));
                self.many.insert(key, value)
            }
            Err(at) => {
                // Not the room for four that `insert` would make for the first one.
                self.few.reserve_exact(1);
                self.few.insert(at, (key, value));
                None
            }
        }
    }

    /// Gives `key` this value, or removes it.
    pub fn set(&mut self, key: K, value: Option<V>) {
        match value {
            Some(value) => drop(self.insert(key, value)),
            None => drop(self.remove(&key)),
        }
    }

    /// Removes `key`. Returns the value it had.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        match self.place(key) {
            Ok(at) => Some(self.few.remove(at).1),
            Err(_) => self.many.remove(key),
        }
    }

    fn place(&self, key: &K) -> Result<usize, usize> {
        self.few.binary_search_by(|(other, _)| other.cmp(key))
    }
}

impl<K, V> SmallMap<K, V> {
    /// Whether it has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.few.len() + self.many.len()
    }

    /// The entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.few.iter().map(|(key, value)| (key, value)).chain(&self.many)
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        Self { few: Vec::new(), many: BTreeMap::new() }
    }
}

/// Which of the two has the entries depends on how many there were before.
impl<K: PartialEq, V: PartialEq> PartialEq for SmallMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for SmallMap<K, V> {}

impl<K: Ord, V> Extend<(K, V)> for SmallMap<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, entries: T) {
        entries.into_iter().for_each(|(key, value)| drop(self.insert(key, value)));
    }
}

impl<K, V> IntoIterator for SmallMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::iter::Chain<std::vec::IntoIter<(K, V)>, std::collections::btree_map::IntoIter<K, V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.few.into_iter().chain(self.many)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(changes in prop::collection::vec((0_u8..12, any::<Option<u8>>()), 0..80)) {
            let (mut small, mut map) = (SmallMap::default(), BTreeMap::new());
            for (key, value) in changes {
                match value {
                    Some(value) => prop_assert_eq!(small.insert(key, value), map.insert(key, value)),
                    None => prop_assert_eq!(small.remove(&key), map.remove(&key)),
                }
                prop_assert!(small.iter().eq(&map) && small.keys().eq(map.keys()) && small.values().eq(map.values()));
                prop_assert_eq!((small.len(), small.is_empty()), (map.len(), map.is_empty()));
                prop_assert!((0..12).all(|key| small.get(&key) == map.get(&key)));
                let mut same = SmallMap::default();
                same.extend(map.clone());
                prop_assert_eq!(&small, &same, "however it came to its entries");
            }
            prop_assert!(small.into_iter().eq(map));
        }
    }
}
