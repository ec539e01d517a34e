//! stop, unload, destroy: sends one batch each to the cluster and prints the result; and what all commands that change
//! units share: goals, waiting, exit codes, the report. Waits through `follow`; knows neither unit files nor time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::api::wire::{Applied, AppliedUnit, ApplyUnit, DamagedUnit, Operation, Outcome, UnitView};
use crate::cli::args::{Change, Destroy};
use crate::cli::commands::{instances, members, plan, send};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::explain;
use crate::cli::follow::{self, End, Ended};
use crate::cli::input::names;
use crate::cli::input::select::{self, Selected};
use crate::cli::limit::Limit;
use crate::cli::output::people::count;
use crate::cli::session::Session;
use crate::cli::wait::{Goal, Until};
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::systemd::ActiveState;
use crate::model::unit::Desired;

/// `destroy`.
pub(in crate::cli) async fn destroy(session: &Session, args: &Destroy) -> Result<Exit, Error> {
    let mut selected = select::select(&session.client, &args.change.units).await?;
    let is_planned = args.change.plan.plan;
    if let Some(question) = question(&selected).filter(|_| !args.yes && !is_planned)
        && session.out.confirm(&question) == Some(false)
    {
        return Err(Error::failure("nothing was destroyed"));
    }
    let leaving = if is_planned { Vec::new() } else { still_leaving(session, &mut selected).await? };
    // Their desired states are unknown, but a destroy needs only their names.
    let damaged = std::mem::take(&mut selected.damaged);
    carry_out(session, &args.change, selected, Operation::Destroy, leaving, damaged).await
}

/// What to ask at a terminal before a pattern destroys several units: `destroy 11 units, 8 of them running?`.
fn question(selected: &Selected) -> Option<String> {
    let matched = selected.units.iter().filter(|(_, named)| !named).count();
    if matched < 2 {
        return None;
    }
    let active = |unit: &UnitView| unit.states.iter().any(|state| state.report.active == ActiveState::Active);
    let running = selected.units.iter().filter(|(unit, _)| active(unit)).count();
    Some(format!("destroy {}, {running} of them running?", count(selected.units.len(), "unit")))
}

/// `stop` and `unload`.
pub(in crate::cli) async fn change(session: &Session, args: &Change, operation: Operation) -> Result<Exit, Error> {
    let named = members::with_riders(session, &args.units).await?;
    let selected = select::select(&session.client, &members::of_sets(session, &named).await?).await?;
    carry_out(session, args, selected, operation, Vec::new(), Vec::new()).await
}

/// Send one batch, wait, and report. `leaving` are units that were destroyed before; `damaged` can only be destroyed.
async fn carry_out(
    session: &Session,
    args: &Change,
    selected: Selected,
    operation: Operation,
    leaving: Vec<AppliedUnit>,
    damaged: Vec<DamagedUnit>,
) -> Result<Exit, Error> {
    let limit = Limit::begin(&args.block);
    let mut failed = false;
    let mut chosen = Vec::new();
    for (unit, typed) in &selected.units {
        let inactive = unit.desired == Desired::Inactive && unit.machine.is_none() && unit.states.is_empty();
        if operation == Operation::Stop && inactive {
            // With a pattern, units that can't be stopped are skipped.
            if *typed {
                session.out.message(&format!("Unable to stop unit {} in state inactive", unit.name));
                failed = true;
            }
            continue;
        }
        chosen.push(&unit.name);
    }
    chosen.extend(damaged.iter().map(|unit| &unit.name));
    failed |= missing(session, &selected, operation);
    if !selected.missing.is_empty() {
        session.out.messages(&select::hints(session, &args.units).await);
    }
    let (desired, destroy) = (operation.desired(), operation == Operation::Destroy);
    let ask = |name: &&UnitName| ApplyUnit { name: name.to_string(), desired, destroy, ..ApplyUnit::default() };
    let batch: Vec<ApplyUnit> = chosen.iter().map(ask).collect();
    if args.plan.plan {
        return plan::instead(session, &batch, failed).await;
    }
    let asked = send::names(&batch);
    let mut applied = session.apply(batch).await?;
    send::say_left(session, &applied.units, &asked);
    applied.units.extend(leaving);
    let goals = goals(&applied, &asked, |_| Some(operation));
    let ended = wait_or_trigger(session, &applied, goals, args.block.no_block, limit).await?;
    report(session, &applied, &ended);
    let exit = exit_of(&ended);
    if exit == Exit::Ok && !args.block.no_block && matches!(operation, Operation::Stop | Operation::Unload) {
        let done: Vec<&str> =
            applied.units.iter().filter(|u| u.outcome != Outcome::Unchanged).map(|u| u.name.as_str()).collect();
        let participle = if operation == Operation::Stop { "stopped" } else { "unloaded" };
        if session.out.is_watched() {
            // A line for each unit is above.
            if done.len() > 1 {
                session.out.message(&format!("{} {participle}", count(done.len(), "unit")));
            }
        } else if !(failed && done.is_empty()) {
            session.out.message(&format!("Successfully {participle} units [{}].", done.join(" ")));
        }
    }
    Ok(if exit == Exit::Ok { Exit::failed_if(failed) } else { exit })
}

