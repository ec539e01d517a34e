//! A host in memory: the second adapter of the seam, for the simulation and for tests.
//!
//! Models a real host as far as an agent can see it: files under `/run`, which of them systemd has loaded and when it
//! loads them again, jobs with systemd's ordering and failures, processes with ids, and a bus that can fail. It must
//! never use the wall clock, threads or randomness: with tokio's paused clock the same calls give the same history, and
//! all variation comes from the [`Options::policy`] that the caller provides (and seeds).
//!
//! A unit file can control its own behaviour: `[X-Fake]` with `StartSec=`, `StopSec=`, `Outcome=succeed|fail|hang|die`
//! and `LiveSec=` takes precedence over the policy; with `Deaf=yes`, its process ignores the watchdog's signal. systemd
//! ignores such a section, so the same text works with both adapters.

mod counters;
mod definition;
mod files;
mod host;
mod jobs;
mod lease;
mod log;
mod people;
mod probes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Deadlines, Details, Error, Event, ExecProbe, Outcomes, ProbeEnd, Systemd, UnitState};
use crate::model::name::UnitName;
pub use counters::Counters;
use host::Host;
pub use log::{LogEntry, What};

/// The version that it claims to have.
const VERSION: &str = "257.9-1~fake1";

/// The behaviour of one activation of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Time from when the start job runs until it ends.
    pub start: Duration,
    /// Time from when the stop job runs until it ends.
    pub stop: Duration,
    /// The result of the start.
    pub outcome: Outcome,
}

impl Default for Behaviour {
    fn default() -> Self {
        let short = Duration::from_millis(10);
        Self { start: short, stop: short, outcome: Outcome::Succeed }
    }
}

/// The result of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The job ends with `done`, and the service runs until it is stopped.
    Succeed,
    /// The job ends with `failed`.
    Fail,
    /// The job doesn't end until the unit is stopped.
    Hang,
    /// The job ends with `done`, and the service fails by itself after this time.
    Die(Duration),
}

/// The behaviour of an activation of a service, given its name and the number of its activations on this host, from 1.
/// It is called while the host is locked and must not call the host itself.
pub type Policy = Arc<dyn Fn(&UnitName, u32) -> Behaviour + Send + Sync>;

/// The properties of the host.
#[derive(Clone)]
pub struct Options {
    /// The behaviour of each activation.
    pub policy: Policy,
    /// How long a call takes; it takes effect after half of that. A caller that is killed meanwhile leaves half-done
    /// work behind.
    pub latency: Duration,
    /// How long `reload` takes for each loaded unit; no call is answered meanwhile.
    pub reload_time: Duration,
    /// The host's own units, by name, with their texts.
    pub system: BTreeMap<UnitName, String>,
}

impl Default for Options {
    fn default() -> Self {
        let targets =
            ["basic.target", "multi-user.target", "network.target", "network-online.target", "sysinit.target"];
        let text = |name: &str| Some((name.parse().ok()?, format!("[Unit]\nDescription={name}\n")));
        Self {
            policy: Arc::new(|_, _| Behaviour::default()),
            latency: Duration::ZERO,
            reload_time: Duration::ZERO,
            system: targets.into_iter().filter_map(text).collect(),
        }
    }
}

/// One host in memory. Clones share it; it outlives the daemon that uses it. It uses tokio's clock: everything except
/// [`Fake::new`] and the inspection methods must be called inside a runtime.
#[derive(Clone)]
pub struct Fake {
    host: Arc<Mutex<Host>>,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Fake {
    /// A host that has just booted.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { host: Arc::new_cyclic(|me| Mutex::new(Host::new(options, me.clone()))) }
    }

    /// Let a running service fail by itself. `false` if it has no process.
    pub fn crash(&self, unit: &UnitName) -> bool {
        let mut host = self.lock();
        let runs = host.units.get(unit).is_some_and(|unit| unit.main_pid != 0);
        if runs {
            host.died(unit, definition::End::Exited);
            host.settle();
        }
        runs
    }

