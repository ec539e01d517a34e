//! The real host: systemd over D-Bus, and files on disk.
//!
//! Owns the only use of `zbus`. There are two connections: one for calls, built on first use and again after it has
//! died, and one for signals (`signals`), since a connection whose signals pile up can't answer calls. Each reload gets
//! a connection of its own, because its answer may take long. It must never wait for a job or cache a unit's state:
//! systemd is asked.
//!
//! Needs systemd 230 or newer (`ListUnitsByNames`), for probes that are commands 236 (`CollectMode=`), and a D-Bus
//! daemon: zbus can't speak the dialect of systemd's private socket.

mod bindings;
mod calls;
mod details;
mod host_units;
mod lease;
mod power;
mod probes;
mod proxy;
mod settings;
mod signals;
mod watchdog;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::folder::{Before, Folder};
use super::{Deadlines, Details, Error, Event, ExecProbe, Outcomes, ProbeEnd, Systemd, UnitState};
use crate::model::body::is_same_to_systemd;
use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::systemd::{ActiveState, JobResult, LoadState};
use calls::Verb;
use proxy::{ManagerProxy, classify};
use signals::Ours;

/// Locations on the host.
#[derive(Debug, Clone)]
pub struct Options {
    /// Our folder of unit files.
    pub units_directory: PathBuf,
    /// The folder of the boot state; must be a tmpfs.
    pub boot_directory: PathBuf,
    /// Use the user's own systemd over the session bus.
    pub user: bool,
    /// The bus's address if it isn't the default one (`unix:path=…`).
    pub address: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            units_directory: "/run/fleet/units".into(),
            boot_directory: "/run/fleet".into(),
            user: false,
            address: None,
        }
    }
}

/// This host's systemd. Clones share the connection.
#[derive(Clone)]
pub struct Dbus {
    shared: Arc<Shared>,
}

struct Shared {
    options: Arc<Options>,
    units: Folder,
    boot: Folder,
    ours: Ours,
    /// Our units that systemd knows under another primary name.
    aliases: Mutex<BTreeSet<UnitName>>,
    /// Requested units that the host has from elsewhere, with their files.
    host_units: Mutex<BTreeMap<UnitName, PathBuf>>,
    probes: probes::Probes,
    ending: watchdog::Ending,
    /// What is known of the units that stand for the host's lease.
    lease: tokio::sync::Mutex<Option<lease::Armed>>,
    /// systemd's own folder for units until the next boot.
    runtime: tokio::sync::OnceCell<Folder>,
    manager: tokio::sync::Mutex<Option<ManagerProxy<'static>>>,
    follower: Mutex<Option<Follower>>,
}

/// The current subscription.
struct Follower {
    task: JoinHandle<()>,
    events: mpsc::UnboundedSender<Event>,
}

