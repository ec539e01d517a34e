//! All decisions of one host: what is assigned to it, what systemd says, what was carried out in this boot, and the one
//! thing to do next.
//!
//! [`HostState`] is a state machine. [`HostState::apply`] takes what has happened, [`HostState::next`] says what to do;
//! time comes with both, as a value. The shell carries out the [`Action`] and applies its outcome; if the outcome is
//! lost it applies nothing, begins a new pass, and is told what to do about what is then observed. It must never wait,
//! read a clock, log or ask anybody: what is worth a line in the log is handed out by [`HostState::take_log`].
//!
//! One pass is: read the disk if it must be read; ask systemd about the units that something happened to; all files of
//! a batch; all its jobs, none awaited; removals; save what was carried out; publish the reports; wait.

mod assignments;
mod boot;
mod foreign;
mod observe;
mod ordering;
mod outcome;
mod reports;
mod restart;
mod returned;
mod save;
mod steps;
mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::systemd::{Error, Event, Outcomes, UnitState};
use crate::model::unit::{Assignment, UnitReport};

use super::converge::Step;
use returned::Returned;

pub use boot::{BootState, Executed, StateSince, StoreHistory};
pub use unit::Unit;

/// How long a unit whose file could not be written or removed is left alone.
pub const BACK_OFF: Duration = Duration::from_secs(30);

/// How soon to look again whether the host still holds its lease.
const LEASE_RETRY: Duration = Duration::from_millis(500);

/// The instant of an input or a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since some fixed instant of this process; never goes back.
    pub monotonic: Duration,
    /// ms since the epoch, for reports.
    pub wall_ms: u64,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A pass begins. Outcomes of actions before it that weren't applied are lost.
    PassBegins,
    /// The host is registered. The cluster may have taken it for dead before, and deleted its assignments.
    Registered,
    /// How far the store's history went, as an earlier daemon of this boot saved it. Once, at the beginning.
    History(StoreHistory),
    /// The assignments have changed.
    Assignments(Assignments),
    /// systemd signalled something.
    Event(Event),
    /// Everything must be compared with the disk and with systemd.
    CheckAll,
    /// The answer to [`Action::ReadDisk`].
    Disk(Disk),
    /// The answer to [`Action::Observe`].
    Observed(Question, BTreeMap<UnitName, UnitState>),
    /// The answer to [`Action::CheckUnloaded`]: of the units asked about, those that systemd has in memory.
    Unloaded(Vec<UnitName>, BTreeMap<UnitName, UnitState>),
    /// The answer to [`Action::ReadReports`]: of the units asked about, the reports bound to this host's lease.
    Reports(Vec<UnitName>, BTreeMap<UnitName, UnitReport>),
    /// The answer to [`Action::ReadDecisions`].
    Decisions {
        /// The revision of the leader's key; `None` while nobody leads.
        leader: Option<Revision>,
        /// The units that are wanted on some host, of those asked about, and the file each is to have.
        wanted: BTreeMap<UnitName, UnitHash>,
    },
    /// The answer to [`Action::Fetch`]: of each file its text, or why it can't be used.
    Fetched(BTreeMap<UnitHash, Result<String, String>>),
    /// The outcome of [`Action::Install`], of each unit with the text that was to be written.
    Installed(Vec<(UnitName, String, Result<(), Error>)>),
    /// The outcome of [`Action::Reload`]; systemd answers.
    Reloaded(Result<(), Error>),
    /// The outcome of [`Action::Stop`].
    Stopped(Outcomes),
    /// The outcome of [`Action::Start`].
    Started(Outcomes),
    /// The outcome of [`Action::Remove`].
    Removed(Outcomes),
    /// The outcome of [`Action::Save`]: whether all of it was written.
    Saved(bool),
    /// These reports are in the store.
    Published(Vec<(UnitName, Option<UnitReport>)>),
    /// It isn't known whether the reports of these units are in the store.
    PublishFailed(Vec<UnitName>),
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Read the unit files and the saved state of this boot.
    ReadDisk,
    /// Ask systemd about units.
    Observe(Question),
    /// Ask which of these removed units systemd still has in memory.
    CheckUnloaded(Vec<UnitName>),
    /// Read this host's own reports of these units from the store.
    ReadReports(Vec<UnitName>),
    /// Read from the store who leads, and what is wanted of these units.
    ReadDecisions(Vec<UnitName>),
    /// Read these files from the store.
    Fetch(BTreeSet<UnitHash>),
    /// Write and link these files.
    Install(Vec<(UnitName, String)>),
    /// Make systemd read its files again.
    Reload,
    /// Queue a stop job for each.
    Stop(Vec<UnitName>),
    /// Queue a start job for each.
    Start(Vec<UnitName>),
    /// Disable, reset and unlink these stopped units.
    Remove(Vec<UnitName>),
    /// Write the state of this boot.
    Save(BootState),
    /// Write these reports to the store; `None` deletes one.
    Publish(Vec<(UnitName, Option<UnitReport>)>),
    /// Nothing, until something happens or until then ([`Now::monotonic`]).
    Wait(Option<Duration>),
}

