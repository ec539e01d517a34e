//! What must hold, whatever members and connections do. Owns the comparison of what the adapter says with what the
//! members have agreed on, which it knows because they are simulated.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla::store::etcd::Etcd;
use flotilla::store::etcd::client::{Change, Condition, KeyValue};
use flotilla::store::lease::Lease;
use flotilla::store::{Error, Event, Guard, Kv, Page, Revision};
use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::members::{Cluster, PREFIX, REQUEST_TIMEOUT, Simulated, World};

/// The longest time that a request takes.
const REQUEST: Duration = Duration::from_millis(2 * REQUEST_TIMEOUT.as_millis() as u64 + 20);

/// How long it takes to find a member that can serve, when there is one: each of three may be silent.
const SERVED: Duration = Duration::from_secs(8);

/// How long it takes until a change is delivered: a watch's silent connection is noticed by pings.
const DELIVERED: Duration = Duration::from_secs(25);

/// How often something happened that matters.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) commits: u64,
    pub(crate) conflicts: u64,
    pub(crate) unknown: u64,
    /// Unknown commits that had been carried out.
    pub(crate) done: u64,
    pub(crate) reads: u64,
    pub(crate) reads_failed: u64,
    pub(crate) batches: u64,
    pub(crate) resets: u64,
    pub(crate) watches_ended: u64,
    pub(crate) leases_lost: u64,
    pub(crate) renewals_failed: u64,
    /// The store's last revision.
    pub(crate) revision: u64,
}