    /// Somebody deletes a file of the boot state.
    pub fn delete_boot_file(&self, key: &str) {
        self.lock().disk.boot_files.remove(key);
    }

    /// Turn the power off and on again: processes, systemd's memory, unit files and boot state are lost, and so is any
    /// subscription.
    pub fn reboot(&self) {
        self.lock().reboot();
    }

    /// Take the bus down: calls fail with `Unavailable`, events are lost, units keep running.
    pub fn go_down(&self) {
        self.lock().bus_up = false;
    }

    /// Bring the bus back; a subscriber gets an [`Event::Resync`].
    pub fn come_up(&self) {
        let mut host = self.lock();
        host.bus_up = true;
        host.tell(Event::Resync);
    }

    /// While `lost`, no signal is delivered although calls are answered, as when a queue overflows.
    pub fn lose_signals(&self, lost: bool) {
        self.lock().signals_lost = lost;
    }

    /// Shut the system down: all units get a stop job, as with `systemctl poweroff`.
    pub fn shut_down(&self) {
        self.shut_down_but(&[]);
    }

    /// As [`Fake::shut_down`], except that some units stay up until the power is off (`DefaultDependencies=no`).
    pub fn shut_down_but(&self, stay: &[UnitName]) {
        let mut host = self.lock();
        (host.going_down, host.staying) = (true, stay.iter().cloned().collect());
        let units: Vec<_> = host.units.keys().filter(|unit| !stay.contains(unit)).cloned().collect();
        for unit in units {
            host.queue_stop(&unit);
        }
        host.settle();
    }

    /// Whether its daemon has asked for a reboot since the last one.
    #[must_use]
    pub fn is_to_reboot(&self) -> bool {
        self.lock().is_to_reboot
    }

    /// While `true`, no file can be written.
    pub fn fill_disk(&self, full: bool) {
        self.lock().disk_full = full;
    }

    /// How long a call takes from now on; see [`Options::latency`].
    pub fn set_latency(&self, latency: Duration) {
        self.lock().options.latency = latency;
    }

    /// While `true`, systemd refuses to reload, as it does if `/run` is too full or reloads are too frequent.
    pub fn refuse_reloads(&self, refuse: bool) {
        self.lock().refuses_reloads = refuse;
    }

    /// The process id of a unit's current activation: a different one means that the unit was restarted.
    #[must_use]
    pub fn main_pid(&self, unit: &UnitName) -> Option<u32> {
        self.lock().units.get(unit).map(|unit| unit.main_pid).filter(|pid| *pid != 0)
    }

    /// The actual state of a unit, whether or not the bus is up; doesn't count as a call.
    #[must_use]
    pub fn unit(&self, unit: &UnitName) -> UnitState {
        self.lock().describe(unit)
    }

    /// The services that have a process now; a service may have one on a single host only.
    #[must_use]
    pub fn running(&self) -> BTreeSet<UnitName> {
        self.lock().units.iter().filter(|(_, u)| u.main_pid != 0).map(|(name, _)| name.clone()).collect()
    }

    /// The text from which a unit was loaded. If it differs from the file's, a reload is due (`NeedDaemonReload`).
    #[must_use]
    pub fn loaded_text(&self, unit: &UnitName) -> Option<String> {
        let host = self.lock();
        let unit = host.units.get(unit)?;
        (unit.load != definition::Load::NotFound).then(|| unit.definition.text.clone())
    }