impl Shared {
    fn follower(&self) -> MutexGuard<'_, Option<Follower>> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn aliases(&self) -> MutexGuard<'_, BTreeSet<UnitName>> {
        self.aliases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host_units(&self) -> MutexGuard<'_, BTreeMap<UnitName, PathBuf>> {
        self.host_units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Split `units` into those that the host has from elsewhere, and the others.
    fn split(&self, units: Vec<UnitName>) -> (Vec<UnitName>, Vec<UnitName>) {
        let host_units = self.host_units();
        units.into_iter().partition(|name| host_units.contains_key(name))
    }
}

/// The most names that are queried as patterns in one call.
const PATTERNS: usize = 128;

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Dbus {
    /// Connects on the first call.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let shared = Shared {
            units: Folder::new(options.units_directory.clone()),
            boot: Folder::new(options.boot_directory.clone()),
            options: Arc::new(options),
            ours: Ours::default(),
            aliases: Mutex::default(),
            host_units: Mutex::default(),
            probes: probes::Probes::default(),
            ending: watchdog::Ending::default(),
            lease: tokio::sync::Mutex::new(None),
            runtime: tokio::sync::OnceCell::new(),
            manager: tokio::sync::Mutex::new(None),
            follower: Mutex::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    fn path(&self, name: &UnitName) -> String {
        self.shared.units.file(name.as_str()).to_string_lossy().into_owned()
    }

    /// Write, link and enable units, none of which the host has from elsewhere.
    async fn put(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        if units.is_empty() {
            return Vec::new();
        }
        self.shared.ours.add(units.iter().map(|(name, _)| name));
        let units = Arc::new(units);
        let work = Arc::clone(&units);
        let written = match self.runtime().await {
            Ok(runtime) => {
                self.blocking(move |shared| Ok(lease::write(&shared.units, &runtime, shared.options.user, &work))).await
            }
            Err(error) => Err(error),
        };
        let written = match written {
            Ok(written) => written,
            Err(error) => units.iter().map(|_| Err(error.clone())).collect(),
        };
        let linkable = units.iter().zip(&written).filter(|(_, written)| written.is_ok());
        let linkable: BTreeSet<_> = linkable.map(|((name, _), _)| name.clone()).collect();
        // Links of an `[Install]` section that was removed would stay forever.
        let stale = units.iter().zip(&written);
        let stale = stale.filter(|((_, text), done)| done.as_ref().is_ok_and(|before| has_stale_links(before, text)));
        self.together(Verb::Disable, stale.map(|((name, _), _)| name.clone()).collect()).await;
        let mut failures = failures_of(self.together(Verb::Link, linkable.iter().cloned().collect()).await);
        // Only an instance of a template can be enabled.
        let enabling = |name: &UnitName| linkable.contains(name) && !failures.contains_key(name) && !name.is_template();
        let enable = units.iter().filter(|(name, text)| enabling(name) && has_install(text));
        let enable = enable.map(|(name, _)| name.clone()).collect();
        failures.extend(failures_of(self.each(Verb::Enable, enable).await));
        let answers = !failures.values().any(|error| matches!(error, Error::Unavailable(_)));
        let mut outcomes = Vec::with_capacity(units.len());
        let mut undo = Vec::new();
        for ((name, _), written) in units.iter().zip(written) {
            let outcome = match (written, failures.remove(name)) {
                (Err(error), _) => Err(error),
                (Ok(_), None) => Ok(()),
                (Ok(before), Some(error)) => {
                    undo.push((name.clone(), before));
                    Err(error)
                }
            };
            outcomes.push((name.clone(), outcome));
        }
        self.undo(undo, answers).await;
        outcomes
    }

    /// Restore the files, and their links, of units that couldn't be installed. Links only if systemd `answers`:
    /// otherwise each kind of link would wait for another timeout, and the retry makes the links anyway.
    async fn undo(&self, units: Vec<(UnitName, Before)>, answers: bool) {
        let new = units.iter().filter(|(_, before)| answers && *before == Before::Nothing);
        self.together(Verb::Disable, new.map(|(name, _)| name.clone()).collect()).await;
        let is_enabled = |before: &Before| matches!(before, Before::Text(text) if has_install(text));
        let enabled = units.iter().filter(|(_, before)| answers && is_enabled(before));
        let enabled = enabled.map(|(name, _)| name.clone()).collect();
        let runtime = self.shared.runtime.get().cloned();
        let restored = self.blocking(move |shared| {
            for (name, before) in &units {
                shared.units.restore(name, before);
                lease::restore(runtime.as_ref(), name, before);
            }
            Ok(())
        });
        match restored.await {
            Ok(()) => drop(self.each(Verb::Enable, enabled).await),
            Err(error) => tracing::warn!(%error, "unit files can't be restored"),
        }
    }

    /// Run file operations outside the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.unwrap_or_else(|error| Err(Error::Io(format!("a file operation was aborted: {error}"))))
    }
}

/// Whether the links of the file that was there `before` aren't those of the text that is there now.
fn has_stale_links(before: &Before, now: &str) -> bool {
    let Before::Text(before) = before else { return false };
    has_install(before) && !is_same_to_systemd(before, now)
}

