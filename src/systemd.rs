//! The systemd seam: one host's service manager, and the folder of unit files on it that is ours.
//!
//! Owns the contract between the agent and a host. Two adapters stand beneath it: [`dbus`] (the real one, over
//! D-Bus) and [`fake`] (a host in memory, for the simulation and for tests); one contract test holds for both.
//! It must never decide anything: which unit, when, and in what order is `plan::host`'s.
//!
//! What every adapter promises:
//! * no call waits for a job: [`Systemd::start`] and [`Systemd::stop`] return when the jobs are queued, in the
//!   order given, and the end of each comes as [`Event::JobDone`];
//! * each unit's failure is its own: a call about many units answers for each, and goes on after a failure;
//! * an event is never lost without a [`Event::Resync`] in its place; events carry no state: ask [`Systemd::units`];
//! * files are written whole or not at all, and are on disk when `install` returns;
//! * a unit that the host has from elsewhere is never touched: `install` refuses it by its file's path, and from then
//!   on it is treated as if systemd didn't know it. A link to our folder is ours, whichever daemon made it.

pub mod dbus;
pub mod fake;
mod folder;
pub mod measured;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;

use tokio::sync::mpsc;

use crate::model::name::UnitName;

pub use crate::model::systemd::{Error, Event, Outcomes, UnitState};

/// What is said of a unit that the host has from elsewhere, and so isn't installed: its file, or its template's.
fn host_has(name: &UnitName, path: &Path) -> Error {
    Error::Refused(format!("the host has a {name} of its own: {}", path.display()))
}

/// One host's manager and its folder of units. Cheap to clone; clones share everything.
pub trait Systemd: Clone + Send + Sync + 'static {
    /// The unit files of ours that are on the host now, with their text.
    ///
    /// # Errors
    /// `Io` when the folder can't be read. A single file that can't be read, or whose name is no unit's, is skipped
    /// with a warning.
    fn files(&self) -> impl Future<Output = Result<BTreeMap<UnitName, String>, Error>> + Send;

    /// Write each file (temp, fsync, rename), then link them all so that systemd finds them under
    /// `/run/systemd/system`, then enable (runtime) those with an `[Install]` section. Answers for each unit; a unit
    /// that failed has no file left behind that wasn't there before, and one that was there has its old text again. A
    /// link into `[Install]`'s targets needs a [`Systemd::reload`] before it counts, and so does a changed file of a
    /// unit that systemd has loaded; a brand-new file doesn't (systemd ≥ 246).
    fn install(&self, units: Vec<(UnitName, String)>) -> impl Future<Output = Outcomes> + Send;

    /// Forget each unit, whose job must have ended: disable (links away), `ResetFailedUnit`, unlink the file. One that
    /// isn't there is no error.
    fn remove(&self, units: Vec<UnitName>) -> impl Future<Output = Outcomes> + Send;

    /// `Manager.Reload`: read all unit files again. Dear: a second and more with a thousand units loaded.
    ///
    /// # Errors
    /// `Unavailable`, `Refused`.
    fn reload(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Queue a start job (mode `replace`) for each unit, without waiting between them for any job's end. A unit that is
    /// up already has a job's end too; one whose start job is queued already has one end for both. `Missing` when a
    /// required unit's file isn't there.
    fn start(&self, units: Vec<UnitName>) -> impl Future<Output = Outcomes> + Send;

    /// Queue a stop job (mode `replace`) for each unit, as [`Systemd::start`]. A unit that systemd doesn't know is
    /// stopped: no error, and its [`Event::JobDone`] (`done`) comes without a job.
    fn stop(&self, units: Vec<UnitName>) -> impl Future<Output = Outcomes> + Send;

    /// What systemd says of these units now, asked in one call. A unit it doesn't know comes back as
    /// `not-found`/`inactive`/`dead`.
    ///
    /// # Errors
    /// `Unavailable`.
    fn units(&self, units: Vec<UnitName>) -> impl Future<Output = Result<BTreeMap<UnitName, UnitState>, Error>> + Send;

    /// Those of these units that systemd has in memory, and what it says of them; it reads no file for the answer.
    /// [`Systemd::units`] makes systemd read a unit that isn't in memory, tell every listener of a new unit, and forget
    /// it again, and that is dear when many units come or go: this is the question about units that are on their way.
    ///
    /// # Errors
    /// `Unavailable`.
    fn in_memory(
        &self,
        units: Vec<UnitName>,
    ) -> impl Future<Output = Result<BTreeMap<UnitName, UnitState>, Error>> + Send;

    /// Follow what happens to units for whose names `install` was called or whose files are in the folder. Begins with
    /// a [`Event::Resync`], as soon as systemd is listened to: from then on nothing is missed. A later call replaces an
    /// earlier one. The receiver may be slow but must be drained; dropping it ends the subscription.
    fn events(&self) -> mpsc::UnboundedReceiver<Event>;

    /// Whether the whole system is going down (`SystemState` is `stopping`): its units are being stopped, and nothing
    /// can be started.
    ///
    /// # Errors
    /// `Unavailable`.
    fn going_down(&self) -> impl Future<Output = Result<bool, Error>> + Send;

    /// A small note that lives as long as the host's boot (`/run/fleet/<key>`): what a restarted daemon must still
    /// know.
    ///
    /// # Errors
    /// `Io`.
    fn read_note(&self, key: &str) -> impl Future<Output = Result<Option<String>, Error>> + Send;

    /// Write a note, whole or not at all (rename, no fsync: the folder is memory).
    ///
    /// # Errors
    /// `Io`.
    fn write_note(&self, key: &str, text: &str) -> impl Future<Output = Result<(), Error>> + Send;
}
