//! Follows the store: what changed, as a sequence of consistent states. Watchers use [`units`], which follows a few
//! units at their own cost (`few`), and everything else through one copy of the cluster that all watchers share
//! (`shared`), which follows all records of units (`cluster`).

mod cluster;
mod few;
pub mod shared;
pub mod units;

pub use few::MAX_UNITS;

use std::collections::BTreeSet;

use crate::model::name::UnitName;
use crate::store::Event;

/// Which units to examine again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// All: this is a new copy, and units that aren't in it no longer exist.
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
