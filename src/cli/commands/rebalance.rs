//! `fleetctl rebalance`: units go to hosts that are better for them. Owns what is shown of it, and that nothing moves
//! without a yes; the cluster finds out what would be better, and `moves` looks on.

use std::collections::BTreeMap;

use crate::api::client::ClientError;
use crate::api::wire::{BetterHost, HostUnits, MachineView, MoveUnits, RebalanceView};
use crate::cli::args::Rebalance;
use crate::cli::commands::{instances, members, moves};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::select;
use crate::cli::output::fitted::{self, Cell};
use crate::cli::output::people::{count, natural};
use crate::cli::session::Session;
use crate::journal::Output as _;
use crate::model::name::{MachineId, UnitName};

/// Run `rebalance`.
pub(in crate::cli) async fn run(session: &Session, args: &Rebalance) -> Result<Exit, Error> {
    let found = session.client.rebalance(&patterns(session, &args.units).await?, args.max_moves).await;
    let found = found.map_err(too_old)?;
    if !session.is_json() {
        session.out.data(&shown(&found, session.out.width(), session.out.has_colours()));
    } else if args.plan.plan {
        session.out.json(&found);
    }
    if args.plan.plan || found.moves.is_empty() {
        if session.is_json() && !args.plan.plan {
            session.out.json(&[(); 0]);
        }
        return Ok(if found.moves.is_empty() { Exit::Ok } else { Exit::Findings });
    }
    let question = match found.moves.len() {
        1 => "move this one?".to_owned(),
        moves => format!("move these {moves}?"),
    };
    if !args.yes && session.out.confirm(&question) != Some(true) {
        return Err(Error::failure("nothing was changed").because("--yes moves them without a question"));
    }
    let each = found.moves.iter().filter_map(|better| Some((better.units.first()?.clone(), better.to.id.clone())));
    let ask = MoveUnits { each: each.collect(), ..MoveUnits::default() };
    let asked = session.client.move_units(&ask).await.map_err(moves::refused)?.units;
    if args.no_block {
        asked.iter().for_each(|unit| session.line(&format!("  {}  is asked to move", unit.name)));
        return Ok(Exit::Ok);
    }
    let to = targets(&found.moves);
    let (exit, moved) = moves::watch(session, &asked, |unit| to.get(unit).cloned()).await?;
    if session.is_json() {
        session.out.json(&moved);
    }
    Ok(exit)
}

/// The patterns that are meant: a template means its instances. What matches nothing is an error.
async fn patterns(session: &Session, words: &[String]) -> Result<Vec<String>, Error> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let word = |word: &String| members::template(word).map_or_else(|| word.clone(), |name| instances::pattern(&name));
    let words: Vec<String> = words.iter().map(word).collect();
    let wrong = select::select(&session.client, &words).await?.nothing();
    if !wrong.is_empty() {
        let hints = select::hints(session, &words).await;
        return Err(Error::failures(wrong.into_iter().map(Line::from).chain(hints)).because("nothing was changed"));
    }
    select::patterns_of(&words)
}

fn too_old(error: ClientError) -> Error {
    match error {
        ClientError::Api(detail) if detail.code == 404 => {
            Error::failure("this fleetd is too old for `rebalance`: upgrade it").because("nothing was changed")
        }
        error => error.into(),
    }
}

/// Where each unit goes.
fn targets(moves: &[BetterHost]) -> BTreeMap<UnitName, MachineId> {
    let units = |better: &BetterHost| {
        let to = better.to.id.clone();
        better.units.clone().into_iter().map(move |unit| (unit, to.clone()))
    };
    moves.iter().flat_map(units).collect()
}

/// How many units the hosts have that change, now and then, and the moves.
fn shown(found: &RebalanceView, width: Option<usize>, colours: bool) -> String {
    if found.moves.is_empty() {
        let nothing = "nothing would be better on another host";
        let early = "the search had to end before it found anything: name units to look only at these";
        return format!("{}\n", if found.ended_early { early } else { nothing });
    }
    let mut changing: Vec<&HostUnits> = found.hosts.iter().filter(|host| host.now != host.then).collect();
    changing.sort_by(|one, other| natural(&one.machine.name(), &other.machine.name()));
    let row = |host: &&HostUnits| {
        [host.machine.name(), host.now.to_string(), host.then.to_string()].iter().map(Cell::plain).collect()
    };
    let rows: Vec<Vec<Cell>> = changing.iter().map(row).collect();
    let others = found.hosts.len() - changing.len();
    let mut lines = Vec::new();
    if others > 0 && !changing.is_empty() {
        lines.push(format!(
            "{} as many as now",
            count(others, "other host") + if others == 1 { " has" } else { " have" }
        ));
    }
    let more = found.all.saturating_sub(found.moves.len());
    if more > 0 {
        lines.push(format!("{} in all, {} of them now (--max-moves)", count(found.all, "move"), found.moves.len()));
    }
    if found.ended_early {
        lines.push("the search had to end, so there may be more: ask again when these have moved".to_owned());
    }
    let lines: Vec<Vec<Cell>> = lines.iter().map(|line| vec![Cell::plain(line)]).collect();
    let moves: Vec<Vec<Cell>> = found.moves.iter().map(one).collect();
    let table =
        if rows.is_empty() { String::new() } else { fitted::render(&["HOST", "NOW", "THEN"], &rows, width, colours) };
    table + &fitted::render(&[], &lines, width, false) + &fitted::render(&[], &moves, width, colours)
}

