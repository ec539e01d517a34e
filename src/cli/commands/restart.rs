//! `restart`: restarts units one after the other, each on the host where it runs, and continues only when the last one
//! is up again. Owns the order, and stops when a unit doesn't come back, so that the others keep running.

use tokio::signal::unix::{SignalKind, signal};

use crate::api::wire::{Applied, ApplyUnit, Operation, UnitView};
use crate::cli::args::Change;
use crate::cli::commands::units::{self, goals};
use crate::cli::commands::{members, plan};
use crate::cli::error::{Error, Exit};
use crate::cli::follow::Ended;
use crate::cli::input::select::{self, Selected};
use crate::cli::limit::Limit;
use crate::cli::session::Session;
use crate::model::unit::Desired;

/// `restart`.
pub(in crate::cli) async fn run(session: &Session, args: &Change) -> Result<Exit, Error> {
    let limit = Limit::begin(&args.block);
    let selected = select::select(&session.client, &members::of_sets(session, &args.units).await?).await?;
    let (chosen, refused) = choose(session, &selected);
    if !selected.missing.is_empty() {
        session.out.messages(&select::hints(session, &args.units).await);
    }
    if args.plan.plan {
        return plan::instead(session, &requests(&chosen), refused).await;
    }
    let (mut applied, mut ended): (Applied, Vec<Ended>) = (Applied::default(), Vec::new());
    let (mut exit, mut failed) = (Exit::Ok, None);
    let asked = chosen.iter().map(|unit| unit.name.to_string()).collect();
    if args.block.no_block {
        if !chosen.is_empty() {
            applied = ask(session, &chosen).await?;
            units::trigger(session, &goals(&applied, &asked, |_| Some(Operation::Restart))).await?;
        }
    } else {
        // The handler stays installed for the rest of the process, so a Ctrl-C between two waits must be handled too.
        let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| Error::failure(error.to_string()))?;
        for (index, unit) in chosen.iter().enumerate() {
            let one = tokio::select! {
                one = ask(session, std::slice::from_ref(unit)) => one,
                _ = interrupts.recv() => {
                    exit = Exit::Interrupted;
                    leave(session, &chosen[index..]);
                    break;
                }
            };
            let waited = match one {
                Ok(one) => {
                    let goals = goals(&one, &asked, |_| Some(Operation::Restart));
                    applied.revision = one.revision;
                    applied.units.extend(one.units.iter().cloned());
                    units::wait(session, &one, goals, limit).await
                }
                Err(error) => Err(error),
            };
            match waited {
                Ok(end) => {
                    exit = units::exit_of(&end);
                    ended.extend(end);
                }
                // What was done before is reported nevertheless.
                Err(error) => failed = Some(error),
            }
            if exit != Exit::Ok || failed.is_some() {
                leave(session, &chosen[index + 1..]);
                break;
            }
        }
    }
    units::report(session, &applied, &ended);
    match failed {
        Some(error) => Err(error),
        None if exit == Exit::Ok => Ok(Exit::failed_if(refused)),
        None => Ok(exit),
    }
}

/// Report the units that were not restarted.
fn leave(session: &Session, left: &[&UnitView]) {
    let names: Vec<&str> = left.iter().map(|unit| unit.name.as_str()).collect();
    if !names.is_empty() {
        session.out.message(&format!("not restarted, as they were to come after it: {}", names.join(" ")));
    }
}

/// The units that can be restarted, and whether a named unit can't.
fn choose<'a>(session: &Session, selected: &'a Selected) -> (Vec<&'a UnitView>, bool) {
    let mut refused = false;
    let mut chosen = Vec::new();
    for (unit, named) in &selected.units {
        if unit.desired != Desired::Inactive {
            chosen.push(unit);
        } else if *named {
            // With a pattern, units that can't be restarted are skipped.
            session.out.message(&format!("Unable to restart unit {} in state inactive", unit.name));
            refused = true;
        }
    }
    for line in selected.nothing() {
        session.out.message(&line);
        refused = true;
    }
    (chosen, refused)
}

async fn ask(session: &Session, units: &[&UnitView]) -> Result<Applied, Error> {
    session.apply(requests(units)).await
}

fn requests(units: &[&UnitView]) -> Vec<ApplyUnit> {
    let one = |unit: &&UnitView| ApplyUnit { name: unit.name.to_string(), restart: true, ..ApplyUnit::default() };
    units.iter().map(one).collect()
}