/// Among the names that weren't found, the units that were destroyed before and still have to be stopped on their
/// hosts: they are waited for like any other.
async fn still_leaving(session: &Session, selected: &mut Selected) -> Result<Vec<AppliedUnit>, Error> {
    let ask = |name: &String| ApplyUnit { name: name.clone(), destroy: true, ..ApplyUnit::default() };
    let applied = session.apply(selected.missing.iter().map(ask).collect()).await?;
    let leaving: Vec<_> = applied.units.into_iter().filter(|unit| unit.outcome == Outcome::Leaving).collect();
    selected.missing.retain(|name| !leaving.iter().any(|unit| unit.name.as_str() == name));
    Ok(leaving)
}

/// Print which units don't exist; returns whether this is a failure.
fn missing(session: &Session, selected: &Selected, operation: Operation) -> bool {
    let mut lines = selected.nothing();
    // With `destroy`, a unit that doesn't exist is a success.
    if operation == Operation::Destroy && !selected.missing.is_empty() {
        lines.drain(..selected.missing.len());
        session.out.message(&format!("Units not found in registry: {}", selected.missing.join(" ")));
    }
    session.out.messages(&lines);
    !lines.is_empty()
}

/// What was requested for each unit of `applied`: `operation`, if there is something to wait for. Nothing comes of the
/// members that are left as they are because nobody `asked` for them.
pub(in crate::cli) fn goals(
    applied: &Applied,
    asked: &BTreeSet<String>,
    operation: impl Fn(&UnitName) -> Option<Operation>,
) -> Vec<Goal> {
    // The members that a smaller set loses are destroyed, whatever was requested for the others. What is created
    // because of a set may have another state than what was named.
    let of = |unit: &AppliedUnit| match unit.outcome {
        Outcome::Destroyed => Some(Operation::Destroy),
        _ => unit.desired.map_or_else(|| operation(&unit.name), instances::operation),
    };
    let goal = |unit: &AppliedUnit| {
        of(unit).map(|operation| Goal {
            name: unit.name.clone(),
            operation,
            generation: unit.generation,
            changed: !matches!(unit.outcome, Outcome::Unchanged | Outcome::Differs),
            until: Until::default(),
        })
    };
    let has_goal = |unit: &&AppliedUnit| unit.outcome != Outcome::Absent && !send::is_left(unit, asked);
    applied.units.iter().filter(has_goal).filter_map(goal).collect()
}

/// Wait until all goals have ended, at most `limit`.
pub(in crate::cli) async fn wait(
    session: &Session,
    applied: &Applied,
    goals: Vec<Goal>,
    limit: Limit,
) -> Result<Vec<Ended>, Error> {
    if goals.is_empty() {
        return Ok(Vec::new());
    }
    let goals = goals.into_iter().map(|goal| Goal { until: limit.until, ..goal }).collect();
    Ok(follow::wait(session, goals, applied.revision, limit).await?)
}

/// The combined exit code.
pub(in crate::cli) fn exit_of(ended: &[Ended]) -> Exit {
    ended.iter().map(|one| &one.end).fold(Exit::Ok, exit_with)
}

