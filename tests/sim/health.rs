//! The probes of one host's units: what they get, and what an agent may conclude from it. Owns which units are sick,
//! and the invariant about readiness.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla::agent::{Network, ProbeResult};
use flotilla::model::name::UnitName;
use flotilla::model::probe::Probe;
use flotilla::model::unit::UnitReport;
use flotilla::plan::host::Executed;
use flotilla::systemd::fake::Fake;
use flotilla::systemd::{ProbeEnd, Systemd as _};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// The section of units that are probed: without options other than the probe, so that these are the defaults.
pub(crate) const SECTION: &str = "[X-Health]\nReady=tcp:80\n";

/// The same with a command, which the host's systemd runs.
pub(crate) const COMMAND_SECTION: &str = "[X-Health]\nReady=exec:/usr/bin/ready\n";

/// That of units that are ended when they no longer work.
pub(crate) const LIVE_SECTION: &str = "[X-Health]\nLive=tcp:80\nGraceSec=5\n";

/// The boot file with what was carried out, and which units are ready.
pub(crate) const UNITS: &str = "units.json";

/// The program of that command.
const COMMAND: &str = "/usr/bin/ready";

/// The default of `Fall=`.
const FALL: u32 = 3;

/// What the probes of a host's units get: they pass while the unit has a process and isn't sick.
pub(crate) struct Answers {
    fake: Fake,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    units: BTreeMap<UnitName, Facet>,
    /// Whether the agent couldn't save what it knew the last time: one of the files couldn't be written.
    unsaved: bool,
}

/// One unit.
#[derive(Default)]
struct Facet {
    sick: bool,
    /// Failures in a row, and the longest such row since the unit was last reported as ready.
    failures: u32,
    longest: u32,
    /// Whether that report may have been forgotten.
    forgotten: bool,
}

impl Facet {
    fn probed(&mut self, passed: bool) {
        self.failures = if passed { 0 } else { self.failures + 1 };
        self.longest = self.longest.max(self.failures);
    }
}

impl Answers {
    pub(crate) fn new(fake: Fake) -> Self {
        Self { fake, facts: Mutex::default() }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The unit answers no more, or answers again.
    pub(crate) fn sicken(&self, unit: &UnitName, sick: bool) {
        self.facts().units.entry(unit.clone()).or_default().sick = sick;
        let failure = sick.then(|| ProbeEnd::Failed("exited 1/FAILURE".into()));
        self.fake.set_probe(unit, COMMAND, failure);
    }

    /// All units answer again.
    pub(crate) fn cure(&self) {
        let units: Vec<UnitName> = self.facts().units.keys().cloned().collect();
        units.iter().for_each(|unit| self.sicken(unit, false));
    }

    /// The agent has saved its boot state, or couldn't.
    pub(crate) fn saved(&self, done: bool) {
        self.facts().unsaved = !done;
    }

    /// Whether the next daemon can read that the unit is ready.
    fn is_saved(&self, unit: &UnitName) -> bool {
        let text = self.fake.read_boot_file(UNITS).now_or_never().unwrap().unwrap().unwrap_or_default();
        let saved: BTreeMap<UnitName, Executed> = serde_json::from_str(&text).unwrap_or_default();
        saved.get(unit).and_then(|saved| saved.state.as_ref()).is_some_and(|state| state.ready)
    }

    /// Whether a probe of the unit would pass.
    pub(crate) fn passes(&self, unit: &UnitName) -> bool {
        let sick = self.facts().units.get(unit).is_some_and(|unit| unit.sick);
        self.fake.main_pid(unit).is_some() && !sick
    }

    /// Whether the unit may be ended because it no longer works: its probe has failed in a row.
    pub(crate) fn may_end(&self, unit: &UnitName) -> bool {
        let mut facts = self.facts();
        let facet = facts.units.entry(unit.clone()).or_default();
        self.fake.take_probe_results(unit).into_iter().for_each(|passed| facet.probed(passed));
        facet.failures >= FALL
    }

    /// A report of the unit replaces another one of the same host. A unit that has been active since before is no
    /// longer ready only after its probe has failed in a row, whatever has happened to the daemon. Returns whether that
    /// is so.
    pub(crate) fn may_report(&self, unit: &UnitName, old: Option<&UnitReport>, new: &UnitReport) -> bool {
        let mut facts = self.facts();
        let unsaved = facts.unsaved && !self.is_saved(unit);
        let facet = facts.units.entry(unit.clone()).or_default();
        self.fake.take_probe_results(unit).into_iter().for_each(|passed| facet.probed(passed));
        let was = old.filter(|old| old.ready == Some(true) && (&old.active, old.since) == (&new.active, new.since));
        let fine = was.is_none() || new.ready != Some(false) || facet.longest >= FALL || facet.forgotten;
        if new.ready == Some(true) {
            (facet.longest, facet.forgotten) = (facet.failures, unsaved);
        }
        fine
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answers")
    }
}

impl Network for Answers {
    fn probe<'a>(&'a self, unit: &'a UnitName, _probe: &'a Probe, _limit: Duration) -> BoxFuture<'a, ProbeResult> {
        let passes = self.passes(unit);
        let mut facts = self.facts();
        facts.units.entry(unit.clone()).or_default().probed(passes);
        Box::pin(std::future::ready(if passes { Ok(()) } else { Err("connection refused".into()) }))
    }
}
