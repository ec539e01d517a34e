//! submit, load, start: sends unit files to the cluster and waits until they are carried out, for `rollback` too. Reads
//! files through `files`; `replace` owns how several running units get a new file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api::wire::{AppliedUnit, ApplyUnit, Operation, Outcome};
use crate::cli::args::{Create, SIGNED, Submit};
use crate::cli::commands::units::{exit_of, goals, report, wait_or_trigger};
use crate::cli::commands::{counted, instances, plan, replace, send, watch};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::batch::Batch;
use crate::cli::input::files::{self, Known, Policy};
use crate::cli::input::select;
use crate::cli::limit::Limit;
use crate::cli::rolling;
use crate::cli::session::Session;
use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::rollout::policy::hooks_of;
use crate::model::unit::Desired;

/// `submit`.
pub(in crate::cli) async fn submit(session: &Session, args: &Submit) -> Result<Exit, Error> {
    let Submit { create, instances } = args;
    let limit = Limit::begin(&create.block);
    signed(session, create);
    let policy = Policy { desired: Desired::Inactive, replace: create.replace };
    let prepared = prepare(session, &create.units, policy, *instances).await?;
    let followers = prepared.instances.clone();
    let operation = |name: &UnitName| {
        let desired = followers.iter().find(|(instance, _)| instance == name);
        desired.and_then(|(_, desired)| instances::operation(*desired))
    };
    deliver(session, prepared.batch, &[], &How::of(create, limit, None), operation).await
}

/// `load` and `start`. Units that run are looked at for the time `watch`.
pub(in crate::cli) async fn create(
    session: &Session,
    args: &Create,
    operation: Operation,
    watch: Option<Duration>,
) -> Result<Exit, Error> {
    let limit = Limit::begin(&args.block);
    let desired = operation.desired().unwrap_or(Desired::Inactive);
    signed(session, args);
    let policy = Policy { desired, replace: args.replace };
    let prepared = prepare(session, &args.units, policy, desired != Desired::Inactive).await?;
    let operation = |name: &UnitName| Some(operation).filter(|_| !name.is_template());
    deliver(session, prepared.batch, &[], &How::of(args, limit, watch), operation).await
}

/// What `start` would send for these files and units, for a question: nothing is sent.
pub(in crate::cli) async fn supposed(session: &Session, units: &[String]) -> Result<Vec<ApplyUnit>, Error> {
    let policy = Policy { desired: Desired::Launched, replace: false };
    Ok(checked(session, units, policy, true).await?.map_err(Error::failures)?.batch.units)
}

fn signed(session: &Session, args: &Create) {
    if args.sign {
        session.out.message(SIGNED);
    }
}

/// A batch that was checked.
struct Prepared {
    batch: Batch,
    /// Instances that were added because of their template, with their desired states.
    instances: Vec<(UnitName, Desired)>,
}

/// What is to be sent for these files and units.
async fn prepare(session: &Session, units: &[String], policy: Policy, instances: bool) -> Result<Prepared, Error> {
    let nothing = |problems: Vec<Line>| Error::failures(problems).because("nothing was submitted");
    checked(session, units, policy, instances).await?.map_err(nothing)
}

/// The same for whatever purpose; or what is wrong with the files and units, a line each.
async fn checked(
    session: &Session,
    units: &[String],
    policy: Policy,
    instances: bool,
) -> Result<Result<Prepared, Vec<Line>>, Error> {
    let desired = policy.desired;
    let names = match select::expand(session, units, desired == Desired::Inactive).await? {
        Ok(names) => names,
        Err(problems) => return Ok(Err(problems)),
    };
    let wanted = match files::wanted(&names) {
        Ok(wanted) => wanted,
        Err(problems) => return Ok(Err(problems.into_iter().map(Line::Message).collect())),
    };
    let known = session.client.units(&files::patterns(&wanted)).await?;
    let mut batch = files::batch(&wanted, &Known::new(&known.units), policy);
    session.out.messages(&batch.warnings);
    if !batch.problems.is_empty() {
        let mut problems = std::mem::take(&mut batch.problems);
        if batch.has_unknown {
            problems.extend(select::hints(session, units).await);
        }
        return Ok(Err(problems));
    }
    for (name, state) in &batch.untouchable {
        session.out.message(&untouched(name, *state, desired));
    }
    let instances = instances::add(session, &mut batch, instances, desired).await?;
    Ok(Ok(Prepared { batch, instances }))
}

/// The message for a unit that keeps its file: it is in `state`, and the command goes as far as `desired`.
fn untouched(name: &UnitName, state: Desired, desired: Desired) -> String {
    let only =
        if desired == Desired::Inactive { "submit` replaces inactive" } else { "load` replaces inactive and loaded" };
    let command = if state == Desired::Launched { "start" } else { "load" };
    format!("{name} was not replaced: it is {state}, and `{only} units only; use `fleetctl {command} --replace {name}`")
}

/// How a batch is sent and followed.
pub(super) struct How {
    /// Nothing is sent but the question what would happen.
    pub(super) plan: bool,
    /// Several running units that get a new file get it together.
    pub(super) at_once: bool,
    /// Nothing is waited for.
    pub(super) no_block: bool,
    /// A file that differs from the cluster's and wasn't stored is a failure.
    pub(super) strict: bool,
    /// How long the command waits.
    pub(super) limit: Limit,
    /// How long what runs is looked at.
    pub(super) watch: Option<Duration>,
}

