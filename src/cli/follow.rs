//! Waits for the requested operations: watches all units until each goal has ended. Owns the time limits of waiting,
//! the display meanwhile, and Ctrl-C; the API reports the progress (`wait`), and `explain` owns the messages.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::api::client::{ClientError, For, News, progress_of};
use crate::api::wire::{ErrorDetail, Operation, Progress, UnitView, WatchLine};
use crate::cli::explain;
use crate::cli::input::names;
use crate::cli::session::Session;
use crate::cli::wait::{Goal, Observed, progress};
use crate::journal::journal_tail;
use crate::model::name::UnitName;
use crate::model::revision::Revision;

/// How long a failing state may take to improve: a conflicting unit may be leaving.
const GRACE: Duration = Duration::from_secs(1);
/// How long a done state must last: a global unit may be assigned to more hosts, and a service that systemd considers
/// started as soon as it was forked may fail at once (no such user, no such program).
const SETTLE: Duration = Duration::from_millis(250);
/// The longest wait without a message.
const SILENCE: Duration = Duration::from_secs(1);
/// How often the seconds on the terminal are updated.
const TICK: Duration = Duration::from_millis(500);
/// The shortest time between two updates of the terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// The most messages without a terminal.
const NOTES: usize = 10;

/// How many failed units are shown with their last journal lines, and how many lines.
const QUOTED: usize = 3;
const LAST_LINES: usize = 8;

/// How waiting for a unit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The operation succeeded.
    Done,
    /// The operation failed; these lines were printed.
    Failed(Vec<String>),
    /// The time limit was exceeded.
    TimedOut,
    /// Ctrl-C was pressed.
    Interrupted,
}

/// A goal and its end.
#[derive(Debug)]
pub(super) struct Ended {
    /// The goal.
    pub(super) goal: Goal,
    /// The unit as last observed.
    pub(super) view: Option<UnitView>,
    /// The end.
    pub(super) end: End,
}

/// Wait until each of `goals` has ended, at most `limit`. `revision` is that of the request's commit.
///
/// # Errors
/// fleetd's answers can't be decoded. An unreachable fleetd is waited for.
pub(super) async fn wait(
    session: &Session,
    goals: Vec<Goal>,
    revision: Revision,
    limit: Option<Duration>,
) -> Result<Vec<Ended>, ClientError> {
    let mut waiting = Waiting::new(session, goals, revision);
    let deadline = limit.map(|limit| waiting.began + limit);
    let mut interrupts = signal(SignalKind::interrupt()).ok();
    let end = tokio::select! {
        over = waiting.follow() => over.map(|()| End::Done)?,
        () = until(deadline) => End::TimedOut,
        () = interrupted(interrupts.as_mut()) => End::Interrupted,
    };
    waiting.close(&end);
    Ok(waiting.tracked.into_iter().map(|one| one.ended(&end)).collect())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Without a handler, Ctrl-C ends the process and thus the wait.
async fn interrupted(interrupts: Option<&mut Signal>) {
    match interrupts {
        Some(interrupts) => drop(interrupts.recv().await),
        None => std::future::pending().await,
    }
}

struct Tracked {
    goal: Goal,
    view: Option<UnitView>,
    /// It was destroyed and still has to be removed from its host.
    leaving: bool,
    /// Whether the current watch has reported it.
    told: bool,
    /// Whether the progress has been anything but done.
    waited: bool,
    /// The current progress, and since when it is of this kind.
    progress: Progress,
    since: Instant,
    end: Option<End>,
}

struct Waiting<'a> {
    session: &'a Session,
    tracked: Vec<Tracked>,
    index: BTreeMap<UnitName, usize>,
    revision: Revision,
    synced: bool,
    began: Instant,
    noted: bool,
    drawn: Option<Instant>,
}

impl<'a> Waiting<'a> {
    fn new(session: &'a Session, goals: Vec<Goal>, revision: Revision) -> Self {
        let began = Instant::now();
        let index = goals.iter().enumerate().map(|(index, goal)| (goal.name.clone(), index)).collect();
        let progress = Progress::Waiting("asking".into());
        let track = |goal| Tracked {
            goal,
            view: None,
            leaving: false,
            told: false,
            waited: false,
            progress: progress.clone(),
            since: began,
            end: None,
        };
        let tracked = goals.into_iter().map(track).collect();
        Self { session, tracked, index, revision, synced: false, began, noted: false, drawn: None }
    }

