//! `fleetctl what-if`: where units would be if hosts were lost or added, or units started. Owns what is asked, and how
//! it is told to people; the cluster finds it out. Changes nothing.

mod losses;

use std::collections::BTreeSet;

use crate::api::client::ClientError;
use crate::api::wire::{MachineList, MachineRef, SupposedLoss, SupposedMove, WhatIf, WhatIfRequest};
use crate::cli::args::WhatIf as Args;
use crate::cli::commands::submit;
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::hosts;
use crate::cli::output::filled::filled;
use crate::cli::output::people::count;
use crate::cli::session::Session;
use crate::model::name::MachineId;
use losses::Loss;

/// Where there is no terminal, lines are no longer than this.
const WIDTH: usize = 80;

/// So many losses are asked about at once, as the API allows.
const AT_ONCE: usize = 500;

/// The most units that wait that are named of one loss; `--output json` has all.
const NAMED: usize = 3;

/// Run `what-if`.
pub(in crate::cli) async fn run(session: &Session, args: &Args) -> Result<Exit, Error> {
    let known = session.client.machines().await?;
    let lost = lost(&args.lose, &known)?;
    let losses = match (args.each_host, &args.each) {
        (true, _) => losses::of_hosts(&known, &lost),
        (false, Some(key)) => losses::of_key(&known, &lost, key)?,
        (false, None) => Vec::new(),
    };
    let start = if args.start.is_empty() { Vec::new() } else { submit::supposed(session, &args.start).await? };
    let supposed = WhatIfRequest { lose: lost.into_iter().collect(), add: args.add.clone(), start, each: Vec::new() };
    let is_supposed = supposed != WhatIfRequest::default();
    let mut found = ask(session, &supposed, &losses[..losses.len().min(AT_ONCE)]).await?;
    let width = session.out.width().unwrap_or(WIDTH);
    let page = Page { session, width };
    if is_supposed {
        page.consequences(&found);
    }
    page.losses(&losses, &found.each);
    while found.each.len() < losses.len() {
        let rest = &losses[found.each.len()..];
        let more = ask(session, &supposed, &rest[..rest.len().min(AT_ONCE)]).await?;
        page.losses(rest, &more.each);
        found.each.extend(more.each);
    }
    if session.is_json() {
        session.out.json(&found);
    } else if !losses.is_empty() {
        page.sum(&found.each);
    }
    let waits = !found.waits.is_empty() || found.each.iter().any(|loss| !loss.waits.is_empty());
    Ok(if waits { Exit::Findings } else { Exit::Ok })
}

/// At least one of the losses is answered for.
async fn ask(session: &Session, supposed: &WhatIfRequest, losses: &[Loss]) -> Result<WhatIf, Error> {
    let each = losses.iter().map(|loss| loss.hosts.iter().cloned().collect()).collect();
    let request = WhatIfRequest { each, ..supposed.clone() };
    let found = session.client.what_if(&request).await.map_err(too_old)?;
    if found.each.len() > losses.len() || (found.each.is_empty() && !losses.is_empty()) {
        return Err(Error::failure("this fleetd didn't answer for the losses that it was asked about"));
    }
    Ok(found)
}

fn too_old(error: ClientError) -> Error {
    match error {
        ClientError::Api(detail) if detail.code == 404 => {
            Error::failure("this fleetd is too old for `what-if`: upgrade it, or see `fleetctl status`")
        }
        error => error.into(),
    }
}

/// The hosts that are named, and those with the metadata that is.
fn lost(words: &[String], known: &MachineList) -> Result<BTreeSet<MachineId>, Error> {
    let (pairs, names): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| word.contains('='));
    let names: Vec<String> = names.into_iter().cloned().collect();
    let mut lost: BTreeSet<MachineId> =
        hosts::known(&names, known).map_err(Error::failures)?.into_iter().map(|host| host.id.clone()).collect();
    let mut wrong: Vec<Line> = Vec::new();
    for pair in pairs {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let has_it = known.machines.iter().filter(|host| losses::value(host, key).is_some_and(|it| it == value));
        let with_it: Vec<MachineId> = has_it.map(|host| host.id.clone()).collect();
        if with_it.is_empty() {
            wrong.push(format!("no host has the metadata {pair}").into());
        }
        lost.extend(with_it);
    }
    if wrong.is_empty() { Ok(lost) } else { Err(Error::failures(wrong)) }
}

/// Prints for people; nothing if the output is JSON.
struct Page<'a> {
    session: &'a Session,
    width: usize,
}