impl How {
    fn of(args: &Create, limit: Limit, watch: Option<Duration>) -> Self {
        let plan = args.plan.plan;
        Self { plan, at_once: args.at_once, no_block: args.block.no_block, strict: args.strict, limit, watch }
    }
}

/// Say what the batch would lead to.
async fn planned(session: &Session, batch: &Batch, said: &[String], how: &How) -> Result<Exit, Error> {
    said.iter().for_each(|line| session.line(line));
    let (exit, plan) = plan::show(session, &batch.units, &batch.files).await?;
    let failed = !batch.untouchable.is_empty() || (how.strict && plan::differs(&plan, &batch.units));
    Ok(Exit::failed_if(failed).and(exit))
}

/// Whether a unit that isn't a set got its file.
fn is_new(unit: &AppliedUnit) -> bool {
    matches!(unit.outcome, Outcome::Created | Outcome::Replaced) && unit.replicas.is_none()
}

/// The texts that replace others, and so can begin a rollout, by unit.
fn replacing(units: &[ApplyUnit]) -> BTreeMap<String, String> {
    let replacing = units.iter().filter(|unit| unit.replace);
    replacing.filter_map(|unit| Some((unit.name.clone(), unit.text.clone()?))).collect()
}

/// Units that the files of others name as hooks aren't started with these. Returns those that were to be, and what to
/// say of each.
fn hold_hooks(units: &mut [ApplyUnit]) -> BTreeMap<UnitName, String> {
    let files = units.iter().filter_map(|unit| UnitFile::parse(unit.text.as_ref()?.as_bytes()).ok());
    let files: Vec<UnitFile> = files.collect();
    let named: BTreeSet<UnitName> = files.iter().flat_map(hooks_of).map(|(_, hook)| hook).collect();
    let mut held = BTreeMap::new();
    for unit in units.iter_mut().filter(|unit| unit.desired == Some(Desired::Launched)) {
        if let Some(hook) = unit.name.parse().ok().filter(|name| named.contains(name)) {
            unit.desired = None;
            let said = format!("{hook}: isn't started, because rollouts run it (Before=, After=)");
            held.insert(hook, said);
        }
    }
    held
}

/// Send the batch, wait, and look at what runs. Running units that get a new file follow one after another, if there
/// are several. Once the batch is stored, `said` is printed instead of a line for each unit that runs nowhere.
pub(super) async fn deliver(
    session: &Session,
    mut batch: Batch,
    said: &[String],
    how: &How,
    operation: impl Fn(&UnitName) -> Option<Operation>,
) -> Result<Exit, Error> {
    if how.plan {
        return planned(session, &batch, said, how).await;
    }
    let hooks = hold_hooks(&mut batch.units);
    let operation = |name: &UnitName| operation(name).filter(|_| !hooks.contains_key(name));
    let one_by_one = batch.restarted.len() > 1 && !how.at_once && !how.no_block;
    let units = std::mem::take(&mut batch.units);
    let (mut later, now): (Vec<ApplyUnit>, Vec<ApplyUnit>) =
        units.into_iter().partition(|unit| one_by_one && batch.restarted.contains(unit.name.as_str()));
    let (asked, texts) = (send::names(&now), replacing(&now));
    let applied = send::files(session, &batch, now).await?;
    // A smaller set has lost them with its new file.
    let lost = |unit: &ApplyUnit| {
        applied.units.iter().any(|one| one.name.as_str() == unit.name && one.outcome == Outcome::Destroyed)
    };
    later.retain(|unit| !lost(unit));
    let replaced = applied.units.iter().find(|unit| unit.outcome == Outcome::Replaced).map(|unit| unit.name.clone());
    said.iter().chain(hooks.values()).for_each(|line| session.line(line));
    for (unit, replicas) in applied.units.iter().filter_map(|unit| Some((unit, unit.replicas?))) {
        session.line(&format!("{}: {}", unit.name, counted::instances(replicas)));
    }
    let idle = applied.units.iter().filter(|unit| said.is_empty() && is_new(unit) && operation(&unit.name).is_none());
    for unit in idle {
        session.line(&format!("Unit {} inactive", unit.name));
    }
    let (mut goals, mut exit) = (goals(&applied, &asked, operation), Exit::Ok);
    if !how.no_block {
        exit = rolling::follow_begun(session, (&applied, &texts), &mut goals, how.limit).await?;
    }
    let ended = wait_or_trigger(session, &applied, goals, how.no_block, how.limit).await?;
    let mut done = replace::Progress { ended, applied };
    exit = exit.and(exit_of(&done.ended));
    if !later.is_empty() {
        if exit == Exit::Ok {
            exit = replace::one_after_another(session, &batch, later, how.limit, &mut done).await?;
        } else {
            replace::untouched(session, &later);
        }
    }
    if let Some(time) = how.watch.filter(|_| exit == Exit::Ok) {
        watch::watch(session, &mut done.ended, time).await?;
        exit = exit_of(&done.ended);
    }
    report(session, &done.applied, &done.ended);
    if let Some(name) = replaced.filter(|_| exit == Exit::Failure && said.is_empty()) {
        let undo = format!("`fleetctl rollback {name}` gives it back the file that it had before");
        session.out.messages([Line::hint(undo)]);
    }
    let differs = |unit: &AppliedUnit| unit.outcome == Outcome::Differs && !send::is_left(unit, &asked);
    let differs = done.applied.units.iter().any(differs);
    let failed = !batch.untouchable.is_empty() || (how.strict && differs);
    Ok(if exit == Exit::Ok { Exit::failed_if(failed) } else { exit })
}