    /// Watch the units until each goal has ended.
    async fn follow(&mut self) -> Result<(), ClientError> {
        let session = self.session;
        let names: Vec<String> = self.tracked.iter().map(|one| names::exactly(&one.goal.name)).collect();
        let operation = one_of(self.tracked.iter().map(|one| one.goal.operation));
        let mut watch = session.client.follow(&names, operation, For::APerson);
        let mut older = false;
        while self.open_goals().next().is_some() {
            self.show();
            let timer = self.next_timer();
            // Cancel-safe: `Follow::next` keeps its state, and the timer is computed again.
            tokio::select! {
                news = watch.next() => match news {
                    Ok(News::Begun) => self.tracked.iter_mut().for_each(|one| one.told = false),
                    Ok(News::Line(line)) => if let Some(why) = self.take(line, operation) {
                        watch.reopen(unavailable(why))?;
                    },
                    Ok(News::Broken) => self.synced = false,
                    Ok(News::Lost(error)) => session.out.message(&format!("{error}; trying again")),
                    Ok(News::Back) => session.out.message("fleetd is back"),
                    // A fleetd of an older version refuses `operation=`.
                    Err(ClientError::Api(detail)) if detail.code == 400 && operation.is_some() && !older => {
                        older = true;
                        watch = session.client.follow(&names, None, For::APerson);
                    }
                    Err(error) => return Err(error),
                },
                () = until(timer) => {}
            }
            self.settle().await;
        }
        Ok(())
    }

    /// Apply one line; `Some` is why another stream is needed.
    fn take(&mut self, line: WatchLine, operation: Option<Operation>) -> Option<String> {
        match line {
            WatchLine::Unit(mut unit) => {
                if unit.progress.is_none() {
                    unit.progress = Some(progress_of(&unit, operation));
                }
                let name = unit.name.clone();
                self.see(&name, Some(*unit), false);
            }
            WatchLine::Leaving(name) => self.see(&name, None, true),
            WatchLine::Removed(name) => self.see(&name, None, false),
            // A fleetd or an etcd member that lags behind may not have seen the request's commit yet.
            WatchLine::Synced(revision) if revision < self.revision => {
                return Some("fleetd has yet to see what was asked of it".into());
            }
            WatchLine::Synced(_) => {
                self.synced = true;
                for one in &mut self.tracked {
                    if !one.told {
                        (one.view, one.leaving) = (None, false);
                    }
                    one.judge();
                }
            }
            WatchLine::Error(why) => return Some(why),
        }
        None
    }

    fn see(&mut self, name: &UnitName, view: Option<UnitView>, leaving: bool) {
        let one = self.index.get(name).and_then(|index| self.tracked.get_mut(*index));
        if let Some(one) = one.filter(|one| one.end.is_none()) {
            (one.view, one.leaving, one.told) = (view, leaving, true);
            if self.synced {
                one.judge();
            }
        }
    }

    /// End the goals that are due, and print it, in the order in which the units were given.
    async fn settle(&mut self) {
        if !self.synced {
            return;
        }
        let now = Instant::now();
        for index in 0..self.tracked.len() {
            let one = &self.tracked[index];
            if one.end.is_some() || one.due().is_some_and(|due| now < due) {
                continue;
            }
            let end = match &one.progress {
                Progress::Waiting(_) | Progress::Idle(_) => continue,
                Progress::Done | Progress::Settling => {
                    if one.waited || one.goal.changed {
                        self.session.line(&explain::done(&one.goal, one.view.as_ref()));
                    }
                    End::Done
                }
                Progress::Failed(why) | Progress::Failing(why) => {
                    let mut lines = explain::failed(&one.goal, one.view.as_ref(), why);
                    let said = self.last_lines(&one.goal, one.view.as_ref()).await;
                    lines.splice(1..1, said);
                    End::Failed(lines)
                }
                Progress::Unplaced(why) => {
                    let detail = self.session.client.unit(&one.goal.name).await.ok();
                    End::Failed(explain::unplaced(&one.goal, why, detail.as_ref()))
                }
            };
            if let End::Failed(lines) = &end {
                self.session.out.messages(lines);
            }
            self.tracked[index].end = Some(end);
        }
    }

    /// The unit's last journal lines on the host where it failed, indented: those of the host's report, or, if its
    /// fleetd is older and reports none, those of its journal. Only for the first few units, since each may take a
    /// while.
    async fn last_lines(&self, goal: &Goal, view: Option<&UnitView>) -> Vec<String> {
        let quoted = self.tracked.iter().filter(|one| matches!(one.end, Some(End::Failed(_)))).count();
        let failed = view.into_iter().flat_map(|view| &view.states).find(|state| state.active != "active");
        let Some(state) =
            failed.filter(|_| goal.operation == Operation::Start && quoted < QUOTED && !self.session.is_json())
        else {
            return Vec::new();
        };
        if let Some(failure) = &state.failure {
            return failure.lines.iter().map(|line| format!("  {line}")).collect();
        }
        let lines = journal_tail(&self.session.hosts, goal.name.as_str(), state, LAST_LINES).await;
        lines.into_iter().map(|line| format!("  {line}")).collect()
    }

    fn open_goals(&self) -> impl Iterator<Item = &Tracked> {
        self.tracked.iter().filter(|one| one.end.is_none())
    }

