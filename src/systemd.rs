//! The systemd seam: one host's service manager, and fleet's folder of unit files on it.
//!
//! Owns the contract between the agent and a host. There are two adapters: [`dbus`] (the real one, over D-Bus) and
//! [`fake`] (a host in memory, for the simulation and for tests); one contract test holds for both. An adapter must
//! never decide anything: `plan::host` owns which unit, when, and in what order.
//!
//! What every adapter guarantees:
//! * no call waits for a job: [`Systemd::start`] and [`Systemd::stop`] return when the jobs are queued, in the order
//!   given, and the end of each is signalled as [`Event::JobDone`];
//! * units fail separately: a call about many units has an outcome for each, and continues after a failure;
//! * an event is never lost without an [`Event::Resync`] in its place; events carry no state, so [`Systemd::units`]
//!   must be asked;
//! * files are written completely or not at all, and are on disk when `install` returns;
//! * a unit with `OnDisconnect=stop` runs only while systemd holds the host's lease, which ends by itself: see
//!   [`Systemd::set_deadlines`];
//! * no probe runs in this process: systemd runs it, with the user and the sandbox of the unit that it probes; units of
//!   probes cause no events of their own, and are in no answer;
//! * a unit that the host has from elsewhere is never touched: `install` refuses it, naming its file, and from then on
//!   it is treated as if systemd didn't know it. A link to our folder counts as ours, whichever daemon made it.

pub mod dbus;
pub mod fake;
mod folder;
pub mod measured;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::model::name::UnitName;

pub use crate::model::exec_probe::{ExecProbe, ProbeEnd};
pub use crate::model::systemd::{Details, Error, Event, Outcomes, UnitState};

/// The error for a unit that the host has from elsewhere and that therefore isn't installed: names its file, or its
/// template's.
fn host_has(name: &UnitName, path: &Path) -> Error {
    Error::Refused(format!("the host has a {name} of its own: {}", path.display()))
}

/// When systemd must do without the host's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// The units with `OnDisconnect=stop` are told to stop.
    pub stop: Instant,
    /// Those that haven't stopped are killed.
    pub kill: Instant,
}

impl Deadlines {
    /// The part of the TTL before the end of the lease at which units are told to stop. An agent with less time than
    /// this starts nothing either.
    pub const STOP: u32 = 3;

    /// The same for those that are killed.
    pub const KILL: u32 = 6;

    /// For a lease with the TTL `ttl` that certainly lives until `lease`: units are told to stop a third of the TTL
    /// before that, and killed a sixth of it before that.
    #[must_use]
    pub fn before(lease: Instant, ttl: Duration) -> Self {
        let before = |part: u32| lease.checked_sub(ttl / part).unwrap_or(lease);
        Self { stop: before(Self::STOP), kill: before(Self::KILL) }
    }
}