fn has_install(text: &str) -> bool {
    UnitFile::parse(text.as_bytes()).is_ok_and(|file| file.has_install())
}

/// The units that failed in a call about files. `Missing` is mapped to `Refused`, since here there is no file to wait
/// for.
fn failures_of(outcomes: Outcomes) -> BTreeMap<UnitName, Error> {
    let refused = |error| match error {
        Error::Missing(sentence) => Error::Refused(sentence),
        error => error,
    };
    outcomes.into_iter().filter_map(|(name, outcome)| Some((name, refused(outcome.err()?)))).collect()
}

impl Systemd for Dbus {
    async fn version(&self) -> Result<String, Error> {
        self.manager().await?.version().await.map_err(|error| classify(&error))
    }

    async fn files(&self) -> Result<BTreeMap<UnitName, String>, Error> {
        let files = self.blocking(|shared| shared.units.read_units()).await?;
        self.shared.ours.add(files.keys());
        Ok(files)
    }

    async fn stage(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        let names: Vec<UnitName> = units.iter().map(|(name, _)| name.clone()).collect();
        let staged = self.blocking(move |shared| Ok(shared.units.stage_units(&units))).await;
        names.iter().cloned().zip(staged.unwrap_or_else(|error| vec![Err(error); names.len()])).collect()
    }

    async fn install(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        let names: Vec<UnitName> = units.iter().map(|(name, _)| name.clone()).collect();
        let mut refused = match self.refuse_host_units(names.clone()).await {
            Ok(refused) => refused,
            Err(error) => return names.into_iter().map(|name| (name, Err(error.clone()))).collect(),
        };
        let accepted = units.into_iter().filter(|(name, _)| !refused.contains_key(name)).collect();
        let mut installed: BTreeMap<_, _> = self.put(accepted).await.into_iter().collect();
        let outcome = |name: UnitName| {
            let outcome = refused.remove(&name).map(Err).or_else(|| installed.remove(&name))?;
            Some((name, outcome))
        };
        names.into_iter().filter_map(outcome).collect()
    }

    async fn remove(&self, units: Vec<UnitName>) -> Outcomes {
        // One of our files may be left from before, such as before a reboot; the links aren't ours.
        let (host_units, units) = self.shared.split(units);
        let mut outcomes = self.together(Verb::Disable, units).await;
        outcomes.extend(host_units.into_iter().map(|name| (name, Ok(()))));
        // There is no link to remove: it was never installed, or a removal was interrupted.
        let missing = outcomes.iter_mut().filter(|(_, outcome)| matches!(outcome, Err(Error::Missing(_))));
        missing.for_each(|(_, outcome)| *outcome = Ok(()));
        let reachable = outcomes.iter().filter(|(_, outcome)| !matches!(outcome, Err(Error::Unavailable(_))));
        let reachable: Vec<_> = reachable.map(|(name, _)| name.clone()).collect();
        // One query for all units is cheaper than a reset for each: few have failed.
        let (mut failures, unlink) = match self.in_memory(reachable.clone()).await {
            Ok(states) => {
                let failed = states.into_iter().filter(|(_, unit)| unit.active == ActiveState::Failed);
                let failures = failures_of(self.reset_failed(failed.map(|(name, _)| name).collect()).await);
                let unlink: Vec<_> = reachable.into_iter().filter(|name| !failures.contains_key(name)).collect();
                (failures, unlink)
            }
            Err(error) => (reachable.into_iter().map(|name| (name, error.clone())).collect(), Vec::new()),
        };
        let work = unlink.clone();
        let unlinked = match self.runtime().await {
            Ok(runtime) => {
                let remove = move |shared: &Shared, name: &UnitName| {
                    lease::unbind(&runtime, name).and_then(|()| shared.units.remove(name))
                };
                let all = move |shared: &Shared| {
                    Ok(work.into_iter().map(|name| (remove(shared, &name), name)).collect::<Vec<_>>())
                };
                self.blocking(all).await
            }
            Err(error) => Err(error),
        };
        match unlinked {
            Ok(unlinked) => {
                let (gone, left): (Vec<_>, Vec<_>) = unlinked.into_iter().partition(|(done, _)| done.is_ok());
                // A unit that couldn't be removed is still ours, so its events are still wanted.
                let gone: Vec<_> = gone.into_iter().map(|(_, name)| name).collect();
                self.shared.ours.forget(&gone);
                gone.iter().for_each(|name| self.shared.probes.changed(name));
                failures.extend(left.into_iter().filter_map(|(done, name)| Some((name, done.err()?))));
            }
            Err(error) => failures.extend(unlink.into_iter().map(|name| (name, error.clone()))),
        }
        for (name, outcome) in &mut outcomes {
            if let Some(error) = failures.remove(name) {
                *outcome = Err(error);
            }
        }
        outcomes
    }

