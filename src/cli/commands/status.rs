//! `fleetctl status`: the state of the cluster, or systemd's status of units, requested on their hosts. Owns how
//! several units on several hosts are shown, and the combined exit code.

mod cluster;

use std::io;

use serde_json::{Map, Value, json};

use crate::api::wire::{DamagedUnit, MachineRef, Offline, StateView, UnitDetail, UnitList, UnitView};
use crate::cli::args::Status;
use crate::cli::commands::members;
use crate::cli::error::{Error, Exit};
use crate::cli::explain;
use crate::cli::input::names;
use crate::cli::input::select;
use crate::cli::session::Session;
use crate::journal::Output as _;
use crate::model::glob::Glob;
use crate::model::name::UnitName;
use crate::model::unit::Desired;
use crate::remote::{Ended, Stdin};

/// A unit to show.
#[derive(Clone)]
struct Shown {
    name: UnitName,
    global: bool,
    /// `None` if its record is damaged.
    desired: Option<Desired>,
    machine: Option<MachineRef>,
    /// Whether it runs once, and has.
    done: bool,
    waiting: Option<String>,
    states: Vec<StateView>,
    /// The message about its damaged record.
    damaged: Option<String>,
}

impl From<UnitView> for Shown {
    fn from(unit: UnitView) -> Self {
        let UnitView { name, global, desired, machine, done, waiting, states, .. } = unit;
        let (desired, done) = (Some(desired), done.is_some());
        Self { name, global, desired, machine, done, waiting, states, damaged: None }
    }
}

impl From<DamagedUnit> for Shown {
    fn from(unit: DamagedUnit) -> Self {
        let damaged = Some(explain::damaged(&unit));
        let DamagedUnit { name, machine, states, .. } = unit;
        Self { name, global: false, desired: None, machine, done: false, waiting: None, states, damaged }
    }
}

/// Run the command. A unit that can't be shown doesn't prevent the others; the exit code is the first that isn't 0.
pub(in crate::cli) async fn run(session: &Session, args: &Status) -> Result<Exit, Error> {
    if args.units.is_empty() { cluster::run(session).await } else { units(session, args).await }
}

async fn units(session: &Session, args: &Status) -> Result<Exit, Error> {
    let mut worst = Exit::Ok;
    let mut first = true;
    let mut documents = Vec::new();
    let args = &Status { units: members::of_sets(session, &args.units).await?, ..args.clone() };
    let found = find(session, args).await?;
    // One host answers completely for a unit that is named and on that host, and for nothing else.
    let partly = found.iter().flatten().any(|unit| unit.global) || args.units.iter().any(|arg| names::is_pattern(arg));
    if session.offline.get().is_some() && partly {
        keep(&mut worst, Exit::Failure);
    }
    for unit in &found {
        if let Ok(Shown { damaged: Some(line), .. }) = unit {
            session.out.message(line);
            keep(&mut worst, Exit::Failure);
        }
        let unit = match unit {
            Ok(unit) => unit,
            Err(missing) => {
                session.out.message(missing);
                keep(&mut worst, Exit::Failure);
                continue;
            }
        };
        let hosts = hosts(unit);
        if let Some(line) = done(unit) {
            session.out.message(&line);
            continue;
        }
        if hosts.is_empty() && unit.damaged.is_none() {
            session.out.messages(not_loaded(unit));
            keep(&mut worst, Exit::Failure);
        }
        if session.is_json() {
            documents.extend(unit.states.iter().map(|state| document(unit, state, session.offline.get())));
            continue;
        }
        for host in &hosts {
            if session.out.is_closed() {
                return Ok(worst);
            }
            if !std::mem::take(&mut first) {
                session.out.line("");
            }
            if hosts.len() > 1 {
                session.out.line(&format!("-- {} on {} {}", unit.name, host.hostname, host.legend(false)));
            }
            keep(&mut worst, show(session, unit, host).await);
        }
    }
    if found.iter().any(Result::is_err) {
        session.out.messages(&select::hints(session, &args.units).await);
    }
    if session.is_json() {
        session.out.json(&documents);
    }
    Ok(worst)
}

fn keep(worst: &mut Exit, exit: Exit) {
    if *worst == Exit::Ok {
        *worst = exit;
    }
}

/// The units that are named, each once and in order; or a message for a name without a unit.
async fn find(session: &Session, args: &Status) -> Result<Vec<Result<Shown, String>>, Error> {
    let patterns: Vec<String> = args.units.iter().flat_map(|arg| names::patterns(arg)).collect();
    let UnitList { units, damaged, .. } = session.units_to_ask(&patterns, &args.units).await?;
    let mut known: Vec<Shown> =
        units.into_iter().map(Shown::from).chain(damaged.into_iter().map(Shown::from)).collect();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    let mut found: Vec<Result<Shown, String>> = Vec::new();
    for arg in &args.units {
        let globs: Result<Vec<Glob>, _> = names::patterns(arg).iter().map(|pattern| pattern.parse()).collect();
        let globs = globs.map_err(|error| Error::failure(error.to_string()))?;
        let matching = |unit: &&Shown| globs.iter().any(|glob| glob.matches(unit.name.as_str()));
        let mut any = false;
        for unit in known.iter().filter(matching) {
            any = true;
            if !found.iter().flatten().any(|other| other.name == unit.name) {
                found.push(Ok(unit.clone()));
            }
        }
        if !any {
            found.push(Err(match (names::unit(arg), session.only_host()) {
                (_, None) if names::is_pattern(arg) => format!("no unit matches {arg}"),
                (_, Some(host)) if names::is_pattern(arg) => format!("no unit on {host} matches {arg}"),
                (Ok(name), None) => format!("Unit {name} does not exist."),
                (Ok(name), Some(host)) => format!("Unit {name} is not on {host}."),
                (Err(error), _) => format!("{arg}: {error}"),
            }));
        }
    }
    Ok(found)
}

