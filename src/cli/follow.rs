//! Waits for units: watches them until each has ended, because what was requested is done or has failed, or because it
//! is in the state that is waited for. Owns the watch and when a wait is over; `tracked` owns how long a state must
//! last, `display` what is shown meanwhile, and `explain` the messages. Whether it is done is decided by the API.

pub(super) mod current;
mod display;
mod tracked;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use crate::api::client::{ClientError, For, News, progress_of};
use crate::api::wire::{ErrorDetail, Operation, Progress, StateView, UnitView, WatchLine};
use crate::cli::error::Line;
use crate::cli::explain;
use crate::cli::input::names;
use crate::cli::limit::Limit;
use crate::cli::session::Session;
use crate::cli::wait::{AwaitedState, Goal};
use crate::journal::{Tail, journal_tail};
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::systemd::ActiveState;
use display::Display;
use tracked::{Awaited, Tracked, next_due};

/// How many failed units are shown with their last journal lines, and how many lines.
const QUOTED: usize = 3;
pub(in crate::cli) const LAST_LINES: usize = 8;
/// Lines that are older than a unit's state by more than this aren't about it, in ms.
const UNRELATED_MS: u64 = 60_000;
/// How long, and how often, the lines of a report that came without any are asked for.
const LINES_TIMEOUT: Duration = Duration::from_secs(3);
const LINES_POLL: Duration = Duration::from_millis(200);

/// How waiting for a unit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It is done, or is in the state that was waited for.
    Done,
    /// It failed; these lines were printed.
    Failed(Vec<Line>),
    /// The time limit was exceeded; what it still waited for.
    TimedOut(String),
    /// Ctrl-C was pressed.
    Interrupted,
}

/// A unit that was waited for, and how that ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The unit.
    pub(super) name: UnitName,
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
    limit: Limit,
) -> Result<Vec<Ended>, ClientError> {
    let patterns = goals.iter().map(|goal| names::exactly(&goal.name)).collect();
    let awaited = goals.into_iter().map(|goal| (goal.name.clone(), Awaited::Request(goal)));
    Ok(Waiting::new(session, patterns, awaited, revision, limit).run().await?.0)
}

/// The units that are waited for by [`wait_for`].
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Units that were named.
    pub(super) named: Vec<UnitName>,
    /// Patterns of units' names, those of `named` included; without any, all units are meant.
    pub(super) patterns: Vec<String>,
}

/// Wait until all chosen units are in `state` at the same time, at most `limit`. A unit that can't get there without
/// another request ends as failed at once; with [`AwaitedState::Settled`], that is one way to be settled. Returns the
/// units, of which there may be none, and how the wait ended.
///
/// # Errors
/// As [`wait`].
pub(super) async fn wait_for(
    session: &Session,
    chosen: Chosen,
    state: AwaitedState,
    revision: Revision,
    limit: Limit,
) -> Result<(Vec<Ended>, End), ClientError> {
    let awaited = chosen.named.into_iter().map(|name| (name, Awaited::State(state)));
    let mut waiting = Waiting::new(session, chosen.patterns, awaited, revision, limit);
    waiting.together = Some(state);
    waiting.run().await
}

/// Resolves at `deadline`, if there is one.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Resolves with Ctrl-C. Without a handler, it ends the process and thus the wait.
pub(super) async fn interrupted(interrupts: Option<&mut Signal>) {
    match interrupts {
        Some(interrupts) => drop(interrupts.recv().await),
        None => std::future::pending().await,
    }
}

struct Waiting<'a> {
    session: &'a Session,
    /// What the watch is about.
    patterns: Vec<String>,
    tracked: Vec<Tracked>,
    index: BTreeMap<UnitName, usize>,
    /// The state that all units must be in at the same time, also those that are first seen while waiting.
    together: Option<AwaitedState>,
    revision: Revision,
    limit: Limit,
    synced: bool,
    /// When it was last decided which units have ended.
    settled: Instant,
    display: Display,
}

