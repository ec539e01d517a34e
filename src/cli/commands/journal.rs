//! `fleetctl journal`: selects the units and reports those that don't exist or don't run. `journal` shows the entries.

use super::{choose, members};
use crate::cli::args::Journal;
use crate::cli::error::{Error, Exit};
use crate::cli::input::select;
use crate::cli::session::Session;
use crate::journal::Source;

/// Run the command.
pub(in crate::cli) async fn run(session: &Session, args: &Journal) -> Result<Exit, Error> {
    let units = members::of_sets(session, &args.units()).await?;
    let chosen = choose::choose(session, &units).await?;
    let query = args.query();
    if query.format.is_journalctls() && (query.follow || !chosen.units.one) {
        let what = if query.follow { "followed" } else { "merged" };
        let line = format!("entries can't be {what} as `{}`", query.format.as_str());
        return Err(Error::usage(line, "`--output` can be cat, json, or one of those that begin with short"));
    }
    for line in &chosen.missing {
        session.out.message(line);
    }
    if !chosen.missing.is_empty() {
        session.out.messages(&select::hints(session, &units).await);
    }
    let source = Source { client: &session.client, hosts: &session.hosts };
    let exit = Exit::of_status(source.show(&query, &chosen.units, &session.out).await?);
    // One host has the whole journal of a unit that is named, and no more than its own part of others.
    let partly = session.offline.get().is_some() && !chosen.units.one;
    Ok(if exit == Exit::Ok { Exit::failed_if(partly || !chosen.missing.is_empty()) } else { exit })
}
