//! Whether the daemon's loops are alive. A timer of its own would only show that the process runs; this checks the
//! heartbeat of each loop. Owns which loops are watched, and how long a silence counts as a hang.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::reconcile::Heartbeat;

/// The loops that are watched. Clones share the list.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    heartbeats: Arc<Mutex<BTreeMap<&'static str, Heartbeat>>>,
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// All loops are alive.
    Alive,
    /// This loop has been silent for too long.
    Hangs { who: &'static str, silence: Duration },
}

impl Watched {
    /// Watch `heartbeat` from now on, replacing an earlier one of the same name.
    pub(super) fn watch(&self, who: &'static str, heartbeat: Heartbeat) {
        heartbeat.beat();
        self.lock().insert(who, heartbeat);
    }

    /// Stop watching a loop that ends on purpose.
    pub(super) fn forget(&self, who: &'static str) {
        self.lock().remove(who);
    }

    /// How long each loop has been silent.
    pub(super) fn silences(&self) -> BTreeMap<&'static str, Duration> {
        self.lock().iter().map(|(who, heartbeat)| (*who, heartbeat.silence())).collect()
    }

    /// Whether each loop has given a heartbeat within `limit`. Less than twice [`Heartbeat::EVERY`] never counts as a
    /// hang.
    pub(super) fn look(&self, limit: Duration) -> Finding {
        let limit = limit.max(Heartbeat::EVERY * 2);
        let longest = self.silences().into_iter().max_by_key(|(_, silence)| *silence);
        match longest {
            Some((who, silence)) if silence >= limit => Finding::Hangs { who, silence },
            _ => Finding::Alive,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Heartbeat>> {
        self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::agent::{self, Agent};
    use crate::clock::Clock;
    use crate::engine::{self, Brake, Engine};
    use crate::model::format::Format;
    use crate::model::machine::Machine;
    use crate::store::embedded::Embedded;
    use crate::systemd::fake::{Fake, Options};

    const LIMIT: Duration = Duration::from_secs(60);

    fn machine() -> Machine {
        Machine {
            id: "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap(),
            ip: "10.0.0.1".into(),
            hostname: "n1".into(),
            metadata: Default::default(),
            builtin: Default::default(),
            reserved: Default::default(),
            version: "test".into(),
            boot_id: "boot".into(),
            since: 0,
            format: Format::CURRENT,
            leaving: false,
        }
    }

    /// Agent and engine over `host`, watched.
    fn daemon(host: Fake) -> Watched {
        let (store, clock, ttl, watched) =
            (Embedded::in_memory(), Clock::simulated(0), Duration::from_secs(10), Watched::default());
        let options = engine::Options { machine: machine(), ttl, brake: Brake::off(), clock };
        let (engine, _) = Engine::new(store.clone(), options);
        let (agent, _) = Agent::new(store, host, agent::Options { machine: machine(), ttl, alone: false, clock });
        watched.watch("agent", agent.heartbeat());
        watched.watch("engine", engine.heartbeat());
        tokio::spawn(agent.run(CancellationToken::new()));
        tokio::spawn(async move { engine.run(CancellationToken::new()).await });
        watched
    }

    #[tokio::test(start_paused = true)]
    async fn loops_with_nothing_to_do_are_alive() {
        let watched = daemon(Fake::default());
        for _ in 0..60 {
            tokio::time::sleep(LIMIT).await;
            assert_eq!(watched.look(LIMIT), Finding::Alive, "{:?}", watched.silences());
        }
    }

    /// systemd accepts a call and never answers: the loop hangs in the middle of its work, while timers continue.
    #[tokio::test(start_paused = true)]
    async fn an_agent_that_waits_for_ever_hangs_though_the_process_lives() {
        let watched = daemon(Fake::new(Options { latency: Duration::from_secs(100 * 3600), ..Options::default() }));
        tokio::time::sleep(LIMIT / 2).await;
        assert_eq!(watched.look(LIMIT), Finding::Alive);
        tokio::time::sleep(LIMIT).await;
        assert!(matches!(watched.look(LIMIT), Finding::Hangs { who: "agent", .. }), "{:?}", watched.silences());
        watched.forget("agent");
        assert_eq!(watched.look(LIMIT), Finding::Alive, "the engine is idle, and alive");
    }
}
