//! The units of a host, by name. Owns how they are stored: each in a box of its own, because a unit is large and the
//! nodes of a map whose keys arrive in order are half empty. Decides nothing.

use std::collections::{BTreeMap, btree_map};

use crate::model::name::UnitName;

use super::Unit;

/// Units in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Units(BTreeMap<UnitName, Box<Unit>>);

impl Units {
    pub(super) fn contains_key(&self, name: &UnitName) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn get(&self, name: &UnitName) -> Option<&Unit> {
        self.0.get(name).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, name: &UnitName) -> Option<&mut Unit> {
        self.0.get_mut(name).map(Box::as_mut)
    }

    /// The unit `name`, which is added if it is new.
    pub(super) fn get_or_add(&mut self, name: &UnitName) -> &mut Unit {
        self.0.entry(name.clone()).or_default()
    }

    pub(super) fn remove(&mut self, name: &UnitName) {
        self.0.remove(name);
    }

    pub(super) fn retain(&mut self, keeps: impl Fn(&UnitName, &Unit) -> bool) {
        self.0.retain(|name, unit| keeps(name, unit));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&UnitName, &Unit)> {
        self.0.iter().map(|(name, unit)| (name, unit.as_ref()))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&UnitName, &mut Unit)> {
        self.0.iter_mut().map(|(name, unit)| (name, unit.as_mut()))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &UnitName> {
        self.0.keys()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Unit> {
        self.0.values().map(Box::as_ref)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Unit> {
        self.0.values_mut().map(Box::as_mut)
    }
}

impl IntoIterator for Units {
    type Item = (UnitName, Unit);
    type IntoIter = std::iter::Map<btree_map::IntoIter<UnitName, Box<Unit>>, fn((UnitName, Box<Unit>)) -> Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(|(name, unit)| (name, *unit))
    }
}
