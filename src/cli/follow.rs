//! Waits for what was asked: one watch for all units, reopened when it breaks, until each goal has its end.
//! Owns the clock of waiting, its progress and Ctrl-C; what counts as done is `wait`'s, the words are `explain`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use crate::api::client::{ClientError, Watch};
use crate::api::wire::{UnitView, WatchLine};
use crate::cli::explain;
use crate::cli::input::names;
use crate::cli::session::Session;
use crate::cli::wait::Aim;
use crate::cli::wait::{Goal, Sight, Verdict, judge};
use crate::journal::journal_tail;
use crate::model::name::UnitName;
use crate::model::revision::Revision;

/// How long what doesn't look good may take to get better: a conflicting unit may be on its way out.
const GRACE: Duration = Duration::from_secs(1);
/// How long to look on at what is done: more hosts may have a global unit, and a service that systemd calls started as
/// soon as it is forked may fail at once (no such user, no such program).
const SETTLE: Duration = Duration::from_millis(250);
/// Nothing waits in silence for longer.
const SILENCE: Duration = Duration::from_secs(1);
/// How often the seconds on the screen move on.
const TICK: Duration = Duration::from_millis(500);
/// How often the screen may change.
const REDRAW: Duration = Duration::from_millis(100);
/// Between attempts to reach fleetd again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// More lines without a terminal would be noise.
const NOTES: usize = 10;

/// Units that failed of which the last lines are shown, and how many of each.
const QUOTED: usize = 3;
const LAST_WORDS: usize = 8;

/// How waiting for a unit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// As asked.
    Done,
    /// It won't be; the lines that say why have been printed.
    Failed(Vec<String>),
    /// It took longer than allowed.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
}

/// A goal and what became of it.
#[derive(Debug)]
pub(super) struct Ended {
    /// The goal.
    pub(super) goal: Goal,
    /// The unit, as last seen.
    pub(super) view: Option<UnitView>,
    /// The end.
    pub(super) end: End,
}

/// Wait until each of `goals` has its end, at most `limit`. `revision` is what asking them led to.
///
/// # Errors
/// A fleetd that can't be understood. One that can't be reached is waited for.
pub(super) async fn wait(
    session: &Session,
    goals: Vec<Goal>,
    revision: Revision,
    limit: Option<Duration>,
) -> Result<Vec<Ended>, ClientError> {
    let mut follower = Follower::new(session, goals, revision);
    let deadline = limit.map(|limit| follower.began + limit);
    let mut interrupts = signal(SignalKind::interrupt()).ok();
    let end = loop {
        // Opening anew, as all arms, may be dropped half way: the next round begins it again.
        let watch = tokio::select! {
            watch = follower.open() => watch?,
            () = until(deadline) => break End::TimedOut,
            () = interrupted(interrupts.as_mut()) => break End::Interrupted,
        };
        let over = tokio::select! {
            over = follower.follow(watch) => over?,
            () = until(deadline) => break End::TimedOut,
            () = interrupted(interrupts.as_mut()) => break End::Interrupted,
        };
        if over {
            break End::Done;
        }
    };
    follower.close(&end);
    Ok(follower.tracked.into_iter().map(|one| one.ended(&end)).collect())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Without a handler Ctrl-C ends the process, which ends the waiting too.
async fn interrupted(interrupts: Option<&mut Signal>) {
    match interrupts {
        Some(interrupts) => drop(interrupts.recv().await),
        None => std::future::pending().await,
    }
}

struct Tracked {
    goal: Goal,
    view: Option<UnitView>,
    /// It was destroyed, and isn't gone yet.
    leaving: bool,
    /// The watch that is open has told of it.
    told: bool,
    /// The verdict has been other than done.
    waited: bool,
    /// The verdict of now, and since when it is of this kind.
    verdict: Verdict,
    since: Instant,
    end: Option<End>,
}

struct Follower<'a> {
    session: &'a Session,
    tracked: Vec<Tracked>,
    index: BTreeMap<UnitName, usize>,
    revision: Revision,
    synced: bool,
    began: Instant,
    noted: bool,
    drawn: Option<Instant>,
    /// Since when there is no watch, and whether that has been said.
    lost: Option<Instant>,
    complained: bool,
    delay: Duration,
}