/// One host's service manager and folder of units. Cheap to clone; clones share everything.
pub trait Systemd: Clone + Send + Sync + 'static {
    /// systemd's version, as its distribution spells it: `252.39-1~deb12u1`.
    ///
    /// # Errors
    /// `Unavailable`.
    fn version(&self) -> impl Future<Output = Result<String, Error>> + Send;

    /// Our unit files that are on the host now, with their text.
    ///
    /// # Errors
    /// `Io` if the folder can't be read. A single file that can't be read, or whose name isn't a unit name, is skipped
    /// with a warning.
    fn files(&self) -> impl Future<Output = Result<BTreeMap<UnitName, String>, Error>> + Send;

    /// Write each file beside the one that its unit has, so that an [`Systemd::install`] of the same text puts it in
    /// its place and needs no room for it. For systemd, nothing changes. A text replaces one that was staged for the
    /// unit before; it is dropped when another one is installed, or the unit is removed. Returns an outcome for each
    /// unit.
    fn stage(&self, units: Vec<(UnitName, String)>) -> impl Future<Output = Outcomes> + Send;

    /// Write each file (temporary file, fsync, rename), then link all of them so that systemd finds them under
    /// `/run/systemd/system`, then enable (runtime) those with an `[Install]` section. Returns an outcome for each
    /// unit; after a failure no new file is left behind, and an existing one has its old text again. A
    /// [`Systemd::reload`] is needed before enablement takes effect, and for a changed file of a unit that systemd has
    /// loaded; a new file doesn't need one (systemd ≥ 246).
    fn install(&self, units: Vec<(UnitName, String)>) -> impl Future<Output = Outcomes> + Send;

    /// Remove each unit, whose job must have ended: disable (remove the links), `ResetFailedUnit`, unlink the file. A
    /// unit that doesn't exist is not an error.
    fn remove(&self, units: Vec<UnitName>) -> impl Future<Output = Outcomes> + Send;

    /// `Manager.Reload`: read all unit files again. Expensive: more than a second with a thousand units loaded.
    ///
    /// # Errors
    /// `Unavailable`, `Refused`.
    fn reload(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Queue a start job (mode `replace`) for each unit, without waiting for any job to end. A unit that is already up
    /// also gets a [`Event::JobDone`]; one whose start job is already queued gets one for both. `Missing` if a required
    /// unit's file doesn't exist.
    fn start(&self, units: Vec<UnitName>) -> impl Future<Output = Outcomes> + Send;

    /// Queue a stop job (mode `replace`) for each unit, as [`Systemd::start`]. A unit that systemd doesn't know is
    /// stopped: this is not an error, and [`Event::JobDone`] (`done`) is sent without a job.
    fn stop(&self, units: Vec<UnitName>) -> impl Future<Output = Outcomes> + Send;

    /// Forget that each unit has failed, and how often it was started lately (`StartLimitBurst=`): `ResetFailedUnit`. A
    /// unit that hasn't failed, or that systemd doesn't have in memory, is not an error; the only one is `Unavailable`.
    fn reset_failed(&self, units: Vec<UnitName>) -> impl Future<Output = Outcomes> + Send;

    /// The state of these units now, in one call. A unit that systemd doesn't know is returned as
    /// `not-found`/`inactive`/`dead`.
    ///
    /// # Errors
    /// `Unavailable`.
    fn units(&self, units: Vec<UnitName>) -> impl Future<Output = Result<BTreeMap<UnitName, UnitState>, Error>> + Send;

    /// The state of those of these units that systemd has in memory; no file is read to answer. [`Systemd::units`]
    /// makes systemd load a unit that isn't in memory, signal a new unit to every subscriber, and unload it again,
    /// which is expensive when many units come or go: use this call for units in transition.
    ///
    /// # Errors
    /// `Unavailable`.
    fn in_memory(
        &self,
        units: Vec<UnitName>,
    ) -> impl Future<Output = Result<BTreeMap<UnitName, UnitState>, Error>> + Send;

    /// For each of these units, those that systemd stops together with it, directly or not (`RequiredBy=`, `BoundBy=`,
    /// `ConsistsOf=` and their like), as it has them in memory: drop-ins count, files that it hasn't read don't.
    ///
    /// # Errors
    /// `Unavailable`.
    fn stopped_with(
        &self,
        units: Vec<UnitName>,
    ) -> impl Future<Output = Result<BTreeMap<UnitName, BTreeSet<UnitName>>, Error>> + Send;

    /// How the last invocation of each unit ended, how often systemd has restarted it, and its status text. A unit that
    /// systemd doesn't know is left out.
    ///
    /// # Errors
    /// `Unavailable`.
    fn details(&self, units: Vec<UnitName>) -> impl Future<Output = Result<BTreeMap<UnitName, Details>, Error>> + Send;

    /// The last lines of the journal of one invocation of a unit, at most
    /// [`MAX_LINES`](crate::model::failure::MAX_LINES), the oldest first; those of a process that has just ended are
    /// among them. Takes three seconds at most.
    ///
    /// # Errors
    /// `Io` if the journal can't be read.
    fn last_lines(&self, unit: &UnitName, invocation: &str) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// Run a probe once, as a transient unit ([`ExecProbe::runs_in`]) with the user, the environment, the working
    /// directory, the slice and the sandbox of the probed unit as systemd has them in memory; returns when it has
    /// ended, at its timeout at the latest, or a few seconds later if its processes can't be killed. What it prints is
    /// discarded. It runs at most once at a time: while it runs, for this caller, for one that no longer waits, or for
    /// a daemon that was killed, the next run is [`ProbeEnd::NotRun`]; so is one that systemd refuses, or whose unit
    /// has no file that systemd has loaded. Returns at once when it has ended while there is a subscription
    /// ([`Systemd::events`]), and within a second otherwise.
    ///
    /// # Errors
    /// `Unavailable`: it isn't known whether it was run.
    fn probe(&self, probe: ExecProbe) -> impl Future<Output = Result<ProbeEnd, Error>> + Send;

    /// Do with a unit that is up but no longer works what systemd does when `WatchdogSec=` has passed: send
    /// `WatchdogSignal=` (SIGABRT) to its main process, and with `KillMode=control-group` to all of its processes.
    /// systemd counts this as a failure of the unit (`Result` is `signal` or `core-dump`), and `Restart=` decides
    /// what follows; only `on-watchdog` doesn't count it. If the main process still runs after `TimeoutAbortSec=`, it
    /// is killed (`FinalKillSignal=`), unless `SendSIGKILL=no`. Until then, another call does nothing. If this process
    /// ends before that, it isn't killed, and a later call sends the first signal again.
    ///
    /// Returns whether the signal was sent: not to a unit that isn't up, or that is being stopped or started.
    ///
    /// # Errors
    /// `Unavailable`; `Refused`, also if the unit has no main process.
    fn not_alive(&self, unit: &UnitName) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Let systemd itself let go of the host's lease at these times, whether or not this process still exists then:
    /// units with `OnDisconnect=stop` are told to stop, and later killed. They replace earlier ones. `None` lets
    /// systemd hold the lease for good, because no other host could run its units. Says nothing about whether the lease
    /// is held now. One call of D-Bus, except for the first one of an adapter.
    ///
    /// # Errors
    /// `Unavailable`, `Refused`, `Io`.
    fn set_deadlines(&self, deadlines: Option<Deadlines>) -> impl Future<Output = Result<(), Error>> + Send;

    /// Let systemd hold the host's lease from now on, after [`Systemd::set_deadlines`]; or let go of it, which stops
    /// units with `OnDisconnect=stop`. While it isn't held, no job, person, timer or socket can start such a unit: its
    /// start job ends with the result `dependency`.
    ///
    /// # Errors
    /// `Unavailable`, `Refused`.
    fn hold_lease(&self, hold: bool) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether systemd holds the host's lease. It doesn't before the first [`Systemd::hold_lease`] of a boot, since a
    /// deadline, or since the host was suspended.
    ///
    /// # Errors
    /// `Unavailable`.
    fn holds_lease(&self) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Subscribe to the events of units for which `install` was called or whose files are in the folder, and of those
    /// for which `stop` was called since they were removed. Begins with an [`Event::Resync`] once the subscription is
    /// active; from then on no event is missed. A later call replaces an earlier one. The receiver may be slow but must
    /// be drained; dropping it ends the subscription.
    fn events(&self) -> mpsc::UnboundedReceiver<Event>;

    /// Whether the whole system is shutting down (`SystemState` is `stopping`): its units are being stopped, and
    /// nothing can be started.
    ///
    /// # Errors
    /// `Unavailable`.
    fn going_down(&self) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Ask the host's login manager to reboot it, as `systemctl reboot` does. Returns before the host goes down, which
    /// a program that holds an inhibitor lock can delay. Asked again meanwhile, nothing more happens.
    ///
    /// # Errors
    /// `Unavailable`; `Refused`, also if an inhibitor lock forbids it, or if there is no login manager.
    fn request_reboot(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Read a small file that lives until the host reboots (`/run/fleet/<key>`), with state that a restarted daemon
    /// needs.
    ///
    /// # Errors
    /// `Io`.
    fn read_boot_file(&self, key: &str) -> impl Future<Output = Result<Option<String>, Error>> + Send;

    /// Write such a file, completely or not at all (rename without fsync: the folder is a tmpfs).
    ///
    /// # Errors
    /// `Io`.
    fn write_boot_file(&self, key: &str, text: &str) -> impl Future<Output = Result<(), Error>> + Send;
}