    async fn reload(&self) -> Result<(), Error> {
        let connection = proxy::connect_for(&self.shared.options, proxy::RELOAD_TIMEOUT).await?;
        let reloaded = proxy::manager(&connection).await?.reload().await;
        reloaded.map_err(|error| proxy::classify_after(proxy::RELOAD_TIMEOUT, &error))
    }

    async fn start(&self, units: Vec<UnitName>) -> Outcomes {
        let (host_units, units) = self.shared.split(units);
        let mut outcomes = self.each(Verb::Start, units).await;
        let refused = |name: UnitName| Some((name.clone(), Err(self.refusal(&name)?)));
        outcomes.extend(host_units.into_iter().filter_map(refused));
        outcomes
    }

    async fn stop(&self, units: Vec<UnitName>) -> Outcomes {
        let (host_units, units) = self.shared.split(units);
        // Also of those whose file is removed already.
        self.shared.ours.add(&units);
        let mut outcomes = self.each(Verb::Stop, units).await;
        outcomes.extend(host_units.into_iter().map(|name| (name.clone(), Err(Error::Missing(name.to_string())))));
        for (name, outcome) in &mut outcomes {
            if matches!(outcome, Err(Error::Missing(_))) {
                *outcome = Ok(());
                // There is no job and hence no signal; the event is sent here so that callers need no special case.
                if let Some(follower) = &*self.shared.follower() {
                    let _ = follower.events.send(Event::JobDone { unit: name.clone(), result: JobResult::Done });
                }
            }
        }
        outcomes
    }

    async fn reset_failed(&self, units: Vec<UnitName>) -> Outcomes {
        self.forget_failures(units).await
    }

    async fn units(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        let (host_units, units) = self.shared.split(units);
        // systemd refuses the whole call for one template, which can't be loaded anyway.
        let (templates, units): (Vec<_>, Vec<_>) = units.into_iter().partition(UnitName::is_template);
        let unknown = || UnitState::stopped(LoadState::NotFound);
        let mut answer: BTreeMap<_, _> =
            templates.into_iter().chain(host_units).map(|name| (name, unknown())).collect();
        if units.is_empty() {
            return Ok(answer);
        }
        let names: Vec<_> = units.iter().map(UnitName::as_str).collect();
        let rows = self.manager().await?.list_units_by_names(&names).await.map_err(|error| classify(&error))?;
        // systemd returns one row for each name, in order, but with the primary name: an alias is recognized by its
        // position.
        let in_order = rows.len() == units.len();
        let mut by_id: BTreeMap<String, UnitState> = BTreeMap::new();
        for (index, row) in rows.into_iter().enumerate() {
            let (id, unit) = row.into_unit();
            if !in_order {
                by_id.insert(id, unit);
                continue;
            }
            if id != units[index].as_str() {
                self.shared.aliases().insert(units[index].clone());
            }
            answer.insert(units[index].clone(), unit);
        }
        for name in units {
            let row = by_id.remove(name.as_str());
            answer.entry(name).or_insert_with(|| row.unwrap_or_else(unknown));
        }
        Ok(answer)
    }

