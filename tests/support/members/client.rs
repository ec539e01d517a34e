//! How requests reach a member, and how its answers come back. Owns the network between clients and members, and what a
//! member answers in which state.
//!
//! A request that was sent is carried out even if its sender has given up by then, as on a real network.

use std::future::Future;
use std::time::Duration;

use flotilla::store::etcd::client::{
    Code, Connection, Fault, Found, Keys, Member, Message, Outcome, Status, Stream, Transaction,
};
use flotilla::store::{LeaseId, Revision};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::Cluster;
use super::history::Proposal;
use super::world::{Follower, World, seconds};

/// How long a client takes to notice that a connection is silent: an interval between pings, and the time for one.
const PING: Duration = Duration::from_secs(15);

/// How long a client tries to connect.
const CONNECT: Duration = Duration::from_secs(1);

/// How long a member tries to carry out a request.
const PATIENCE: Duration = Duration::from_secs(7);

/// How often a silent connection is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A member, as one client reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Simulated {
    cluster: Cluster,
    client: usize,
    node: usize,
    address: String,
}

/// A connection to one start of a member.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    member: Simulated,
    boot: u64,
}

impl Simulated {
    pub(super) fn new(cluster: Cluster, client: usize, node: usize) -> Self {
        Self { cluster, client, node, address: format!("m{node}:2379") }
    }

    fn is_cut(&self, world: &World) -> bool {
        world.cuts.contains(&(self.client, self.node))
    }
}

impl Member for Simulated {
    type Connection = Link;

    fn address(&self) -> &str {
        &self.address
    }

    fn hint(&self) -> &'static str {
        "is it simulated?"
    }

    async fn connect(&self) -> Result<Link, Fault> {
        let begun = Instant::now();
        while self.is_cut(&self.cluster.lock()) {
            if begun.elapsed() >= CONNECT {
                return Err(Fault::Unreachable("does not accept a connection in time".into()));
            }
            sleep(LOOK).await;
        }
        sleep(Duration::from_millis(1)).await;
        let node = &self.cluster.lock().nodes[self.node];
        if !node.up {
            return Err(Fault::Unreachable("refuses connections".into()));
        }
        Ok(Link { member: self.clone(), boot: node.boot })
    }
}

impl Link {
    fn look<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.member.cluster.lock())
    }

    /// Whether the member still runs that this is a connection to.
    fn lives(&self) -> bool {
        self.look(|world| {
            let node = &world.nodes[self.member.node];
            node.up && node.boot == self.boot
        })
    }

    /// Whether bytes get through, and the member reads them.
    fn is_open(&self) -> bool {
        self.look(|world| !world.nodes[self.member.node].frozen && !self.member.is_cut(world))
    }

    /// Wait until bytes get through, or the connection is given up.
    async fn pass(&self) -> Option<()> {
        let begun = Instant::now();
        while !self.is_open() {
            if begun.elapsed() >= PING {
                return None;
            }
            sleep(LOOK).await;
        }
        self.lives().then_some(())
    }

    /// Wait until `look` sees something, or the member is gone.
    async fn until<T>(&self, mut look: impl FnMut(&mut World) -> Option<T>) -> Result<T, Fault> {
        loop {
            let changed = self.member.cluster.changed.notified();
            if !self.lives() {
                return Err(Fault::Broken);
            }
            if let Some(seen) = self.look(&mut look) {
                return Ok(seen);
            }
            changed.await;
        }
    }

    /// Send a request, and wait for its answer.
    async fn ask<T, F>(&self, request: impl FnOnce(Self) -> F + Send + 'static) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let (there, back, breaks, before) = self.look(|world| {
            let (breaks, slow, random) = (world.breaks, world.answers_after, &mut world.random);
            (random.millis(1..=5), slow + random.millis(1..=5), random.chance(breaks), random.chance(500))
        });
        let (link, (answer, answered)) = (self.clone(), oneshot::channel());
        tokio::spawn(async move {
            sleep(there).await;
            if link.pass().await.is_none() || (breaks && before) {
                return;
            }
            let leaderless = link.look(|world| world.nodes[link.member.node].view.is_none());
            let result = match leaderless {
                true => Err(Fault::Answer(Code::Unavailable, "no leader".into())),
                false => timeout(PATIENCE, request(link.clone())).await.unwrap_or_else(|_| Err(timed_out())),
            };
            sleep(back).await;
            if !breaks && link.pass().await.is_some() {
                // The caller may have given up.
                let _ = answer.send(result);
            }
        });
        match timeout(PING, answered).await {
            Ok(Ok(result)) => result,
            _ => Err(Fault::Broken),
        }
    }

    /// Wait until the member has applied everything that was committed before the request.
    async fn linearizable(&self) -> Result<(), Fault> {
        let node = self.member.node;
        let newest = self.until(|world| world.led(node).map(|_| world.history.revision)).await?;
        self.until(|world| (world.nodes[node].applied >= newest).then_some(())).await
    }

    async fn propose(self, proposal: Proposal) -> Result<Outcome, Fault> {
        let disk = self.look(|world| world.random.millis(1..=4));
        sleep(disk).await;
        let (answer, answered) = oneshot::channel();
        let node = self.member.node;
        self.member.cluster.change(|world| world.propose(node, proposal, answer));
        let Ok(outcome) = answered.await else { return std::future::pending().await };
        let outcome = outcome?;
        self.until(|world| (world.nodes[node].applied >= outcome.revision.0).then_some(outcome)).await
    }
}

