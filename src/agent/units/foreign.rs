//! Units whose files were on this host before the first daemon of this boot: CoreOS fleet's, say, which writes to the
//! same folder. Owns which they still are; one stops being foreign when the cluster puts a unit of its name here, and
//! never becomes so again.

use std::collections::BTreeSet;

use crate::model::name::UnitName;

use super::Units;

impl Units {
    /// Whether it is none of ours.
    pub(super) fn is_foreign(&self, name: &UnitName) -> bool {
        self.foreign.as_ref().is_some_and(|foreign| foreign.contains(name))
    }

    /// These were here before us.
    pub(in crate::agent) fn respect(&mut self, foreign: BTreeSet<UnitName>) {
        if !foreign.is_empty() {
            let names = foreign.iter().map(UnitName::as_str).collect::<Vec<_>>().join(" ");
            tracing::warn!(
                units = names,
                "there are unit files that this cluster didn't write (CoreOS fleet's?): they are left alone, and what \
                 runs is taken over as it runs once the cluster puts a unit of that name here"
            );
        }
        self.foreign = Some(foreign);
    }

    /// Those that are still not ours, if some have become so.
    pub(in crate::agent) fn take_over(&mut self) -> Option<&BTreeSet<UnitName>> {
        let (foreign, units) = (self.foreign.as_mut()?, &self.units);
        let before = foreign.len();
        foreign.retain(|name| units.get(name).is_none_or(|unit| unit.entry.is_none() && unit.record.is_none()));
        (foreign.len() < before).then_some(&*foreign)
    }
}
