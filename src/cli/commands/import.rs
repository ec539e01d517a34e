//! import: takes over the units of another cluster, above all one of CoreOS fleet. Owns the order: read everything,
//! show the plan, and submit only if requested. It never writes to the cluster that it reads, and starts nothing unless
//! requested: units that still run there would run twice.

mod plan;
mod reading;
mod report;

use serde::Serialize;

use self::plan::{Action, Here, Plan};
use crate::api::client::Endpoint;
use crate::api::wire::{AppliedUnit, Outcome};
use crate::cli::args::Import;
use crate::cli::commands::{plan as planned, send};
use crate::cli::error::{Error, Exit};
use crate::cli::input::names;
use crate::cli::session::Session;
use crate::model::glob::Glob;
use crate::model::unit::Desired;

/// What was found and done, for `--output json`.
#[derive(Serialize)]
struct Report<'a> {
    from: &'a str,
    #[serde(flatten)]
    plan: &'a Plan,
    /// The outcome of each unit that was sent. Empty without `--apply`.
    applied: Vec<AppliedUnit>,
}

/// `import`.
pub(in crate::cli) async fn run(session: &Session, args: &Import) -> Result<Exit, Error> {
    let endpoints = Endpoint::list(&args.from).map_err(|error| {
        Error::usage(error.to_string(), "`--from unix:///run/fleet.sock`, `--from http://host:port`")
    })?;
    let other = session.client.elsewhere(endpoints).ok_or_else(|| {
        let hint = "`--from` is the cluster to read, `--endpoint` the one to write to";
        Error::usage(format!("{} is the cluster that would be written to", args.from), hint)
    })?;
    let globs = globs(&args.patterns)?;
    let fleet = other.fleet().await?;
    let units = session.client.units(&[]).await?.units;
    let machines = session.client.machines().await?.machines;
    let here = Here { units: &units, machines: &machines };
    let plan = Plan::new(&fleet, &here, &globs, args.replace);
    if args.plan.plan {
        return planned::instead(session, &plan.batch(args.start), plan.is_incomplete()).await;
    }
    if !session.is_json() {
        session.out.data(&report::lines(&plan));
        if plan.machines.iter().any(|host| !host.missing.is_empty()) {
            session.out.message(
                "metadata that was set through the other cluster's API can't be told from that of its fleet.conf: \
                 check which is which",
            );
        }
    }
    let applied = if args.apply { apply(session, &plan, args.start).await? } else { Vec::new() };
    if session.is_json() {
        session.out.json(&Report { from: &args.from, plan: &plan, applied });
    } else {
        say(session, args, &plan, &applied);
    }
    Ok(Exit::failed_if(plan.is_incomplete()))
}

fn globs(patterns: &[String]) -> Result<Vec<Glob>, Error> {
    let patterns = patterns.iter().flat_map(|arg| names::patterns(arg));
    patterns.map(|pattern| pattern.parse::<Glob>().map_err(|error| Error::failure(error.to_string()))).collect()
}

/// Send what the plan submits.
async fn apply(session: &Session, plan: &Plan, start: bool) -> Result<Vec<AppliedUnit>, Error> {
    let batch = plan.batch(start);
    let asked = send::names(&batch);
    let applied = session.apply(batch).await?.units;
    send::say_left(session, &applied, &asked);
    Ok(applied)
}

/// Print what was done, or what `--apply` would do.
fn say(session: &Session, args: &Import, plan: &Plan, applied: &[AppliedUnit]) {
    let count = |action| plan.units.iter().filter(|row| row.action == action).count();
    if args.apply {
        let changed = |unit: &&AppliedUnit| !matches!(unit.outcome, Outcome::Unchanged | Outcome::Differs);
        let changed = applied.iter().filter(changed).count();
        session.out.message(&format!("{changed} of {} units were taken over", plan.units.len()));
    } else {
        let new = count(Action::Submit);
        session
            .out
            .message(&format!("nothing was submitted; with --apply, {new} of {} units would be", plan.units.len()));
    }
    let (differs, refused) = (count(Action::Differs), count(Action::Refused));
    if differs > 0 {
        session.out.message(&format!(
            "{differs} are here with another file, which stays; --replace takes the other cluster's"
        ));
    }
    if refused > 0 {
        session.out.message(&format!(
            "{refused} can't be taken over as they are: mend their files (`fleetctl --endpoint {} cat NAME`) and \
             submit them",
            args.from
        ));
    }
    if args.start {
        for row in &plan.units {
            let verb = match row.wanted() {
                Desired::Launched => "start",
                Desired::Loaded => "load",
                Desired::Inactive => continue,
            };
            if applied.iter().any(|unit| unit.name.as_str() == row.unit && unit.outcome != Outcome::Unchanged) {
                let kind = if row.global { "global unit" } else { "unit" };
                session.line(&format!("Triggered {kind} {} {verb}", row.unit));
            }
        }
    } else {
        session.out.data(&report::handover(plan));
    }
}
