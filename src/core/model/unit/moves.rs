//! That a person wants a unit on another host. Owns the form of the request, and until when it holds.

use serde::{Deserialize, Serialize};

use crate::model::author::Author;
use crate::model::name::MachineId;
use crate::model::revision::Revision;

use super::Placement;

/// That a unit, with those that must be with it, is to move once to another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The store's revision at which it was requested.
    pub generation: Revision,
    /// The host that the unit was on then. If it is on another one, the request is over.
    pub from: MachineId,
    /// The host that it is to be on; without one, the best of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<MachineId>,
    /// Whether it moves although it belongs to its host, or waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<Author>>,
}

impl Move {
    /// Whether the leader has yet to act on it, by the placement of the unit.
    #[must_use]
    pub fn is_open(&self, placement: Option<&Placement>) -> bool {
        placement.is_some_and(|placement| {
            let heeded = placement.moved().map(|moved| moved.generation);
            placement.host() == Some(&self.from) && heeded != Some(self.generation)
        })
    }
}
