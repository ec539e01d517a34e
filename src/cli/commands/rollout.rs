//! `rollout`: shows how a rollout stands, asks something of it, and follows it. Owns the table; `rolling` follows.

use crate::api::client::ClientError;
use crate::api::wire::{RidingUnit, RolloutMember, RolloutView};
use crate::cli::args::Rollout;
use crate::cli::commands::plan;
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::{names, select};
use crate::cli::limit::Limit;
use crate::cli::output::fitted::{self, Cell, Tone};
use crate::cli::output::people::{ago, natural};
use crate::cli::rolling;
use crate::cli::session::Session;
use crate::clock::Clock;
use crate::journal::Output as _;
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::rollout::{Phase, Request};

const HEAD: [&str; 5] = ["UNIT", "HOST", "FILE", "STATE", "SINCE"];

/// `rollout`.
pub(in crate::cli) async fn run(session: &Session, args: &Rollout) -> Result<Exit, Error> {
    let limit = Limit::after(args.timeout);
    let Some(arg) = &args.name else { return all(session).await };
    let name = leading(session, name(arg)?).await?;
    if let Some(action) = args.action.filter(|_| args.plan) {
        let (what, refused) = (action.request(), |error| refused(&name, action.request(), error));
        return plan::of_ask(session, session.client.plan_ask(&name, what).await.map_err(refused)?);
    }
    if let Some(action) = args.action {
        ask(session, &name, action.request()).await?;
    }
    let (view, revision) = look(session, &name, arg).await?;
    if args.follow {
        return Ok(rolling::follow(session, (view, revision), limit).await?.exit);
    }
    if session.is_json() {
        session.out.json(&view);
    } else if args.action.is_none() {
        show(session, &view);
    }
    Ok(Exit::Ok)
}

/// The rollout that an argument names: for a member of a set, that of the set.
fn name(arg: &str) -> Result<UnitName, Error> {
    let name = names::unit(arg).map_err(|error| Error::failure(format!("{arg}: {error}")))?;
    Ok(name.set().unwrap_or(name))
}

/// The set whose rollout brings `name` its files, if it is a rider of that.
async fn leading(session: &Session, name: UnitName) -> Result<UnitName, Error> {
    if !name.is_template() || !session.client.rollouts(&[names::exactly(&name)]).await?.rollouts.is_empty() {
        return Ok(name);
    }
    let all = session.client.rollouts(&[]).await?.rollouts;
    let lead = all.into_iter().find(|view| view.riders.iter().any(|rider| rider.name == name));
    Ok(lead.map_or(name, |view| view.name))
}

/// The rollout, and the revision at which it is like this.
async fn look(session: &Session, name: &UnitName, arg: &str) -> Result<(RolloutView, Revision), Error> {
    let list = session.client.rollouts(&[names::exactly(name)]).await?;
    if let Some(view) = list.rollouts.into_iter().next() {
        return Ok((view, list.revision));
    }
    let mut lines = vec![Line::Message(format!("rollout: {name} has had no rollout"))];
    lines.extend(select::hints(session, &[arg.to_owned()]).await);
    Err(Error::failures(lines))
}

/// All that aren't done.
async fn all(session: &Session) -> Result<Exit, Error> {
    let mut open = session.client.rollouts(&[]).await?.rollouts;
    open.retain(|view| view.phase != Phase::Done);
    open.sort_by(|a, b| natural(a.name.as_str(), b.name.as_str()));
    if session.is_json() {
        session.out.json(&open);
    } else if open.is_empty() {
        session.out.message("no rollout is under way, and none has failed");
    }
    let now = Clock::system().now_ms();
    open.iter().for_each(|view| session.line(&headline(view, now)));
    Ok(Exit::Ok)
}

async fn ask(session: &Session, name: &UnitName, what: Request) -> Result<(), Error> {
    session.client.ask(name, what).await.map_err(|error| refused(name, what, error))?;
    session.line(&format!("{name}: asked to {what}"));
    Ok(())
}