/// Units to ask systemd about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// systemd has these in memory anyway, or must read their files.
    pub read: Vec<UnitName>,
    /// systemd may have these in memory or not, and shouldn't read a file for the answer.
    pub recall: Vec<UnitName>,
}

/// A change of this host's assignments.
#[derive(Debug, Clone)]
pub enum Assignments {
    /// These are all, as of a revision of the store.
    All(Revision, BTreeMap<UnitName, Assigned>),
    /// These have changed, up to a revision of the store.
    Changed(Revision, Vec<(UnitName, Option<Assigned>)>),
}

/// An assignment as the store has it; `Err` if its record can't be read.
pub type Assigned = Result<Assignment, Unreadable>;

/// A record that is there and can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// What is on the host's disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// The unit files, with their texts.
    pub files: BTreeMap<UnitName, String>,
    /// What was carried out in this boot; `None` if nothing was saved.
    pub executed: Option<BTreeMap<UnitName, Executed>>,
    /// The unit files that aren't ours; `None` if that wasn't saved.
    pub foreign: Option<BTreeSet<UnitName>>,
}

/// Something worth a line in the daemon's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Log {
    /// A unit's file was installed.
    Installed(UnitName),
    /// A stop job is queued.
    Stopping(UnitName),
    /// A start job is queued.
    Starting(UnitName),
    /// systemd refuses a start.
    CantStart(UnitName, Error),
    /// A unit was removed.
    Removed(UnitName),
    /// A unit is left alone for [`BACK_OFF`]; not repeated while the error stays the same.
    BacksOff(UnitName, Error),
    /// systemd can't be made to unload removed units.
    CantUnload(Error),
    /// There are unit files that this cluster didn't write.
    Foreign(BTreeSet<UnitName>),
    /// The store's revision went back.
    StoreRolledBack {
        /// The highest revision seen before.
        seen: Revision,
        /// The revision now.
        now: Revision,
    },
    /// The host was taken for dead, and these units keep running until the leader has decided again.
    AwaitsLeader(Vec<UnitName>),
}

/// One host: its units and all that is known of them.
#[derive(Debug)]
pub struct HostState {
    id: MachineId,
    /// How long the host may be silent before the cluster takes it for dead.
    ttl: Duration,
    units: BTreeMap<UnitName, Unit>,
    /// Units that something happened to since they were last settled.
    dirty: BTreeSet<UnitName>,
    /// Units that systemd must be asked about.
    unseen: BTreeSet<UnitName>,
    /// Units that systemd was asked about since anything was last done or signalled.
    fresh: BTreeSet<UnitName>,
    /// Whether the assignments are known: until then nothing may be concluded from one that isn't there.
    assignments_known: bool,
    /// How far the store's history went.
    history: StoreHistory,
    /// Units whose files were here before us, and that the cluster knows nothing of. `None` until the disk was read.
    foreign: Option<BTreeSet<UnitName>>,
    /// Whether the disk must be read (again).
    disk_unread: bool,
    /// What of the boot state differs from what was saved.
    unsaved: save::Unsaved,
    /// Units whose loaded file has changed, or that were enabled, since systemd last read its files.
    reload_due: BTreeSet<UnitName>,
    /// Units that are stopped for a new file or a restart, and haven't got that far.
    replacing: BTreeSet<UnitName>,
    /// Units whose start waits for others to have stopped.
    deferred: BTreeSet<UnitName>,
    /// Removed units that systemd may still have in memory, and when to look.
    unloading: BTreeMap<UnitName, Duration>,
    /// Those of them that only a reload makes systemd forget.
    lingering: BTreeSet<UnitName>,
    /// Files that were fetched for the units to be installed.
    texts: BTreeMap<UnitHash, Result<String, String>>,
    /// Jobs that were decided on together and are still to be queued.
    jobs: steps::Jobs,
    /// How often each step was taken in this pass.
    taken: BTreeMap<(UnitName, Step), usize>,
    /// Since the cluster took this host for dead, until the leader has decided again.
    returned: Option<Returned>,
    log: Vec<Log>,
}

