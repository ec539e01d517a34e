//! `fleetctl move`: units go to other hosts. Owns which words are units, and what is shown of units that move; the
//! leader decides who leaves when.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::api::client::ClientError;
use crate::api::wire::{MachineRef, MachineView, MoveUnits, MoveWhat, MovingUnit, UnitView};
use crate::cli::args::Move;
use crate::cli::commands::course::{Became, PAUSE, Seen};
use crate::cli::commands::{members, plan};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::follow::interrupted;
use crate::cli::input::select::{self, Selected};
use crate::cli::input::{hosts, names};
use crate::cli::session::Session;
use crate::model::name::{MachineId, UnitName};

/// Run `move`.
pub(in crate::cli) async fn run(session: &Session, args: &Move) -> Result<Exit, Error> {
    let (words, host) = units_and_host(&args.words, args.to.as_deref());
    let to = match host {
        Some(host) => Some(find(session, host, args.to.is_none()).await?),
        None => None,
    };
    let selected = select::select(&session.client, &members::of_sets(session, words).await?).await?;
    let units = chosen(&selected);
    let wrong = selected.nothing();
    if !wrong.is_empty() || units.is_empty() {
        let hints = select::hints(session, words).await;
        return Err(Error::failures(wrong.into_iter().map(Line::from).chain(hints)).because("nothing was changed"));
    }
    let to_id = to.as_ref().map(|host| host.id.clone());
    let ask = MoveUnits { units: units.clone(), to: to_id.clone(), force: args.force, ..MoveUnits::default() };
    if args.plan.plan {
        return plan::of_ask(session, session.client.plan_moves(&ask).await.map_err(refused)?);
    }
    let asked = session.client.move_units(&ask).await.map_err(refused)?.units;
    let mut done = Vec::new();
    for unit in units.iter().filter(|unit| !asked.iter().any(|asked| asked.name == **unit)) {
        let there = to.as_ref().map(MachineView::name).unwrap_or_default();
        session.line(&format!("  {unit}  is on {there} already"));
        done.push(json!({ "name": unit, "machine": to.as_ref().map(machine), "moved": true }));
    }
    if args.no_block {
        asked.iter().for_each(|unit| session.line(&format!("  {}  is asked to move", unit.name)));
        return Ok(Exit::Ok);
    }
    let (exit, moved) = watch(session, &asked, |_| to_id.clone()).await?;
    if session.is_json() {
        done.extend(moved);
        session.out.json(&done);
    }
    Ok(exit)
}

/// Which words are units, and which one is the host: the last of several, if it doesn't look like a unit.
fn units_and_host<'a>(words: &'a [String], to: Option<&'a str>) -> (&'a [String], Option<&'a str>) {
    let is_unit = |word: &str| word.contains('@') || names::is_pattern(word) || word.parse::<UnitName>().is_ok();
    match words.split_last() {
        Some((last, units)) if to.is_none() && !units.is_empty() && !is_unit(last) => (units, Some(last)),
        _ => (words, to),
    }
}

/// The host that is meant; if it is one only because of its place, it may have been meant as a unit.
async fn find(session: &Session, word: &str, is_by_place: bool) -> Result<MachineView, Error> {
    let all = session.client.machines().await?;
    let found = hosts::known(&[word.to_owned()], &all);
    found.map(|found| found.into_iter().next().cloned()).map_err(|lines| unknown(lines, word, is_by_place)).and_then(
        |found| found.ok_or_else(|| Error::failure(format!("no host {word} is known")).because("nothing was changed")),
    )
}

fn unknown(lines: Vec<Line>, word: &str, is_by_place: bool) -> Error {
    let hint = is_by_place.then(|| Line::hint(format!("if it is a unit, call it {word}.service")));
    Error::failures(lines.into_iter().chain(hint)).because("nothing was changed")
}

/// Patterns leave out what can't move: units without a host.
fn chosen(selected: &Selected) -> Vec<UnitName> {
    let is_meant = |unit: &UnitView, named: bool| named || (unit.machine.is_some() && !unit.global);
    let units = selected.units.iter().filter(|(unit, named)| is_meant(unit, *named));
    units.map(|(unit, _)| unit.name.clone()).collect()
}

/// Why nothing was asked.
pub(super) fn refused(error: ClientError) -> Error {
    match error {
        ClientError::Api(detail) if detail.code == 404 => {
            Error::failure("this fleetd is too old to move units: upgrade it").because("nothing was changed")
        }
        ClientError::Api(_) => Error::from(error).because("nothing was changed"),
        error => error.into(),
    }
}

fn machine(host: &MachineView) -> MachineRef {
    MachineRef { id: host.id.clone(), ip: host.ip.clone(), hostname: host.hostname.clone() }
}

/// Look on until none of these units moves any more; `to` is the host that a unit is to be on, if one was named. The
/// result comes with what is printed for programs.
pub(super) async fn watch(
    session: &Session,
    asked: &[MovingUnit],
    to: impl Fn(&UnitName) -> Option<MachineId>,
) -> Result<(Exit, Vec<Value>), Error> {
    let course = |unit: &MovingUnit| {
        let (seen, end) = (Seen::default(), None);
        (unit.name.clone(), Course { seen, from: unit.machine.id.clone(), to: to(&unit.name), end })
    };
    Watch { session, units: asked.iter().map(course).collect() }.run().await
}

