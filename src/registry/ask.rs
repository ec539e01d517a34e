//! Asks something of a rollout: pause, resume, promote, retry. Owns the guard that it is still about the same request,
//! and what is refused; the leader acts on it.

use std::collections::BTreeSet;

use crate::model::author::Author;
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::rollout::{Ask, Request, Rollout};
use crate::model::unit::Unit;
use crate::store::{Error, Kv, Store, Txn};

use super::keys::Key;
use super::reader::Reader;
use super::records::{Family as _, rollout, unit};
use super::{MAX_ATTEMPTS, committed, put, unchanged};

/// Why nothing was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such unit.
    Unknown,
    /// Its record can't be read, with the reason.
    Damaged(String),
    /// It has no rollout, or not one of which this can be asked now: a sentence.
    Pointless(String),
    /// Others change it all the time.
    Contended,
    /// The store failed before the commit.
    Store(Error),
    /// The store failed during the commit, which may have taken effect.
    Lost(Error),
}

/// Ask `what` of the rollout `name`, a set's template or a unit. Returns the generation of the request; the rollout's
/// record has it as `heeded` when the leader has acted on it.
///
/// # Errors
/// See [`Refusal`].
pub async fn ask<S: Store>(
    reader: &Reader<S>,
    name: &UnitName,
    what: Request,
    by: &Author,
) -> Result<Revision, Refusal> {
    let (key, of_rollout) = (Key::Unit(name.clone()), Key::Rollout(name.clone()).to_string());
    for attempt in 1..=MAX_ATTEMPTS {
        let wanted = BTreeSet::from([key.to_string(), of_rollout.clone()]);
        let (revision, found) = reader.points(&wanted).await.map_err(Refusal::Store)?;
        let record = |key: &str| found.iter().find(|kv| kv.key == key);
        let stored = record(&key.to_string()).ok_or(Refusal::Unknown)?;
        let unit = unit::Records::read(stored).map_err(|corrupt| Refusal::Damaged(corrupt.why))?;
        let rollout = record(&of_rollout).map(rollout::Records::read).transpose();
        let rollout = rollout.map_err(|corrupt| Refusal::Damaged(corrupt.why))?;
        check(name, rollout.as_ref(), what).map_err(Refusal::Pointless)?;
        let txn = asking(&key, stored, unit, what, revision, by);
        if committed(reader.store(), txn, attempt).await.map_err(Refusal::Lost)? {
            return Ok(revision);
        }
    }
    Err(Refusal::Contended)
}

/// The transaction that writes it.
fn asking(key: &Key, stored: &Kv, unit: Unit, what: Request, generation: Revision, by: &Author) -> Txn {
    let ask = Some(Box::new(Ask { what, generation, by: Some(Box::new(by.clone())) }));
    Txn { guards: vec![unchanged(key, Some(stored.revision))], ops: vec![put(key, &Unit { ask, ..unit }, None)] }
}

/// Whether `what` can be asked now.
///
/// # Errors
/// A sentence that says why not.
pub(super) fn check(name: &UnitName, rollout: Option<&Rollout>, what: Request) -> Result<(), String> {
    let Some(rollout) = rollout else { return Err(format!("{name} has had no rollout")) };
    let phase = rollout.phase;
    if phase.accepts().contains(&what) {
        return Ok(());
    }
    let why = match what {
        Request::Promote => format!("{name} waits for no promotion"),
        Request::Resume => format!("the rollout of {name} isn't paused"),
        Request::Pause => format!("the rollout of {name} can't be paused"),
        Request::Retry => format!("the rollout of {name} hasn't failed"),
    };
    Err(format!("{why}: it is {phase}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::UnitHash;
    use crate::model::rollout::{File, Phase};

    #[test]
    fn what_makes_no_sense_now_is_refused_with_the_reason() {
        let name: UnitName = "web@.service".parse().unwrap();
        let from = File { hash: UnitHash::new("aa"), text: None };
        let rollout = |phase| Rollout::begun(UnitHash::new("bb"), from.clone(), phase, 0);
        let said = |phase, what| check(&name, Some(&rollout(phase)), what).err().unwrap_or_default();
        for (phase, what, expected) in [
            (Phase::Waiting, Request::Promote, ""),
            (Phase::Canary, Request::Promote, ""),
            (Phase::Rolling, Request::Promote, "web@.service waits for no promotion: it is rolling"),
            (Phase::Rolling, Request::Pause, ""),
            (Phase::Reverting, Request::Pause, "the rollout of web@.service can't be paused: it is going back"),
            (Phase::Done, Request::Pause, "the rollout of web@.service can't be paused: it is done"),
            (Phase::Paused, Request::Resume, ""),
            (Phase::Rolling, Request::Resume, "the rollout of web@.service isn't paused: it is rolling"),
            (Phase::Reverted, Request::Retry, ""),
            (Phase::Stuck, Request::Retry, ""),
            (Phase::Done, Request::Retry, "the rollout of web@.service hasn't failed: it is done"),
        ] {
            assert_eq!(said(phase, what), expected, "{phase:?} {what}");
        }
        assert_eq!(check(&name, None, Request::Pause).unwrap_err(), "web@.service has had no rollout");
    }
}
