//! One daemon's connection to the store, and its faults: delays, lost requests, lost answers, late requests, cuts in
//! one direction or both, watches that stall or end. Owns these faults; requests are carried out by the store.
//!
//! A request that was sent is carried out even if its sender is dead by then, as on a real network.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla::model::revision::Revision;
use flotilla::store::embedded::Embedded;
use flotilla::store::{Batch, Error, LeaseId, Page, Range, Store, Txn, Watch};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::freeze::Freeze;
use super::judge::Judge;
use super::random::Random;
use super::told::Point;

/// How long a caller waits for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// How much later than that a late request may arrive.
const LATE: Duration = Duration::from_secs(10);

/// How often a caller that is cut off checks whether it still is.
const LOOK: Duration = Duration::from_millis(100);

/// The properties of a connection. Probabilities are per mille.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// The longest delay of a request, and of an answer, beyond the shortest, in ms.
    pub(crate) delay: u64,
    /// The probability that a request never arrives.
    pub(crate) lost: u64,
    /// ... that it is carried out, and the answer never arrives.
    pub(crate) unanswered: u64,
    /// ... that it arrives and is carried out after its caller has given up.
    pub(crate) late: u64,
    /// The probability that a watch ends instead of delivering a batch.
    pub(crate) watch_ends: u64,
    /// The longest delay of a batch, in ms.
    pub(crate) slow_watch: u64,
}

impl Weather {
    /// How long a daemon may act on what it knew when it began: meanwhile it makes a few requests one after the other,
    /// each of which takes a round trip.
    fn lag(self) -> Duration {
        let round_trip = Duration::from_millis(2 * (1 + self.delay));
        Duration::from_millis(500) + 4 * round_trip
    }
}

/// In which directions a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    No,
    Both,
    /// Requests don't arrive. What watches deliver does.
    Requests,
    /// Requests are carried out. Neither answers nor what watches deliver arrive.
    Answers,
}

/// The connection of one daemon, or of a user. Clones share it.
#[derive(Clone)]
pub(crate) struct Line {
    /// Whether its daemon is suspended.
    pub(crate) freeze: Freeze,
    host: Option<usize>,
    store: Embedded,
    judge: Judge,
    state: Arc<Mutex<State>>,
}

struct State {
    random: Random,
    weather: Weather,
    cut: Cut,
    /// Whether watches end when the connection is cut; otherwise they stall.
    watches_end: bool,
    /// Watches stall, although requests get through.
    watches_stall: bool,
    /// What begins with this can't be read: reads fail, and watches end instead of delivering a batch.
    unreadable: Option<String>,
    /// How long after it was sent the next commit arrives.
    late_commit: Duration,
    /// After so many more commits, the sender has died: no later one is sent, and none is answered.
    dies_after: Option<usize>,
}

/// What happens to one request.
struct Fate {
    there: Duration,
    back: Duration,
    lost: bool,
    unanswered: bool,
    /// Whether a failure is reported immediately (connection refused) instead of after the deadline.
    quick: bool,
}

impl Line {
    /// The same connection, for a part of the daemon that is neither agent nor engine: what it reads tells these
    /// nothing.
    pub(crate) fn beside(&self) -> Self {
        Self { host: None, ..self.clone() }
    }

    pub(crate) fn new(host: Option<usize>, store: Embedded, judge: Judge, random: Random) -> Self {
        let (weather, cut, watches_end) = (Weather::default(), Cut::No, true);
        let (watches_stall, unreadable, late_commit, dies_after) = Default::default();
        let state = State { random, weather, cut, watches_end, watches_stall, unreadable, late_commit, dies_after };
        let line = Self { freeze: Freeze::default(), host, store, judge, state: Arc::new(Mutex::new(state)) };
        line.set_weather(Weather::default());
        line
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.judge.allow(weather.lag());
        self.lock().weather = weather;
    }

    /// Cut the connection, or restore it.
    pub(crate) fn cut(&self, cut: Cut, watches_end: bool) {
        let mut state = self.lock();
        (state.cut, state.watches_end) = (cut, watches_end);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.lock().cut != Cut::No
    }

    fn sends(&self) -> bool {
        matches!(self.lock().cut, Cut::No | Cut::Answers)
    }

    fn receives(&self) -> bool {
        matches!(self.lock().cut, Cut::No | Cut::Requests)
    }

    /// Stall the watches, or let them continue.
    pub(crate) fn stall_watches(&self, stall: bool) {
        self.lock().watches_stall = stall;
    }

    /// From now on, keys that begin with `prefix` can't be read; all can with `None`.
    pub(crate) fn unreadable(&self, prefix: Option<String>) {
        self.lock().unreadable = prefix;
    }

    fn is_unreadable(&self, prefix: &str) -> bool {
        self.lock().unreadable.as_ref().is_some_and(|unreadable| prefix.starts_with(unreadable))
    }

    /// Delay the next commit by this much.
    pub(crate) fn delay_next_commit(&self, by: Duration) {
        self.lock().late_commit = by;
    }

    /// After so many more commits, the sender dies; `None` if it doesn't.
    pub(crate) fn die_after(&self, commits: Option<usize>) {
        self.lock().dies_after = commits;
    }

