//! Probes of the host in memory, and what its systemd does with a unit that no longer works. Owns how a probe's command
//! behaves; what the end of a process means for its unit is decided in `jobs`.

use std::time::Duration;

use tokio::time::Instant;

use super::Fake;
use super::definition::End;
use super::host::{Host, Next};
use crate::model::name::UnitName;
use crate::systemd::{Error, ExecProbe, ProbeEnd};

/// How long a command takes that doesn't sleep.
const SHORT: Duration = Duration::from_millis(10);

impl Fake {
    /// How the probes of `unit` with this program end from now on; `None` for what the program does by itself. Of the
    /// programs, this host knows `true`, `false` and `sleep` by their names; nothing is in `/nonexistent`, and all
    /// others exit with status 0.
    pub fn set_probe(&self, unit: &UnitName, program: &str, end: Option<ProbeEnd>) {
        let ends = &mut self.lock().probes.ends;
        let key = (unit.clone(), program.to_owned());
        match end {
            Some(end) => ends.insert(key, end),
            None => ends.remove(&key),
        };
    }

    /// Whether each run of the unit's probes passed since the last call, in order. Those that weren't run aren't here.
    #[must_use]
    pub fn take_probe_results(&self, unit: &UnitName) -> Vec<bool> {
        self.lock().probes.results.remove(unit).unwrap_or_default()
    }

    pub(super) async fn run_probe(&self, probe: ExecProbe) -> Result<ProbeEnd, Error> {
        let (takes, end) = self.call(|host| host.begin_probe(&probe)).await?;
        self.wait(takes).await;
        if !self.lock().bus_up {
            return Err(Error::Unavailable("the bus of this host in memory went down during a probe".into()));
        }
        Ok(end)
    }
}

impl Host {
    /// How long the probe takes from now, and how it ends.
    fn begin_probe(&mut self, probe: &ExecProbe) -> (Duration, ProbeEnd) {
        let not_run = |why: String| (Duration::ZERO, ProbeEnd::NotRun(why));
        if probe.unit.kind() != "service" || self.describe(&probe.unit).load.as_str() != "loaded" {
            return not_run(format!("systemd hasn't loaded the file of {}", probe.unit));
        }
        let (unit, now) = (probe.runs_in(), Instant::now());
        if self.probes.running.get(&unit).is_some_and(|end| *end > now) {
            return not_run("its last run hasn't ended".into());
        }
        self.counters.probes += 1;
        let program = probe.command.first().cloned().unwrap_or_default();
        let set = self.probes.ends.get(&(probe.unit.clone(), program)).cloned();
        let (takes, end) = set.map_or_else(|| behaviour(&probe.command), |end| (SHORT, end));
        let (takes, end) = match end {
            ProbeEnd::TimedOut => (probe.timeout, end),
            _ if takes > probe.timeout => (probe.timeout, ProbeEnd::TimedOut),
            end => (takes, end),
        };
        if !matches!(end, ProbeEnd::NotRun(_)) {
            self.probes.results.entry(probe.unit.clone()).or_default().push(end == ProbeEnd::Passed);
        }
        self.probes.running.retain(|_, end| *end > now);
        self.probes.running.insert(unit, now + takes);
        (takes, end)
    }

    /// A unit no longer works. Returns whether its process was signalled.
    pub(super) fn end_by_watchdog(&mut self, name: &UnitName) -> bool {
        let refused = self.refused.contains(name);
        let Some(unit) = self.units.get_mut(name).filter(|unit| unit.active == "active" && unit.job.is_none()) else {
            return false;
        };
        if refused || unit.main_pid == 0 || unit.signalled == unit.main_pid {
            return false;
        }
        if unit.definition.deaf {
            unit.signalled = unit.main_pid;
            let timeout = unit.definition.abort_timeout;
            self.plan(name, timeout, Next::Died(End::Killed));
        } else {
            self.died(name, End::Aborted);
        }
        true
    }
}

/// How long a command takes, and how it ends.
fn behaviour(command: &[String]) -> (Duration, ProbeEnd) {
    let program = command.first().map(String::as_str).unwrap_or_default();
    if program.starts_with("/nonexistent/") {
        return (SHORT, ProbeEnd::NotRun("exited 203/EXEC".into()));
    }
    match program.rsplit('/').next() {
        Some("false") => (SHORT, ProbeEnd::Failed("exited 1/FAILURE".into())),
        Some("sleep") => {
            let seconds = command.get(1).and_then(|seconds| seconds.parse().ok());
            (seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(SHORT), ProbeEnd::Passed)
        }
        _ => (SHORT, ProbeEnd::Passed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::Systemd;

    #[tokio::test(start_paused = true)]
    async fn a_program_does_what_a_test_says_until_it_says_no_more() {
        let fake = Fake::default();
        let unit: UnitName = "a.service".parse().unwrap();
        fake.install(vec![(unit.clone(), "[Service]\nExecStart=/bin/a\n".into())]).await;
        let run = async |program: &str| {
            let command = vec![program.to_owned()];
            let before = Instant::now();
            let probe = ExecProbe { unit: unit.clone(), command, timeout: Duration::from_secs(2) };
            (fake.probe(probe).await, before.elapsed())
        };
        assert_eq!(run("/bin/alive").await, (Ok(ProbeEnd::Passed), SHORT));
        let failed = ProbeEnd::Failed("exited 3/NOTIMPLEMENTED".into());
        fake.set_probe(&unit, "/bin/alive", Some(failed.clone()));
        fake.set_probe(&unit, "/bin/ready", Some(ProbeEnd::TimedOut));
        assert_eq!(run("/bin/alive").await, (Ok(failed), SHORT));
        assert_eq!(run("/bin/ready").await, (Ok(ProbeEnd::TimedOut), Duration::from_secs(2)));
        fake.set_probe(&unit, "/bin/alive", None);
        assert_eq!(run("/bin/alive").await, (Ok(ProbeEnd::Passed), SHORT));
        assert_eq!(fake.counters().probes, 4);
        assert_eq!(fake.take_probe_results(&unit), [true, false, false, true]);
        assert_eq!(fake.take_probe_results(&unit), [false; 0]);
        fake.go_down();
        assert!(matches!(run("/bin/alive").await.0, Err(Error::Unavailable(_))));
    }
}