/// That a unit is on no host.
fn not_loaded(unit: &Shown) -> Vec<String> {
    let waits = unit.waiting.as_ref().map(|why| format!("it waits for a host that fits: {why}"));
    std::iter::once(format!("Unit {} does not appear to be loaded.", unit.name)).chain(waits).collect()
}

/// That a unit runs once, and has: systemd on its host knows nothing of it any more.
fn done(unit: &Shown) -> Option<String> {
    let host = unit.machine.as_ref().filter(|_| unit.done && unit.states.is_empty())?.name();
    let name = &unit.name;
    Some(format!("{name} is done: it ran on {host}; `fleetctl journal {name}` shows its lines"))
}

/// The hosts of a unit: those that report it, or the one on which it is placed if there is no report yet.
fn hosts(unit: &Shown) -> Vec<MachineRef> {
    let mut hosts: Vec<MachineRef> = unit.states.iter().map(|state| state.machine.clone()).collect();
    if hosts.is_empty() {
        hosts.extend(unit.machine.clone());
    }
    hosts.sort_by(|a, b| (&a.hostname, &a.id).cmp(&(&b.hostname, &b.id)));
    hosts
}

/// Show systemd's status of a unit on one of its hosts, or what the cluster knows of it if the host can't be asked. On
/// a terminal, also why a unit with preferences is on its host.
async fn show(session: &Session, unit: &Shown, host: &MachineRef) -> Exit {
    let exit = match ask(session, unit, host).await {
        Ok(exit) => exit,
        Err(error) => {
            session.out.messages(&error.lines);
            session.out.messages(reported(unit, host));
            // Its host may be gone, and the unit waits for it.
            if unit.states.is_empty()
                && let Ok(UnitDetail { why: Some(why), .. }) = session.known_unit(&unit.name).await
            {
                session.out.message(&format!("{}: {why}", unit.name));
            }
            error.exit
        }
    };
    if session.out.is_seen() && unit.machine.is_some() && session.offline.get().is_none() {
        let choice = session.client.unit(&unit.name).await.ok().and_then(|detail| detail.choice);
        session.out.messages(choice.map(|choice| format!("{} is {choice}", unit.name)));
    }
    exit
}

/// What the cluster knows of a unit on a host that can't be asked.
fn reported(unit: &Shown, host: &MachineRef) -> Vec<String> {
    let Some(state) = unit.states.iter().find(|state| state.machine.id == host.id) else { return Vec::new() };
    let (active, sub) = (&state.report.active, &state.report.sub);
    let mut lines = vec![format!("{} on {}, as its fleetd reports: {active} ({sub})", unit.name, host.name())];
    lines.extend(explain::trouble(&unit.name, state));
    let journal = state.report.failure.iter().flat_map(|failure| &failure.lines);
    lines.extend(journal.map(|line| format!("  {line}")));
    lines
}

async fn ask(session: &Session, unit: &Shown, host: &MachineRef) -> Result<Exit, Error> {
    // systemctl has no terminal there, so it must be told.
    let colours = if session.out.has_colours() { &["env", "SYSTEMD_COLORS=1"][..] } else { &[] };
    let status = ["systemctl", "status", "-l", "--no-pager", "--", unit.name.as_str()];
    let argv: Vec<String> = colours.iter().chain(&status).map(|word| (*word).to_owned()).collect();
    let mut running = session.hosts.run(host, &argv, Stdin::Nothing).await?;
    let lost = |error: io::Error| Error::unreached(format!("the connection to {} broke: {error}", host.hostname));
    if !running.pass_on(&session.out).await {
        return Ok(Exit::Ok);
    }
    Ok(match running.wait().await.map_err(lost)? {
        Ended::Status(0) => Exit::Ok,
        ended => Exit::Status(ended.code()),
    })
}

/// A unit on a host as JSON: what the cluster knows, without connecting to the host.
fn document(unit: &Shown, state: &StateView, offline: Option<&Offline>) -> Value {
    let mut fields =
        Map::from_iter([("unit".to_owned(), json!(unit.name)), ("desired".to_owned(), json!(unit.desired))]);
    if let Ok(Value::Object(state)) = serde_json::to_value(state) {
        fields.extend(state);
    }
    fields.extend(offline.map(|offline| ("offline".to_owned(), json!(offline))));
    Value::Object(fields)
}
