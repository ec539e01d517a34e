//! Whether the daemon's loops are alive. A timer of its own would only show that the process runs; this asks each
//! loop's own sign of life. Owns who is looked at, and from when on silence is a hang.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::reconcile::Pulse;

/// The loops that must be alive. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Loops {
    pulses: Arc<Mutex<BTreeMap<&'static str, Pulse>>>,
}

/// What a look shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// All give signs of life.
    Alive,
    /// This one has given none for too long.
    Hangs { who: &'static str, silence: Duration },
}

impl Loops {
    /// Watch `pulse` from now on, in the place of an earlier one of that name.
    pub(super) fn watch(&self, who: &'static str, pulse: Pulse) {
        pulse.beat();
        self.lock().insert(who, pulse);
    }

    /// A loop that ends on purpose isn't watched any more.
    pub(super) fn forget(&self, who: &'static str) {
        self.lock().remove(who);
    }

    /// For how long each has been silent.
    pub(super) fn silences(&self) -> BTreeMap<&'static str, Duration> {
        self.lock().iter().map(|(who, pulse)| (*who, pulse.silence())).collect()
    }

    /// Whether all have given a sign of life within `limit`. Less than twice [`Pulse::EVERY`] is never taken for a
    /// hang.
    pub(super) fn look(&self, limit: Duration) -> Finding {
        let limit = limit.max(Pulse::EVERY * 2);
        let longest = self.silences().into_iter().max_by_key(|(_, silence)| *silence);
        match longest {
            Some((who, silence)) if silence >= limit => Finding::Hangs { who, silence },
            _ => Finding::Alive,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Pulse>> {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::agent::{self, Agent};
    use crate::clock::Clock;
    use crate::engine::{self, Engine};
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
            version: "test".into(),
            boot_id: "boot".into(),
            since: 0,
        }
    }

    /// Agent and engine over `host`, watched.
    fn daemon(host: Fake) -> Loops {
        let (store, clock, ttl, loops) =
            (Embedded::in_memory(), Clock::simulated(0), Duration::from_secs(10), Loops::default());
        let options = engine::Options { machine: machine(), ttl, clock };
        let (engine, _) = Engine::new(store.clone(), options);
        let (agent, _) = Agent::new(store, host, agent::Options { machine: machine(), ttl, clock });
        loops.watch("agent", agent.pulse());
        loops.watch("engine", engine.pulse());
        tokio::spawn(agent.run(CancellationToken::new()));
        tokio::spawn(async move { engine.run(CancellationToken::new()).await });
        loops
    }

    #[tokio::test(start_paused = true)]
    async fn loops_with_nothing_to_do_are_alive() {
        let loops = daemon(Fake::default());
        for _ in 0..60 {
            tokio::time::sleep(LIMIT).await;
            assert_eq!(loops.look(LIMIT), Finding::Alive, "{:?}", loops.silences());
        }
    }

    /// systemd takes a call and never answers: the real loop stands still in the middle of its work, while timers go
    /// on.
    #[tokio::test(start_paused = true)]
    async fn an_agent_that_waits_for_ever_hangs_though_the_process_lives() {
        let loops = daemon(Fake::new(Options { latency: Duration::from_secs(100 * 3600), ..Options::default() }));
        tokio::time::sleep(LIMIT / 2).await;
        assert_eq!(loops.look(LIMIT), Finding::Alive);
        tokio::time::sleep(LIMIT).await;
        assert!(matches!(loops.look(LIMIT), Finding::Hangs { who: "agent", .. }), "{:?}", loops.silences());
        loops.forget("agent");
        assert_eq!(loops.look(LIMIT), Finding::Alive, "the engine stands idle, and alive");
    }
}