impl<'a> Follower<'a> {
    fn new(session: &'a Session, goals: Vec<Goal>, revision: Revision) -> Self {
        let began = Instant::now();
        let index = goals.iter().enumerate().map(|(index, goal)| (goal.name.clone(), index)).collect();
        let verdict = Verdict::Waiting("asking".into());
        let track = |goal| Tracked {
            goal,
            view: None,
            leaving: false,
            told: false,
            waited: false,
            verdict: verdict.clone(),
            since: began,
            end: None,
        };
        let tracked = goals.into_iter().map(track).collect();
        Self {
            session,
            tracked,
            index,
            revision,
            synced: false,
            began,
            noted: false,
            drawn: None,
            lost: None,
            complained: false,
            delay: RETRY.0,
        }
    }

    /// A watch of all that isn't done, however long it takes to get one.
    async fn open(&mut self) -> Result<Watch, ClientError> {
        loop {
            let patterns: Vec<String> = self.open_goals().map(|one| names::exactly(&one.goal.name)).collect();
            match self.session.client.watch(&patterns).await {
                Ok(watch) => {
                    self.synced = false;
                    self.tracked.iter_mut().for_each(|one| one.told = false);
                    return Ok(watch);
                }
                // 5xx: fleetd is there, its store isn't; that passes too.
                Err(ClientError::Api(detail)) if detail.code < 500 => return Err(ClientError::Api(detail)),
                Err(error @ ClientError::Protocol(_)) => return Err(error),
                Err(error) => self.lose(&error.to_string()).await,
            }
        }
    }

    async fn lose(&mut self, why: &str) {
        let now = Instant::now();
        let since = *self.lost.get_or_insert(now);
        // A restart of fleetd takes less than this; no need to talk about it.
        if !self.complained && now >= since + SILENCE {
            self.complained = true;
            self.session.out.message(&format!("{why}; trying again"));
        }
        sleep(self.delay).await;
        self.delay = (2 * self.delay).min(RETRY.1);
    }

