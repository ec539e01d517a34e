//! Runs probes that are commands, each in a transient unit. Owns the properties of that unit, and who waits for which
//! of them. It must never retry a probe, or decide what its end means.
//!
//! The unit is a oneshot for which no exit status of the program is a failure: a probe that fails must neither fill the
//! journal nor make the system `degraded`. (With `ExecStart=-`, a program that doesn't exist would pass.) It stays in
//! systemd's memory after its end until this process drops its reference (`AddRef`), so that its exit status can be
//! read. With the connection, systemd drops the reference too: a daemon that is killed leaves nothing behind but a
//! probe that runs, at most until its timeout.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::details::{OF_SERVICES, UNIT, property};
use super::proxy::{ManagerProxy, Properties, classify, unit_path};
use super::settings::{self, Settings};
use super::{Dbus, Error};
use crate::model::exec_probe::{ExecProbe, ProbeEnd};
use crate::model::name::UnitName;

/// How often systemd is asked whether a probe has ended whose end wasn't signalled.
const ASK: Duration = Duration::from_secs(1);
/// How long a process that was killed may take to end, until systemd gives up on it.
const KILL: Duration = Duration::from_secs(5);
/// How long after its timeout a probe is waited for: systemd kills it twice.
const KILL_MARGIN: Duration = Duration::from_secs(12);
/// `notice`, as in syslog(3): systemd logs at `info` that a unit starts and has finished.
const NOTICE: i32 = 5;
const SIGKILL: i32 = 9;

/// The probes that run, by the units in which they run, and the settings of the units that they probe. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Probes {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    running: HashMap<String, Arc<Notify>>,
    /// Until the unit changes: they are many, and systemd signals a change of the file as one of the unit.
    settings: HashMap<UnitName, Arc<Settings>>,
    /// Grows when something is removed from `settings`.
    version: u64,
}

/// A probe that runs, as long as this value lives.
struct Running {
    probes: Probes,
    unit: String,
    ended: Arc<Notify>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.probes.lock().running.remove(&self.unit);
    }
}

impl Probes {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if it runs already.
    fn begin(&self, unit: String) -> Option<Running> {
        let ended = Arc::new(Notify::new());
        let mut inner = self.lock();
        if inner.running.contains_key(&unit) {
            return None;
        }
        inner.running.insert(unit.clone(), Arc::clone(&ended));
        Some(Running { probes: self.clone(), unit, ended })
    }

    /// A job of this unit has ended.
    pub(super) fn job_ended(&self, unit: &str) {
        if let Some(ended) = self.lock().running.get(unit) {
            ended.notify_one();
        }
    }

    /// The settings of this unit may have changed.
    pub(super) fn changed(&self, unit: &UnitName) {
        let mut inner = self.lock();
        inner.version += 1;
        inner.settings.remove(unit);
    }

    /// Signals may have been lost.
    pub(super) fn resync(&self) {
        let mut inner = self.lock();
        inner.version += 1;
        inner.settings.clear();
        inner.running.values().for_each(|ended| ended.notify_one());
    }
}

impl Dbus {
    /// Run a probe to its end, in a task of its own: its unit is released even if the caller no longer waits.
    pub(super) async fn run_probe(&self, probe: ExecProbe) -> Result<ProbeEnd, Error> {
        let dbus = self.clone();
        let run = tokio::spawn(async move { dbus.run(&probe).await });
        run.await.unwrap_or_else(|error| Err(Error::Unavailable(format!("the probe was aborted: {error}"))))
    }

    async fn run(&self, probe: &ExecProbe) -> Result<ProbeEnd, Error> {
        let unit = probe.runs_in();
        let Some(running) = self.shared.probes.begin(unit.clone()) else {
            return Ok(still_running());
        };
        let manager = self.manager().await?;
        let Some(settings) = self.settings(&manager, &probe.unit).await? else {
            return Ok(ProbeEnd::NotRun(format!("systemd hasn't loaded the file of {}", probe.unit)));
        };
        let properties = properties(probe, &settings)?;
        let started = manager.start_transient_unit(&unit, "fail", &properties, &[]).await;
        let end = match started {
            Ok(_) => end(&manager, &running, probe.timeout).await,
            Err(error) => not_started(&error),
        };
        // Also after a start whose answer was lost. Without a reference of ours, it changes nothing.
        let _ = manager.unref_unit(&unit).await;
        end
    }

