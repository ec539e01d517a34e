//! What is shown while a command waits, and when it stops waiting. Owns the pace of the terminal and the order of the
//! lines; the printer owns the screen.

use std::time::Duration;

use tokio::time::Instant;

use super::End;
use super::tracked::{Awaited, Tracked};
use crate::api::wire::Progress;
use crate::cli::limit::{Limit, Time};
use crate::cli::output::people::{count, seconds};
use crate::cli::session::Session;

/// The longest wait without a message.
const SILENCE: Duration = Duration::from_secs(1);
/// How often the seconds on the terminal are updated.
const TICK: Duration = Duration::from_millis(500);
/// The shortest time between two updates of the terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// The most messages without a terminal.
const NOTES: usize = 10;
/// The most units that are named in one line.
const NAMED: usize = 5;

/// The pace of the display of one wait.
#[derive(Debug)]
pub(super) struct Display {
    began: Instant,
    /// Whether it was said without a terminal what is waited for.
    noted: bool,
    /// When the terminal was last updated.
    drawn: Option<Instant>,
}

impl Display {
    /// For a wait that begins now.
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), noted: false, drawn: None }
    }

    /// When something is to be shown even if nothing happens.
    pub(super) fn next(&self, session: &Session) -> Option<Instant> {
        let note = (!self.noted && !session.out.shows_progress()).then(|| self.began + SILENCE);
        let tick = session.out.shows_progress().then(|| Instant::now() + TICK);
        note.into_iter().chain(tick).min()
    }

    /// Show what is waited for: continuously on a terminal, once in a log.
    pub(super) fn show(&mut self, session: &Session, tracked: &[Tracked]) {
        let now = Instant::now();
        // What is done within a second needs no progress, and thousands of lines may arrive at once.
        if now < self.began + SILENCE {
            return;
        }
        if session.out.shows_progress() {
            if self.drawn.is_none_or(|drawn| now >= drawn + REDRAW) {
                self.drawn = Some(now);
                let (lines, total) = progress(tracked, now.duration_since(self.began).as_secs());
                session.out.progress(&lines, &total);
            }
        } else if !self.noted {
            self.noted = true;
            let waits = |one: &&Tracked| one.is_open() && matches!(one.progress, Progress::Waiting(_));
            let open: Vec<&Tracked> = tracked.iter().filter(waits).collect();
            for one in open.iter().take(NOTES) {
                session.out.message(&format!("{}: {}", one.name, one.doing()));
            }
            if open.len() > NOTES {
                session.out.message(&format!("and {} more to wait for", open.len() - NOTES));
            }
        }
    }

    /// Say what a wait that didn't come to its end waited for.
    pub(super) fn close(&self, session: &Session, tracked: &[Tracked], end: &End, limit: Limit) {
        let open = going(tracked);
        match (end, limit.time) {
            (End::TimedOut(_), Time::Each(_)) => {
                for one in open {
                    let state = one.operation().map_or("", crate::api::wire::Operation::state);
                    let line = format!("timed out waiting for unit {} to report state {state}", one.name);
                    session.out.message(&format!("Error waiting for units: {line}"));
                }
            }
            (End::TimedOut(_), _) => session.out.messages(timed_out(&open, limit)),
            (End::Interrupted, _) => session.out.message(&interrupted(&open)),
            (End::Done | End::Failed(_), _) => {}
        }
    }
}

/// The units that aren't done, the troubled first.
fn going(tracked: &[Tracked]) -> Vec<&Tracked> {
    let done = |one: &&Tracked| matches!((&one.awaited, &one.progress), (Awaited::State(_), Progress::Done));
    let mut open: Vec<&Tracked> = tracked.iter().filter(|one| one.is_open() && !done(one)).collect();
    open.sort_by_key(|one| !one.is_troubled());
    open
}

/// A line for each unit that isn't done, and the total.
fn progress(tracked: &[Tracked], seconds: u64) -> (Vec<String>, String) {
    let open = going(tracked);
    let lines = open.iter().map(|one| format!("{}: {}, {seconds} s", one.name, one.doing())).collect();
    let failed = tracked.iter().filter(|one| matches!(one.end, Some(End::Failed(_)))).count();
    let (all, open) = (tracked.len(), open.len());
    let done = all - open - failed;
    (lines, format!("{done} of {all} done, {failed} failed, {open} to go, {seconds} s"))
}

