//! submit, load, start, stop, unload, destroy: what is asked of the cluster, in one batch each, and what is said about it.
//! Reads files through `files`, waits through `follow`; knows neither unit files nor time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::args::{Block, Change, Create, Submit};
use super::error::{Error, Exit, HINT};
use super::files::{self, Batch, Known, Policy};
use super::follow::{self, End, Ended};
use super::session::Session;
use super::wait::{Aim, Goal};
use super::{explain, names};
use crate::api::client::Client;
use crate::api::wire::{Applied, AppliedUnit, Apply, ApplyUnit, Outcome, UnitView};
use crate::model::glob::Glob;
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::unit::Desired;

/// One of fleet's attempts to see a state.
const ATTEMPT: Duration = Duration::from_secs(2);

/// `submit`.
pub(super) async fn submit(session: &Session, args: &Submit) -> Result<Exit, Error> {
    let (batch, applied) = send_files(session, args, Desired::Inactive).await?;
    for unit in applied.units.iter().filter(|unit| matches!(unit.outcome, Outcome::Created | Outcome::Replaced)) {
        session.line(&format!("Unit {} inactive", unit.name));
    }
    report(session, &applied, &[]);
    Ok(Exit::failed_if(!batch.untouchable.is_empty()))
}

/// `load` and `start`.
pub(super) async fn create(session: &Session, args: &Create, aim: Aim) -> Result<Exit, Error> {
    let desired = aim.desired().unwrap_or(Desired::Inactive);
    let (batch, applied) = send_files(session, &args.submit, desired).await?;
    let exit = finish(session, &applied, aim, &args.block).await?;
    Ok(if exit == Exit::Ok { Exit::failed_if(!batch.untouchable.is_empty()) } else { exit })
}

async fn send_files(session: &Session, args: &Submit, desired: Desired) -> Result<(Batch, Applied), Error> {
    some(&args.units)?;
    let nothing = |mut lines: Vec<String>| {
        lines.push("nothing was submitted".into());
        Error::failures(lines)
    };
    let wanted = files::wanted(&args.units).map_err(nothing)?;
    let known = session.client.units(&files::patterns(&wanted)).await?;
    let mut batch = files::batch(&wanted, &Known::new(&known.units), Policy { desired, replace: args.replace });
    session.out.talk_lines(&batch.warnings);
    if !batch.problems.is_empty() {
        return Err(nothing(std::mem::take(&mut batch.problems)));
    }
    for (name, state) in &batch.untouchable {
        session
            .out
            .talk(&format!("Warning: can not replace Unit({name}) in state '{state}', use the appropriate command"));
    }
    let apply = Apply { units: std::mem::take(&mut batch.units) };
    let applied = session.client.apply(&apply).await.map_err(|error| Error::of_apply(error, &batch.files))?;
    let sent: BTreeSet<&str> = apply.units.iter().filter(|u| u.replace).map(|u| u.name.as_str()).collect();
    for unit in &applied.units {
        // Files from here have been looked at already.
        if !batch.files.contains_key(unit.name.as_str()) {
            unit.warnings.iter().for_each(|warning| session.out.talk(&format!("{}: {warning}", unit.name)));
        }
        match unit.outcome {
            Outcome::Differs => session.out.talk(&differs(&batch, unit)),
            Outcome::Unchanged | Outcome::Changed if sent.contains(unit.name.as_str()) => {
                session.line(&format!("Found same Unit({}) in Registry, nothing to do", unit.name));
            }
            _ => {}
        }
    }
    Ok((batch, applied))
}

fn differs(batch: &Batch, unit: &AppliedUnit) -> String {
    let kind = if batch.from_template.contains(&unit.name) { "local template unit file" } else { "local unit file" };
    let file = batch.files.get(unit.name.as_str()).map_or("", String::as_str);
    let base = file.rsplit('/').next().unwrap_or(file);
    format!("WARNING: Unit {} in registry differs from {kind} {base}. Add --replace to override.", unit.name)
}

