//! Which units name which templates in their files, so that a change of a template reaches the units that bring it to
//! their hosts. Must never decide who brings one.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::UnitName;
use crate::model::placement::Constraints;

/// By template, the units whose files name it or an instance of it.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Naming(BTreeMap<UnitName, BTreeSet<UnitName>>);

impl Naming {
    /// The constraints of `name` were `old` and are `new`.
    pub(super) fn changed(&mut self, name: &UnitName, old: Option<&Constraints>, new: Option<&Constraints>) {
        for template in old.into_iter().flat_map(|old| old.instances.templates(name)) {
            let Some(units) = self.0.get_mut(&template) else { continue };
            units.remove(name);
            if units.is_empty() {
                self.0.remove(&template);
            }
        }
        for template in new.into_iter().flat_map(|new| new.instances.templates(name)) {
            self.0.entry(template).or_default().insert(name.clone());
        }
    }

    /// Units that may have to bring other templates once the unit `name` has changed: those that name it, its template,
    /// or a template that does so in turn.
    pub(in super::super) fn affected(&self, name: &UnitName) -> BTreeSet<UnitName> {
        let mut found = BTreeSet::new();
        let mut templates = vec![name.template().unwrap_or_else(|| name.clone())];
        while let Some(template) = templates.pop() {
            for unit in self.0.get(&template).into_iter().flatten() {
                if found.insert(unit.clone()) && unit.is_template() {
                    templates.push(unit.clone());
                }
            }
        }
        found
    }
}
