//! One seed: clients that write, read, follow and keep leases, and faults of members and connections. Owns what happens
//! when; the judge decides whether it may.

use std::sync::Arc;
use std::time::Duration;

use flotilla::registry::mirror::{Mirror, Update};
use flotilla::store::etcd::Etcd;
use flotilla::store::lease::Lease;
use flotilla::store::{Guard, Moment, Op, Range, Revision, Store as _, Txn};
use tokio::time::{Instant, sleep, timeout};

use crate::judge::{Figures, Judge};
use crate::members::random::Random;
use crate::members::{Cluster, Simulated};

/// How long there are faults.
const FAULTS: Duration = Duration::from_secs(180);

/// How long everything has to settle after that.
const SETTLES: Duration = Duration::from_secs(40);

/// Clients that write, read and follow. Another one only keeps a lease: nothing else tells it which member is silent.
const CLIENTS: usize = 2;

/// Keys that are written.
const KEYS: u64 = 6;

/// The TTL of the lease: a third of it is less than the adapter would wait for a silent member otherwise.
const TTL: Duration = Duration::from_secs(5);

/// Play a seed: what was counted, or the violation.
pub(crate) fn play(seed: u64) -> Result<Figures, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(cluster(seed))
}

async fn cluster(seed: u64) -> Result<Figures, String> {
    let (cluster, random) = (Cluster::start(seed), Random::new(seed));
    let judge = Judge::new(&cluster);
    let begun = Instant::now();
    let end = begun + FAULTS;
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let actor = |name: &str| Actor {
            client,
            store: cluster.store(client),
            judge: judge.clone(),
            random: random.fork(&format!("{name} {client}")),
        };
        // A connection of its own for each, so that one does not tell the other which member is silent.
        clients.push(tokio::spawn(actor("writer").write(end)));
        clients.push(tokio::spawn(actor("reader").read(end + SETTLES)));
        tokio::spawn(actor("follower").follow());
    }
    let store = cluster.store(CLIENTS);
    let keeper = Actor { client: CLIENTS, store, judge: judge.clone(), random: random.fork("keeper") };
    tokio::spawn(keeper.keep());
    tokio::spawn(faults(cluster.clone(), random.fork("faults"), end));
    while begun.elapsed() < FAULTS + SETTLES {
        sleep(Duration::from_millis(50)).await;
        judge.look(CLIENTS + 1);
        if let Some(words) = judge.violation() {
            return Err(format!("{words} (after {:?})", begun.elapsed()));
        }
    }
    for client in clients {
        client.await.map_err(|error| error.to_string())?;
    }
    judge.finish();
    judge.violation().map_or_else(|| Ok(judge.figures()), Err)
}

/// A part of a client.
struct Actor {
    client: usize,
    store: Etcd<Simulated>,
    judge: Judge,
    random: Random,
}

impl Actor {
    /// Write until `end`, with and without guards.
    async fn write(mut self, end: Instant) {
        let mut known: Vec<Option<Revision>> = vec![None; KEYS as usize];
        for number in 0.. {
            sleep(self.random.millis(20..=400)).await;
            if Instant::now() >= end {
                return;
            }
            let at = self.random.within(0..=KEYS - 1) as usize;
            let key = format!("k/{at}");
            let value = format!("{}.{number}", self.client);
            let guard = |known: Option<Revision>| match known {
                Some(revision) => Guard::Unchanged(key.clone(), revision),
                None => Guard::Absent(key.clone()),
            };
            let put = Op::Put { key: key.clone(), value: value.clone().into(), lease: None };
            let (guards, ops) = match self.random.within(0..=9) {
                0..4 => (vec![], vec![put]),
                4..7 => (vec![guard(known[at])], vec![put]),
                7 => (vec![], vec![Op::Delete(key.clone())]),
                _ => (vec![guard(known[at])], vec![]),
            };
            let writes = ops.iter().any(|op| matches!(op, Op::Put { .. })).then_some(value.as_bytes());
            let deletes = ops.iter().any(|op| matches!(op, Op::Delete(_)));
            let begun = self.judge.begin();
            let answer = self.store.commit(Txn { guards: guards.clone(), ops }).await;
            self.judge.committed(&begun, &guards, writes, &answer);
            known[at] = match answer {
                Ok(revision) if writes.is_some() => Some(revision),
                Ok(_) if deletes => None,
                Ok(_) => known[at],
                Err(_) => self.find(&key).await,
            };
        }
    }