impl Page<'_> {
    fn line(&self, line: &str) {
        if !self.session.is_json() {
            self.session.out.data(&filled(line, 0, self.width));
        }
    }

    /// Who moves, who waits, and who stays; then how many.
    fn consequences(&self, found: &WhatIf) {
        if let Some(held) = found.held {
            self.line(&format!(
                "so many hosts at once: the leader holds their units for {} first, unless a person says that the \
                 hosts are gone (`fleetctl forget --held`)",
                time(held)
            ));
        }
        let longest = found.moves.iter().map(|moved| moved.name.as_str().chars().count()).max().unwrap_or_default();
        for moved in &found.moves {
            self.line(&shown(moved, longest));
        }
        if found.moves_left_out > 0 {
            self.line(&format!("{} of other units", count(found.moves_left_out, "more move")));
        }
        for wait in &found.waits {
            let leaves = wait.from.as_ref().map_or_else(String::new, |from| format!("leave {} and ", from.name()));
            self.line(&format!("{} would {leaves}wait: {}", wait.name, wait.why));
        }
        for wait in &found.bound {
            let host = wait.from.as_ref().map_or_else(String::new, MachineRef::name);
            self.line(&format!("{} stays with {host}: {}", wait.name, wait.why));
        }
        for wait in &found.waited {
            self.line(&format!("{} waits already: {}", wait.name, wait.why));
        }
        for (globals, what) in [(&found.globals_lost, "has no longer"), (&found.globals_gained, "gets")] {
            let hosts: BTreeSet<&MachineId> = globals.iter().map(|global| &global.machine.id).collect();
            for host in hosts {
                let there = globals.iter().filter(|global| global.machine.id == *host);
                let names: Vec<&str> = there.clone().map(|global| global.name.as_str()).collect();
                let name = there.clone().next().map_or_else(String::new, |global| global.machine.name());
                self.line(&format!("{name} {what} the global {}", names.join(", ")));
            }
        }
        self.line(&total(found));
        if !found.complete {
            self.line("more follows, which takes too long to be found out");
        }
    }

    /// A line for each loss that was answered for.
    fn losses(&self, losses: &[Loss], found: &[SupposedLoss]) {
        for (loss, found) in losses.iter().zip(found) {
            self.line(&format!("{}: {}", loss.name, said(found)));
        }
    }

    fn sum(&self, all: &[SupposedLoss]) {
        let of = if all.len() == 1 { "1 loss".to_owned() } else { format!("{} losses", all.len()) };
        self.line(&match all.iter().filter(|loss| !loss.waits.is_empty()).count() {
            0 => "no loss would leave a unit without a host".into(),
            bad => format!("{bad} of {of} would leave units without a host"),
        });
    }
}

/// `web@1.service  n2 -> n1`
fn shown(moved: &SupposedMove, longest: usize) -> String {
    let SupposedMove { name, from, to, after, .. } = moved;
    let blanks = " ".repeat(longest.saturating_sub(name.as_str().chars().count()));
    let from = from.as_ref().map_or_else(|| "(no host)".to_owned(), MachineRef::name);
    let after = after.map_or_else(String::new, |after| format!("  after {} (MoveAfterSec=)", time(after)));
    format!("{name}{blanks}  {from} -> {}{after}", to.name())
}

/// `3 units would move, 1 would wait, 1 would stay with its host; 2 wait already`
fn total(found: &WhatIf) -> String {
    let moves = found.moves.len() + found.moves_left_out;
    let mut all = vec![format!("{} would move", count(moves, "unit"))];
    if moves == 0 {
        all = vec!["no unit would move".into()];
    }
    all.push(if found.waits.is_empty() {
        "none would wait".into()
    } else {
        format!("{} would wait", found.waits.len())
    });
    if !found.bound.is_empty() {
        all.push(format!("{} would stay with a lost host", found.bound.len()));
    }
    let waited = found.waited.len();
    let waited = if waited == 0 {
        String::new()
    } else {
        format!("; {waited} {} already", if waited == 1 { "waits" } else { "wait" })
    };
    all.join(", ") + &waited
}

/// `12 units would move`, `2 of 14 units would wait: db.service (no host fits: 2 metadata)`.
fn said(loss: &SupposedLoss) -> String {
    let SupposedLoss { units, moves, waits, bound, held, complete, .. } = loss;
    let mut all = Vec::new();
    if !waits.is_empty() {
        let named = waits.iter().take(NAMED).map(|wait| format!("{} ({})", wait.name, wait.why));
        let rest = waits.len().saturating_sub(NAMED);
        let rest = (rest > 0).then(|| format!("{rest} more"));
        let named: Vec<String> = named.chain(rest).collect();
        all.push(format!("{} of {} would wait: {}", waits.len(), count(*units, "unit"), named.join(", ")));
    } else if *moves > 0 || bound.is_empty() {
        all.push(if *moves == 0 {
            "no unit would move".into()
        } else {
            format!("{} would move", count(*moves, "unit"))
        });
    }
    if !bound.is_empty() {
        all.push(format!("{} would stay with it", count(bound.len(), "unit")));
    }
    if let Some(held) = held {
        all.push(format!("held for {} first", time(*held)));
    }
    if !complete {
        all.push("and more follows".into());
    }
    all.join("; ")
}

/// `90 s`, `10 min`, `2 h`.
fn time(seconds: u64) -> String {
    match seconds {
        s if s >= 7200 && s % 3600 == 0 => format!("{} h", s / 3600),
        s if s >= 120 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}
