//! Global units whose gates name several files: hosts have different ones. Owns how such a unit is indexed. Must never
//! decide which host has which file.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::name::{UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::placement::limits::MAX_PLANNED_PATTERNS;

use super::{ConstraintId, Index};

impl Index {
    /// Keep the files that gates of global units name, which may come to further hosts.
    pub(super) fn hold_files_of_gates(&mut self, cluster: &Cluster) {
        for gate in cluster.gates.values().filter(|gate| gate.value.is_by_host()) {
            let files: BTreeSet<&UnitHash> = gate.value.files().collect();
            self.held.changed([], files);
        }
    }

    /// The constraints by which a unit is indexed, and their id. A global unit whose gate names other files declares
    /// what any of these declares, so that no change is missed; what it is on a host, its constraints there say.
    pub(super) fn resolve(&mut self, cluster: &Cluster, name: &UnitName) -> Option<(Arc<Constraints>, ConstraintId)> {
        self.mixed.remove(name);
        let resolved = self.resolve_own(cluster, name)?;
        let Some(gate) = cluster.gates.get(name).map(|gate| &gate.value).filter(|gate| gate.is_by_host()) else {
            return Some(resolved);
        };
        let file = |hash: &UnitHash| {
            let file = &cluster.files.get(hash)?.value;
            (file.patterns() <= MAX_PLANNED_PATTERNS).then(|| Constraints::resolve(file, name))
        };
        let others: BTreeSet<&UnitHash> = gate.files().collect();
        let others: Vec<Arc<Constraints>> = others.into_iter().filter_map(file).collect();
        let differs =
            |other: &Arc<Constraints>| (&other.conflicts, &other.ports) != (&resolved.0.conflicts, &resolved.0.ports);
        if others.iter().any(differs) {
            self.mixed.insert(name.clone());
        }
        let Some(mixed) = resolved.0.joined(&others) else { return Some(resolved) };
        self.next_id += 1;
        Some((Arc::new(mixed), self.next_id))
    }
}