    /// Whether the sender lives to send one more commit.
    fn is_sending(&self) -> bool {
        let dies_after = &mut self.lock().dies_after;
        let left = *dies_after;
        *dies_after = left.map(|left| left.saturating_sub(1));
        left != Some(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self) -> Fate {
        let mut state = self.lock();
        let Weather { delay, lost, unanswered, late, .. } = state.weather;
        let random = &mut state.random;
        let mut there = random.millis(1..=1 + delay);
        let back = random.millis(0..=delay);
        let (lost, unanswered, quick) = (random.chance(lost), random.chance(unanswered), random.chance(500));
        if random.chance(late) {
            there = DEADLINE + random.millis(0..=u64::try_from(LATE.as_millis()).unwrap_or(u64::MAX));
        }
        Fate { there, back, lost, unanswered, quick }
    }

    /// Send a request and wait for its answer.
    async fn call<T, F>(&self, request: impl FnOnce(Self) -> F + Send + 'static) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send,
    {
        // The daemon's own tasks are suspended by whoever runs them; this is for the tasks that these have spawned.
        self.freeze.over().await;
        let deadline = Instant::now() + DEADLINE;
        let fate = self.fate();
        let (answer, answered) = oneshot::channel();
        let line = self.clone();
        tokio::spawn(async move {
            // A connection ends with the cluster to which it leads, and what was sent over it is lost then.
            let cluster = line.cluster();
            sleep(fate.there).await;
            if fate.lost || !line.sends() || line.cluster() != cluster {
                return;
            }
            let result = request(line.clone()).await;
            sleep(fate.back).await;
            if !fate.unanswered && line.receives() && line.cluster() == cluster {
                // The caller may have given up.
                let _ = answer.send(result);
            }
        });
        let answered = tokio::time::timeout_at(deadline, answered).await;
        self.freeze.over().await;
        match answered {
            Ok(Ok(result)) => return result,
            Ok(Err(_)) if fate.quick => {}
            _ => sleep_until(deadline).await,
        }
        Err(Error::Unavailable("no answer (simulated)".into()))
    }

    /// Whether a batch is delivered; waits while watches stall.
    async fn deliver(&self, prefix: &str) -> Result<(), Error> {
        let (ends, slow) = {
            let mut state = self.lock();
            let Weather { watch_ends, slow_watch, .. } = state.weather;
            (state.random.chance(watch_ends), state.random.millis(1..=1 + slow_watch))
        };
        if ends || self.is_unreadable(prefix) {
            return Err(Error::Unavailable("the watch ended (simulated)".into()));
        }
        sleep(slow).await;
        while !self.receives() || self.freeze.is_frozen() || self.lock().watches_stall {
            if !self.receives() && self.lock().watches_end {
                sleep(DEADLINE).await;
                return Err(Error::Unavailable("the watch was cut (simulated)".into()));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// The id of the store's cluster.
    fn cluster(&self) -> u64 {
        self.store.cluster()
    }

    /// The daemon has received something from the store.
    fn heard(&self, prefix: &str, at: Point) {
        if let Some(host) = self.host {
            self.judge.heard(host, prefix, at);
        }
    }

    async fn pump(self, cluster: u64, prefix: String, mut inner: Watch, batches: mpsc::Sender<Result<Batch, Error>>) {
        loop {
            let next = tokio::select! {
                biased;
                () = batches.closed() => return,
                next = inner.next() => next,
            };
            let next = match self.deliver(&prefix).await {
                Ok(()) => next,
                Err(error) => Err(error),
            };
            let over = next.is_err();
            // The daemon may have been killed meanwhile, or have begun another watch.
            if batches.is_closed() {
                return;
            }
            if let Ok(batch) = &next {
                self.heard(&prefix, Point::new(cluster, batch.revision));
            }
            if batches.send(next).await.is_err() || over {
                return;
            }
        }
    }
}

impl Store for Line {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        let (prefix, one) = (range.prefix.clone(), range.limit == 1);
        if self.is_unreadable(&prefix) {
            return Err(Error::Unavailable("these keys can't be read (simulated)".into()));
        }
        let page = self.call(|line| async move { line.store.range(range).await }).await?;
        // A read of one key tells of no other: a mirror whose watch has ended asks in this way for the store's revision
        // only, and what has changed reaches it with the next watch. A list is known when its last page is.
        if !one && !page.more {
            self.heard(&prefix, Point::new(page.cluster, page.revision));
        }
        Ok(page)
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
        if !self.is_sending() {
            return std::future::pending().await;
        }
        // A commit is judged by what its sender knows now, even if it arrives late, after its sender has died.
        let writer = self.judge.writer(self.host);
        let later = std::mem::take(&mut self.lock().late_commit);
        let commit = move |line: Self| async move {
            sleep(later).await;
            line.judge.commit(&line.store, writer, txn).await
        };
        self.call(commit).await
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        let (batches, watch) = mpsc::channel(4);
        let inner = self.store.watch(prefix, from);
        tokio::spawn(self.clone().pump(self.cluster(), prefix.into(), inner, batches));
        Watch::new(watch)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.call(move |line| async move { line.store.grant(ttl).await }).await
    }

    async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, Error> {
        self.call(move |line| async move { line.store.keep_alive(lease, within).await }).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.call(move |line| async move { line.judge.revoke(&line.store, lease).await }).await
    }
}
