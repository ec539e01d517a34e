//! A host whose calls are counted and timed, by their result. Owns nothing else: every call is passed on.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::model::name::UnitName;

use super::{Deadlines, Details, Error, Event, ExecProbe, Outcomes, ProbeEnd, Systemd, UnitState};

/// Counts the calls of another host. Clones count together. Files and the boot state don't involve systemd and aren't
/// counted.
#[derive(Debug, Clone)]
pub struct Measured<H> {
    host: H,
    metrics: Metrics,
}

impl<H: Systemd> Measured<H> {
    /// Count the calls of `host`.
    #[must_use]
    pub fn new(host: H, metrics: Metrics) -> Self {
        Self { host, metrics }
    }

    async fn count<T>(&self, call: &'static str, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let asked = Instant::now();
        let answer = answer.await;
        self.metrics.called(call, asked.elapsed(), answer.as_ref().err().map(Error::class));
        answer
    }

    async fn count_each(&self, call: &'static str, answer: impl Future<Output = Outcomes>) -> Outcomes {
        let asked = Instant::now();
        let outcomes = answer.await;
        let failures = outcomes.iter().filter_map(|(_, outcome)| Some(outcome.as_ref().err()?.class()));
        self.metrics.called(call, asked.elapsed(), failures);
        outcomes
    }
}

impl<H: Systemd> Systemd for Measured<H> {
    async fn version(&self) -> Result<String, Error> {
        self.count("version", self.host.version()).await
    }

    async fn files(&self) -> Result<BTreeMap<UnitName, String>, Error> {
        self.host.files().await
    }

    async fn stage(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        self.count_each("stage", self.host.stage(units)).await
    }

    async fn install(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        self.count_each("install", self.host.install(units)).await
    }

    async fn remove(&self, units: Vec<UnitName>) -> Outcomes {
        self.count_each("remove", self.host.remove(units)).await
    }

    async fn reload(&self) -> Result<(), Error> {
        self.count("reload", self.host.reload()).await
    }

    async fn start(&self, units: Vec<UnitName>) -> Outcomes {
        self.count_each("start", self.host.start(units)).await
    }

    async fn stop(&self, units: Vec<UnitName>) -> Outcomes {
        self.count_each("stop", self.host.stop(units)).await
    }

    async fn reset_failed(&self, units: Vec<UnitName>) -> Outcomes {
        self.count_each("reset_failed", self.host.reset_failed(units)).await
    }

    async fn units(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        self.count("units", self.host.units(units)).await
    }

    async fn in_memory(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        self.count("in_memory", self.host.in_memory(units)).await
    }

    async fn stopped_with(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, BTreeSet<UnitName>>, Error> {
        self.count("stopped_with", self.host.stopped_with(units)).await
    }

    /// Its duration is that of the probe, not of an answer, so it isn't measured.
    async fn probe(&self, probe: ExecProbe) -> Result<ProbeEnd, Error> {
        self.host.probe(probe).await
    }

    async fn not_alive(&self, unit: &UnitName) -> Result<bool, Error> {
        self.count("not_alive", self.host.not_alive(unit)).await
    }

    async fn set_deadlines(&self, deadlines: Option<Deadlines>) -> Result<(), Error> {
        self.count("set_deadlines", self.host.set_deadlines(deadlines)).await
    }

    async fn hold_lease(&self, hold: bool) -> Result<(), Error> {
        self.count("hold_lease", self.host.hold_lease(hold)).await
    }

    async fn holds_lease(&self) -> Result<bool, Error> {
        self.count("holds_lease", self.host.holds_lease()).await
    }

    async fn details(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, Details>, Error> {
        self.count("details", self.host.details(units)).await
    }

    async fn last_lines(&self, unit: &UnitName, invocation: &str) -> Result<Vec<String>, Error> {
        self.host.last_lines(unit, invocation).await
    }

    fn events(&self) -> mpsc::UnboundedReceiver<Event> {
        self.host.events()
    }

    async fn going_down(&self) -> Result<bool, Error> {
        self.host.going_down().await
    }

    async fn request_reboot(&self) -> Result<(), Error> {
        self.count("request_reboot", self.host.request_reboot()).await
    }

    async fn read_boot_file(&self, key: &str) -> Result<Option<String>, Error> {
        self.host.read_boot_file(key).await
    }

    async fn write_boot_file(&self, key: &str, text: &str) -> Result<(), Error> {
        self.host.write_boot_file(key, text).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::fake::Fake;

    #[tokio::test(start_paused = true)]
    async fn calls_are_counted_with_what_failed() {
        let metrics = Metrics::default();
        let host = Measured::new(Fake::default(), metrics.clone());
        let names = |names: [&str; 2]| names.map(|name| name.parse().unwrap()).to_vec();
        host.units(names(["a.service", "b.service"])).await.unwrap();
        let outcomes = host.start(names(["a.service", "b.service"])).await;
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_err()), "{outcomes:?}");
        let text = metrics.text();
        for line in ["fleet_systemd_calls_total{call=\"units\"} 1", "fleet_systemd_calls_total{call=\"start\"} 1"] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        let failures =
            |line: &&str| line.starts_with("fleet_systemd_call_failures_total{call=\"start\"") && line.ends_with(" 2");
        assert!(text.lines().any(|line| failures(&line)), "{text}");
    }
}
