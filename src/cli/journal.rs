//! `journal`: what units say, wherever they are. Decides whether one host's journalctl answers alone, or many are
//! merged; knows neither connections nor times.
//!
//! ```text
//! choose ─▶ one unit on one host ─▶ journalctl's own output, passed on
//!    └────▶ many ─▶ reader (a host's journalctl, again and again) ─┐
//!                   reader ─┼─▶ merge (by time) ─▶ render ─▶ stdout
//! fleetd's watch ─▶ places (which unit is where) ─▶ readers come and go
//! ```

mod choose;
mod cluster;
mod entry;
mod handover;
mod hosts;
mod last;
mod merge;
mod places;
mod reader;
mod render;
mod request;
mod show;

use super::args::Journal;
use super::error::{Error, Exit, HINT};
use super::remote::Stdin;
use super::select;
use super::session::Session;
use crate::api::wire::{MachineRef, UnitView};
use choose::Chosen;
pub(super) use last::last_lines;

/// `journal`.
pub(super) async fn journal(session: &Session, args: &Journal) -> Result<Exit, Error> {
    if args.units.is_empty() {
        return Err(Error::usage("No units given", "name at least one unit, such as web.service or 'web@*'"));
    }
    let chosen = choose::choose(&session.client, &args.units).await?;
    if args.output.is_journalctls() && (args.follow || !chosen.one) {
        let what = if args.follow { "followed" } else { "merged" };
        let format = args.output.as_str();
        let line = format!("entries can't be {what} as `{format}`");
        return Err(Error::usage(line, "`--output` can be cat, json, or one of those that begin with short"));
    }
    for line in &chosen.missing {
        session.out.talk(line);
    }
    if !chosen.missing.is_empty() {
        session.out.talk_lines(&select::hints(session, &args.units).await);
    }
    // Of a span of time, journalctl before systemd 254 doesn't find the last lines: they are counted here, where their
    // form allows it.
    let timed = args.since.is_some() || args.until.is_some();
    let counted = timed && args.lines().is_some() && !args.output.is_journalctls();
    let placed = |unit: &&UnitView| !places::hosts(unit).is_empty();
    match chosen.units.iter().find(placed) {
        // A unit that isn't there may come; a name that nobody knows is more likely a mistake.
        None if !args.follow || (chosen.one && chosen.units.is_empty()) => Ok(Exit::Failure),
        Some(unit) if chosen.one && !args.follow && !counted => match &unit.machine {
            Some(machine) => pass_on(session, args, unit, machine).await,
            None => merged(session, args, &chosen).await,
        },
        _ => merged(session, args, &chosen).await,
    }
}

async fn merged(session: &Session, args: &Journal, chosen: &Chosen) -> Result<Exit, Error> {
    let exit = if args.follow {
        show::follow(session, args, chosen).await?
    } else {
        show::list(session, args, chosen).await?
    };
    Ok(if exit == Exit::Ok { Exit::failed_if(!chosen.missing.is_empty()) } else { exit })
}

/// journalctl's own output, byte by byte.
async fn pass_on(session: &Session, args: &Journal, unit: &UnitView, machine: &MachineRef) -> Result<Exit, Error> {
    let argv = request::alone(args, unit.name.as_str());
    let mut running = session.reach.run(machine, &argv, Stdin::Nothing).await?;
    if !running.pass_on(&session.out).await {
        return Ok(Exit::Ok);
    }
    match running.wait().await {
        Ok(ended) => Ok(Exit::of_status(ended.code())),
        Err(error) => Err(Error {
            exit: Exit::Unreached,
            lines: vec![
                format!("lost the connection to {} before the end: {error}", super::wait::host(machine)),
                format!("{HINT}ask again, perhaps for less: `--since`, `--lines`"),
            ],
        }),
    }
}