    /// Follow `watch` to its end (`false`) or that of all goals (`true`).
    async fn follow(&mut self, mut watch: Watch) -> Result<bool, ClientError> {
        loop {
            let timer = self.next_timer();
            // Cancel-safe: `Watch::next` keeps what it has read, and a timer that is dropped is set again.
            tokio::select! {
                line = watch.next() => match line {
                    Ok(line) => if let Some(why) = self.take(line) {
                        self.lose(&why).await;
                        return Ok(false);
                    },
                    Err(ClientError::Unreachable(_)) => {
                        self.lose("lost the connection to fleetd").await;
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                },
                () = until(timer) => {}
            }
            self.settle().await;
            if self.open_goals().next().is_none() {
                return Ok(true);
            }
            self.show();
        }
    }

    /// Take in one line; `Some` is why the watch ends.
    fn take(&mut self, line: WatchLine) -> Option<String> {
        match line {
            WatchLine::Unit(unit) => {
                let name = unit.name.clone();
                self.see(&name, Some(*unit), false);
            }
            WatchLine::Leaving(name) => self.see(&name, None, true),
            WatchLine::Removed(name) => self.see(&name, None, false),
            // A member of the store that lags behind may not have seen yet what was asked.
            WatchLine::Synced(revision) if revision < self.revision => {
                return Some("fleetd has yet to see what was asked of it".into());
            }
            WatchLine::Synced(_) => {
                (self.synced, self.delay) = (true, RETRY.0);
                self.lost = None;
                if std::mem::take(&mut self.complained) {
                    self.session.out.message("fleetd is back");
                }
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

    /// End what has its end, and say so, in the order the units were given.
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
            let end = match &one.verdict {
                Verdict::Waiting(_) => continue,
                Verdict::Done | Verdict::Settling => {
                    if one.waited || one.goal.changed {
                        self.session.line(&explain::done(&one.goal, one.view.as_ref()));
                    }
                    End::Done
                }
                Verdict::Failed(why) | Verdict::Failing(why) => {
                    let mut lines = explain::failed(&one.goal, one.view.as_ref(), why);
                    let said = self.last_words(&one.goal, one.view.as_ref()).await;
                    lines.splice(1..1, said);
                    End::Failed(lines)
                }
                Verdict::Unplaced(why) => {
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

    /// What the unit said where it failed, indented. Of many, the first ones tell enough: each may take a while to be
    /// had.
    async fn last_words(&self, goal: &Goal, view: Option<&UnitView>) -> Vec<String> {
        let quoted = self.tracked.iter().filter(|one| matches!(one.end, Some(End::Failed(_)))).count();
        let failed = view.into_iter().flat_map(|view| &view.states).find(|state| state.active != "active");
        let Some(state) = failed.filter(|_| goal.aim == Aim::Start && quoted < QUOTED && !self.session.is_json())
        else {
            return Vec::new();
        };
        let lines = journal_tail(&self.session.hosts, goal.name.as_str(), state, LAST_WORDS).await;
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

    /// What is being waited for: all the time on a terminal, once in a log.
    fn show(&mut self) {
        let now = Instant::now();
        let seconds = now.duration_since(self.began).as_secs();
        if self.session.out.shows_progress() {
            // Thousands of lines may come at once; eyes don't need more than this.
            if self.drawn.is_some_and(|drawn| now < drawn + REDRAW) {
                return;
            }
            self.drawn = Some(now);
            let lines: Vec<String> =
                self.open_goals().map(|one| format!("{}: {}, {seconds} s", one.goal.name, one.doing())).collect();
            self.session.out.progress(&lines);
        } else if !self.noted && now >= self.began + SILENCE {
            self.noted = true;
            let open: Vec<&Tracked> =
                self.open_goals().filter(|one| matches!(one.verdict, Verdict::Waiting(_))).collect();
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
                    let (name, state) = (&goal.name, goal.aim.state());
                    let line = format!("timed out waiting for unit {name} to report state {state}");
                    self.session.out.message(&format!("Error waiting for units: {line}"));
                }
            }
            End::Interrupted => {
                let names: Vec<&str> = open.iter().map(|goal| goal.name.as_str()).collect();
                let what = open.first().map_or("", |goal| goal.aim.verb());
                self.session
                    .out
                    .message(&format!("not waiting any longer; the cluster goes on to {what} {}", names.join(" ")));
            }
            End::Done | End::Failed(_) => {}
        }
    }
}

impl Tracked {
    fn judge(&mut self) {
        let sight = match &self.view {
            Some(view) => Sight::There(view),
            None if self.leaving => Sight::Leaving,
            None => Sight::Gone,
        };
        let mut verdict = judge(&self.goal, sight);
        if verdict == Verdict::Done && self.waited && matches!(self.goal.aim, Aim::Start | Aim::Restart) {
            verdict = Verdict::Settling;
        }
        if std::mem::discriminant(&verdict) != std::mem::discriminant(&self.verdict) {
            self.since = Instant::now();
        }
        self.waited |= !matches!(verdict, Verdict::Done | Verdict::Settling);
        self.verdict = verdict;
    }

    /// When the verdict counts; `None`: as soon as it is there.
    fn due(&self) -> Option<Instant> {
        match self.verdict {
            Verdict::Settling => Some(self.since + SETTLE),
            Verdict::Failing(_) | Verdict::Unplaced(_) => Some(self.since + GRACE),
            Verdict::Done | Verdict::Failed(_) | Verdict::Waiting(_) => None,
        }
    }

    fn doing(&self) -> &str {
        match &self.verdict {
            Verdict::Waiting(what) => what,
            Verdict::Failing(why) | Verdict::Failed(why) => why,
            Verdict::Unplaced(_) => "waiting for a host that fits",
            Verdict::Done | Verdict::Settling => "done, looking on for a moment",
        }
    }

    fn ended(self, otherwise: &End) -> Ended {
        Ended { goal: self.goal, view: self.view, end: self.end.unwrap_or_else(|| otherwise.clone()) }
    }
}