/// The exit code after one more end.
pub(in crate::cli) fn exit_with(exit: Exit, end: &End) -> Exit {
    match (end, exit) {
        (End::Interrupted, _) | (_, Exit::Interrupted) => Exit::Interrupted,
        (End::Done, exit) => exit,
        (End::Failed(_) | End::TimedOut(_), _) => Exit::Failure,
    }
}

/// Wait, or with `--no-block` print what was requested.
pub(in crate::cli) async fn wait_or_trigger(
    session: &Session,
    applied: &Applied,
    goals: Vec<Goal>,
    no_block: bool,
    limit: Limit,
) -> Result<Vec<Ended>, Error> {
    if no_block {
        trigger(session, &goals).await?;
        return Ok(Vec::new());
    }
    wait(session, applied, goals, limit).await
}

/// Print what was requested without waiting for it.
pub(in crate::cli) async fn trigger(session: &Session, goals: &[Goal]) -> Result<(), Error> {
    let changed: Vec<&Goal> = goals.iter().filter(|goal| goal.changed).collect();
    if changed.is_empty() || session.is_json() {
        return Ok(());
    }
    let mut globals = BTreeSet::new();
    if changed.iter().any(|goal| goal.operation != Operation::Destroy) {
        let patterns: Vec<String> = changed.iter().map(|goal| names::exactly(&goal.name)).collect();
        let known = session.client.units(&patterns).await?.units;
        globals.extend(known.into_iter().filter(|unit| unit.global).map(|unit| unit.name));
    }
    for goal in changed {
        session.line(&explain::triggered(goal, globals.contains(&goal.name)));
    }
    Ok(())
}

/// The result of a batch, for `--output json`.
#[derive(Serialize)]
struct Report<'a> {
    revision: Revision,
    units: Vec<ReportUnit<'a>>,
}

#[derive(Serialize)]
struct ReportUnit<'a> {
    #[serde(flatten)]
    applied: &'a AppliedUnit,
    /// The result of waiting: `done`, `failed`, `timeout`, `interrupted`. Missing if it wasn't waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The unit as last observed. Missing if it wasn't waited for, or was destroyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a UnitView>,
}

/// Print the result as JSON, if requested.
pub(in crate::cli) fn report<'a>(session: &Session, applied: &'a Applied, ended: &'a [Ended]) {
    if !session.is_json() {
        return;
    }
    let by_name: BTreeMap<&UnitName, &Ended> = ended.iter().map(|one| (&one.name, one)).collect();
    let one = |applied: &'a AppliedUnit| report_unit(applied, by_name.get(&applied.name).copied());
    session.out.json(&Report { revision: applied.revision, units: applied.units.iter().map(one).collect() });
}

fn report_unit<'a>(applied: &'a AppliedUnit, ended: Option<&'a Ended>) -> ReportUnit<'a> {
    let (end, error) = ended.map(|one| how(&one.end)).unzip();
    ReportUnit { applied, end, error: error.flatten(), unit: ended.and_then(|one| one.view.as_ref()) }
}

/// The end of a wait in one word, and why it isn't `done`.
pub(in crate::cli) fn how(end: &End) -> (&'static str, Option<String>) {
    match end {
        End::Done => ("done", None),
        End::Failed(lines) => {
            let lines: Vec<&str> = lines.iter().filter_map(Line::message).collect();
            ("failed", Some(lines.join("\n")))
        }
        End::TimedOut(what) => ("timeout", Some(what.clone())),
        End::Interrupted => ("interrupted", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::condition::tests::unit;
    use crate::model::unit::Desired;

    #[test]
    fn only_a_pattern_of_several_units_is_asked_about() {
        let units = |names: &[(&str, bool)]| {
            let one = |(name, named): &(&str, bool)| (unit(name, Desired::Launched, &["n1 active running"]), *named);
            Selected { units: names.iter().map(one).collect(), ..Selected::default() }
        };
        let mut several = units(&[("a.service", false), ("b.service", false), ("c.service", true)]);
        several.units[1].0.states.clear();
        assert_eq!(question(&several).as_deref(), Some("destroy 3 units, 2 of them running?"));
        assert_eq!(question(&units(&[("a.service", true), ("b.service", true), ("c.service", false)])), None);
    }
}
