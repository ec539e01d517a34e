//! One host's systemd as its agent sees it: the host in memory, with answers that are lost. A request that was sent is
//! carried out while its sender is suspended, and ends with a sender that is killed. It reports the requests of the
//! agent to the judge. Owns the faults of the bus, and the invariants that must be checked at the moment of a request:
//! a running unit is not removed, and no unit of a package is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flotilla::model::name::UnitName;
use flotilla::systemd::fake::Fake;
use flotilla::systemd::{Deadlines, Details, Error, Event, ExecProbe, Outcomes, ProbeEnd, Systemd, UnitState};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::health::{Answers, UNITS};
use super::judge::Judge;
use super::random::Random;

/// The other boot files that an agent writes before that one when it saves what it knows. The first one that it can't
/// write ends this, so that it doesn't come to those after it.
const BEFORE_UNITS: [&str; 2] = ["foreign.json", "horizon.json"];

/// A call that changes the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Install,
    Remove,
    Reload,
    Start,
    Stop,
    ResetFailed,
}

/// What happens to the answer to a call that has taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The call fails.
    Lost,
    /// The caller waits forever.
    Never,
}

/// A host's systemd. Clones share it.
#[derive(Clone)]
pub(crate) struct Probe {
    host: usize,
    fake: Fake,
    judge: Judge,
    answers: Arc<Answers>,
    faults: Arc<Mutex<Faults>>,
}

struct Faults {
    random: Random,
    /// The number of lost answers, per mille.
    flaky: u64,
    /// What happens to the answer to the next call of this kind.
    next: Option<(Call, Answer)>,
}

impl Probe {
    pub(crate) fn new(host: usize, fake: Fake, judge: Judge, answers: Arc<Answers>, random: Random) -> Self {
        Self { host, fake, judge, answers, faults: Arc::new(Mutex::new(Faults { random, flaky: 0, next: None })) }
    }

    /// Lose this many of a thousand answers, after the call has taken effect.
    pub(crate) fn set_flaky(&self, per_mille: u64) {
        self.faults().flaky = per_mille;
    }

    /// The next `call` takes effect, and this happens to its answer.
    pub(crate) fn set_next(&self, call: Call, answer: Answer) {
        self.faults().next = Some((call, answer));
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fails(&self) -> Result<(), Error> {
        let faults = &mut *self.faults();
        if faults.flaky > 0 && faults.random.chance(faults.flaky) {
            return Err(no_answer());
        }
        Ok(())
    }

    /// No unit that the host has from a package may be started, stopped or removed.
    fn leaves_packages_alone(&self, units: &[UnitName]) {
        for unit in units.iter().filter(|unit| self.fake.is_packaged(unit)) {
            self.judge.journal.violate(format!("an agent touches {unit}, which its host has from a package"));
        }
    }

    /// The answer to `call`, which has taken effect.
    async fn answer(&self, call: Call) -> Result<(), Error> {
        let next = self.faults().next.take_if(|(kind, _)| *kind == call);
        match next {
            None => self.fails(),
            Some((_, Answer::Lost)) => Err(no_answer()),
            Some((_, Answer::Never)) => std::future::pending().await,
        }
    }

    async fn outcomes(&self, call: Call, outcomes: Outcomes) -> Outcomes {
        self.judge.look();
        let outcomes: Outcomes = match self.answer(call).await {
            Ok(()) => outcomes,
            Err(error) => outcomes.into_iter().map(|(name, _)| (name, Err(error.clone()))).collect(),
        };
        if outcomes.iter().any(|(_, outcome)| outcome.is_err()) {
            self.judge.call_failed(self.host);
        }
        outcomes
    }
}

impl Systemd for Probe {
    async fn version(&self) -> Result<String, Error> {
        self.fake.version().await
    }

    async fn files(&self) -> Result<BTreeMap<UnitName, String>, Error> {
        self.fake.files().await
    }

    async fn stage(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        self.fake.stage(units).await
    }

    async fn install(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        self.judge.installs(self.host, &units);
        let fake = self.fake.clone();
        let outcomes = sent(async move { fake.install(units).await }).await;
        self.outcomes(Call::Install, outcomes).await
    }

    async fn remove(&self, units: Vec<UnitName>) -> Outcomes {
        self.leaves_packages_alone(&units);
        self.judge.removes(self.host, &units);
        let fake = self.fake.clone();
        let outcomes = sent(async move { fake.remove(units).await }).await;
        self.outcomes(Call::Remove, outcomes).await
    }