    /// The settings of a unit; `None` if systemd hasn't loaded a file of it. Without its file, it would seem to have no
    /// user, and its probes would run as root.
    async fn settings(&self, manager: &ManagerProxy<'static>, unit: &UnitName) -> Result<Option<Arc<Settings>>, Error> {
        let probes = &self.shared.probes;
        let version = {
            let inner = probes.lock();
            if let Some(settings) = inner.settings.get(unit) {
                return Ok(Some(Arc::clone(settings)));
            }
            inner.version
        };
        if !self.is_service_of_ours(unit) {
            return Ok(None);
        }
        let (bus, path) = (manager.inner().connection(), unit_path(unit.as_str()));
        let load: String = property(bus, &path, UNIT, "LoadState").await?;
        if load != "loaded" {
            return Ok(None);
        }
        let settings = Arc::new(settings::read(bus, &path).await?);
        let has_signals = self.shared.follower().is_some();
        let mut inner = probes.lock();
        if has_signals && inner.version == version {
            inner.settings.insert(unit.clone(), Arc::clone(&settings));
        }
        Ok(Some(settings))
    }
}

fn still_running() -> ProbeEnd {
    ProbeEnd::NotRun("its last run hasn't ended".into())
}

fn not_started(error: &zbus::Error) -> Result<ProbeEnd, Error> {
    if matches!(error, zbus::Error::MethodError(name, ..) if name.as_str().ends_with(".UnitExists")) {
        return Ok(still_running());
    }
    match classify(error) {
        error @ Error::Unavailable(_) => Err(error),
        Error::Missing(why) | Error::Refused(why) | Error::Io(why) => Ok(ProbeEnd::NotRun(why)),
    }
}

/// Wait until the unit has ended, and read how.
async fn end(manager: &ManagerProxy<'static>, running: &Running, limit: Duration) -> Result<ProbeEnd, Error> {
    let (bus, path) = (manager.inner().connection(), unit_path(&running.unit));
    let deadline = Instant::now() + limit + KILL_MARGIN;
    loop {
        // systemd is asked whether it has ended: signals may have been lost, or be about an earlier run.
        let _ = timeout(ASK, running.ended.notified()).await;
        let active: String = property(bus, &path, UNIT, "ActiveState").await?;
        let has_ended = matches!(active.as_str(), "inactive" | "failed");
        if has_ended {
            let result = property::<String>(bus, &path, OF_SERVICES, "Result");
            let code = property::<i32>(bus, &path, OF_SERVICES, "ExecMainCode");
            let status = property::<i32>(bus, &path, OF_SERVICES, "ExecMainStatus");
            let (result, code, status) = tokio::try_join!(result, code, status)?;
            // Otherwise it hasn't begun.
            if result != "success" || code != 0 {
                return Ok(ProbeEnd::of(&result, code, status));
            }
        }
        if Instant::now() >= deadline {
            let why = if has_ended { "systemd didn't start it" } else { "its processes can't be killed" };
            return Ok(ProbeEnd::NotRun(why.into()));
        }
    }
}

/// The exit statuses that are the program's own, and not systemd's.
fn exit_statuses() -> Vec<i32> {
    (1..200).chain([255]).collect()
}

/// The properties of the unit in which a probe runs.
fn properties<'a>(probe: &'a ExecProbe, settings: &'a Settings) -> Result<Properties<'a>, Error> {
    let program = probe.command.first().map(String::as_str).unwrap_or_default();
    let arguments: Vec<&str> = probe.command.iter().map(String::as_str).collect();
    let limit = u64::try_from(probe.timeout.as_micros()).unwrap_or(u64::MAX);
    let mut properties: Properties<'a> = vec![
        ("Description", format!("Probe of {}", probe.unit).into()),
        ("AddRef", true.into()),
        ("CollectMode", "inactive-or-failed".into()),
        ("DefaultDependencies", false.into()),
        ("Type", "oneshot".into()),
        ("ExecStart", vec![(program, arguments, false)].into()),
        ("SuccessExitStatus", (exit_statuses(), Vec::<i32>::new()).into()),
        ("TimeoutStartUSec", limit.into()),
        ("TimeoutStopUSec", u64::try_from(KILL.as_micros()).unwrap_or(u64::MAX).into()),
        ("KillMode", "control-group".into()),
        ("KillSignal", SIGKILL.into()),
        ("LogLevelMax", NOTICE.into()),
        ("StandardOutput", "null".into()),
        ("StandardError", "null".into()),
    ];
    if settings.has_own_namespaces() {
        properties.push(("JoinsNamespaceOf", vec![probe.unit.as_str()].into()));
    }
    properties.extend(settings.properties()?);
    Ok(properties)
}
