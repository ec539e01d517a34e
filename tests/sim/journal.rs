//! The journal of a simulation: what happened, with virtual times, and the violations. Owns the record that a failing
//! seed prints, and which must be the same, line by line, in each run of a seed.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::marks::Reached;

/// The number of lines in a report.
const SHOWN: usize = 60;

/// The record. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    born: Instant,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<(Duration, String)>,
    violations: Vec<(Duration, String)>,
    /// How often a leader has checked itself.
    self_checks: usize,
    reached: Reached,
}

impl Journal {
    /// An empty journal; virtual time begins now.
    pub(crate) fn new() -> Self {
        Self { born: Instant::now(), inner: Arc::default() }
    }

    pub(crate) fn now(&self) -> Duration {
        self.born.elapsed()
    }

    pub(crate) fn note(&self, line: impl Into<String>) {
        let now = self.now();
        self.lock().lines.push((now, line.into()));
    }

    /// Record a violation.
    pub(crate) fn violate(&self, line: impl Into<String>) {
        let (now, line) = (self.now(), line.into());
        let mut inner = self.lock();
        inner.lines.push((now, format!("VIOLATION: {line}")));
        inner.violations.push((now, line));
    }

    /// A leader has checked its schedule.
    pub(crate) fn self_check(&self) {
        self.lock().self_checks += 1;
    }

    pub(crate) fn self_checks(&self) -> usize {
        self.lock().self_checks
    }

    /// A `part` of a daemon has logged `line`.
    pub(crate) fn logged(&self, part: &str, line: &str) {
        self.lock().reached.logged(part, line);
    }

    /// The marks that were reached.
    pub(crate) fn reached(&self) -> Reached {
        self.lock().reached.clone()
    }

    pub(crate) fn is_violated(&self) -> bool {
        !self.lock().violations.is_empty()
    }

    pub(crate) fn lines(&self) -> Vec<(Duration, String)> {
        self.lock().lines.clone()
    }

    /// The first violation, and the lines before it, or all; `None` without a violation.
    pub(crate) fn report(&self) -> Option<String> {
        let inner = self.lock();
        let (_, first) = inner.violations.first()?;
        let all = std::env::var_os("FLOTILLA_ALL").is_some();
        let at = inner.lines.iter().position(|(_, line)| line.starts_with("VIOLATION: "))?;
        let shown: &[_] = if all { &inner.lines } else { &inner.lines[at.saturating_sub(SHOWN)..=at] };
        let mut report = String::new();
        for (time, line) in shown {
            writeln!(report, "{:>9.3} {line}", time.as_secs_f64()).unwrap();
        }
        write!(report, "violated: {first}").unwrap();
        if inner.violations.len() > 1 {
            write!(report, " (and {} more)", inner.violations.len() - 1).unwrap();
        }
        Some(report)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