/// Why it can't be asked.
fn refused(name: &UnitName, what: Request, error: ClientError) -> Error {
    match error {
        ClientError::Api(detail) if detail.code == 409 => {
            Error::failure(format!("rollout {name} {what}: {}", detail.message))
        }
        error => error.into(),
    }
}

fn show(session: &Session, view: &RolloutView) {
    let now = Clock::system().now_ms();
    session.line(&headline(view, now));
    view.hooks.iter().for_each(|hook| session.line(&format!("  {}", rolling::hook(hook))));
    let rows: Vec<Vec<Cell>> = in_order(view).into_iter().flat_map(|member| rows(view, member, now)).collect();
    if !rows.is_empty() {
        session.out.data(&fitted::render(&HEAD, &rows, session.out.width(), session.out.has_colours()));
    }
    if let Some(next) = next(view) {
        session.out.message(&next);
    }
}

/// The members as the new file usually reaches them: the highest number first; the hosts of a global unit as they are.
fn in_order(view: &RolloutView) -> Vec<&RolloutMember> {
    let (mut hosts, mut others): (Vec<_>, Vec<_>) = view.members.iter().partition(|member| member.global);
    others.reverse();
    hosts.append(&mut others);
    hosts
}

/// `web@.service: waiting for promotion for 2 min, 1 of 3 has 3f2a91c, before it 90bb1de`.
fn headline(view: &RolloutView, now: u64) -> String {
    let why = view.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let asked = view.ask.as_ref().filter(|ask| !ask.heeded).map(|ask| format!(" (asked to {})", ask.what));
    format!(
        "{}: {} for {}{}, {}, before it {}{why}",
        view.name,
        view.phase,
        ago(view.since, now),
        asked.unwrap_or_default(),
        rolling::reached(view),
        rolling::files::names(view).1,
    )
}

/// A member, and the units that ride with it.
fn rows(view: &RolloutView, member: &RolloutMember, now: u64) -> Vec<Vec<Cell>> {
    let with_it = member.riders.iter().map(|unit| riding(view, unit, now));
    std::iter::once(row(view, member, now)).chain(with_it).collect()
}

fn riding(view: &RolloutView, unit: &RidingUnit, now: u64) -> Vec<Cell> {
    let (state, tone) = match (unit.ready, &unit.why) {
        (true, _) => ("ready".to_owned(), Tone::Good),
        (false, Some(why)) => (format!("not ready: {why}"), Tone::Busy),
        (false, None) => ("not ready".to_owned(), Tone::Busy),
    };
    let is_new = rolling::files::has_target(view, &unit.name, &unit.hash);
    vec![
        Cell::unit(unit.name.as_str()),
        Cell::plain(unit.machine.as_ref().map_or_else(|| "-".into(), |machine| machine.name())),
        Cell::new(unit.hash.short(), if is_new { Tone::Plain } else { Tone::Dim }),
        Cell::new(state, tone),
        Cell::plain(ago(unit.since.unwrap_or_default(), now)),
    ]
}

fn row(view: &RolloutView, member: &RolloutMember, now: u64) -> Vec<Cell> {
    let host = member.machine.as_ref().map_or_else(|| "-".into(), |machine| machine.name());
    let (mut state, tone) = match (&member.why, member.ready) {
        (_, true) if member.spare => ("ready, spare".to_owned(), Tone::Good),
        (Some(why), false) if member.spare && member.machine.is_none() => {
            (format!("spare, goes on without: {why}"), Tone::Dim)
        }
        (_, true) => ("ready".to_owned(), Tone::Good),
        (Some(why), false) => (format!("not ready: {why}"), Tone::Busy),
        (None, false) => ("not ready".to_owned(), Tone::Busy),
    };
    if member.preview && member.ready {
        state.push_str(", preview");
    }
    let is_new = rolling::files::has_target(view, &member.name, &member.hash);
    vec![
        Cell::unit(member.name.as_str()),
        Cell::plain(host),
        Cell::new(member.hash.short(), if is_new { Tone::Plain } else { Tone::Dim }),
        Cell::new(state, tone),
        Cell::plain(ago(member.since.unwrap_or_default(), now)),
    ]
}

