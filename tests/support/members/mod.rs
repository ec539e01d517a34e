//! Members of an etcd cluster in memory, for the etcd adapter's own policy: leaders change, members lag, are cut off,
//! frozen, killed and replaced, answers are lost. Everything is determined by a seed and tokio's paused clock.
//!
//! `history` is what the cluster has agreed on, `world` how members agree, `client` how requests reach a member. Owns
//! the faults that a test can cause.

mod client;
mod history;
#[allow(clippy::unwrap_used, reason = "a test's helper may")]
#[path = "../../sim/random.rs"]
pub(crate) mod random;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla::store::Revision;
use flotilla::store::etcd::Etcd;
use tokio::sync::Notify;
use tokio::time::sleep;

pub(crate) use self::client::Simulated;
use self::history::History;
use self::random::Random;
pub(crate) use self::world::World;

/// How often time passes for the members.
const TICK: Duration = Duration::from_millis(50);

/// How long the adapter waits for one member.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// The prefix of the adapter's keys.
pub(crate) const PREFIX: &str = "/flotilla/";

/// A cluster. Clones share it.
#[derive(Clone)]
pub(crate) struct Cluster {
    world: Arc<Mutex<World>>,
    /// Notified when something has changed that a request may wait for.
    changed: Arc<Notify>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    /// Three members with a leader. Must be called within a runtime whose clock is paused.
    pub(crate) fn start(seed: u64) -> Self {
        let world = World::new(3, Random::new(seed).fork("members"));
        let cluster = Self { world: Arc::new(Mutex::new(world)), changed: Arc::default() };
        let ticking = cluster.clone();
        tokio::spawn(async move {
            loop {
                sleep(TICK).await;
                ticking.change(World::tick);
            }
        });
        cluster
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_waiters();
        changed
    }

    /// The adapter over these members, as the client with this number: faults of connections concern one client.
    pub(crate) fn store(&self, client: usize) -> Etcd<Simulated> {
        let members = (0..self.lock().nodes.len()).map(|node| self.member(client, node)).collect();
        Etcd::over(members, PREFIX, REQUEST_TIMEOUT).expect("there are members")
    }

    /// A member, as this client reaches it.
    pub(crate) fn member(&self, client: usize, node: usize) -> Simulated {
        Simulated::new(self.clone(), client, node)
    }

    /// Look at what is really so.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.lock())
    }

    /// Kill a member, as a power cut would.
    pub(crate) fn kill(&self, node: usize) {
        self.change(|world| {
            world.nodes[node].up = false;
            world.followers.retain(|_, follower| follower.node != node);
        });
    }

    /// Start a member that was killed; `empty` if it has lost its data, so that it must get everything from the others.
    pub(crate) fn boot(&self, node: usize, empty: bool) {
        self.change(|world| {
            let node = &mut world.nodes[node];
            (node.up, node.boot, node.view, node.deaf) = (true, node.boot + 1, None, None);
            if empty {
                node.applied = 0;
            }
        });
    }

    /// All data, for [`Self::restore`].
    pub(crate) fn backup(&self) -> History {
        self.lock().history.clone()
    }

    /// Stop all members, and start them with an old backup.
    pub(crate) fn restore(&self, backup: History) {
        self.change(|world| world.restore(backup));
    }

    /// Freeze a member, or let it continue.
    pub(crate) fn freeze(&self, node: usize, frozen: bool) {
        self.change(|world| world.nodes[node].frozen = frozen);
    }

    /// Cut a client's connection to a member, or mend it: bytes wait, and nobody is told.
    pub(crate) fn cut(&self, client: usize, node: usize, cut: bool) {
        self.change(|world| if cut { world.cuts.insert((client, node)) } else { world.cuts.remove(&(client, node)) });
    }

    /// Members of different groups don't hear each other.
    pub(crate) fn group(&self, node: usize, group: usize) {
        self.change(|world| world.nodes[node].group = group);
    }

    /// End the leader's term, and let the next election take up to `election`.
    pub(crate) fn depose(&self, election: Duration) {
        self.change(|world| {
            world.longest_election = election;
            world.step_down();
        });
    }

    /// Let each answer take this much longer.
    pub(crate) fn answers_after(&self, delay: Duration) {
        self.change(|world| world.answers_after = delay);
    }

    /// Let connections break with this probability, per mille, with each request.
    pub(crate) fn breaks(&self, per_mille: u64) {
        self.change(|world| world.breaks = per_mille);
    }

    /// Call `on_expiry` with each lease that expires.
    pub(crate) fn on_expiry(&self, on_expiry: impl FnMut(i64) + Send + 'static) {
        self.lock().on_expiry = Some(Box::new(on_expiry));
    }

    /// Let a member apply what was committed only after this time.
    pub(crate) fn lag(&self, node: usize, lag: Duration) {
        self.change(|world| world.nodes[node].lag = lag);
    }

    pub(crate) fn compact(&self, revision: Revision) {
        self.change(|world| world.compact(revision.0));
    }
}