impl Figures {
    pub(crate) fn counts(&self) -> [(&'static str, u64); 11] {
        [
            ("a commit", self.commits),
            ("a conflict", self.conflicts),
            ("a commit whose outcome is unknown", self.unknown),
            ("a commit that was carried out, but not acknowledged", self.done),
            ("a read", self.reads),
            ("a read that failed", self.reads_failed),
            ("a batch", self.batches),
            ("a second list", self.resets),
            ("a watch that ended", self.watches_ended),
            ("a lost lease", self.leases_lost),
            ("a renewal that failed", self.renewals_failed),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.conflicts += other.conflicts;
        self.unknown += other.unknown;
        self.done += other.done;
        self.reads += other.reads;
        self.reads_failed += other.reads_failed;
        self.batches += other.batches;
        self.resets += other.resets;
        self.watches_ended += other.watches_ended;
        self.leases_lost += other.leases_lost;
        self.renewals_failed += other.renewals_failed;
    }
}

/// What became of a write, as its caller knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    Refused,
    Unknown,
}

#[derive(Default)]
struct Notes {
    violation: Option<String>,
    figures: Figures,
    /// Each value is written by one request only.
    writes: BTreeMap<Vec<u8>, Fate>,
    /// Since when a client can be served by a member, without interruption.
    healthy: BTreeMap<(usize, usize), Instant>,
    /// When each client was served last.
    served: BTreeMap<usize, Instant>,
    /// What each follower has seen, and since when it has not seen more.
    seen: BTreeMap<usize, (u64, Instant)>,
    /// Since when each revision has been the newest.
    newest: Vec<(Instant, u64)>,
    leases: BTreeMap<i64, Kept>,
}

/// A lease that a client keeps.
#[derive(Clone)]
struct Kept {
    client: usize,
    ttl: Duration,
    lease: Arc<Lease<Etcd<Simulated>>>,
}

/// The judge of one seed. Clones share it.
#[derive(Clone)]
pub(crate) struct Judge {
    cluster: Cluster,
    notes: Arc<Mutex<Notes>>,
}

/// A request that was begun.
pub(crate) struct Begun {
    at: Instant,
    revision: u64,
}

impl Judge {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let judge = Self { cluster: cluster.clone(), notes: Arc::default() };
        let expired = judge.clone();
        cluster.on_expiry(move |lease| expired.expired(lease));
        judge
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, so: bool, words: impl FnOnce() -> String) {
        if !so {
            self.lock().violation.get_or_insert_with(words);
        }
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures { revision: self.newest(), ..self.lock().figures.clone() }
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Figures)) {
        count(&mut self.lock().figures);
    }

    fn newest(&self) -> u64 {
        self.cluster.look(|world| world.history.revision)
    }

    pub(crate) fn begin(&self) -> Begun {
        Begun { at: Instant::now(), revision: self.newest() }
    }

    fn ended(&self, begun: &Begun, what: &str) {
        let took = begun.at.elapsed();
        self.hold(took <= REQUEST, || format!("served in time: {what} took {took:?}"));
    }

    /// A commit of `value` (if it writes one) under these guards was answered.
    pub(crate) fn committed(
        &self,
        begun: &Begun,
        guards: &[Guard],
        value: Option<&[u8]>,
        answer: &Result<Revision, Error>,
    ) {
        self.ended(begun, "a commit");
        let conditions: Vec<Condition> = guards.iter().map(condition).collect();
        let (first, last) = (begun.revision, self.newest());
        let held =
            |so: bool| self.cluster.look(|world| (first..=last).any(|at| world.history.hold(&conditions, at) == so));
        let fate = match answer {
            Ok(revision) => {
                let least = if value.is_some() { first + 1 } else { first };
                let so = (least..=last).contains(&revision.0);
                self.hold(so, || format!("writes: a commit says revision {revision}, not {least} to {last}"));
                let so = held(true);
                self.hold(so, || format!("writes: {guards:?} never held between {first} and {last}, but a commit did"));
                self.count(|figures| figures.commits += 1);
                Fate::Acknowledged
            }
            Err(Error::Conflict) => {
                let so = held(false);
                self.hold(so, || format!("writes: {guards:?} held from {first} to {last}, but a commit was refused"));
                self.count(|figures| figures.conflicts += 1);
                Fate::Refused
            }
            Err(Error::Unavailable(_)) => {
                self.count(|figures| figures.unknown += 1);
                Fate::Unknown
            }
            Err(error) => {
                self.hold(false, || format!("writes: a commit was answered with {error:?}"));
                Fate::Refused
            }
        };
        if let Some(value) = value {
            self.lock().writes.insert(value.to_vec(), fate);
        }
    }

    /// The keys with this prefix were read.
    pub(crate) fn read(&self, client: usize, begun: &Begun, prefix: &str, answer: &Result<Page, Error>) {
        self.ended(begun, "a read");
        let Ok(page) = answer else { return self.count(|figures| figures.reads_failed += 1) };
        self.count(|figures| figures.reads += 1);
        self.lock().served.insert(client, Instant::now());
        let (at, first, last) = (page.revision.0, begun.revision, self.newest());
        let so = (first..=last).contains(&at);
        self.hold(so, || format!("reads: revision {at} was read, but the newest was {first} to {last}"));
        let real = self.state(prefix, at);
        self.hold(page.kvs == real, || format!("reads: at {at}, {:?} was read instead of {real:?}", page.kvs));
    }

    fn state(&self, prefix: &str, at: u64) -> Vec<Kv> {
        let (begin, end) = bounds(prefix);
        self.cluster.look(|world| world.history.range(&begin, &end, at).map(kv).collect())
    }

    /// A follower of all keys begins with this picture.
    pub(crate) fn listed(&self, follower: usize, at: Revision, kvs: &[Kv]) {
        let real = self.state("", at.0);
        self.hold(kvs == real, || format!("watches: at {at}, {kvs:?} was listed instead of {real:?}"));
        self.saw(follower, at);
    }

    /// A follower was told these changes.
    pub(crate) fn told(&self, follower: usize, at: Revision, events: &[Event]) {
        self.count(|figures| figures.batches += 1);
        let seen = self.lock().seen.get(&follower).map_or(0, |(seen, _)| *seen);
        let (begin, end) = bounds("");
        let real: Vec<Event> = self
            .cluster
            .look(|world| world.history.changes(&begin, &end, seen + 1, at.0).into_iter().map(event).collect());
        self.hold(events == real, || {
            format!("watches: after {seen}, up to {at}, {events:?} was delivered instead of {real:?}")
        });
        self.saw(follower, at);
    }

    fn saw(&self, follower: usize, at: Revision) {
        let mut notes = self.lock();
        let (seen, _) = notes.seen.insert(follower, (at.0, Instant::now())).unwrap_or((0, Instant::now()));
        drop(notes);
        self.hold(at.0 >= seen, || format!("watches: the picture went back from {seen} to {at}"));
    }

    /// A client keeps this lease.
    pub(crate) fn keeps(&self, client: usize, ttl: Duration, lease: &Arc<Lease<Etcd<Simulated>>>) {
        self.lock().leases.insert(lease.id().0, Kept { client, ttl, lease: Arc::clone(lease) });
    }

    /// The adapter says that a lease is lost.
    pub(crate) fn lost(&self, lease: i64) {
        self.count(|figures| figures.leases_lost += 1);
        self.lock().leases.remove(&lease);
        let exists = self.cluster.look(|world| world.history.leases.contains_key(&lease));
        self.hold(!exists, || format!("leases: {lease} is said to be lost, but exists"));
    }

    /// The members have ended a lease just now. They are locked.
    fn expired(&self, id: i64) {
        let (now, kept) = (Instant::now(), self.lock().leases.get(&id).cloned());
        let Some(Kept { client, ttl, lease }) = kept else { return };
        let left = lease.lives_until().saturating_duration_since(now);
        self.hold(left.is_zero(), || format!("leases: {id} is said to live for {left:?}, but has expired"));
        let says = lease.failing().now_or_never().is_some() || lease.lost().now_or_never().is_some();
        self.hold(says, || format!("leases: {id} has expired, and nobody said that it couldn't be renewed"));
        let healthy = self.healthy(client, now);
        self.hold(healthy < ttl, || {
            format!("leases: {id} has expired, although a member could have renewed it for {healthy:?}")
        });
    }

    /// For how long the same member has been able to serve this client.
    fn healthy(&self, client: usize, now: Instant) -> Duration {
        let notes = self.lock();
        let since = notes.healthy.iter().filter(|((of, _), _)| *of == client).map(|(_, since)| *since).min();
        since.map_or(Duration::ZERO, |since| now - since)
    }

    /// Look at the cluster; called regularly.
    pub(crate) fn look(&self, clients: usize) {
        let now = Instant::now();
        let (serving, newest) = self.cluster.look(|world| (serving(world, clients), world.history.revision));
        let mut notes = self.lock();
        for (pair, serves) in serving {
            match serves {
                true => drop(notes.healthy.entry(pair).or_insert(now)),
                false => drop(notes.healthy.remove(&pair)),
            }
        }
        if notes.newest.last().is_none_or(|(_, last)| *last < newest) {
            notes.newest.push((now, newest));
        }
        drop(notes);
        for client in 0..clients {
            self.in_time(client, now);
        }
    }

    fn in_time(&self, client: usize, now: Instant) {
        let healthy = self.healthy(client, now);
        let (served, seen, due) = {
            let notes = self.lock();
            let due = notes.newest.partition_point(|(at, _)| *at + DELIVERED <= now);
            let due = due.checked_sub(1).map_or(0, |last| notes.newest[last].1);
            (notes.served.get(&client).copied(), notes.seen.get(&client).map(|(seen, _)| *seen), due)
        };
        if let Some(waits) = served.map(|served| now - served).filter(|_| healthy > SERVED) {
            self.hold(waits <= SERVED, || {
                format!("served in time: client {client} waits for {waits:?}, with a healthy member for {healthy:?}")
            });
        }
        if let Some(seen) = seen.filter(|_| healthy > DELIVERED) {
            self.hold(seen >= due, || {
                format!("served in time: follower {client} has seen {seen}, but {due} is {DELIVERED:?} old")
            });
        }
    }

    /// After all faults: each write is there exactly as its caller was told.
    pub(crate) fn finish(&self) {
        let (begin, end) = bounds("");
        let newest = self.newest();
        let changes = self.cluster.look(|world| world.history.changes(&begin, &end, 0, newest));
        let mut found: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for change in changes {
            if let Change::Put(kv) = change {
                *found.entry(kv.value).or_default() += 1;
            }
        }
        let writes = self.lock().writes.clone();
        for (value, fate) in writes {
            let times = found.get(&value).copied().unwrap_or(0);
            let so = match fate {
                Fate::Acknowledged => times == 1,
                Fate::Refused => times == 0,
                Fate::Unknown => times <= 1,
            };
            let value = String::from_utf8_lossy(&value).into_owned();
            self.hold(so, || format!("writes: {value} is {fate:?}, and was carried out {times} times"));
            if fate == Fate::Unknown {
                self.count(|figures| figures.done += times as u64);
            }
        }
        let seen: Vec<_> = self.lock().seen.iter().map(|(follower, (seen, _))| (*follower, *seen)).collect();
        for (follower, seen) in seen {
            self.hold(seen == newest, || format!("watches: follower {follower} ends with {seen} instead of {newest}"));
        }
    }
}

