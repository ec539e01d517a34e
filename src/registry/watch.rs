//! Following the store: what changed, one consistent picture after the other. [`units`] is what watchers use. It
//! follows a few units at these units' cost (`few`), and sees everything else in one picture that all watchers
//! share (`shared`), which follows all that units are and do (`cluster`).

mod cluster;
mod few;
pub mod shared;
pub mod units;

pub use few::MAX_UNITS;

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