    /// What has happened, oldest first.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.lock().log.clone()
    }

    /// What has happened after the first `seen` entries of the log.
    #[must_use]
    pub fn log_after(&self, seen: usize) -> Vec<LogEntry> {
        self.lock().log.get(seen..).unwrap_or_default().to_vec()
    }

    /// The files in our folder and their texts; doesn't count as a call.
    #[must_use]
    pub fn on_disk(&self) -> BTreeMap<UnitName, String> {
        self.lock().disk.files.clone()
    }

    /// The files that are staged.
    #[must_use]
    pub fn staged(&self) -> BTreeMap<UnitName, String> {
        self.lock().disk.staged.clone()
    }

    /// The number of calls so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    fn lock(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One D-Bus call: takes time, and fails if the bus is down.
    async fn call<T>(&self, effect: impl FnOnce(&mut Host) -> T + Send) -> Result<T, Error> {
        let latency = self.lock().options.latency / 2;
        self.wait(latency).await;
        loop {
            let busy = self.lock().busy_until;
            if busy <= Instant::now() {
                break;
            }
            sleep_until(busy).await;
        }
        let answer = {
            let mut host = self.lock();
            if !host.bus_up {
                return Err(Error::Unavailable("the bus of this host in memory is down".into()));
            }
            host.pass_time();
            let answer = effect(&mut host);
            host.settle();
            answer
        };
        self.wait(latency).await;
        Ok(answer)
    }

    /// Sleeps only if `time` isn't zero: a paused clock would advance by tokio's granularity of 1 ms.
    async fn wait(&self, time: Duration) {
        if !time.is_zero() {
            sleep(time).await;
        }
    }
}

impl Systemd for Fake {
    async fn version(&self) -> Result<String, Error> {
        Ok(VERSION.into())
    }

    async fn files(&self) -> Result<BTreeMap<UnitName, String>, Error> {
        let mut host = self.lock();
        host.counters.files += 1;
        Ok(host.disk.files.clone())
    }

    async fn stage(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        Self::stage_on(&mut self.lock(), units)
    }