impl<'a> Waiting<'a> {
    fn new(
        session: &'a Session,
        patterns: Vec<String>,
        awaited: impl Iterator<Item = (UnitName, Awaited)>,
        revision: Revision,
        limit: Limit,
    ) -> Self {
        let tracked: Vec<Tracked> = awaited.map(|(name, awaited)| Tracked::new(name, awaited)).collect();
        let index = tracked.iter().enumerate().map(|(index, one)| (one.name.clone(), index)).collect();
        let (display, settled) = (Display::begin(), Instant::now());
        Self { session, patterns, tracked, index, together: None, revision, limit, synced: false, settled, display }
    }

    /// Wait until it is over, the time is over, or Ctrl-C is pressed.
    async fn run(mut self) -> Result<(Vec<Ended>, End), ClientError> {
        let deadline = self.limit.deadline();
        let mut interrupts = signal(SignalKind::interrupt()).ok();
        let end = tokio::select! {
            over = self.follow() => over.map(|()| End::Done)?,
            () = until(deadline) => End::TimedOut(String::new()),
            () = interrupted(interrupts.as_mut()) => End::Interrupted,
        };
        self.display.close(self.session, &self.tracked, &end, self.limit);
        Ok((self.tracked.into_iter().map(|one| one.ended(&end)).collect(), end))
    }

    /// Watch the units until each has ended.
    async fn follow(&mut self) -> Result<(), ClientError> {
        let session = self.session;
        let patterns = self.patterns.clone();
        let operation = one_of(self.tracked.iter().map(|one| one.operation())).flatten();
        let mut watch = session.client.follow(&patterns, operation, For::APerson);
        let mut older = false;
        while self.is_open() {
            self.display.show(session, &self.tracked);
            let timer = self.next_timer();
            // Cancel-safe: `Follow::next` keeps its state, and the timer is computed again.
            tokio::select! {
                news = watch.next() => match news {
                    Ok(News::Begun) => self.tracked.iter_mut().for_each(|one| one.reported = false),
                    Ok(News::Line(line)) => if let Some(why) = self.take(line, operation) {
                        watch.reopen(unavailable(why))?;
                    },
                    Ok(News::Broken) => self.synced = false,
                    Ok(outage @ (News::Lost(_) | News::Back)) => current::report(session, &outage),
                    // A fleetd of an older version refuses `operation=`.
                    Err(ClientError::Api(detail)) if detail.code == 400 && operation.is_some() && !older => {
                        older = true;
                        watch = session.client.follow(&patterns, None, For::APerson);
                    }
                    Err(error) => return Err(error),
                },
                () = until(timer) => {}
            }
            self.settle().await;
        }
        Ok(())
    }