/// `stop`, `unload` and `destroy`.
pub(super) async fn change(session: &Session, args: &Change, aim: Aim) -> Result<Exit, Error> {
    some(&args.units)?;
    let selected = select(&session.client, &args.units).await?;
    let mut failed = false;
    let mut chosen = Vec::new();
    for (unit, typed) in &selected.units {
        let inactive = unit.desired == Desired::Inactive && unit.machine.is_none() && unit.states.is_empty();
        if aim == Aim::Stop && inactive {
            // A pattern means those of its units that can be stopped.
            if *typed {
                session.out.talk(&format!("Unable to stop unit {} in state inactive", unit.name));
                failed = true;
            }
            continue;
        }
        chosen.push(unit);
    }
    failed |= missing(session, &selected, aim);
    let ask = |unit: &&UnitView| ApplyUnit {
        name: unit.name.to_string(),
        // A host that is still at it keeps its order.
        desired: aim.desired(),
        destroy: aim == Aim::Destroy,
        ..ApplyUnit::default()
    };
    let apply = Apply { units: chosen.iter().map(ask).collect() };
    let applied = if apply.units.is_empty() {
        Applied::default()
    } else {
        session.client.apply(&apply).await.map_err(|error| Error::of_apply(error, &BTreeMap::new()))?
    };
    let exit = finish(session, &applied, aim, &args.block).await?;
    if exit == Exit::Ok && !args.block.no_block && matches!(aim, Aim::Stop | Aim::Unload) {
        let done: Vec<&str> =
            applied.units.iter().filter(|u| u.outcome != Outcome::Unchanged).map(|u| u.name.as_str()).collect();
        let participle = if aim == Aim::Stop { "stopped" } else { "unloaded" };
        if !(failed && done.is_empty()) {
            session.out.talk(&format!("Successfully {participle} units [{}].", done.join(" ")));
        }
    }
    Ok(if exit == Exit::Ok { Exit::failed_if(failed) } else { exit })
}

/// Say which units there are none of; whether that is a failure.
fn missing(session: &Session, selected: &Selected, aim: Aim) -> bool {
    if selected.missing.is_empty() {
        return false;
    }
    if aim == Aim::Destroy {
        // Gone is what they were to be.
        session.out.talk(&format!("Units not found in registry: {}", selected.missing.join(" ")));
        return false;
    }
    for name in &selected.missing {
        session.out.talk(&format!("Unit {name} not found"));
    }
    true
}

/// The units that arguments name.
struct Selected {
    /// Each, and whether it was named, not matched by a pattern.
    units: Vec<(UnitView, bool)>,
    missing: Vec<String>,
}

