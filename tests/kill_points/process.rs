//! A process that dies at one of its calls: its connections to the store and to systemd, which count the calls. Owns
//! nothing else; every call is passed on.
//!
//! A process that is killed leaves nothing but the effects of its calls. Dying before and after the effect of each call
//! is therefore as good as dying at every `.await`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla::model::name::UnitName;
use flotilla::model::revision::Revision;
use flotilla::store::embedded::Embedded;
use flotilla::store::{Error as StoreError, LeaseId, Page, Range, Store, Txn, Watch};
use flotilla::systemd::fake::Fake;
use flotilla::systemd::{Deadlines, Details, Error, Event, ExecProbe, Outcomes, ProbeEnd, Systemd, UnitState};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Where a process dies: at the call with this number, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KillPoint {
    pub(crate) call: usize,
    /// Whether the call has taken effect; the process never learns its result.
    pub(crate) done: bool,
}

/// One process. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Process(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    tasks: Vec<AbortHandle>,
    /// The calls since it was armed.
    calls: Option<Vec<&'static str>>,
    dies_at: Option<KillPoint>,
    dead: bool,
}

impl Process {
    /// What is aborted when it dies.
    pub(crate) fn has(&self, task: AbortHandle) {
        self.lock().tasks.push(task);
    }

    /// Count its calls from now on, and let it die at one of them.
    pub(crate) fn arm(&self, dies_at: Option<KillPoint>) {
        let mut state = self.lock();
        (state.calls, state.dies_at) = (Some(Vec::new()), dies_at);
    }

    /// The calls since it was armed.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.lock().calls.clone().unwrap_or_default()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T>(&self, name: &'static str, effect: impl Future<Output = T>) -> T {
        let number = self.lock().calls.as_mut().map(|calls| {
            calls.push(name);
            calls.len() - 1
        });
        self.survive(number, false).await;
        let result = effect.await;
        self.survive(number, true).await;
        result
    }

    /// Never returns if the process dies here, or is dead.
    async fn survive(&self, number: Option<usize>, done: bool) {
        let dead = {
            let mut state = self.lock();
            if number.is_some_and(|call| state.dies_at == Some(KillPoint { call, done })) {
                state.dead = true;
                state.tasks.drain(..).for_each(|task| task.abort());
            }
            state.dead
        };
        if dead {
            std::future::pending::<()>().await;
        }
    }
}

/// The process's connection to the store.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) store: Embedded,
    pub(crate) process: Process,
}

impl Store for Line {
    async fn range(&self, range: Range) -> Result<Page, StoreError> {
        self.process.call("range", self.store.range(range)).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.process.call("commit", self.store.commit(txn)).await
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        self.store.watch(prefix, from)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.process.call("grant", self.store.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, StoreError> {
        self.process.call("keep_alive", self.store.keep_alive(lease, within)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.process.call("revoke", self.store.revoke(lease)).await
    }
}

/// The process's connection to its host's systemd.
#[derive(Clone)]
pub(crate) struct Bus {
    pub(crate) host: Fake,
    pub(crate) process: Process,
}

impl Systemd for Bus {
    async fn version(&self) -> Result<String, Error> {
        self.host.version().await
    }

    async fn files(&self) -> Result<BTreeMap<UnitName, String>, Error> {
        self.process.call("files", self.host.files()).await
    }

    async fn stage(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        self.process.call("stage", self.host.stage(units)).await
    }

    async fn install(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        self.process.call("install", self.host.install(units)).await
    }

    async fn remove(&self, units: Vec<UnitName>) -> Outcomes {
        self.process.call("remove", self.host.remove(units)).await
    }

    async fn reload(&self) -> Result<(), Error> {
        self.process.call("reload", self.host.reload()).await
    }

    async fn start(&self, units: Vec<UnitName>) -> Outcomes {
        self.process.call("start", self.host.start(units)).await
    }

    async fn stop(&self, units: Vec<UnitName>) -> Outcomes {
        self.process.call("stop", self.host.stop(units)).await
    }

    async fn reset_failed(&self, units: Vec<UnitName>) -> Outcomes {
        self.process.call("reset_failed", self.host.reset_failed(units)).await
    }

    async fn units(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        self.process.call("units", self.host.units(units)).await
    }

    async fn in_memory(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        self.process.call("in_memory", self.host.in_memory(units)).await
    }

    async fn stopped_with(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, BTreeSet<UnitName>>, Error> {
        self.process.call("stopped_with", self.host.stopped_with(units)).await
    }

    async fn probe(&self, probe: ExecProbe) -> Result<ProbeEnd, Error> {
        self.process.call("probe", self.host.probe(probe)).await
    }

    async fn not_alive(&self, unit: &UnitName) -> Result<bool, Error> {
        self.process.call("not_alive", self.host.not_alive(unit)).await
    }

    async fn set_deadlines(&self, deadlines: Option<Deadlines>) -> Result<(), Error> {
        self.process.call("set_deadlines", self.host.set_deadlines(deadlines)).await
    }

    async fn hold_lease(&self, hold: bool) -> Result<(), Error> {
        self.process.call("hold_lease", self.host.hold_lease(hold)).await
    }

    async fn holds_lease(&self) -> Result<bool, Error> {
        self.process.call("holds_lease", self.host.holds_lease()).await
    }

    async fn details(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, Details>, Error> {
        self.process.call("details", self.host.details(units)).await
    }

    async fn last_lines(&self, unit: &UnitName, invocation: &str) -> Result<Vec<String>, Error> {
        self.process.call("last_lines", self.host.last_lines(unit, invocation)).await
    }

    fn events(&self) -> mpsc::UnboundedReceiver<Event> {
        self.host.events()
    }

    async fn going_down(&self) -> Result<bool, Error> {
        self.process.call("going_down", self.host.going_down()).await
    }

    async fn request_reboot(&self) -> Result<(), Error> {
        self.process.call("request_reboot", self.host.request_reboot()).await
    }

    async fn read_boot_file(&self, key: &str) -> Result<Option<String>, Error> {
        self.process.call("read_boot_file", self.host.read_boot_file(key)).await
    }

    async fn write_boot_file(&self, key: &str, text: &str) -> Result<(), Error> {
        self.process.call("write_boot_file", self.host.write_boot_file(key, text)).await
    }
}
