//! `wait`: waits until units are in a state, no matter who brings it about. Owns which units are meant and how the
//! result is printed; `follow` waits, and `wait` owns the states.

use serde::Serialize;

use crate::api::wire::UnitView;
use crate::cli::args::Wait;
use crate::cli::commands::units::{exit_with, how};
use crate::cli::error::{Error, Exit};
use crate::cli::follow::{self, Chosen, End, Ended};
use crate::cli::input::{names, select};
use crate::cli::limit::Limit;
use crate::cli::output::people::count;
use crate::cli::session::Session;
use crate::cli::wait::AwaitedState;
use crate::model::glob::Glob;
use crate::model::name::UnitName;

/// `wait`.
pub(in crate::cli) async fn run(session: &Session, args: &Wait) -> Result<Exit, Error> {
    let Wait { units, state, timeout, .. } = args;
    let limit = Limit::after(*timeout);
    if units.is_empty() && *state != AwaitedState::Settled {
        let word = state.as_str();
        let hint = format!("`fleetctl wait --for={word} 'web@*'`; only `settled` can be about all units");
        return Err(Error::usage(format!("which units are to be {word}?"), &hint));
    }
    let chosen = chosen(units)?;
    let patterns = chosen.patterns.clone();
    // What was committed before this command is waited for as well, whichever fleetd it was sent to.
    let revision = session.client.units(&patterns).await?.revision;
    let (ended, end) = follow::wait_for(session, chosen, *state, revision, limit).await?;
    // A wait that ended early may not have seen all units.
    let unmatched = if end == End::Done { unmatched(units, &ended)? } else { Vec::new() };
    // As with `destroy`, units that don't exist are what was wanted.
    let failed = *state != AwaitedState::Inactive && !unmatched.is_empty();
    if failed {
        session.out.messages(&unmatched);
        session.out.messages(&select::hints(session, units).await);
    }
    report(session, *state, &ended, &end);
    let exit = ended.iter().map(|one| &one.end).chain([&end]).fold(Exit::Ok, exit_with);
    Ok(if exit == Exit::Ok { Exit::failed_if(failed) } else { exit })
}

/// Names and patterns, in the form of the API.
fn chosen(units: &[String]) -> Result<Chosen, Error> {
    let mut chosen = Chosen::default();
    let mut problems = Vec::new();
    for arg in units {
        chosen.patterns.extend(names::patterns(arg));
        if names::is_pattern(arg) {
            problems.extend(select::globs(arg).err());
            continue;
        }
        match names::unit(arg) {
            Ok(name) if chosen.named.contains(&name) => {}
            Ok(name) => chosen.named.push(name),
            Err(error) => problems.push(format!("{arg}: {error}")),
        }
    }
    if problems.is_empty() { Ok(chosen) } else { Err(Error::failures(problems)) }
}

/// A message for each pattern that matches none of the units.
fn unmatched(units: &[String], ended: &[Ended]) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for arg in units.iter().filter(|arg| names::is_pattern(arg)) {
        let globs: Vec<Glob> = select::globs(arg).map_err(Error::failure)?;
        if !ended.iter().any(|one| globs.iter().any(|glob| glob.matches(one.name.as_str()))) {
            lines.push(select::unmatched(arg));
        }
    }
    Ok(lines)
}

/// What is printed with `--output json`.
#[derive(Serialize)]
struct Report<'a> {
    r#for: &'static str,
    units: Vec<ReportUnit<'a>>,
}

#[derive(Serialize)]
struct ReportUnit<'a> {
    name: &'a UnitName,
    end: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a UnitView>,
}

fn report(session: &Session, state: AwaitedState, ended: &[Ended], end: &End) {
    if session.is_json() {
        session.out.json(&Report { r#for: state.as_str(), units: ended.iter().map(report_unit).collect() });
    } else if state == AwaitedState::Settled && *end == End::Done {
        session.out.line(&summary(ended));
    }
}

fn report_unit(one: &Ended) -> ReportUnit<'_> {
    let (end, error) = how(&one.end);
    ReportUnit { name: &one.name, end, error, unit: one.view.as_ref() }
}

/// `settled: 12 units, 1 of them failed`.
fn summary(ended: &[Ended]) -> String {
    let failed = ended.iter().filter(|one| matches!(one.end, End::Failed(_))).count();
    let failed = if failed == 0 { String::new() } else { format!(", {failed} of them failed") };
    format!("settled: {}{failed}", count(ended.len(), "unit"))
}
