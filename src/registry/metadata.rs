//! Dynamic metadata of hosts, set through the API: the `metadata/` family. Owns its transactions and limits; must never
//! decide what metadata mean.
//!
//! As in CoreOS fleet, a host need not be registered to be given metadata: a host can get them before it joins, and an
//! unreachable host keeps them. Nothing else limits for how many hosts that never existed metadata are written, so the
//! limits are here. They are checked before the commit and not guarded by it: several simultaneous requests may exceed
//! them together.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::MachineId;
use crate::store::{Error, Kv, MAX_BYTES, MAX_OPS, Op, Store, Txn};

use super::keys::{self, Key};
use super::put;
use super::reader::Reader;

/// The limit on keys and values of one host together, in bytes.
const MAX_HOST_BYTES: usize = 64 * 1024;

/// The limit on hosts that have metadata and aren't registered.
const MAX_ABSENT_HOSTS: usize = 256;

/// Values by host and key. An empty value hides the value in the host's configuration.
pub type Values = BTreeMap<(MachineId, String), String>;

/// Why metadata weren't changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// They don't fit one commit.
    TooLarge(String),
    /// They exceed what hosts may have.
    TooMuch(String),
    /// The store failed before the commit.
    Store(Error),
    /// The store failed during the commit, which may have taken effect.
    Unknown(Error),
}

/// Set all of `values`, or none of them.
///
/// # Errors
/// See [`Refusal`].
pub async fn set<S: Store>(reader: &Reader<S>, values: &Values) -> Result<(), Refusal> {
    let write =
        |((id, key), value): (&(MachineId, String), &String)| put(&Key::Metadata(id.clone(), key.clone()), value, None);
    let ops: Vec<Op> = values.iter().map(write).collect();
    let txn = Txn { guards: Vec::new(), ops };
    if txn.check().is_err() {
        let most = format!("at most {MAX_OPS} values and {} MiB can be changed at once", MAX_BYTES / 1024 / 1024);
        let message = format!("{most}, all or none; nothing was changed. Send the changes in several requests");
        return Err(Refusal::TooLarge(message));
    }
    if txn.ops.is_empty() {
        return Ok(());
    }
    let hosts: BTreeSet<&MachineId> = values.keys().map(|(id, _)| id).collect();
    let of_host = |id: &&MachineId| [Key::Machine((*id).clone()).to_string(), keys::metadata_of(id)];
    let found = reader.ranges(hosts.iter().flat_map(of_host).collect()).await.map_err(Refusal::Store)?.1;
    for id in &hosts {
        check_size(id, &txn.ops, &found)?;
    }
    let known = hosts_in(&found);
    if !hosts.iter().all(|id| known.contains(*id)) {
        let everywhere = BTreeSet::from([keys::MACHINES.to_owned(), keys::METADATA.to_owned()]);
        check_absent(&hosts, &reader.ranges(everywhere).await.map_err(Refusal::Store)?.1)?;
    }
    reader.store().commit(txn).await.map(drop).map_err(Refusal::Unknown)
}

/// Delete all dynamic metadata of `host`, so that those in its configuration apply again. `false` if there are none.
///
/// # Errors
/// See [`Refusal`]; after [`Refusal::Unknown`] some may have been deleted.
pub async fn forget<S: Store>(reader: &Reader<S>, host: &MachineId) -> Result<bool, Refusal> {
    let (_, found) = reader.ranges(BTreeSet::from([keys::metadata_of(host)])).await.map_err(Refusal::Store)?;
    for piece in found.chunks(MAX_OPS) {
        let ops = piece.iter().map(|kv| Op::Delete(kv.key.clone())).collect();
        reader.store().commit(Txn { guards: Vec::new(), ops }).await.map_err(Refusal::Unknown)?;
    }
    Ok(!found.is_empty())
}

/// A host whose metadata don't grow may keep what it has.
fn check_size(id: &MachineId, ops: &[Op], found: &[Kv]) -> Result<(), Refusal> {
    let prefix = keys::metadata_of(id);
    let there = found.iter().filter(|kv| kv.key.starts_with(&prefix));
    let mut sizes: BTreeMap<&str, usize> = there.map(|kv| (&*kv.key, kv.key.len() + kv.value.len())).collect();
    let before: usize = sizes.values().sum();
    for op in ops {
        if let Op::Put { key, value, .. } = op
            && key.starts_with(&prefix)
        {
            sizes.insert(key, key.len() + value.len());
        }
    }
    let after: usize = sizes.values().sum();
    if after <= MAX_HOST_BYTES || after <= before {
        return Ok(());
    }
    let message = format!("metadata of {id} would be {after} bytes long, at most {MAX_HOST_BYTES} are possible");
    Err(Refusal::TooMuch(message))
}

/// `all` contains all hosts and all metadata.
fn check_absent(hosts: &BTreeSet<&MachineId>, all: &[Kv]) -> Result<(), Refusal> {
    let registered: BTreeSet<&str> = all.iter().filter_map(|kv| kv.key.strip_prefix(keys::MACHINES)).collect();
    let mut known = hosts_in(all);
    known.extend(hosts.iter().map(|id| (*id).clone()));
    let count = known.iter().filter(|id| !registered.contains(id.as_str())).count();
    if count <= MAX_ABSENT_HOSTS {
        return Ok(());
    }
    Err(Refusal::TooMuch(format!(
        "{count} hosts that aren't registered would have metadata, at most {MAX_ABSENT_HOSTS} can; delete that \
         of hosts that don't come back: DELETE /fleet/v2/machines/ID/metadata"
    )))
}

/// The hosts that these keys belong to.
fn hosts_in(found: &[Kv]) -> BTreeSet<MachineId> {
    let host = |kv: &Kv| match Key::parse(&kv.key) {
        Ok(Key::Machine(id) | Key::Metadata(id, _)) => Some(id),
        _ => None,
    };
    found.iter().filter_map(host).collect()
}