/// `web@1.service, web-announce@1.service  n1 -> n4  units 22 < 31`.
fn one(better: &BetterHost) -> Vec<Cell> {
    let (from, to) = (better.from.name(), better.to.name());
    let with = match better.units.len() {
        0 | 1 => String::new(),
        units => format!("with {}; ", count(units - 1, "other")),
    };
    let name = better.units.first().map_or("", |unit| unit.as_str());
    vec![Cell::plain(format!("  {name}")), Cell::plain(format!("{from} -> {to}")), Cell::plain(with + &better.why)]
}

/// What to do about hosts that take units again, if units would be better there: for people, who may not think of it.
pub(super) async fn hints(session: &Session, hosts: &[&MachineView]) -> Vec<Line> {
    if !session.out.is_watched() {
        return Vec::new();
    }
    // Only a hint: whatever prevents it is no matter here.
    let Ok(found) = session.client.rebalance(&[], u32::MAX).await else { return Vec::new() };
    let all: usize = found.hosts.iter().map(|host| host.now).sum();
    let is_better = |host: &MachineView| found.moves.iter().any(|better| better.to.id == host.id);
    let has = |host: &MachineView| found.hosts.iter().find(|units| units.machine.id == host.id).map(|units| units.now);
    let hint = |host: &&MachineView| {
        let units = has(host).filter(|_| is_better(host))?;
        Some(Line::hint(format!("{} has {units} of {}: `fleetctl rebalance`", host.name(), count(all, "unit"))))
    };
    hosts.iter().filter_map(hint).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(moves: usize, all: usize) -> RebalanceView {
        let host = |name: &str| json!({ "id": "a".repeat(31) + &name[1..], "ip": "10.0.0.1", "hostname": name });
        let units = [json!(["web@4.service", "web-announce@4.service"]), json!(["hello.service"])];
        let better = |at: usize| {
            let (from, why) = [("n1", "spread zone b 1 < a 2"), ("n2", "units 1 < 29")][at];
            json!({ "units": units[at], "from": host(from), "to": host("n4"), "why": why })
        };
        let row = |name: &str, now: usize, then: usize| json!({ "machine": host(name), "now": now, "then": then });
        serde_json::from_value(json!({
            "moves": (0..moves).map(better).collect::<Vec<_>>(),
            "all": all,
            "hosts": [row("n4", 0, 3), row("n2", 29, 28), row("n1", 31, 29), row("n3", 30, 30)],
        }))
        .unwrap()
    }

    #[test]
    fn only_hosts_that_change_are_shown() {
        assert_eq!(
            shown(&view(2, 22), Some(80), false),
            "HOST  NOW  THEN\n\
             n1    31   29\n\
             n2    29   28\n\
             n4    0    3\n\
             1 other host has as many as now\n\
             22 moves in all, 2 of them now (--max-moves)\n  \
             web@4.service  n1 -> n4  with 1 other; spread zone b 1 < a 2\n  \
             hello.service  n2 -> n4  units 1 < 29\n"
        );
        assert!(!shown(&view(2, 2), Some(80), false).contains("in all"));
        let early = |moves| shown(&RebalanceView { ended_early: true, ..view(moves, moves) }, Some(100), false);
        assert!(early(2).contains("\nthe search had to end, so there may be more: ask again when these have moved\n"));
        assert_eq!(early(0), "the search had to end before it found anything: name units to look only at these\n");
        assert_eq!(shown(&view(0, 0), Some(80), false), "nothing would be better on another host\n");
    }

    #[test]
    fn each_unit_of_a_group_goes_to_its_host() {
        let all = targets(&view(2, 2).moves);
        assert_eq!(
            all.keys().map(UnitName::as_str).collect::<Vec<_>>(),
            ["hello.service", "web-announce@4.service", "web@4.service"]
        );
    }
}
