//! What the agent reads from the store besides its assignments: unit files, its own reports, and desired states. Owns
//! which records are valid.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join;

use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::format::ReportKeyForm;
use crate::model::machine::KnownHost;
use crate::model::name::{UnitHash, UnitName};
use crate::model::rollout::Gate;
use crate::model::unit::{Desired, Unit, UnitReport};
use crate::plan::gate;
use crate::plan::host::Input;
use crate::registry::keys::{self, Key};
use crate::registry::mirror;
use crate::registry::reader::Reader;
use crate::registry::records::file::FileRecord;
use crate::registry::{decode, point};
use crate::store::{Error, Kv, LeaseId, Store};
use crate::systemd::Systemd;

use super::Agent;

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Read the texts under these keys, each the hash of a file or of a text; for one that can't be used, the reason,
    /// which names the key.
    pub(super) async fn fetch(&self, hashes: BTreeSet<UnitHash>) -> Result<Input, Error> {
        let found = self.read(hashes, Key::File).await?;
        Ok(Input::Fetched(
            found.into_iter().map(|(hash, record)| (hash.clone(), usable(&hash, record.as_ref()))).collect(),
        ))
    }

    /// Read this host's own reports that are bound to `lease`. Reports bound to another lease are from an earlier boot.
    pub(super) async fn own_reports(&self, names: Vec<UnitName>, lease: LeaseId) -> Result<Input, Error> {
        let host = &self.options.machine.id;
        let in_forms = names.iter().flat_map(|name| ReportKeyForm::ALL.map(|form| (name.clone(), form)));
        let found = self.read(in_forms, |(name, form)| Key::state(host, &name, form)).await?;
        let mut ours: Vec<(UnitName, Kv)> = found
            .into_iter()
            .filter_map(|((name, _), record)| Some((name, record.filter(|record| record.lease == Some(lease))?)))
            .collect();
        // Of two forms the one that was written last counts, which replaces the other one here.
        ours.sort_by_key(|(_, record)| record.revision);
        let report = |(name, record): (UnitName, Kv)| Some((name, decode::<UnitReport>(&record).ok()?));
        Ok(Input::Reports(names, ours.into_iter().filter_map(report).collect()))
    }

    /// The units that the store has reports of from this host, whatever these are bound to. In the first form of their
    /// keys they lie among those of all hosts, so they aren't looked for. Read when everything else in a pass is done,
    /// which doesn't wait for it, and after the host's key was written: a report that an earlier daemon has sent can't
    /// be committed any more.
    pub(super) async fn all_reported(&mut self) -> Result<Input, Error> {
        let (_, found) = mirror::list(&self.store, &keys::states_of(&self.options.machine.id)).await?;
        self.unlisted = false;
        let unit = |record: Kv| match Key::parse(&record.key) {
            Ok(Key::State(key)) if key.host == self.options.machine.id => Some(key.unit),
            _ => None,
        };
        Ok(Input::Reported(found.into_iter().filter_map(unit).collect()))
    }

    /// Those of `names` that this host reports under a key of one of these forms.
    pub(super) async fn reported_in(
        &self,
        forms: impl Iterator<Item = ReportKeyForm> + Clone,
        names: impl Iterator<Item = &UnitName>,
    ) -> Result<BTreeSet<UnitName>, Error> {
        let host = &self.options.machine.id;
        let in_forms = names.flat_map(|name| forms.clone().map(|form| (name.clone(), form)));
        let found = self.read(in_forms, |(name, form)| Key::state(host, &name, form)).await?;
        Ok(found.into_iter().filter_map(|((name, _), record)| record.map(|_| name)).collect())
    }

    /// Read the leader's key, what it remembers of this host, and which of these units have a desired state other than
    /// `inactive`, with the file that each goes on with here while its rollout holds another one back.
    pub(super) async fn decisions(&self, names: Vec<UnitName>) -> Result<Input, Error> {
        let (units, gates) = try_join(self.read(names.clone(), Key::Unit), self.read(names, Key::Gate)).await?;
        let mut cluster = Cluster::default();
        for (name, record) in units {
            cluster.apply(Change::Unit(name, record.and_then(|record| decode::<Unit>(&record).ok())));
        }
        for (name, record) in gates {
            let gate = |record: Kv| Some(Versioned { value: decode::<Gate>(&record).ok()?, revision: record.revision });
            cluster.apply(Change::Gate(name, record.and_then(gate)));
        }
        gate::apply(&mut cluster);
        let wanted = |(name, unit): (&UnitName, &Unit)| {
            let hash = cluster.file_on(name, &self.options.machine.id).filter(|_| unit.desired != Desired::Inactive)?;
            Some((name.clone(), hash.clone()))
        };
        let wanted = cluster.units.iter().filter_map(wanted).collect();
        let (leader, roster) = (Key::Leader.to_string(), Key::Roster(self.options.machine.id.clone()).to_string());
        let (leader, roster) = try_join(point(&self.store, &leader, None), point(&self.store, &roster, None)).await?;
        let known = roster.1.and_then(|record| decode::<KnownHost>(&record).ok());
        Ok(Input::Decisions {
            leader: leader.1.map(|record| record.revision),
            seen: known.is_some_and(|known| known.gone.is_none()),
            wanted,
        })
    }

    /// The records of `of`, each under its `key`, which no other one has.
    async fn read<T: Clone>(
        &self,
        of: impl IntoIterator<Item = T>,
        key: impl Fn(T) -> Key,
    ) -> Result<Vec<(T, Option<Kv>)>, Error> {
        let of: Vec<(String, T)> = of.into_iter().map(|one| (key(one.clone()).to_string(), one)).collect();
        let keys = of.iter().map(|(key, _)| key.clone()).collect();
        let found = Reader::new(self.store.clone()).some(&keys, None).await?;
        let mut found: BTreeMap<String, Kv> = found.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        Ok(of.into_iter().map(|(key, one)| (one, found.remove(&key))).collect())
    }
}

/// The text under the key `hash`, if that is its hash or that of its file. A different text would be installed, found
/// to differ from the assignment, and installed again, without end.
fn usable(hash: &UnitHash, record: Option<&Kv>) -> Result<String, String> {
    let key = Key::File(hash.clone());
    let Some(record) = record else { return Err(format!("its file is not in the store: there is no key `{key}`")) };
    let record = decode::<FileRecord>(record).map_err(|corrupt| format!("its file is unusable: {corrupt}"))?;
    match record.file(hash) {
        Ok(_) => Ok(record.text),
        Err(why) => Err(format!("its file is damaged in the store, under the key `{key}`: {why}")),
    }
}
