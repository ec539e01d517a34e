//! Asks that units move to other hosts. Owns the transaction, all units or none; the leader decides when they go.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::author::Author;
use crate::model::cluster::{Change, Cluster};
use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::{Move, Unit};
use crate::store::{Error, MAX_OPS, Store, Txn};

use super::keys::Key;
use super::reader::Reader;
use super::records::{Family as _, unit};
use super::{MAX_ATTEMPTS, committed, put, unchanged};

/// What is asked of units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The units.
    pub units: BTreeSet<UnitName>,
    /// As in [`Move`], for those that `each` doesn't name.
    pub to: Option<MachineId>,
    /// The hosts of single units.
    pub each: BTreeMap<UnitName, MachineId>,
    /// As in [`Move`].
    pub force: bool,
}

/// Why nothing was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such unit.
    Unknown(UnitName),
    /// The record of this unit can't be read, with the reason.
    Damaged(UnitName, String),
    /// These are too many units for one commit.
    TooMany,
    /// Others change the same all the time.
    Contended,
    /// The store failed before the commit.
    Store(Error),
    /// The store failed during the commit, which may have taken effect.
    Lost(Error),
}

impl Request {
    /// The host that a unit is to be on; without one, the best of the others.
    #[must_use]
    pub fn to(&self, unit: &UnitName) -> Option<&MachineId> {
        self.each.get(unit).or(self.to.as_ref())
    }

    /// What it would change in `cluster`: the records of those of the units that have hosts.
    #[must_use]
    pub fn changes(&self, cluster: &Cluster) -> Vec<Change> {
        // Later than what was asked before.
        let generation = Revision(cluster.revision.0.saturating_add(1));
        let change = |name: &UnitName| {
            let (unit, from) = (cluster.units.get(name)?.clone(), cluster.placed_on(name)?);
            Some(Change::Unit(name.clone(), Some(self.asked((name, unit), (from, generation), None))))
        };
        self.units.iter().filter_map(change).collect()
    }

    /// Ask it of units that are on these hosts.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn ask<S: Store>(
        &self,
        reader: &Reader<S>,
        on: &BTreeMap<UnitName, MachineId>,
        by: &Author,
    ) -> Result<(), Refusal> {
        if on.is_empty() {
            return Ok(());
        }
        if on.len() > MAX_OPS {
            return Err(Refusal::TooMany);
        }
        let wanted: BTreeSet<String> = on.keys().map(|name| Key::Unit(name.clone()).to_string()).collect();
        for attempt in 1..=MAX_ATTEMPTS {
            let (revision, found) = reader.points(&wanted).await.map_err(Refusal::Store)?;
            let mut txn = Txn { guards: Vec::new(), ops: Vec::new() };
            for (name, from) in on {
                let key = Key::Unit(name.clone());
                let stored = found.iter().find(|kv| kv.key == key.to_string());
                let stored = stored.ok_or_else(|| Refusal::Unknown(name.clone()))?;
                let unit = unit::Records::read(stored);
                let unit = unit.map_err(|corrupt| Refusal::Damaged(name.clone(), corrupt.why))?;
                txn.guards.push(unchanged(&key, Some(stored.revision)));
                txn.ops.push(put(&key, &self.asked((name, unit), (from, revision), Some(by)), None));
            }
            if committed(reader.store(), txn, attempt).await.map_err(Refusal::Lost)? {
                return Ok(());
            }
        }
        Err(Refusal::Contended)
    }

    fn asked(
        &self,
        (name, unit): (&UnitName, Unit),
        (from, generation): (&MachineId, Revision),
        by: Option<&Author>,
    ) -> Unit {
        let (to, force, by) = (self.to(name).cloned(), self.force, by.cloned().map(Box::new));
        Unit { moves: Some(Box::new(Move { generation, from: from.clone(), to, force, by })), ..unit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::point;
    use crate::store::Op;
    use crate::store::embedded::Embedded;

    async fn store(records: &[(&str, &str)]) -> Reader<Embedded> {
        let store = Embedded::in_memory();
        for (name, value) in records {
            let key = format!("unit/{name}");
            let op = Op::Put { key, value: (*value).into(), lease: None };
            store.commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap();
        }
        Reader::new(store)
    }

    #[tokio::test]
    async fn all_units_are_asked_or_none() {
        let record = r#"{"desired":"launched","hash":"3750b3e9","generation":1,"submitted":5}"#;
        let reader = store(&[("a.service", record), ("b.service", record), ("c.service", "?")]).await;
        let host: MachineId = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        let on = |names: &[&str]| -> BTreeMap<UnitName, MachineId> {
            names.iter().map(|name| (name.parse().unwrap(), host.clone())).collect()
        };
        let request =
            |names: &[&str]| Request { units: on(names).into_keys().collect(), force: true, ..Request::default() };
        let by = Author { uid: Some(0), user: "root".into(), ..Author::default() };
        for (names, refused) in [
            (["a.service", "x.service"], Refusal::Unknown("x.service".parse().unwrap())),
            (["a.service", "c.service"], Refusal::Damaged("c.service".parse().unwrap(), String::new())),
        ] {
            let answer = request(&names).ask(&reader, &on(&names), &by).await.unwrap_err();
            let answer =
                if let Refusal::Damaged(name, _) = answer { Refusal::Damaged(name, String::new()) } else { answer };
            assert_eq!(answer, refused);
            let (_, kv) = point(reader.store(), "unit/a.service", None).await.unwrap();
            assert_eq!(kv.unwrap().value, record.as_bytes(), "nothing is asked of any");
        }
        request(&["a.service", "b.service"]).ask(&reader, &on(&["a.service", "b.service"]), &by).await.unwrap();
        for name in ["unit/a.service", "unit/b.service"] {
            let (_, kv) = point(reader.store(), name, None).await.unwrap();
            let unit = unit::Records::read(&kv.unwrap()).unwrap();
            let asked = unit.moves.unwrap();
            assert_eq!((unit.generation, asked.generation, asked.force), (Revision(1), Revision(4), true));
            assert_eq!((asked.from, asked.to, asked.by.as_deref()), (host.clone(), None, Some(&by)));
        }
    }
}