fn timed_out() -> Fault {
    Fault::Answer(Code::Unavailable, "request timed out".into())
}

impl Connection for Link {
    type Stream = Watching;

    async fn range(&self, keys: Keys<'_>) -> Result<Found, Fault> {
        let (begin, end) = (keys.begin.to_vec(), keys.end.to_vec());
        let (limit, at, bytes) = (keys.limit, keys.at.map(|at| at.0), keys.bytes);
        self.ask(move |link| async move {
            link.linearizable().await?;
            link.look(|world| {
                let now = world.nodes[link.member.node].applied;
                let at = at.unwrap_or(now);
                if at > now {
                    let text = "mvcc: required revision is a future revision";
                    return Err(Fault::Answer(Code::OutOfRange, text.into()));
                }
                world.history.readable(at)?;
                let mut kvs: Vec<_> = world.history.range(&begin, &end, at).take(limit + 1).collect();
                let more = kvs.len() > limit;
                kvs.truncate(limit);
                if kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum::<usize>() > bytes {
                    return Err(Fault::TooLarge);
                }
                Ok(Found { kvs, more, revision: Revision(now), cluster: world.id })
            })
        })
        .await
    }

    async fn txn(&self, txn: &Transaction) -> Result<Outcome, Fault> {
        let txn = txn.clone();
        self.ask(move |link| async move {
            if !txn.then.is_empty() {
                return link.propose(Proposal::Txn(txn)).await;
            }
            // Nothing in it is linearizable, so the member answers from what it has applied.
            link.look(|world| {
                let now = world.nodes[link.member.node].applied;
                Ok(Outcome { succeeded: world.history.hold(&txn.when, now), revision: Revision(now) })
            })
        })
        .await
    }

    async fn watch(&self, begin: &[u8], end: &[u8], from: Revision) -> Result<Watching, Fault> {
        let (begin, end) = (begin.to_vec(), end.to_vec());
        self.ask(move |link| async move {
            let id = link.look(|world| {
                let (node, id) = (link.member.node, world.new_id().unsigned_abs());
                let next = if from.0 == 0 { world.nodes[node].applied + 1 } else { from.0 };
                world.followers.insert(id, Follower { node, begin, end, next, queue: Default::default() });
                id
            });
            Ok(Watching { link, id })
        })
        .await
    }

    async fn grant(&self, seconds: i64) -> Result<(LeaseId, Duration), Fault> {
        self.ask(move |link| async move {
            let id = link.look(World::new_id);
            link.propose(Proposal::Grant(id, seconds)).await?;
            Ok((LeaseId(id), super::world::seconds(seconds)))
        })
        .await
    }

    async fn keep_alive(&self, lease: LeaseId, _: Option<Duration>) -> Result<Duration, Fault> {
        self.ask(move |link| async move {
            link.until(|world| world.led(link.member.node)).await?;
            link.look(|world| world.renew(lease.0)).map(seconds).ok_or(Fault::LeaseGone)
        })
        .await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Fault> {
        self.ask(move |link| async move { link.propose(Proposal::Revoke(lease.0)).await.map(drop) }).await
    }

    async fn status(&self) -> Result<Status, Fault> {
        let answer = |link: Self| async move {
            link.look(|world| Ok(Status { cluster: world.id, state: world.describe(link.member.node) }))
        };
        self.ask(answer).await
    }
}

/// A watch.
#[derive(Debug)]
pub(crate) struct Watching {
    link: Link,
    id: u64,
}

impl Stream for Watching {
    async fn next(&mut self) -> Result<Message, Fault> {
        let mut silent = None;
        loop {
            let changed = self.link.member.cluster.changed.notified();
            if !self.link.is_open() {
                if silent.get_or_insert_with(Instant::now).elapsed() >= PING {
                    return Err(Fault::Broken);
                }
            } else if !self.link.lives() {
                return Err(Fault::Broken);
            } else {
                silent = None;
                let (message, delay, leaderless) = self.link.look(|world| {
                    let leaderless = world.nodes[self.link.member.node].view.is_none();
                    (world.next_message(self.id), world.random.millis(1..=5), leaderless)
                });
                if let Some(message) = message {
                    sleep(delay).await;
                    return Ok(message);
                }
                if leaderless {
                    return Err(Fault::Answer(Code::Unavailable, "no leader".into()));
                }
            }
            changed.await;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.link.look(|world| world.followers.remove(&self.id));
    }
}