    /// Whether something is left to wait for; before everything was received, more units may be.
    fn is_open(&self) -> bool {
        self.tracked.iter().any(Tracked::is_open) || (self.together.is_some() && !self.synced)
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
                    if !one.reported {
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
        let here = view.is_some() || leaving;
        if let (Some(state), true, false) = (self.together, here, self.index.contains_key(name) || name.is_template()) {
            self.index.insert(name.clone(), self.tracked.len());
            self.tracked.push(Tracked::new(name.clone(), Awaited::State(state)));
        }
        let one = self.index.get(name).and_then(|index| self.tracked.get_mut(*index));
        if let Some(one) = one.filter(|one| one.end.is_none()) {
            (one.view, one.leaving, one.reported) = (view, leaving, true);
            one.known |= here;
            if self.synced {
                one.judge();
            }
        }
    }

    /// End the units that are due, and print it, in the order in which they were given.
    async fn settle(&mut self) {
        if !self.synced {
            return;
        }
        let now = Instant::now();
        self.settled = now;
        // Units that must be in a state at the same time wait for each other, unless one can't get there any more.
        let waits = |one: &Tracked| one.is_open() && !one.is_over(now);
        let all = !self.tracked.iter().any(waits);
        for index in 0..self.tracked.len() {
            let one = &self.tracked[index];
            let alone = self.together.is_none() || (self.together != Some(AwaitedState::Settled) && one.is_troubled());
            if !one.is_open() || !one.is_over(now) || !(all || alone) {
                continue;
            }
            let end = self.end_of(one).await;
            if let End::Failed(lines) = &end {
                self.session.out.messages(lines);
            }
            self.tracked[index].end = Some(end);
        }
    }

    /// The end of a unit that is over. A line about one that is done is printed.
    async fn end_of(&self, one: &Tracked) -> End {
        let view = one.view.as_ref();
        match &one.progress {
            Progress::Failed(why) | Progress::Failing(why) => {
                let mut lines = explain::failed(&one.name, view, why, one.was_asked_for_before());
                let said = self.last_lines(one).await;
                lines.splice(1..1, said.into_iter().map(Line::Message));
                End::Failed(lines)
            }
            Progress::Unplaced(why) => {
                let detail = self.session.client.unit(&one.name).await.ok();
                End::Failed(explain::unplaced(&one.name, one.operation(), why, detail.as_ref()))
            }
            Progress::Done | Progress::Settling | Progress::Waiting(_) | Progress::Idle(_) => {
                match &one.awaited {
                    Awaited::Request(goal) if one.waited || goal.changed => {
                        self.session.line(&explain::done(goal, view))
                    }
                    Awaited::State(state) if *state != AwaitedState::Settled => {
                        self.session.line(&explain::reached(&one.name, state.as_str(), view));
                    }
                    Awaited::Request(_) | Awaited::State(_) => {}
                }
                End::Done
            }
        }
    }

    /// The unit's last journal lines on the host where it failed, indented: those of the host's report, or, if its
    /// fleetd is older and reports none, those of its journal. Only for the first few units, since each may take a
    /// while.
    async fn last_lines(&self, one: &Tracked) -> Vec<String> {
        let quoted = self.tracked.iter().filter(|one| matches!(one.end, Some(End::Failed(_)))).count();
        let failed =
            one.view.iter().flat_map(|view| &view.states).find(|state| state.report.active != ActiveState::Active);
        let starts = one.operation().is_none_or(|operation| operation == Operation::Start);
        let Some(state) = failed.filter(|_| starts && quoted < QUOTED && !self.session.is_json()) else {
            return Vec::new();
        };
        if let Some(failure) = &state.report.failure {
            let late = if failure.lines.is_empty() { self.late_lines(&one.name, state).await } else { Vec::new() };
            return failure.lines.iter().chain(&late).map(|line| format!("  {line}")).collect();
        }
        if one.operation().is_none() {
            return Vec::new();
        }
        // Earlier lines have nothing to do with its state.
        let (machine, since) = (&state.machine, state.report.since.saturating_sub(UNRELATED_MS));
        let tail = Tail { unit: &one.name, machine, since, until: None, count: LAST_LINES };
        let lines = journal_tail(&self.session.hosts, &tail).await;
        lines.into_iter().map(|line| format!("  {line}")).collect()
    }

    /// The lines of a report that was written without them: a host whose disk is slow reports a failure before its
    /// journal was read, and the lines once it has been. Empty if they don't come in time, or the unit no longer fails.
    ///
    /// This asks again, though the unit is watched: its end is being told, and what the stream says of the other units
    /// meanwhile must be handled afterwards, in the loop that decides about all of them. It is rare, short, and about
    /// one unit.
    async fn late_lines(&self, name: &UnitName, state: &StateView) -> Vec<String> {
        let deadline = Instant::now() + LINES_TIMEOUT;
        while Instant::now() < deadline {
            let Ok(detail) = self.session.client.unit(name).await else { break };
            let mut states = detail.unit.states.into_iter();
            let now = states.find(|now| now.machine.id == state.machine.id).and_then(|now| now.report.failure);
            match now {
                Some(failure) if failure.lines.is_empty() => sleep(LINES_POLL).await,
                failure => return failure.map(|failure| failure.lines).unwrap_or_default(),
            }
        }
        Vec::new()
    }

    fn next_timer(&self) -> Option<Instant> {
        let due = if self.synced { next_due(&self.tracked, self.settled) } else { None };
        [due, self.display.next(self.session)].into_iter().flatten().min()
    }
}

/// The common value of `values`, if all are equal.
fn one_of<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

pub(super) fn unavailable(message: String) -> ClientError {
    ClientError::Api(ErrorDetail { code: 503, message, problems: Vec::new() })
}
