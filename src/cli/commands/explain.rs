//! `fleetctl explain UNIT…`: why units wait, or are where they are. Owns how that is told to people; the cluster
//! finds it out. Changes nothing.

use crate::api::client::ClientError;
use crate::api::wire::{
    Explanation, HostsAgainst, MachineRef, ObstacleView, PlaceView, RemedyView, StandingOfUnit as Standing,
};
use crate::cli::args::Explain;
use crate::cli::commands::{instances, members};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::explain::SEVERAL;
use crate::cli::input::{names, select};
use crate::cli::output::filled::filled;
use crate::cli::output::people::{ago, count, natural};
use crate::cli::session::Session;
use crate::clock::{Clock, utc};
use crate::model::glob::Glob;
use crate::model::name::UnitName;

/// Where there is no terminal, lines are no longer than this.
const WIDTH: usize = 80;

/// The most groups of hosts that are told of one unit; `--output json` has all.
const GROUPS: usize = 12;

/// Of what was before, the time of day says little. In ms.
const DAY: u64 = 86_400_000;

/// Run `explain`.
pub(in crate::cli) async fn run(session: &Session, args: &Explain) -> Result<Exit, Error> {
    let words: Vec<String> = args.units.iter().flat_map(|word| with_instances(word)).collect();
    let patterns = select::patterns_of(&words)?;
    let mut found = session.client.explain(&patterns).await.map_err(too_old)?;
    let missing: Vec<String> = args.units.iter().filter(|word| !is_found(word, &found.units)).cloned().collect();
    // Of a template with instances there is nothing to tell.
    let all: Vec<UnitName> = found.units.iter().map(|unit| unit.name.clone()).collect();
    let has_instances = |name: &UnitName| all.iter().any(|unit| unit.template().as_ref() == Some(name));
    found.units.retain(|unit| !has_instances(&unit.name));
    if session.is_json() {
        session.out.json(&found);
    } else {
        let (now, width) = (Clock::system().now_ms(), session.out.width().unwrap_or(WIDTH));
        let shown: Vec<String> = found.units.iter().map(|unit| shown(unit, now, width)).collect();
        session.out.data(&shown.join("\n"));
    }
    if found.left_out > 0 {
        session.out.message(&format!("{} more: name fewer at once", count(found.left_out, "unit")));
    }
    if missing.is_empty() {
        return Ok(Exit::Ok);
    }
    let wrong = select::select(&session.client, &missing).await?.nothing();
    session.out.messages(wrong.into_iter().map(Line::from));
    session.out.messages(select::hints(session, &missing).await);
    Ok(Exit::Failure)
}

/// A template means its instances too.
fn with_instances(word: &str) -> Vec<String> {
    let of = members::template(word).map(|name| instances::pattern(&name));
    std::iter::once(word.to_owned()).chain(of).collect()
}

fn is_found(word: &str, units: &[Explanation]) -> bool {
    let globs = names::patterns(word);
    let globs: Vec<Glob> = globs.iter().filter_map(|glob| glob.parse().ok()).collect();
    units.iter().any(|unit| globs.iter().any(|glob| glob.matches(unit.name.as_str())))
}

fn too_old(error: ClientError) -> Error {
    match error {
        ClientError::Api(detail) if detail.code == 404 => {
            Error::failure("this fleetd is too old for `explain`: upgrade it, or see `fleetctl status`")
        }
        error => error.into(),
    }
}

/// A unit as people read it; no line is longer than `width`, as far as words allow.
fn shown(unit: &Explanation, now: u64, width: usize) -> String {
    let mut page = Page { text: String::new(), width };
    page.line(0, &head(unit, now));
    for held in &unit.held {
        page.line(2, &format!("held up: {held}"));
    }
    if !unit.with.is_empty() && unit.standing == Standing::Waiting {
        page.line(2, &format!("together with {}, which must be on the same host", named(&unit.with)));
    }
    if unit.excluded {
        page.line(2, "they exclude each other, so that no host can have all of them");
    }
    if let Some(place) = &unit.place {
        page.place(unit, place);
    }
    if unit.standing == Standing::Placed && !unit.hosts.is_empty() {
        page.line(2, "it stays there only because it belongs to the host (MoveAfterSec=infinity):");
    }
    page.hosts(&unit.hosts);
    if unit.hosts_left_out > 0 {
        page.line(2, &format!("{} differ in what they have against it", count(unit.hosts_left_out, "more host")));
    }
    if !unit.moves.is_empty() {
        page.line(2, &format!("it moves when {}", any_of(&unit.moves)));
    }
    if let Some(host) = &unit.by_itself {
        page.line(2, &format!("it is about to be placed on {}, without anybody's help", host.name()));
    }
    page.remedies(&unit.remedies);
    page.text
}