    /// The revision of a key, for the next guard.
    async fn find(&self, key: &str) -> Option<Revision> {
        let page = self.store.range(Range { prefix: key.into(), ..Range::default() }).await.ok()?;
        Some(page.kvs.first()?.revision)
    }

    async fn read(mut self, end: Instant) {
        while Instant::now() < end {
            sleep(self.random.millis(50..=500)).await;
            let prefix = if self.random.chance(500) { "k/".to_owned() } else { "k/3".to_owned() };
            let begun = self.judge.begin();
            let answer = self.store.range(Range { prefix: prefix.clone(), ..Range::default() }).await;
            self.judge.read(self.client, &begun, &prefix, &answer);
        }
    }

    /// Follow all keys, as a daemon does.
    async fn follow(self) {
        let (mut mirror, mut first) = (Mirror::new(self.store.clone(), ""), true);
        loop {
            match mirror.next().await {
                Ok(Update::Reset { at: Moment { revision, .. }, kvs }) => {
                    self.judge.count(|figures| figures.resets += u64::from(!first));
                    first = false;
                    self.judge.listed(self.client, revision, &kvs);
                }
                Ok(Update::Batch(batch)) => self.judge.told(self.client, batch.revision, &batch.events),
                Err(_) => {
                    self.judge.count(|figures| figures.watches_ended += 1);
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Keep a lease with a key, and another one when it is lost.
    async fn keep(self) {
        for number in 0.. {
            let Ok(lease) = Lease::grant(&self.store, TTL).await else {
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            let lease = Arc::new(lease);
            self.judge.keeps(self.client, TTL, &lease);
            let value = format!("lease {number}").into_bytes();
            let put = Op::Put { key: "l/mine".into(), value, lease: Some(lease.id()) };
            // The outcome doesn't matter: a lease without a key ends too.
            let _ = self.store.commit(Txn { guards: vec![], ops: vec![put] }).await;
            loop {
                let failed = timeout(TTL, lease.failing()).await.is_ok();
                self.judge.count(|figures| figures.renewals_failed += u64::from(failed));
                if timeout(TTL / 10, lease.lost()).await.is_ok() {
                    break;
                }
            }
            self.judge.lost(lease.id().0);
        }
    }
}

/// One or two faults at a time, until `end`.
async fn faults(cluster: Cluster, mut random: Random, end: Instant) {
    let mut first = tokio::spawn(async {});
    while Instant::now() < end {
        sleep(random.millis(200..=6000)).await;
        let lasts = random.millis(100..=20_000).min(end.saturating_duration_since(Instant::now()));
        let fault = tokio::spawn(fault(cluster.clone(), random.fork("fault"), lasts));
        random.next();
        // Never more than two.
        let _ = std::mem::replace(&mut first, fault).await;
    }
}

/// One fault, and its end.
async fn fault(cluster: Cluster, mut random: Random, lasts: Duration) {
    let node = random.within(0..=2) as usize;
    match random.within(0..=11) {
        0 | 1 => {
            let empty = random.chance(300);
            cluster.kill(node);
            sleep(lasts).await;
            cluster.boot(node, empty);
        }
        2 => {
            cluster.freeze(node, true);
            sleep(lasts).await;
            cluster.freeze(node, false);
        }
        3 | 4 => {
            let clients: Vec<usize> = (0..=CLIENTS).filter(|_| random.chance(600)).collect();
            clients.iter().for_each(|client| cluster.cut(*client, node, true));
            sleep(lasts).await;
            clients.iter().for_each(|client| cluster.cut(*client, node, false));
        }
        5 => {
            cluster.group(node, 1 + node);
            sleep(lasts).await;
            cluster.group(node, 0);
        }
        6 => {
            cluster.depose(random.millis(100..=6000));
            sleep(lasts / 4).await;
        }
        7 => {
            cluster.lag(node, random.millis(50..=1500));
            sleep(lasts).await;
            cluster.lag(node, Duration::ZERO);
        }
        8 | 9 => {
            // The network of a client's host.
            let client = random.within(0..=CLIENTS as u64) as usize;
            (0..3).for_each(|node| cluster.cut(client, node, true));
            sleep(lasts).await;
            (0..3).for_each(|node| cluster.cut(client, node, false));
        }
        10 => {
            cluster.breaks(random.within(20..=200));
            sleep(lasts / 2).await;
            cluster.breaks(0);
        }
        _ => {
            let newest = cluster.look(|world| world.history.revision);
            cluster.compact(Revision(newest.saturating_sub(random.within(0..=5))));
        }
    }
}
