//! Several running units get a new file: one after another, as `restart` restarts them. The first that doesn't come up
//! ends it and gets its old file back, so that a broken version never takes down more than one unit.

use tokio::signal::unix::{SignalKind, signal};

use super::send;
use crate::api::wire::{Applied, ApplyUnit, Operation};
use crate::cli::commands::units::{exit_of, goals, wait};
use crate::cli::error::{Error, Exit};
use crate::cli::follow::{End, Ended};
use crate::cli::input::batch::Batch;
use crate::cli::limit::Limit;
use crate::cli::session::Session;
use crate::model::name::UnitName;
use crate::model::unit::Desired;

/// What was done so far, for the report.
pub(super) struct Progress {
    pub(super) applied: Applied,
    pub(super) ended: Vec<Ended>,
}

/// Send each of `units`, which are part of `batch`, when the last one is up. What was done is added to `done`.
///
/// # Errors
/// A request failed. The units after it are named first.
pub(super) async fn one_after_another(
    session: &Session,
    batch: &Batch,
    units: Vec<ApplyUnit>,
    limit: Limit,
    done: &mut Progress,
) -> Result<Exit, Error> {
    // The handler stays installed for the rest of the process, so a Ctrl-C between two waits must be handled too.
    let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| Error::failure(error.to_string()))?;
    for (index, unit) in units.iter().enumerate() {
        let one = tokio::select! {
            one = replace(session, batch, unit, limit, done) => one,
            _ = interrupts.recv() => Ok(Exit::Interrupted),
        };
        match one {
            Ok(Exit::Ok) => {}
            ended => {
                untouched(session, &units[index + 1..]);
                return ended;
            }
        }
    }
    Ok(Exit::Ok)
}

/// Name the units that keep their old file.
pub(super) fn untouched(session: &Session, units: &[ApplyUnit]) {
    let names: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
    if !names.is_empty() {
        let names = names.join(" ");
        session.out.message(&format!("stopped here, not replaced: {names}; --at-once replaces all of them together"));
    }
}

async fn replace(
    session: &Session,
    batch: &Batch,
    unit: &ApplyUnit,
    limit: Limit,
    done: &mut Progress,
) -> Result<Exit, Error> {
    let name: UnitName = unit.name.parse().map_err(|error| Error::failure(format!("{}: {error}", unit.name)))?;
    let old = session.client.unit(&name).await?.text;
    let exit = carry_out(session, batch, unit, limit, done).await?;
    let failed = done.ended.last().is_some_and(|ended| matches!(ended.end, End::Failed(_)));
    if failed {
        put_back(session, batch, &name, old, limit).await?;
    }
    Ok(exit)
}

/// Send one unit and wait until it is up.
async fn carry_out(
    session: &Session,
    batch: &Batch,
    unit: &ApplyUnit,
    limit: Limit,
    done: &mut Progress,
) -> Result<Exit, Error> {
    let units = vec![unit.clone()];
    let asked = send::names(&units);
    let applied = send::files(session, batch, units).await?;
    let goals = goals(&applied, &asked, |_| Some(Operation::Start));
    done.applied.revision = applied.revision;
    done.applied.units.extend(applied.units.iter().cloned());
    let ended = wait(session, &applied, goals, limit).await?;
    let exit = exit_of(&ended);
    done.ended.extend(ended);
    Ok(exit)
}

/// Give a unit that failed its old file again, and wait until it is up.
async fn put_back(session: &Session, batch: &Batch, name: &UnitName, old: String, limit: Limit) -> Result<(), Error> {
    session.out.message(&format!("{name} failed with its new file and gets its old one back"));
    let unit = ApplyUnit {
        name: name.to_string(),
        text: Some(old),
        desired: Some(Desired::Launched),
        replace: true,
        ..ApplyUnit::default()
    };
    let mut back = Progress { applied: Applied::default(), ended: Vec::new() };
    let exit = carry_out(session, batch, &unit, limit, &mut back).await?;
    let now = if exit == Exit::Ok { "has its old file again and runs" } else { "has its old file again, but isn't up" };
    session.out.message(&format!("{name} {now}"));
    Ok(())
}
