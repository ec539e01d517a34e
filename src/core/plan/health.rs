//! What follows from the results of a unit's probes: whether it is ready, whether it no longer works, and when to probe
//! again. Pure: the times are values. `agent::health` makes the probes; it must decide nothing.

use std::time::Duration;

use crate::model::health::{Health, Verdict};
use crate::model::probe::Probe;

/// The time between two runs of a probe until it passes for the first time, since others wait for that.
const EAGER: Duration = Duration::from_millis(250);

/// The same for a probe that is a command: each run is a unit of systemd's.
const EAGER_COMMAND: Duration = Duration::from_secs(1);

/// Probes of different units are made in so many groups within their interval, those of a group together, but no group
/// spans more or less time than this. A process that wakes up for each probe uses four times as much processor time
/// for it (docs/performance.md, "Probes").
const GROUPS: u32 = 10;
const SHORTEST_GROUP: Duration = Duration::from_millis(100);
const LONGEST_GROUP: Duration = Duration::from_millis(500);

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
    /// The probe of `Live=` for which the unit was found not to work, and why that failed, until it passes, or until
    /// the unit's next start.
    pub not_alive: Option<String>,
}

/// What follows from a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The stand has changed.
    Tell(Stand),
    /// So it has, and the unit no longer works: end it as a watchdog does.
    End(Stand),
}

/// The results of a unit's probes so far. It begins again with each start of the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    ready: Vec<Results>,
    live: Vec<Life>,
}

/// The results of one probe of `Live=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Life {
    /// Whether it has passed since the unit was started.
    proven: bool,
    /// The failures in a row that count.
    failures: u32,
    /// Why it failed when the unit was found not to work, unless it has passed since: the unit may outlive the signal.
    ended: Option<String>,
}

/// The results of one probe of `Ready=`.
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
        let live = vec![Life::default(); health.live.len()];
        Self { ready: vec![results; health.ready.len()], live }
    }

    /// The stand that follows.
    fn stand(&self, health: &Health) -> Stand {
        let mut down = self.ready.iter().zip(&health.ready).filter(|(results, _)| !results.verdict.up).peekable();
        let ready = down.peek().is_none();
        let why = |(results, probe): (&Results, &Probe)| Some(format!("{probe}: {}", results.failure.as_ref()?));
        let why = if ready {
            self.ready.iter().zip(&health.ready).filter(|(results, _)| results.not_run >= health.fall).find_map(why)
        } else {
            down.find_map(why)
        };
        let mut lives = self.live.iter().zip(&health.live);
        let not_alive = lives.find_map(|(life, probe)| Some(format!("{probe}: {}", life.ended.as_ref()?)));
        Stand { ready, why, not_alive }
    }

    /// Whether the probe at this position still has to pass for the first time.
    fn is_awaited(&self, at: usize) -> bool {
        self.ready.get(at).is_some_and(|results| !results.proven)
    }
}

/// Apply the result of the probe at position `at` of [`Health::probes`], of a unit that was started `since_start` ago.
#[must_use]
pub fn step(
    health: &Health,
    standing: &Standing,
    at: usize,
    outcome: Outcome,
    since_start: Duration,
) -> (Standing, Option<Act>) {
    let mut next = standing.clone();
    let live = at.checked_sub(next.ready.len());
    let mut ends = false;
    if let Some(results) = next.ready.get_mut(at) {
        results.take(health, outcome);
    } else if let Some(life) = live.and_then(|at| next.live.get_mut(at)) {
        ends = life.take(health, outcome, since_start);
    }
    let (old, new) = (standing.stand(health), next.stand(health));
    let act = if ends { Some(Act::End(new)) } else { (old != new).then_some(Act::Tell(new)) };
    (next, act)
}

impl Results {
    fn take(&mut self, health: &Health, outcome: Outcome) {
        if let Outcome::NotRun(_) = outcome {
            self.not_run = self.not_run.saturating_add(1);
        } else {
            self.not_run = 0;
            self.verdict.take(outcome == Outcome::Passed, health.rise, health.fall);
            self.proven |= self.verdict.up;
        }
        match outcome {
            // While more passes are needed, the last reason stays.
            Outcome::Passed if !self.verdict.up => {}
            Outcome::Passed => self.failure = None,
            Outcome::Failed(why) => self.failure = Some(why),
            Outcome::NotRun(why) => self.failure = Some(format!("not run: {why}")),
        }
    }
}

impl Life {
    /// Returns whether it has failed often enough that the unit no longer works. Then the count begins again: the unit
    /// may outlive the signal.
    fn take(&mut self, health: &Health, outcome: Outcome, since_start: Duration) -> bool {
        match outcome {
            Outcome::Passed => *self = Self { proven: true, ..Self::default() },
            Outcome::Failed(why) if self.proven || since_start >= health.grace => {
                self.failures += 1;
                if self.failures >= health.fall {
                    (self.failures, self.ended) = (0, Some(why));
                    return true;
                }
            }
            Outcome::Failed(_) | Outcome::NotRun(_) => {}
        }
        false
    }
}

/// When a probe is made again that was made at `now`, for a unit that was started `since_start` ago. Both `now` and
/// the result count from any fixed instant. By their `seed`s, units are spread over the interval in ten groups.
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

/// The first moment after `now` whose distance from a multiple of `interval` is that of the group of `seed`.
fn slot(now: Duration, interval: Duration, seed: u64) -> Duration {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let group = nanos((interval / GROUPS).clamp(SHORTEST_GROUP, LONGEST_GROUP));
    let (now, interval) = (nanos(now), nanos(interval).max(1));
    let own = seed % interval;
    let wait = (own - own % group + interval - now % interval) % interval;
    Duration::from_nanos(now.saturating_add(if wait == 0 { interval } else { wait }))
}

/// A number by which units differ: FNV-1a of the name.
#[must_use]
pub fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
