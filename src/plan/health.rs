//! What follows from the results of a unit's probes: whether it is ready, and when to probe again. Pure: the times are
//! values. `agent::health` makes the probes; it must decide nothing.

use std::time::Duration;

use crate::model::health::{Health, Verdict};
use crate::model::probe::Probe;

/// The time between two runs of a probe until it passes for the first time, since others wait for that.
const EAGER: Duration = Duration::from_millis(250);

/// The same for a probe that is a command: each run is a unit of systemd's.
const EAGER_COMMAND: Duration = Duration::from_secs(1);

/// How long after a start probes are made that often. A unit that needs longer is probed at its interval.
const EAGER_FOR: Duration = Duration::from_secs(60);

/// The result of one run of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed: why, in a few words.
    Failed(String),
    /// It couldn't be made, for this reason. This says nothing about the unit, so its verdict stays as it is.
    NotRun(String),
}

impl Outcome {
    /// Its word in metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::NotRun(_) => "not-run",
        }
    }
}

/// What the probes of a unit say, for its report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stand {
    /// Whether all of `Ready=` pass.
    pub ready: bool,
    /// If not: the first one that fails, and why: `http://:8080/ready: 503 Service Unavailable`. `None` before a probe
    /// has failed. If it is ready: the first one that couldn't be made `Fall=` times in a row, and why.
    pub why: Option<String>,
}

/// The results of a unit's probes so far. It begins again with each start of the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing(Vec<Results>);

/// The results of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Results {
    verdict: Verdict,
    /// Whether it has been up since the unit was started.
    proven: bool,
    /// Why it failed, or couldn't be made, the last time, unless it has risen since.
    failure: Option<String>,
    /// How many times in a row it couldn't be made.
    not_run: u32,
}

impl Standing {
    /// Before the first result. `ready` is whether the unit is known to be ready, because an earlier daemon or earlier
    /// probes have said so: failures in a row are then needed to change that.
    #[must_use]
    pub fn new(health: &Health, ready: bool) -> Self {
        let results = Results { verdict: Verdict::new(ready), proven: ready, failure: None, not_run: 0 };
        Self(vec![results; health.ready.len()])
    }

    /// The stand that follows.
    #[must_use]
    pub fn stand(&self, health: &Health) -> Stand {
        let mut down = self.0.iter().zip(&health.ready).filter(|(results, _)| !results.verdict.up).peekable();
        let ready = down.peek().is_none();
        let why = |(results, probe): (&Results, &Probe)| Some(format!("{probe}: {}", results.failure.as_ref()?));
        let why = if ready {
            self.0.iter().zip(&health.ready).filter(|(results, _)| results.not_run >= health.fall).find_map(why)
        } else {
            down.find_map(why)
        };
        Stand { ready, why }
    }

    /// Whether the probe at this position still has to pass for the first time.
    fn is_awaited(&self, at: usize) -> bool {
        self.0.get(at).is_some_and(|results| !results.proven)
    }
}

/// Apply the result of the probe at position `at` of `Ready=`. Returns the stand if it has changed.
#[must_use]
pub fn step(health: &Health, standing: &Standing, at: usize, outcome: Outcome) -> (Standing, Option<Stand>) {
    let mut next = standing.clone();
    let Some(results) = next.0.get_mut(at) else { return (next, None) };
    if let Outcome::NotRun(_) = outcome {
        results.not_run = results.not_run.saturating_add(1);
    } else {
        results.not_run = 0;
        results.verdict.take(outcome == Outcome::Passed, health.rise, health.fall);
        results.proven |= results.verdict.up;
    }
    match outcome {
        // While more passes are needed, the last reason stays.
        Outcome::Passed if !results.verdict.up => {}
        Outcome::Passed => results.failure = None,
        Outcome::Failed(why) => results.failure = Some(why),
        Outcome::NotRun(why) => results.failure = Some(format!("not run: {why}")),
    }
    let (old, new) = (standing.stand(health), next.stand(health));
    (next, (old != new).then_some(new))
}

/// When a probe is made again that was made at `now`, for a unit that was started `since_start` ago. Both `now` and
/// the result count from any fixed instant. Units with different `seed`s are probed at different moments.
#[must_use]
pub fn next(
    health: &Health,
    standing: &Standing,
    at: usize,
    now: Duration,
    since_start: Duration,
    seed: u64,
) -> Duration {
    if standing.is_awaited(at) && since_start < EAGER_FOR {
        let eager = if matches!(health.ready.get(at), Some(Probe::Exec(_))) { EAGER_COMMAND } else { EAGER };
        return now + health.interval.min(eager);
    }
    slot(now, health.interval, seed)
}

/// When a probe is made for the first time, of a unit that is found running, or has just been started, at `now`.
#[must_use]
pub fn first(health: &Health, standing: &Standing, at: usize, now: Duration, seed: u64) -> Duration {
    // Many units may be started in the same moment.
    slot(now, if standing.is_awaited(at) { EAGER / 5 } else { health.interval }, seed)
}

/// The first moment after `now` whose distance from a multiple of `interval` is that of `seed`.
fn slot(now: Duration, interval: Duration, seed: u64) -> Duration {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let (now, interval) = (nanos(now), nanos(interval).max(1));
    let wait = (seed % interval + interval - now % interval) % interval;
    Duration::from_nanos(now.saturating_add(if wait == 0 { interval } else { wait }))
}

/// A number by which units differ: FNV-1a of the name.
#[must_use]
pub fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