    async fn reload(&self) -> Result<(), Error> {
        let fake = self.fake.clone();
        sent(async move { fake.reload().await }).await?;
        self.answer(Call::Reload).await
    }

    async fn start(&self, units: Vec<UnitName>) -> Outcomes {
        self.leaves_packages_alone(&units);
        self.judge.starts(self.host, &units);
        let fake = self.fake.clone();
        let outcomes = sent(async move { fake.start(units).await }).await;
        let outcomes = self.outcomes(Call::Start, outcomes).await;
        for (unit, _) in outcomes.iter().filter(|(_, outcome)| outcome.is_ok()) {
            self.judge.start_answered(self.host, unit);
        }
        outcomes
    }

    async fn stop(&self, units: Vec<UnitName>) -> Outcomes {
        self.leaves_packages_alone(&units);
        self.judge.stops(self.host, &units);
        let fake = self.fake.clone();
        let outcomes = sent(async move { fake.stop(units).await }).await;
        self.outcomes(Call::Stop, outcomes).await
    }

    async fn reset_failed(&self, units: Vec<UnitName>) -> Outcomes {
        self.leaves_packages_alone(&units);
        let fake = self.fake.clone();
        let outcomes = sent(async move { fake.reset_failed(units).await }).await;
        self.outcomes(Call::ResetFailed, outcomes).await
    }

    async fn units(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        let asked = units.clone();
        let units = self.fake.units(units).await?;
        self.fails()?;
        self.judge.observed(self.host, &asked, &units);
        Ok(units)
    }

    async fn in_memory(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        let asked = units.clone();
        let units = self.fake.in_memory(units).await?;
        self.fails()?;
        self.judge.observed(self.host, &asked, &units);
        Ok(units)
    }

    async fn stopped_with(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, BTreeSet<UnitName>>, Error> {
        let bindings = self.fake.stopped_with(units).await?;
        self.fails().map(|()| bindings)
    }

    async fn probe(&self, probe: ExecProbe) -> Result<ProbeEnd, Error> {
        let end = self.fake.probe(probe).await?;
        self.fails().map(|()| end)
    }

    async fn not_alive(&self, unit: &UnitName) -> Result<bool, Error> {
        self.leaves_packages_alone(std::slice::from_ref(unit));
        if !self.answers.may_end(unit) {
            self.judge.journal.violate(format!("an agent ends {unit}, and its probe hasn't failed in a row"));
        }
        let killed = self.fake.not_alive(unit).await?;
        self.fails().map(|()| killed)
    }

    async fn set_deadlines(&self, deadlines: Option<Deadlines>) -> Result<(), Error> {
        self.fake.set_deadlines(deadlines).await?;
        self.fails()
    }

    async fn hold_lease(&self, hold: bool) -> Result<(), Error> {
        self.fake.hold_lease(hold).await?;
        self.fails()
    }

    async fn holds_lease(&self) -> Result<bool, Error> {
        let held = self.fake.holds_lease().await?;
        self.fails().map(|()| held)
    }

    async fn details(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, Details>, Error> {
        let details = self.fake.details(units).await?;
        self.fails().map(|()| details)
    }

    async fn last_lines(&self, unit: &UnitName, invocation: &str) -> Result<Vec<String>, Error> {
        let lines = self.fake.last_lines(unit, invocation).await?;
        self.fails().map(|()| lines)
    }

    fn events(&self) -> mpsc::UnboundedReceiver<Event> {
        self.fake.events()
    }

    async fn going_down(&self) -> Result<bool, Error> {
        self.fake.going_down().await
    }

    async fn request_reboot(&self) -> Result<(), Error> {
        self.fake.request_reboot().await
    }

    async fn read_boot_file(&self, key: &str) -> Result<Option<String>, Error> {
        self.fake.read_boot_file(key).await
    }

    async fn write_boot_file(&self, key: &str, text: &str) -> Result<(), Error> {
        let written = self.fake.write_boot_file(key, text).await;
        if key == UNITS || (BEFORE_UNITS.contains(&key) && written.is_err()) {
            self.answers.saved(written.is_ok());
        }
        if key == UNITS && written.is_ok() {
            self.judge.noted(self.host);
        }
        written
    }
}

/// Carry out a request, whether or not the task that waits for it executes meanwhile.
async fn sent<T: Send + 'static>(request: impl Future<Output = T> + Send + 'static) -> T {
    // It is aborted when this set is dropped.
    let mut requests = JoinSet::new();
    requests.spawn(request);
    requests.join_next().await.unwrap().unwrap()
}

fn no_answer() -> Error {
    Error::Unavailable("no answer from the bus (simulated)".into())
}