/// What a person can do now.
fn next(view: &RolloutView) -> Option<String> {
    let name = &view.name;
    let commands: Vec<String> = view.accepts.iter().map(|what| format!("`fleetctl rollout {name} {what}`")).collect();
    let commands = commands.join(" or ");
    match view.phase {
        Phase::Waiting | Phase::Paused => Some(format!("next: {commands}")),
        Phase::Reverted | Phase::Stuck => {
            Some(format!("next: send another file with `fleetctl start --replace {name}`, or {commands}"))
        }
        Phase::Before | Phase::Canary | Phase::Rolling | Phase::After | Phase::Reverting | Phase::Done => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rolling::tests::view;

    #[test]
    fn a_rollout_says_how_far_it_is_and_what_can_be_done() {
        let now = 180_000;
        let members = ["web@1.service n1 aa ready", "web@2.service n2 bb unready"];
        let waiting = RolloutView { accepts: Phase::Waiting.accepts().to_vec(), ..view("waiting", None, &members) };
        assert_eq!(
            headline(&waiting, now),
            "web@.service: waiting for promotion for 2 min, 1 of 2 has bb, before it aa"
        );
        assert_eq!(
            next(&waiting).unwrap(),
            "next: `fleetctl rollout web@.service pause` or `fleetctl rollout web@.service promote`"
        );
        let rows: Vec<_> = waiting.members.iter().rev().map(|member| row(&waiting, member, now)).collect();
        let expected = "UNIT           HOST  FILE  STATE      SINCE\n\
                        web@2.service  n2    bb    not ready  2 min\n\
                        web@1.service  n1    aa    ready      2 min\n";
        assert_eq!(fitted::render(&HEAD, &rows, None, false), expected);
        let mut canary = waiting.members[1].clone();
        (canary.ready, canary.preview) = (true, true);
        assert_eq!(row(&waiting, &canary, now)[3], Cell::new("ready, preview", Tone::Good));
        let spares = ["web@3.service n3 bb ready spare", "web@4.service - bb unready spare"];
        let rows: Vec<_> =
            view("rolling", None, &spares).members.iter().map(|spare| row(&waiting, spare, now)).collect();
        let expected = "UNIT           HOST  FILE  STATE                                           SINCE\n\
                        web@3.service  n3    bb    ready, spare                                    2 min\n\
                        web@4.service  -     bb    spare, goes on without: 2 of 2 hosts: conflict  2 min\n";
        assert_eq!(fitted::render(&HEAD, &rows, None, false), expected);
        // The hosts of a global unit, in the order in which they get the new file.
        let hosts = view("rolling", None, &["a.service n1 bb ready global", "a.service n2 aa ready global"]);
        let names = in_order(&hosts).into_iter().filter_map(|member| Some(member.machine.as_ref()?.name()));
        assert_eq!(names.collect::<Vec<_>>(), ["n1", "n2"]);
        let failed = view("reverted", Some("web@2.service on n2: failed"), &members);
        assert_eq!(
            headline(&failed, now),
            "web@.service: reverted for 2 min, 1 of 2 has bb, before it aa: web@2.service on n2: failed"
        );
        assert_eq!(next(&view("rolling", None, &members)), None);
    }

    #[test]
    fn a_member_means_its_set() {
        for (arg, expected) in [("web@", "web@.service"), ("web@3", "web@.service"), ("db", "db.service")] {
            assert_eq!(name(arg).unwrap().as_str(), expected, "{arg}");
        }
    }
}