async fn select(client: &Client, args: &[String]) -> Result<Selected, Error> {
    let mut problems = Vec::new();
    let mut patterns: Vec<(bool, String, Vec<Glob>)> = Vec::new();
    for arg in args {
        let exact = !names::is_pattern(arg);
        let label = match names::unit(arg) {
            Ok(name) => name.to_string(),
            Err(_) if !exact => arg.clone(),
            Err(error) => {
                problems.push(format!("{arg}: {error}"));
                continue;
            }
        };
        match names::patterns(arg).iter().map(|pattern| pattern.parse()).collect::<Result<Vec<Glob>, _>>() {
            Ok(globs) => patterns.push((exact, label, globs)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if !problems.is_empty() {
        problems.push("nothing was changed".into());
        return Err(Error::failures(problems));
    }
    let ask: Vec<String> = patterns.iter().flat_map(|(_, _, globs)| globs.iter().map(ToString::to_string)).collect();
    let known = client.units(&ask).await?.units;
    let mut selected = Selected { units: Vec::new(), missing: Vec::new() };
    let mut seen: BTreeSet<&UnitName> = BTreeSet::new();
    for (exact, label, globs) in patterns {
        let mut found = false;
        for unit in known.iter().filter(|unit| globs.iter().any(|glob| glob.matches(unit.name.as_str()))) {
            found = true;
            if seen.insert(&unit.name) {
                selected.units.push((unit.clone(), exact));
            }
        }
        if !found && !selected.missing.contains(&label) {
            selected.missing.push(label);
        }
    }
    Ok(selected)
}

/// Wait as told, and report.
async fn finish(session: &Session, applied: &Applied, aim: Aim, block: &Block) -> Result<Exit, Error> {
    let goal = |unit: &AppliedUnit| Goal {
        name: unit.name.clone(),
        aim,
        generation: unit.generation,
        changed: !matches!(unit.outcome, Outcome::Unchanged | Outcome::Differs),
    };
    let goals: Vec<Goal> = applied.units.iter().filter(|unit| unit.outcome != Outcome::Absent).map(goal).collect();
    let ended = if block.no_block {
        trigger(session, &goals).await?;
        Vec::new()
    } else if goals.is_empty() {
        Vec::new()
    } else {
        let limit = (block.block_attempts > 0).then(|| ATTEMPT * block.block_attempts);
        follow::wait(session, goals, applied.revision, limit).await?
    };
    report(session, applied, &ended);
    Ok(ended.iter().map(|one| &one.end).fold(Exit::Ok, |exit, end| match (end, exit) {
        (End::Interrupted, _) | (_, Exit::Interrupted) => Exit::Interrupted,
        (End::Done, exit) => exit,
        (End::Failed(_) | End::TimedOut, _) => Exit::Failure,
    }))
}

async fn trigger(session: &Session, goals: &[Goal]) -> Result<(), Error> {
    let changed: Vec<&Goal> = goals.iter().filter(|goal| goal.changed).collect();
    if changed.is_empty() || session.is_json() {
        return Ok(());
    }
    let mut globals = BTreeSet::new();
    if changed.iter().any(|goal| goal.aim != Aim::Destroy) {
        let patterns: Vec<String> = changed.iter().map(|goal| names::exactly(&goal.name)).collect();
        let known = session.client.units(&patterns).await?.units;
        globals.extend(known.into_iter().filter(|unit| unit.global).map(|unit| unit.name));
    }
    for goal in changed {
        session.line(&explain::triggered(goal, globals.contains(&goal.name)));
    }
    Ok(())
}

/// What became of a batch, as `--output json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    revision: Revision,
    units: Vec<ReportUnit<'a>>,
}

#[derive(Serialize)]
struct ReportUnit<'a> {
    #[serde(flatten)]
    applied: &'a AppliedUnit,
    /// What came of waiting: `done`, `failed`, `timeout`, `interrupted`. Absent when it wasn't waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The unit as last seen. Absent when it wasn't waited for, or is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a UnitView>,
}

fn report<'a>(session: &Session, applied: &'a Applied, ended: &'a [Ended]) {
    if !session.is_json() {
        return;
    }
    let by_name: BTreeMap<&UnitName, &Ended> = ended.iter().map(|one| (&one.goal.name, one)).collect();
    let one = |applied: &'a AppliedUnit| report_unit(applied, by_name.get(&applied.name).copied());
    session.out.json(&Report { revision: applied.revision, units: applied.units.iter().map(one).collect() });
}

fn report_unit<'a>(applied: &'a AppliedUnit, ended: Option<&'a Ended>) -> ReportUnit<'a> {
    let (end, error) = match ended.map(|one| &one.end) {
        None => (None, None),
        Some(End::Done) => (Some("done"), None),
        Some(End::Failed(lines)) => {
            let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.starts_with(HINT)).collect();
            (Some("failed"), Some(lines.join("\n")))
        }
        Some(End::TimedOut) => (Some("timeout"), None),
        Some(End::Interrupted) => (Some("interrupted"), None),
    };
    ReportUnit { applied, end, error, unit: ended.and_then(|one| one.view.as_ref()) }
}

fn some(units: &[String]) -> Result<(), Error> {
    if units.is_empty() {
        Err(Error::usage("No units given", "name at least one unit, such as web.service"))
    } else {
        Ok(())
    }
}