/// Which members can serve which clients now.
fn serving(world: &World, clients: usize) -> Vec<((usize, usize), bool)> {
    let pairs = (0..clients).flat_map(|client| (0..world.nodes.len()).map(move |node| (client, node)));
    let serves = |(client, node): (usize, usize)| {
        world.nodes[node].view.is_some()
            && world.led(node).is_some()
            && !world.cuts.contains(&(client, node))
            && world.breaks == 0
    };
    pairs.map(|pair| (pair, serves(pair))).collect()
}

fn bounds(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    let begin = format!("{PREFIX}{prefix}").into_bytes();
    let mut end = begin.clone();
    *end.last_mut().expect("a prefix") += 1;
    (begin, end)
}

fn condition(guard: &Guard) -> Condition {
    let full = |key: &str| format!("{PREFIX}{key}").into_bytes();
    match guard {
        Guard::Absent(key) => Condition::Created(full(key), 0),
        Guard::Unchanged(key, at) => Condition::Modified(full(key), i64::try_from(at.0).expect("a small number")),
        Guard::Cluster(_) => unreachable!("no client of these seeds has this guard"),
    }
}

fn plain(key: Vec<u8>) -> String {
    String::from_utf8(key).expect("a key of ours")[PREFIX.len()..].to_owned()
}

fn kv(kv: KeyValue) -> Kv {
    let lease = (kv.lease != 0).then_some(flotilla::store::LeaseId(kv.lease));
    Kv { key: plain(kv.key), value: kv.value, revision: kv.modified, lease }
}

fn event(change: Change) -> Event {
    match change {
        Change::Put(written) => Event::Put(kv(written)),
        Change::Delete(key, _) => Event::Delete(plain(key)),
    }
}