impl HostState {
    /// The host `id`, of which nothing is known yet; the cluster takes it for dead after `ttl`.
    #[must_use]
    pub fn new(id: MachineId, ttl: Duration) -> Self {
        Self {
            id,
            ttl,
            units: BTreeMap::new(),
            dirty: BTreeSet::new(),
            unseen: BTreeSet::new(),
            fresh: BTreeSet::new(),
            assignments_known: false,
            history: StoreHistory::default(),
            foreign: None,
            disk_unread: true,
            unsaved: save::Unsaved::default(),
            reload_due: BTreeSet::new(),
            replacing: BTreeSet::new(),
            deferred: BTreeSet::new(),
            unloading: BTreeMap::new(),
            lingering: BTreeSet::new(),
            texts: BTreeMap::new(),
            jobs: steps::Jobs::default(),
            taken: BTreeMap::new(),
            returned: None,
            log: Vec::new(),
        }
    }

    /// Take in what has happened.
    pub fn apply(&mut self, input: Input, now: Now) {
        match input {
            Input::PassBegins => self.begin_pass(now),
            Input::Registered => self.registered(),
            Input::History(history) => self.history_was(history),
            Input::Assignments(assignments) => self.follow(assignments),
            Input::Event(event) => self.on_event(event),
            Input::CheckAll => self.check_all(),
            Input::Disk(disk) => self.read_from_disk(disk),
            Input::Observed(question, seen) => self.answered(&question, seen, now),
            Input::Unloaded(asked, held) => self.unloaded(asked, &held),
            Input::Reports(asked, reports) => self.confirm(&asked, &reports),
            Input::Decisions { leader, wanted } => self.decided(leader, &wanted, now),
            Input::Fetched(texts) => self.texts.extend(texts),
            Input::Installed(outcomes) => self.installed(outcomes, now),
            Input::Reloaded(outcome) => self.reloaded(outcome, now),
            Input::Stopped(outcomes) => self.stopped(outcomes, now),
            Input::Started(outcomes) => self.started(outcomes),
            Input::Removed(outcomes) => self.removed(outcomes, now),
            Input::Saved(all) => self.saved(all),
            Input::Published(reports) => self.published(reports),
            Input::PublishFailed(names) => self.publish_failed(&names),
        }
    }

    /// What to do now. `lease_holds` is whether the host is still known to be part of the cluster: without that its
    /// assignments may be out of date and its units may run elsewhere, so nothing is begun and nothing is stopped.
    pub fn next(&mut self, now: Now, lease_holds: bool) -> Action {
        if self.disk_unread {
            return Action::ReadDisk;
        }
        self.take_over_foreign();
        self.protect_orphans();
        self.await_leader();
        let urgent =
            self.save_first().or_else(|| self.queue_jobs()).or_else(|| self.reload()).or_else(|| self.observe());
        if let Some(action) = urgent.or_else(|| self.check_unloaded(now)).or_else(|| self.read_decisions(now)) {
            return action;
        }
        if let Some(action) = self.carry_out(now, lease_holds).or_else(|| self.save()) {
            return action;
        }
        let changed = self.unpublished();
        if !changed.is_empty() {
            return Action::Publish(changed);
        }
        // Units that are over are forgotten once their reports are gone.
        self.save().unwrap_or_else(|| Action::Wait(self.wakes_at()))
    }

    /// What is to be logged since it was last asked.
    pub fn take_log(&mut self) -> Vec<Log> {
        std::mem::take(&mut self.log)
    }

    /// A new pass. What was decided on in the one before and not done is decided again, from what is observed then.
    fn begin_pass(&mut self, now: Now) {
        self.end_back_off(now);
        self.jobs = steps::Jobs::default();
        self.taken.clear();
        self.texts.clear();
        self.fresh.clear();
        self.unsaved.failed = false;
    }

    /// When something must be done that no signal will announce.
    fn wakes_at(&self) -> Option<Duration> {
        let held = self.units.values().filter_map(|unit| unit.held_until);
        let unloading = self.unloading.values().copied();
        held.chain(unloading).chain(self.returned.as_ref().and_then(Returned::next_look)).min()
    }

    /// A unit to change; it will be looked at again.
    fn mark_dirty(&mut self, name: &UnitName) -> &mut Unit {
        self.dirty.insert(name.clone());
        self.units.entry(name.clone()).or_default()
    }

    /// Whether a unit has no assignment and keeps running nevertheless: it was never ours, the store has lost its
    /// record, or the leader hasn't decided about it yet.
    fn is_protected(&self, name: &UnitName) -> bool {
        let assigned = self.units.get(name).is_some_and(|unit| unit.assignment.is_some());
        !assigned && (self.is_orphan(name) || self.is_foreign(name) || self.awaits_leader(name))
    }
}

#[cfg(test)]
mod tests;