    async fn install(&self, units: Vec<(UnitName, String)>) -> Outcomes {
        let mut outcomes: Outcomes = Vec::with_capacity(units.len());
        let mut written = Vec::new();
        {
            let mut host = self.lock();
            host.counters.install += 1;
            for (name, text) in units {
                let result = Self::write(&mut host, &name, text.clone());
                outcomes.push((name.clone(), result.as_ref().map(|_| ()).map_err(Clone::clone)));
                written.push(result.ok().map(|before| (text, before)));
            }
        }
        let names: Vec<_> = outcomes.iter().filter(|(_, o)| o.is_ok()).map(|(name, _)| name.clone()).collect();
        let linked = self.call(|host| host.disk.links.extend(names)).await;
        for ((name, outcome), written) in outcomes.iter_mut().zip(written) {
            let Some((text, before)) = written else { continue };
            let enabled = match &linked {
                Ok(()) => match definition::install_targets(name, &text) {
                    Ok(targets) if targets.is_empty() => {
                        self.lock().disk.enabled.remove(name);
                        continue;
                    }
                    Ok(targets) => self.call(|host| host.disk.enabled.insert(name.clone(), targets)).await.map(|_| ()),
                    // A file that can't be parsed has nothing to enable; its start will report the error.
                    Err(_) if crate::model::file::UnitFile::parse(text.as_bytes()).is_err() => continue,
                    Err(sentence) => Err(Error::Refused(sentence)),
                },
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = enabled {
                self.undo(name, before);
                *outcome = Err(error);
            }
        }
        outcomes
    }

    async fn remove(&self, units: Vec<UnitName>) -> Outcomes {
        let forget = |host: &mut Host| {
            host.counters.remove += 1;
            for name in &units {
                host.disk.forget(name);
                host.reset_failed(name);
                host.disown(name);
            }
        };
        let forgotten = self.call(forget).await;
        units.into_iter().map(|name| (name, forgotten.clone())).collect()
    }

    async fn reload(&self) -> Result<(), Error> {
        let time = self
            .call(|host| {
                host.counters.reload += 1;
                if host.refuses_reloads {
                    return Err(Error::Refused("Refusing to reload (in memory)".into()));
                }
                host.note(None, What::Reloaded);
                let time = host.reload_time();
                host.busy_until = Instant::now() + time;
                host.read_all_again();
                host.tell(Event::Resync);
                Ok(time)
            })
            .await??;
        self.wait(time).await;
        Ok(())
    }

    async fn start(&self, units: Vec<UnitName>) -> Outcomes {
        let queue = |host: &mut Host| {
            host.counters.start += 1;
            let start = |name: &UnitName| {
                let refusal = host.refused.contains(name).then(|| host.refusal(name)).flatten();
                (name.clone(), refusal.map_or_else(|| host.queue_start(name), Err))
            };
            units.iter().map(start).collect::<Outcomes>()
        };
        let queued = self.call(queue).await;
        queued.unwrap_or_else(|error| units.into_iter().map(|name| (name, Err(error.clone()))).collect())
    }

    async fn stop(&self, units: Vec<UnitName>) -> Outcomes {
        let queue = |host: &mut Host| {
            host.counters.stop += 1;
            for name in &units {
                if !host.refused.contains(name) {
                    host.own(name);
                }
                if host.refused.contains(name) || !host.queue_stop(name) {
                    host.tell(Event::JobDone { unit: name.clone(), result: "done".into() });
                }
            }
        };
        let queued = self.call(queue).await;
        units.into_iter().map(|name| (name, queued.clone())).collect()
    }

    async fn reset_failed(&self, units: Vec<UnitName>) -> Outcomes {
        let reset = self.call(|host| units.iter().for_each(|name| host.reset_failed(name))).await;
        units.into_iter().map(|name| (name, reset.clone())).collect()
    }

    async fn units(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        self.call(|host| {
            host.counters.units += 1;
            for name in &units {
                host.load(name);
            }
            units.iter().map(|name| (name.clone(), host.describe(name))).collect()
        })
        .await
    }

    async fn in_memory(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, UnitState>, Error> {
        self.call(|host| {
            host.counters.units += 1;
            host.collect();
            let there = units.iter().filter(|name| host.units.contains_key(*name) && !host.refused.contains(*name));
            there.map(|name| (name.clone(), host.describe(name))).collect()
        })
        .await
    }

    async fn stopped_with(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, BTreeSet<UnitName>>, Error> {
        self.call(|host| units.iter().map(|name| (name.clone(), host.stopped_with(name))).collect()).await
    }

    async fn probe(&self, probe: ExecProbe) -> Result<ProbeEnd, Error> {
        self.run_probe(probe).await
    }

    async fn not_alive(&self, unit: &UnitName) -> Result<bool, Error> {
        self.call(|host| host.end_by_watchdog(unit)).await
    }

    async fn set_deadlines(&self, deadlines: Option<Deadlines>) -> Result<(), Error> {
        self.call(|host| host.set_deadlines(deadlines)).await
    }

    async fn hold_lease(&self, hold: bool) -> Result<(), Error> {
        self.call(|host| host.hold_lease(hold)).await
    }

    async fn holds_lease(&self) -> Result<bool, Error> {
        self.call(|host| host.holds_lease()).await
    }

    async fn details(&self, units: Vec<UnitName>) -> Result<BTreeMap<UnitName, Details>, Error> {
        self.call(|host| {
            host.counters.details += 1;
            units.iter().filter_map(|name| Some((name.clone(), host.details(name)?))).collect()
        })
        .await
    }

    async fn last_lines(&self, unit: &UnitName, invocation: &str) -> Result<Vec<String>, Error> {
        self.lock().counters.journals += 1;
        Ok(vec![format!("{unit}: activation {invocation} ended")])
    }

    fn events(&self) -> mpsc::UnboundedReceiver<Event> {
        self.lock().subscribe()
    }

    async fn going_down(&self) -> Result<bool, Error> {
        let host = self.lock();
        if host.bus_up { Ok(host.going_down) } else { Err(Error::Unavailable("the bus is down".into())) }
    }

    /// Only noted: what happens then is up to the test.
    async fn request_reboot(&self) -> Result<(), Error> {
        let mut host = self.lock();
        if !host.bus_up {
            return Err(Error::Unavailable("the bus is down".into()));
        }
        host.is_to_reboot = true;
        Ok(())
    }

    async fn read_boot_file(&self, key: &str) -> Result<Option<String>, Error> {
        Ok(self.lock().disk.boot_files.get(key).cloned())
    }

    async fn write_boot_file(&self, key: &str, text: &str) -> Result<(), Error> {
        let mut host = self.lock();
        if host.disk_full {
            return Err(Error::Io(format!("cannot write boot file {key}: No space left on device")));
        }
        host.disk.boot_files.insert(key.into(), text.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::systemd::JobKind;

    const WEB: &str = "[Unit]\nRequires=db.service\nAfter=db.service\n[Service]\nExecStart=/bin/web\n";
    const DB: &str = "[Service]\nExecStart=/bin/db\n[X-Fake]\nStartSec=2\n";

    fn name(name: &str) -> UnitName {
        name.parse().unwrap()
    }

    async fn host_with_chain() -> Fake {
        let fake = Fake::default();
        let units = vec![(name("web.service"), WEB.into()), (name("db.service"), DB.into())];
        assert!(fake.install(units).await.iter().all(|(_, o)| o.is_ok()));
        let started = fake.start(vec![name("web.service")]).await;
        assert_eq!(started, [(name("web.service"), Ok(()))]);
        fake
    }

    async fn drain(events: &mut mpsc::UnboundedReceiver<Event>) -> Vec<Event> {
        sleep(Duration::from_secs(60)).await;
        std::iter::from_fn(|| events.try_recv().ok()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_process_that_died_before_is_nobodys() {
        let fake = Fake::default();
        let a = || vec![name("a.service")];
        let slow = "[Service]\nExecStart=/bin/a\n[X-Fake]\nStopSec=20\n";
        for crash in [true, false] {
            let _ = fake.install(vec![(name("a.service"), slow.into())]).await;
            let _ = fake.start(a()).await;
            sleep(Duration::from_secs(5)).await;
            let _ = fake.stop(a()).await;
            if crash {
                assert!(fake.crash(&name("a.service")));
                let _ = fake.remove(a()).await;
            }
        }
        sleep(Duration::from_secs(18)).await;
        assert_eq!(fake.unit(&name("a.service")).active.as_str(), "deactivating", "{:?}", fake.log());
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_starts_in_order_and_time_is_virtual() {
        let fake = host_with_chain().await;
        sleep(Duration::from_millis(1900)).await;
        assert_eq!(fake.unit(&name("db.service")).active.as_str(), "activating");
        assert_eq!(fake.unit(&name("web.service")).job, Some(JobKind::Start));
        sleep(Duration::from_secs(1)).await;
        let whats: Vec<_> = fake.log().into_iter().map(|e| (e.unit.unwrap(), e.what)).collect();
        let (web, db) = (name("web.service"), name("db.service"));
        assert_eq!(
            whats,
            [(db.clone(), What::Starting), (db, What::Started), (web.clone(), What::Starting), (web, What::Started)]
        );
        assert_eq!(fake.log()[1].at, Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_started_that_the_shutdown_is_to_stop() {
        let fake = host_with_chain().await;
        sleep(Duration::from_secs(5)).await;
        let (web, db, stays) = (name("web.service"), name("db.service"), name("stays.service"));
        let _ = fake.install(vec![(stays.clone(), DB.into())]).await;
        fake.shut_down_but(std::slice::from_ref(&stays));
        for unit in [&web, &db] {
            let started = fake.start(vec![unit.clone()]).await;
            assert!(matches!(&started[0].1, Err(Error::Refused(why)) if why.contains("is destructive")), "{started:?}");
        }
        assert_eq!(fake.start(vec![stays.clone()]).await, [(stays.clone(), Ok(()))]);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(fake.running(), [stays].into());
        fake.reboot();
        let _ = fake.install(vec![(db.clone(), DB.into())]).await;
        assert_eq!(fake.start(vec![db.clone()]).await, [(db, Ok(()))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_is_seen_and_gives_the_next_start_another_process() {
        let fake = host_with_chain().await;
        let mut events = fake.events();
        drain(&mut events).await;
        let before = fake.main_pid(&name("web.service")).unwrap();
        assert!(fake.crash(&name("web.service")) && !fake.crash(&name("web.service")));
        assert_eq!(drain(&mut events).await, [Event::Changed(name("web.service"))]);
        assert_eq!(fake.unit(&name("web.service")).active.as_str(), "failed");
        assert_eq!(fake.unit(&name("db.service")).active.as_str(), "active");
        fake.start(vec![name("web.service")]).await;
        sleep(Duration::from_secs(1)).await;
        assert!(fake.main_pid(&name("web.service")).unwrap() > before);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_hides_the_host_and_a_reboot_empties_it() {
        let fake = host_with_chain().await;
        let mut events = fake.events();
        fake.go_down();
        assert!(matches!(fake.units(vec![]).await, Err(Error::Unavailable(_))));
        let failed = fake.install(vec![(name("new.service"), DB.into())]).await;
        assert!(matches!(failed[0].1, Err(Error::Unavailable(_))));
        assert_eq!(fake.files().await.unwrap().len(), 2);
        assert_eq!(drain(&mut events).await, [Event::Resync]);
        assert_eq!(fake.running().len(), 2);
        fake.come_up();
        assert_eq!(drain(&mut events).await, [Event::Resync]);
        fake.write_boot_file("lease", "1").await.unwrap();
        fake.reboot();
        assert!(fake.running().is_empty() && fake.files().await.unwrap().is_empty());
        assert_eq!(fake.read_boot_file("lease").await, Ok(None));
        assert_eq!(fake.unit(&name("web.service")).load.as_str(), "not-found");
    }

    #[tokio::test(start_paused = true)]
    async fn a_death_foretold_comes_in_its_time_and_systemd_restarts() {
        let life = Duration::from_secs(5);
        let policy: Policy = Arc::new(move |_, count| Behaviour {
            outcome: if count == 1 { Outcome::Die(life) } else { Outcome::Succeed },
            ..Behaviour::default()
        });
        let fake = Fake::new(Options { policy, ..Options::default() });
        let unit = name("a.service");
        fake.install(vec![(unit.clone(), "[Service]\nExecStart=/x\nRestart=always\nRestartSec=2\n".into())]).await;
        fake.start(vec![unit.clone()]).await;
        sleep(Duration::from_secs(6)).await;
        assert_eq!(fake.unit(&unit).sub, "auto-restart");
        sleep(Duration::from_secs(2)).await;
        assert_eq!(fake.unit(&unit).active.as_str(), "active");
        assert_eq!(fake.log().iter().filter(|e| e.what == What::Starting).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_and_a_killed_caller_leave_what_they_leave() {
        let fake = Fake::new(Options { latency: Duration::from_secs(1), ..Options::default() });
        let unit = name("a.service");
        let install = fake.install(vec![(unit.clone(), DB.into())]);
        assert!(tokio::time::timeout(Duration::from_millis(100), install).await.is_err());
        assert_eq!(fake.files().await.unwrap().len(), 1);
        let started = fake.start(vec![unit.clone()]).await;
        assert!(matches!(started[0].1, Err(Error::Missing(_))), "written but not linked: {started:?}");
        fake.fill_disk(true);
        assert!(matches!(fake.install(vec![(unit, DB.into())]).await[0].1, Err(Error::Io(_))));
    }
}