/// Looks on until no unit moves any more.
struct Watch<'a> {
    session: &'a Session,
    units: BTreeMap<UnitName, Course>,
}

/// What was seen of a unit that moves.
struct Course {
    seen: Seen,
    /// The host that it is to leave.
    from: MachineId,
    /// The host that it is to be on, if one was named.
    to: Option<MachineId>,
    /// What has become of it.
    end: Option<End>,
}

/// What has become of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    /// Whether it is where it was to go.
    moved: bool,
    /// Where it is.
    machine: Option<MachineRef>,
    /// In words, without its name.
    what: String,
}

impl Watch<'_> {
    async fn run(mut self) -> Result<(Exit, Vec<Value>), Error> {
        let mut interrupts = signal(SignalKind::interrupt()).ok();
        tokio::select! {
            followed = self.follow() => followed?,
            () = interrupted(interrupts.as_mut()) => {
                self.session.out.message("no longer watching; units go on moving");
                return Ok((Exit::Interrupted, Vec::new()));
            }
        }
        let all_moved = self.units.values().all(|course| course.end.as_ref().is_some_and(|end| end.moved));
        let printed = self.units.into_iter().filter_map(|(name, course)| Some(printed(&name, course.end?)));
        Ok((Exit::failed_if(!all_moved), printed.collect()))
    }

    async fn follow(&mut self) -> Result<(), Error> {
        loop {
            let moving = self.session.client.moves().await?.units;
            self.tell(&moving).await?;
            if self.units.values().all(|course| course.end.is_some()) {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    /// Say what has happened since the last look.
    async fn tell(&mut self, moving: &[MovingUnit]) -> Result<(), Error> {
        let session = self.session;
        for unit in moving {
            let Some(course) = self.units.get_mut(&unit.name).filter(|course| course.end.is_none()) else { continue };
            let waits = unit.why.as_deref().filter(|_| unit.what == MoveWhat::Waits);
            let line = course.seen.look(&unit.name, unit.what == MoveWhat::Leaves, waits);
            line.into_iter().for_each(|line| session.line(line));
            if unit.what == MoveWhat::Stays {
                let why = unit.why.as_deref().unwrap_or("what it must be with stays");
                session.line(&format!("  {}  stays: {why}", unit.name));
                let (machine, what) = (Some(unit.machine.clone()), why.to_owned());
                course.end = Some(End { moved: false, machine, what });
            }
        }
        let listed: BTreeSet<&UnitName> = moving.iter().map(|unit| &unit.name).collect();
        let gone = self.units.iter().filter(|(name, course)| course.end.is_none() && !listed.contains(name));
        let gone: Vec<UnitName> = gone.map(|(name, _)| name.clone()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let patterns: Vec<String> = gone.iter().map(names::exactly).collect();
        let now = session.client.units(&patterns).await?.units;
        for name in gone {
            let Some(course) = self.units.get_mut(&name) else { continue };
            let view = now.iter().find(|unit| unit.name == name);
            let Some(became) = course.seen.became(view, Instant::now()) else { continue };
            let end = end(became, &course.from, course.to.as_ref());
            let took = if end.moved { course.seen.took() } else { String::new() };
            session.line(&format!("  {name}  {}{took}", end.what));
            course.end = Some(end);
        }
        Ok(())
    }
}

fn printed(name: &UnitName, end: End) -> Value {
    let End { moved, machine, what } = end;
    if moved {
        json!({ "name": name, "machine": machine, "moved": moved })
    } else {
        json!({ "name": name, "machine": machine, "moved": moved, "why": what })
    }
}

/// How a unit has ended that was to leave host `from` for host `to`, or for any other one.
fn end(became: Became<'_>, from: &MachineId, to: Option<&MachineId>) -> End {
    let machine = match became {
        Became::On(machine) => machine,
        Became::Nowhere(why) => return End { moved: false, machine: None, what: why.to_owned() },
    };
    let moved = to.map_or(machine.id != *from, |to| machine.id == *to);
    let what = match moved {
        true => format!("moved to {}", machine.name()),
        false => format!("is on {}: something else was asked of it, or it fitted no other host", machine.name()),
    };
    End { moved, machine: Some(machine.clone()), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_a_host_if_it_looks_like_no_unit() {
        let split = |line: &str, to: Option<&str>| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let (units, host) = units_and_host(&words, to);
            (units.join(" "), host.map(str::to_owned))
        };
        for (line, to, units, host) in [
            ("web", None, "web", None),
            ("web@2 n4", None, "web@2", Some("n4")),
            ("web db n4", None, "web db", Some("n4")),
            ("web 10.0.0.4", None, "web", Some("10.0.0.4")),
            ("web n4.example.com", None, "web", Some("n4.example.com")),
            ("web@1 web@2", None, "web@1 web@2", None),
            ("web db.service", None, "web db.service", None),
            ("web web@*", None, "web web@*", None),
            ("web db", Some("n4"), "web db", Some("n4")),
        ] {
            assert_eq!(split(line, to), (units.to_owned(), host.map(str::to_owned)), "{line}");
        }
    }
}