    async fn in_memory(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        let (_, units) = self.shared.split(units);
        if units.is_empty() {
            return Ok(BTreeMap::new());
        }
        // A pattern is matched against the primary name only.
        let aliases: Vec<_> = units.iter().filter(|unit| self.shared.aliases().contains(*unit)).cloned().collect();
        let mut answer = if aliases.is_empty() { BTreeMap::new() } else { self.units(aliases).await? };
        // Unit names contain no character that is special in systemd's patterns (where `\` isn't an escape). systemd
        // matches each unit against each pattern, so for many names it is cheaper to list all units.
        let patterns: Vec<_> =
            if units.len() > PATTERNS { Vec::new() } else { units.iter().map(UnitName::as_str).collect() };
        let rows =
            self.manager().await?.list_units_by_patterns(&[], &patterns).await.map_err(|error| classify(&error))?;
        let mut by_id: BTreeMap<String, UnitState> = rows.into_iter().map(proxy::Row::into_unit).collect();
        answer.extend(units.into_iter().filter_map(|name| by_id.remove(name.as_str()).map(|unit| (name, unit))));
        Ok(answer)
    }

    async fn stopped_with(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, BTreeSet<UnitName>>, Error> {
        let (_, units) = self.shared.split(units);
        bindings::stopped_with(self.manager().await?.inner().connection(), units).await
    }

    async fn probe(&self, probe: ExecProbe) -> Result<ProbeEnd, Error> {
        self.run_probe(probe).await
    }

    async fn not_alive(&self, unit: &UnitName) -> Result<bool, Error> {
        self.end_by_watchdog(unit).await
    }

    async fn set_deadlines(&self, deadlines: Option<Deadlines>) -> Result<(), Error> {
        self.set_lease_deadlines(deadlines).await
    }

    async fn hold_lease(&self, hold: bool) -> Result<(), Error> {
        let manager = self.manager().await?;
        let done = match hold {
            true => manager.start_unit(lease::TARGET, "replace").await,
            false => manager.stop_unit(lease::TARGET, "replace").await,
        };
        done.map(drop).map_err(|error| classify(&error))
    }

    async fn holds_lease(&self) -> Result<bool, Error> {
        Ok(self.lease_units().await?.held)
    }

    async fn details(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, Details>, Error> {
        let (_, units) = self.shared.split(units);
        let manager = self.manager().await?;
        Ok(details::details(manager.inner().connection(), units).await?.collect())
    }

    async fn last_lines(&self, _: &UnitName, invocation: &str) -> Result<Vec<String>, Error> {
        details::last_lines(invocation, self.shared.options.user).await
    }

    fn events(&self) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let shared = &self.shared;
        let (options, ours, units) = (Arc::clone(&shared.options), shared.ours.clone(), shared.units.clone());
        let probes = shared.probes.clone();
        let events = sender.clone();
        let task = tokio::spawn(async move {
            // The files of an earlier daemon. If the folder can't be read, `files` reports it.
            if let Ok(Ok(files)) = tokio::task::spawn_blocking(move || units.read_units()).await {
                ours.add(files.keys());
            }
            signals::follow(options, ours, probes, sender).await;
        });
        *shared.follower() = Some(Follower { task, events });
        receiver
    }

    async fn going_down(&self) -> Result<bool, Error> {
        let state = self.manager().await?.system_state().await.map_err(|error| classify(&error))?;
        Ok(state == "stopping")
    }

    async fn request_reboot(&self) -> Result<(), Error> {
        self.ask_login_manager().await
    }

    async fn read_boot_file(&self, key: &str) -> Result<Option<String>, Error> {
        let key = key.to_owned();
        self.blocking(move |shared| shared.boot.read_boot_file(&key)).await
    }

    async fn write_boot_file(&self, key: &str, text: &str) -> Result<(), Error> {
        let (key, text) = (key.to_owned(), text.to_owned());
        self.blocking(move |shared| shared.boot.write_boot_file(&key, &text)).await
    }
}
