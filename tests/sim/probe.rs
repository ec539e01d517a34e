//! One host's systemd as its agent sees it: the host in memory, with calls whose answers get lost, and with an eye on
//! what the agent asks for. Owns the faults of the bus, and the one rule that only the moment of asking can show:
//! nothing is removed that runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use flotilla::model::name::UnitName;
use flotilla::systemd::fake::Fake;
use flotilla::systemd::{Error, Event, Outcomes, Systemd, UnitState};
use tokio::sync::mpsc;

use super::judge::Judge;
use super::random::Random;

/// The note of what was carried out.
const UNITS: &str = "units.json";

/// A host's systemd. Clones share it.
#[derive(Clone)]
pub(crate) struct Probe {
    host: usize,
    fake: Fake,
    judge: Judge,
    flaky: Arc<Mutex<(Random, u64)>>,
}

impl Probe {
    pub(crate) fn new(host: usize, fake: Fake, judge: Judge, random: Random) -> Self {
        Self { host, fake, judge, flaky: Arc::new(Mutex::new((random, 0))) }
    }

    /// So many answers of a thousand get lost after the call has had its effect.
    pub(crate) fn set_flaky(&self, per_mille: u64) {
        self.flaky.lock().unwrap_or_else(PoisonError::into_inner).1 = per_mille;
    }

    fn fails(&self) -> Result<(), Error> {
        let mut flaky = self.flaky.lock().unwrap_or_else(PoisonError::into_inner);
        let per_mille = flaky.1;
        if per_mille > 0 && flaky.0.chance(per_mille) {
            return Err(Error::Unavailable("no answer from the bus (simulated)".into()));
        }
        Ok(())
    }

    fn outcomes(&self, outcomes: Outcomes) -> Outcomes {
        self.judge.look();
        match self.fails() {
            Ok(()) => outcomes,
            Err(error) => outcomes.into_iter().map(|(name, _)| (name, Err(error.clone()))).collect(),
        }
    }
}

impl Systemd for Probe {
    async fn files(&self) -> Result<BTreeMap<UnitName, String>, Error> {
        self.fake.files().await
    }

    async fn install(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        let names: Vec<UnitName> = units.iter().map(|(name, _)| name.clone()).collect();
        self.judge.installs(self.host, &names);
        let outcomes = self.fake.install(units).await;
        self.outcomes(outcomes)
    }

    async fn remove(&self, units: Vec<UnitName>) -> Outcomes {
        self.judge.removes(self.host, &units);
        let outcomes = self.fake.remove(units).await;
        self.outcomes(outcomes)
    }

    async fn reload(&self) -> Result<(), Error> {
        self.fake.reload().await?;
        self.fails()
    }

    async fn start(&self, units: Vec<UnitName>) -> Outcomes {
        self.judge.starts(self.host, &units);
        let outcomes = self.fake.start(units).await;
        let outcomes = self.outcomes(outcomes);
        for (unit, _) in outcomes.iter().filter(|(_, outcome)| outcome.is_ok()) {
            self.judge.start_answered(self.host, unit);
        }
        outcomes
    }

    async fn stop(&self, units: Vec<UnitName>) -> Outcomes {
        self.judge.stops(self.host, &units);
        let outcomes = self.fake.stop(units).await;
        self.outcomes(outcomes)
    }

    async fn units(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        let units = self.fake.units(units).await?;
        self.fails().map(|()| units)
    }

    async fn in_memory(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        let units = self.fake.in_memory(units).await?;
        self.fails().map(|()| units)
    }

    fn events(&self) -> mpsc::UnboundedReceiver<Event> {
        self.fake.events()
    }

    async fn going_down(&self) -> Result<bool, Error> {
        self.fake.going_down().await
    }

    async fn read_boot_file(&self, key: &str) -> Result<Option<String>, Error> {
        self.fake.read_boot_file(key).await
    }

    async fn write_boot_file(&self, key: &str, text: &str) -> Result<(), Error> {
        self.fake.write_boot_file(key, text).await?;
        if key == UNITS {
            self.judge.noted(self.host);
        }
        Ok(())
    }
}
