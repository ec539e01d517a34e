//! Forgets hosts that are gone: their records in the `roster/`, `metadata/` and `host/` families, and their slots for
//! reboots. Owns the guard that a
//! host that is registered keeps them; must never decide which hosts are gone.

use std::collections::BTreeSet;

use crate::model::name::MachineId;
use crate::store::{Error, MAX_OPS, Op, Store, Txn};

use super::keys::{self, Key};
use super::metadata::Refusal;
use super::reader::Reader;
use super::reboots;
use super::unchanged;

/// What became of a request to forget a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// Nothing is known of it any more.
    Done,
    /// Nothing was known of it.
    Unknown,
    /// It is registered, and nothing was changed.
    Present,
}

/// Delete what the cluster remembers of `host`, unless it is registered.
///
/// # Errors
/// [`Refusal::Store`] if nothing was changed; after [`Refusal::Unknown`] some of it may have been deleted.
pub async fn forget<S: Store>(reader: &Reader<S>, host: &MachineId) -> Result<Forgotten, Refusal> {
    let (machine, roster) = (Key::Machine(host.clone()), Key::Roster(host.clone()).to_string());
    let asked = Key::Host(host.clone()).to_string();
    let wanted = BTreeSet::from([machine.to_string(), roster.clone(), keys::metadata_of(host), asked]);
    let (_, found) = reader.ranges(wanted).await.map_err(Refusal::Store)?;
    if found.iter().any(|kv| kv.key == machine.to_string()) {
        return Ok(Forgotten::Present);
    }
    if found.is_empty() {
        return Ok(Forgotten::Unknown);
    }
    let still = |refusal| match refusal {
        reboots::Refusal::Store(error) | reboots::Refusal::Lost(error) => Refusal::Unknown(error),
        _ => Refusal::Unknown(Error::Unavailable("others change the reboots all the time".into())),
    };
    reboots::forget(reader, host, false).await.map_err(still)?;
    // Its record last: if this fails halfway, the host is still there to be forgotten.
    let mut keys: Vec<String> = found.into_iter().map(|kv| kv.key).collect();
    keys.sort_by_key(|key| *key == roster);
    for piece in keys.chunks(MAX_OPS) {
        let ops = piece.iter().cloned().map(Op::Delete).collect();
        match reader.store().commit(Txn { guards: vec![unchanged(&machine, None)], ops }).await {
            Ok(_) => {}
            // It registered meanwhile.
            Err(Error::Conflict) => return Ok(Forgotten::Present),
            Err(error) => return Err(Refusal::Unknown(error)),
        }
    }
    Ok(Forgotten::Done)
}
