//! Following the store: what changed, one consistent picture after the other. [`cluster`] follows everything that units
//! are and do; [`few`] follows some units on one host, at those units' cost.

pub mod cluster;
pub mod few;

use std::collections::BTreeSet;

use crate::model::name::UnitName;
use crate::store::Event;

/// Which units to look at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// All: this is a new picture, and what isn't in it is gone.
    All,
    /// These.
    Units(BTreeSet<UnitName>),
}

fn event_key(event: &Event) -> &str {
    match event {
        Event::Put(kv) => &kv.key,
        Event::Delete(key) => key,
    }
}