/// `not active after 60 s:` and a line for each unit.
fn timed_out(open: &[&Tracked], limit: Limit) -> Vec<String> {
    let time = if let Time::Whole { time, .. } = limit.time { seconds(time) } else { String::new() };
    let head = match open.first().map(|one| &one.awaited) {
        Some(Awaited::Request(goal)) => {
            format!("not done after {time}; nothing is undone, and the cluster continues to {}:", goal.operation.verb())
        }
        Some(Awaited::State(state)) => format!("not {} after {time}:", state.as_str()),
        // Nothing was received yet.
        None => format!("no answer within {time}"),
    };
    let lines = open.iter().map(|one| format!("  {}: {}", one.name, one.doing()));
    std::iter::once(head).chain(lines).collect()
}

/// What becomes of the request after Ctrl-C.
fn interrupted(open: &[&Tracked]) -> String {
    let names: Vec<&str> = open.iter().take(NAMED).map(|one| one.name.as_str()).collect();
    let what = if open.len() > NAMED { count(open.len(), "unit") } else { names.join(" ") };
    match open.first().map(|one| &one.awaited) {
        Some(Awaited::Request(goal)) => {
            format!("no longer waiting; the cluster continues to {} {what}", goal.operation.verb())
        }
        Some(Awaited::State(state)) => format!("no longer waiting for {what} to be {}", state.as_str()),
        None => "no longer waiting".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Operation;
    use crate::cli::wait::{AwaitedState, Goal, Until};
    use crate::model::revision::Revision;

    fn tracked(name: &str, progress: Progress) -> Tracked {
        let name: crate::model::name::UnitName = name.parse().unwrap();
        let (operation, until) = (Operation::Start, Until::Ready);
        let goal = Goal { name: name.clone(), operation, generation: Revision(7), changed: true, until };
        Tracked { progress, ..Tracked::new(name, Awaited::Request(goal)) }
    }

    fn several() -> Vec<Tracked> {
        let mut failed = tracked("a.service", Progress::Failed("boom".into()));
        failed.end = Some(End::Failed(vec![]));
        let mut done = tracked("b.service", Progress::Done);
        done.end = Some(End::Done);
        let starting = tracked("c.service", Progress::Waiting("start job on n1".into()));
        let failing = tracked("d.service", Progress::Failing("failed on n1: exit status 1".into()));
        vec![failed, done, starting, failing]
    }

    #[test]
    fn the_troubled_come_first_and_all_are_counted() {
        let (lines, total) = progress(&several(), 3);
        assert_eq!(lines, ["d.service: failed on n1: exit status 1, 3 s", "c.service: start job on n1, 3 s"]);
        assert_eq!(total, "1 of 4 done, 1 failed, 2 to go, 3 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_says_what_it_waited_for() {
        let all = several();
        let open = going(&all);
        let limit = Limit::after(Some(Duration::from_secs(90)));
        assert_eq!(
            timed_out(&open, limit),
            [
                "not done after 90 s; nothing is undone, and the cluster continues to start:",
                "  d.service: failed on n1: exit status 1",
                "  c.service: start job on n1",
            ]
        );
        assert_eq!(interrupted(&open), "no longer waiting; the cluster continues to start d.service c.service");
        let many: Vec<Tracked> =
            (0..220).map(|n| tracked(&format!("b@{n}.service"), Progress::Idle("i".into()))).collect();
        assert_eq!(interrupted(&going(&many)), "no longer waiting; the cluster continues to start 220 units");
        let state =
            |progress| Tracked { awaited: Awaited::State(AwaitedState::Active), ..tracked("a.service", progress) };
        let states = [state(Progress::Waiting("on its way".into())), state(Progress::Done)];
        assert_eq!(timed_out(&going(&states), limit), ["not active after 90 s:", "  a.service: on its way"]);
        assert_eq!(interrupted(&going(&states)), "no longer waiting for a.service to be active");
        assert_eq!(timed_out(&[], limit), ["no answer within 90 s"]);
    }
}
