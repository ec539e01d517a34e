//! The registry: what the store's keys are and what they mean. The only module that spells a key.
//!
//! Owns the encoding of every record ([`records`]), the transactions that change them ([`commit`]), and the [`mirror`]
//! that turns list and watch into values. It must never decide where a unit goes (`plan`) or talk to a host (`agent`).
//!
//! Each family of keys has one writer, which its file in [`records`] names.

pub mod apply;
pub mod ask;
pub mod commit;
pub mod damage;
pub mod drains;
pub mod forget;
mod hooks;
pub mod keys;
pub mod maintenance;
pub mod metadata;
pub mod mirror;
pub mod moves;
pub mod presence;
pub mod reader;
pub mod reboots;
pub mod records;
pub mod scope;
pub mod services;
pub mod sets;
pub mod settings;
pub mod sight;
pub mod summaries;
pub mod units;
pub mod watch;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::json;
use crate::model::revision::Revision;
use crate::store::{Error, Guard, Kv, LeaseId, Op, Range, Store, Txn};

use keys::Key;

/// A record that can't be decoded. Readers skip it with a warning: it must not affect the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key `{key}` in the store is not ours or is damaged, skipped: {why}")]
pub struct Corrupt {
    /// The key.
    pub key: String,
    /// What is wrong with it or its value.
    pub why: String,
}

/// Decode a record.
///
/// # Errors
/// [`Corrupt`] if the value isn't that record's JSON.
pub fn decode<T: DeserializeOwned>(kv: &Kv) -> Result<T, Corrupt> {
    json::decode(&kv.value).map_err(|error| Corrupt { key: kv.key.clone(), why: error.to_string() })
}

/// Read the key `key` at the revision `at` (`None` for the newest). Returns it with the revision that was read.
///
/// # Errors
/// As [`Store::range`].
pub async fn point<S: Store>(store: &S, key: &str, at: Option<Revision>) -> Result<(Revision, Option<Kv>), Error> {
    // The key itself sorts before all others with the same prefix.
    let page = store.range(Range { prefix: key.into(), after: None, limit: 1, at }).await?;
    Ok((page.revision, page.kvs.into_iter().next().filter(|kv| kv.key == key)))
}

/// Encode a record.
#[must_use]
pub fn put<T: Serialize>(key: &Key, value: &T, lease: Option<LeaseId>) -> Op {
    // Our records are plain structs with string keys and can always be encoded.
    let value = serde_json::to_vec(value).unwrap_or_default();
    Op::Put { key: key.to_string(), value, lease }
}

/// Delete a record.
#[must_use]
pub fn delete(key: &Key) -> Op {
    Op::Delete(key.to_string())
}

/// How often a change is tried while others change the same records, and the pause before the first of these.
const MAX_ATTEMPTS: u32 = 8;
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);

/// Commit what was decided in this `attempt`. `false`, after a pause, if others have changed the same meanwhile: then
/// it is to be decided again.
async fn committed<S: Store>(store: &S, txn: Txn, attempt: u32) -> Result<bool, Error> {
    match store.commit(txn).await {
        Ok(_) => Ok(true),
        Err(Error::Conflict) => {
            tokio::time::sleep(CONFLICT_PAUSE * attempt).await;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Write a record instead of what is `stored`; `None` deletes that.
fn replace<T: Serialize>(txn: &mut Txn, key: &Key, stored: Option<&Kv>, record: Option<&T>) {
    txn.guards.push(unchanged(key, stored.map(|kv| kv.revision)));
    match (stored, record) {
        (None, None) => {}
        (Some(_), None) => txn.ops.push(delete(key)),
        (_, Some(record)) => txn.ops.push(put(key, record, None)),
    }
}

/// Guard a record: absent, or last written by this revision.
#[must_use]
pub fn unchanged(key: &Key, revision: Option<Revision>) -> Guard {
    match revision {
        None => Guard::Absent(key.to_string()),
        Some(revision) => Guard::Unchanged(key.to_string(), revision),
    }
}

#[cfg(test)]
mod slow;