    fn next_timer(&self) -> Option<Instant> {
        let due = self.open_goals().filter(|_| self.synced).filter_map(Tracked::due).min();
        let note = (!self.noted && !self.session.out.shows_progress()).then(|| self.began + SILENCE);
        let tick = self.session.out.shows_progress().then(|| Instant::now() + TICK);
        [due, note, tick].into_iter().flatten().min()
    }

    /// Show what is being waited for: continuously on a terminal, once in a log.
    fn show(&mut self) {
        let now = Instant::now();
        let seconds = now.duration_since(self.began).as_secs();
        if self.session.out.shows_progress() {
            // What is done within a second needs no progress, and thousands of lines may arrive at once.
            if now < self.began + SILENCE || self.drawn.is_some_and(|drawn| now < drawn + REDRAW) {
                return;
            }
            self.drawn = Some(now);
            let mut open: Vec<&Tracked> = self.open_goals().collect();
            open.sort_by_key(|one| !one.is_troubled());
            let lines: Vec<String> =
                open.iter().map(|one| format!("{}: {}, {seconds} s", one.goal.name, one.doing())).collect();
            let failed = self.tracked.iter().filter(|one| matches!(one.end, Some(End::Failed(_)))).count();
            let (all, open) = (self.tracked.len(), open.len());
            let done = all - open - failed;
            self.session
                .out
                .progress(&lines, &format!("{done} of {all} done, {failed} failed, {open} to go, {seconds} s"));
        } else if !self.noted && now >= self.began + SILENCE {
            self.noted = true;
            let open: Vec<&Tracked> =
                self.open_goals().filter(|one| matches!(one.progress, Progress::Waiting(_))).collect();
            for one in open.iter().take(NOTES) {
                self.session.out.message(&format!("{}: {}", one.goal.name, one.doing()));
            }
            if open.len() > NOTES {
                self.session.out.message(&format!("and {} more to wait for", open.len() - NOTES));
            }
        }
    }

    fn close(&self, end: &End) {
        let open: Vec<&Goal> = self.open_goals().map(|one| &one.goal).collect();
        match end {
            End::TimedOut => {
                for goal in open {
                    let (name, state) = (&goal.name, goal.operation.state());
                    let line = format!("timed out waiting for unit {name} to report state {state}");
                    self.session.out.message(&format!("Error waiting for units: {line}"));
                }
            }
            End::Interrupted => {
                let names: Vec<&str> = open.iter().map(|goal| goal.name.as_str()).collect();
                let what = open.first().map_or("", |goal| goal.operation.verb());
                self.session
                    .out
                    .message(&format!("no longer waiting; the cluster continues to {what} {}", names.join(" ")));
            }
            End::Done | End::Failed(_) => {}
        }
    }
}

impl Tracked {
    fn judge(&mut self) {
        let observed = match &self.view {
            Some(view) => Observed::There(view),
            None if self.leaving => Observed::Leaving,
            None => Observed::Gone,
        };
        let mut progress = progress(&self.goal, observed);
        if progress == Progress::Done
            && self.waited
            && matches!(self.goal.operation, Operation::Start | Operation::Restart)
        {
            progress = Progress::Settling;
        }
        if std::mem::discriminant(&progress) != std::mem::discriminant(&self.progress) {
            self.since = Instant::now();
        }
        self.waited |= !matches!(progress, Progress::Done | Progress::Settling);
        self.progress = progress;
    }

    /// When the progress takes effect; `None`: at once.
    fn due(&self) -> Option<Instant> {
        match self.progress {
            Progress::Settling => Some(self.since + SETTLE),
            Progress::Failing(_) | Progress::Unplaced(_) => Some(self.since + GRACE),
            Progress::Done | Progress::Failed(_) | Progress::Waiting(_) | Progress::Idle(_) => None,
        }
    }

    /// Whether it may not get done.
    fn is_troubled(&self) -> bool {
        matches!(self.progress, Progress::Failing(_) | Progress::Failed(_) | Progress::Unplaced(_))
    }

    fn doing(&self) -> &str {
        match &self.progress {
            Progress::Waiting(what) | Progress::Idle(what) => what,
            Progress::Failing(why) | Progress::Failed(why) => why,
            Progress::Unplaced(_) => "waiting for a host that fits",
            Progress::Done | Progress::Settling => "done, looking on for a moment",
        }
    }

    fn ended(mut self, otherwise: &End) -> Ended {
        // The unit is printed as the cluster has it.
        if let Some(view) = &mut self.view {
            view.progress = None;
        }
        Ended { goal: self.goal, view: self.view, end: self.end.unwrap_or_else(|| otherwise.clone()) }
    }
}

/// The common value of `values`, if all are equal.
fn one_of<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

fn unavailable(message: String) -> ClientError {
    ClientError::Api(ErrorDetail { code: 503, message, problems: Vec::new() })
}