/// `web@3.service waits since 10:04:07 UTC (2 min): no host fits`.
fn head(unit: &Explanation, now: u64) -> String {
    let Explanation { name, why, since, standing, .. } = unit;
    let since = since.filter(|since| *since > 0);
    let since = since.map_or(String::new(), |at| match now.saturating_sub(at) {
        0..DAY => format!(" since {} ({} ago)", utc(at), ago(at, now)),
        _ => format!(" for {}", ago(at, now)),
    });
    match standing {
        Standing::Waiting => format!("{name} waits{since}: it {why}"),
        Standing::Placed => format!("{name} is {why}{since}"),
        Standing::Done | Standing::Away | Standing::Leaving => format!("{name} {why}{since}"),
        Standing::Template | Standing::Inactive | Standing::FileUnknown | Standing::Global => format!("{name}: {why}"),
    }
}

fn named(units: &[UnitName]) -> String {
    units.iter().map(UnitName::as_str).collect::<Vec<_>>().join(", ")
}

/// `a, b or c`.
fn any_of(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// Lines that are filled up to a width.
struct Page {
    text: String,
    width: usize,
}

impl Page {
    fn line(&mut self, indent: usize, line: &str) {
        self.text += &filled(line, indent, self.width);
    }

    /// What each host has against it: hosts with the same together, those with the fewest first.
    fn hosts(&mut self, hosts: &[HostsAgainst]) {
        for group in hosts.iter().take(GROUPS) {
            self.line(2, &format!("{}:", these(group)));
            if group.obstacles.is_empty() {
                self.line(4, "fits");
            }
            group.obstacles.iter().for_each(|obstacle| self.obstacle(obstacle));
        }
        let rest: usize = hosts.iter().skip(GROUPS).map(|group| group.machines.len()).sum();
        if rest > 0 {
            self.line(2, &format!("{} with other reasons (--output json)", count(rest, "more host")));
        }
    }

    fn obstacle(&mut self, obstacle: &ObstacleView) {
        let ObstacleView { why, unit, option, .. } = obstacle;
        let whose = unit.as_ref().map_or(String::new(), |unit| format!("{unit}: "));
        self.line(4, &format!("{whose}{why}"));
        if let Some(option) = option {
            self.line(6, &format!("{}:{} {}", option.unit, option.line, option.text));
        }
    }

    /// What a person could do: the commands, or what to do where there is none. Commands are never broken.
    fn remedies(&mut self, remedies: &[RemedyView]) {
        if !remedies.is_empty() {
            self.line(2, "To place it:");
        }
        for RemedyView { steps, machine } in remedies {
            let to = machine.as_ref().map_or_else(|| "the new host".to_owned(), MachineRef::name);
            let what: Vec<&str> = steps.iter().map(|step| step.what.as_str()).collect();
            self.line(4, &format!("{}; it goes to {to} then", what.join(", and ")));
            for command in steps.iter().flat_map(|step| &step.commands) {
                self.text += &format!("      {command}\n");
            }
        }
    }

    fn place(&mut self, unit: &Explanation, place: &PlaceView) {
        let next = place.runner_up.as_ref().map_or(String::new(), |next| format!("; the next best is {}", next.name()));
        self.line(2, &format!("why there: {}{next}", place.because));
        if place.runner_up_is_better {
            self.line(2, "that would be better by now, and nothing moves for its own sake (`fleetctl rebalance`)");
        }
        if !unit.with.is_empty() {
            self.line(2, &format!("with it: {}", named(&unit.with)));
        }
        if place.passed_over_in_all > 0 {
            let all = place.passed_over_in_all;
            self.line(2, &format!("passed over, because they don't fit: {}", count(all, "better host")));
            self.hosts(&place.passed_over);
        }
    }
}

/// The hosts by name, or how many there are.
fn these(group: &HostsAgainst) -> String {
    let mut names: Vec<String> = group.machines.iter().map(|machine| machine.name()).collect();
    if names.len() > SEVERAL {
        return count(names.len(), "host");
    }
    names.sort_by(|a, b| natural(a, b));
    names.join(", ")
}
