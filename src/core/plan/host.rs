//! All decisions of one host: its assignments, the observed state of systemd and what was carried out in this boot
//! determine the next action.
//!
//! [`HostState`] is a state machine. [`HostState::apply`] takes what has happened and [`HostState::next`] returns what
//! to do; both receive the time as a value. The shell carries out the [`Action`] and applies its outcome. If the
//! outcome is unknown the shell applies nothing and begins a new pass, which decides from what it observes. This module
//! must never wait, read a clock, log or do I/O; [`HostState::take_log`] returns what is to be logged.
//!
//! One pass: read the disk if necessary; ask systemd about the units that changed; install all files of a batch; queue
//! all its jobs without waiting for them; remove units; save what was carried out; publish the reports; wait.

mod assignments;
mod body;
mod boot;
mod diagnosis;
mod foreign;
pub mod health;
mod lease;
pub mod local;
mod observe;
mod ordering;
mod outcome;
mod readiness;
mod reports;
mod restart;
mod returned;
mod save;
mod steps;
mod unit;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::revision::{Moment, Revision};
use crate::model::systemd::{Details, Error, Event, Outcomes, UnitState};
use crate::model::unit::{Assignment, UnitReport};

use super::converge::Step;
use super::health::Stand;
use health::Probing;
use returned::Returned;
use units::Units;

pub use boot::{BootState, Executed, Kept, Lost, StateSince, StoreHistory};
pub use unit::Unit;

/// How long a unit is left alone after a step failed for it.
pub const BACK_OFF: Duration = Duration::from_secs(30);

/// How soon to check again whether the host still holds its lease.
const LEASE_RETRY: Duration = Duration::from_millis(500);

/// The time of an input or of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since some fixed instant of this process; never goes back.
    pub monotonic: Duration,
    /// ms since the epoch, for reports.
    pub wall_ms: u64,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A pass begins. The outcomes of earlier actions that weren't applied are unknown.
    PassBegins,
    /// The host is registered. The cluster may have treated it as dead before and deleted its assignments.
    Registered,
    /// The store's history as an earlier daemon of this boot saved it. Applied once, at the beginning.
    History(StoreHistory),
    /// The assignments have changed.
    Assignments(Assignments),
    /// A signal from systemd.
    Event(Event),
    /// Everything must be compared with the disk and with systemd.
    CheckAll,
    /// The answer to [`Action::ReadDisk`].
    Disk(Disk),
    /// The answer to [`Action::Observe`].
    Observed(Question, BTreeMap<UnitName, UnitState>),
    /// The answer to [`Action::CheckUnloaded`]: the units asked about, and the state of those that are in memory.
    Unloaded(Vec<UnitName>, BTreeMap<UnitName, UnitState>),
    /// The answer to [`Action::ReadReports`]: the units asked about, and their reports that are bound to this host's
    /// lease.
    Reports(Vec<UnitName>, BTreeMap<UnitName, UnitReport>),
    /// The store has reports of these units from this host.
    Reported(BTreeSet<UnitName>),
    /// The answer to [`Action::ReadBindings`]: for each unit those that systemd stops together with it.
    Bindings(BTreeMap<UnitName, BTreeSet<UnitName>>),
    /// The answer to [`Action::CheckLease`].
    LeaseChecked(bool),
    /// The outcome of [`Action::HoldLease`]; an error means that systemd answered.
    LeaseHeld(bool, Result<(), Error>),
    /// The answer to [`Action::ReadDecisions`].
    Decisions {
        /// The revision of the leader's key; `None` while there is no leader.
        leader: Option<Revision>,
        /// Whether the cluster's record of this host says that it is registered. Until a leader has seen the host, the
        /// record says that it is gone or doesn't exist; a leader writes the assignments of such a host first.
        seen: bool,
        /// Of the units asked about, those whose desired state isn't `inactive`, and the hash of their file.
        wanted: BTreeMap<UnitName, UnitHash>,
    },
    /// The answer to [`Action::Fetch`]: for each key its text, or why it can't be used.
    Fetched(BTreeMap<UnitHash, Result<String, String>>),
    /// The outcome of [`Action::Stage`].
    Staged(Outcomes),
    /// The outcome of [`Action::Install`]: for each unit also the text that was to be written.
    Installed(Vec<(UnitName, String, Result<(), Error>)>),
    /// The outcome of [`Action::Reload`]; an error means that systemd answered and the reload failed.
    Reloaded(Result<(), Error>),
    /// The outcome of [`Action::Stop`].
    Stopped(Outcomes),
    /// systemd has answered [`Action::ResetFailed`].
    FailuresForgotten(Outcomes),
    /// The outcome of [`Action::Start`].
    Started(Outcomes),
    /// The outcome of [`Action::Remove`].
    Removed(Outcomes),
    /// The answer to [`Action::Inspect`]: the units asked about, and what systemd knows of them.
    Inspected(Vec<UnitName>, DetailsOf),
    /// Lines that [`Action::ReadJournals`] asked for.
    JournalRead {
        /// The unit.
        unit: UnitName,
        /// Its invocation.
        invocation: String,
        /// The last lines of its journal, the oldest first; none if it can't be read.
        lines: Vec<String>,
    },
    /// What the probes of units say, where that has changed, with the number of the instructions ([`Probing::id`]).
    Probed(BTreeMap<UnitName, (u64, Stand)>),
    /// The outcome of [`Action::Save`]: whether everything was written.
    Saved(bool),
    /// These reports were committed to the store.
    Published(Vec<(UnitName, Option<UnitReport>)>),
    /// It is unknown whether the reports of these units were committed.
    PublishFailed(Vec<UnitName>),
    /// The format of reports has changed, so all of them must be written again.
    FormatChanged,
}

/// What the shell is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Read the unit files and the boot state.
    ReadDisk,
    /// Ask systemd for the state of units.
    Observe(Question),
    /// Ask which of these removed units systemd still has in memory.
    CheckUnloaded(Vec<UnitName>),
    /// Read this host's own reports of these units from the store.
    ReadReports(Vec<UnitName>),
    /// Ask systemd which units it stops together with these.
    ReadBindings(Vec<UnitName>),
    /// Ask whether systemd holds the host's lease for the units that end with it.
    CheckLease,
    /// Let systemd hold the host's lease until deadlines that are renewed with it, or let go of it.
    HoldLease(bool),
    /// Read the leader's key and the desired states of these units from the store.
    ReadDecisions(Vec<UnitName>),
    /// Read the texts under these keys from the store, each the hash of a file or of a text.
    Fetch(BTreeSet<UnitHash>),
    /// Write these files beside those of their units, which are about to be stopped for them.
    Stage(Vec<(UnitName, String)>),
    /// Write and link these files.
    Install(Vec<(UnitName, String)>),
    /// Make systemd reload its unit files.
    Reload,
    /// Queue a stop job for each unit.
    Stop(Vec<UnitName>),
    /// Make systemd forget that these units, which are about to be started, have failed, and how often it has started
    /// them: otherwise its start limit would count what was started before somebody asked for it.
    ResetFailed(Vec<UnitName>),
    /// Queue a start job for each unit.
    Start(Vec<UnitName>),
    /// Disable, reset and unlink these stopped units.
    Remove(Vec<UnitName>),
    /// Ask systemd why these units failed, and how often it has restarted them.
    Inspect(Vec<UnitName>),
    /// Begin to read the last lines of these units' journals, each of one invocation. Nothing waits for them: they
    /// are applied when they arrive, if they do.
    ReadJournals(Vec<(UnitName, String)>),
    /// Begin to probe these units, in place of earlier instructions, or end it. Nothing waits for the results.
    Probe(Vec<(UnitName, Option<Probing>)>),
    /// Write the boot state.
    Save(BootState),
    /// Write these reports to the store; `None` deletes one.
    Publish(Vec<(UnitName, Option<UnitReport>)>),
    /// Wait for an input, at most until this time ([`Now::monotonic`]).
    Wait(Option<Duration>),
}

/// What systemd knows of units beyond their states.
pub type DetailsOf = BTreeMap<UnitName, Details>;

/// Units to ask systemd about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// Units that systemd has in memory, or whose files it must read.
    pub read: Vec<UnitName>,
    /// Units that systemd may have in memory, and whose files it must not read just to answer.
    pub recall: Vec<UnitName>,
}

/// A change of this host's assignments.
#[derive(Debug, Clone)]
pub enum Assignments {
    /// The complete assignments at a moment of the store's history.
    All(Moment, BTreeMap<UnitName, Assigned>),
    /// Changes up to a revision of the store; `None` for a deleted assignment.
    Changed(Revision, Vec<(UnitName, Option<Assigned>)>),
}

/// An assignment as the store has it; `Err` if its record can't be decoded.
pub type Assigned = Result<Assignment, Unreadable>;

/// A record that exists and can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// What is on the host's disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// The unit files, with their texts.
    pub files: BTreeMap<UnitName, String>,
    /// What was carried out in this boot; `None` if nothing was saved.
    pub executed: Option<BTreeMap<UnitName, Executed>>,
    /// The foreign unit files; `None` if they weren't saved.
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
    /// systemd refused a start.
    CantStart(UnitName, Error),
    /// A unit was removed.
    Removed(UnitName),
    /// A unit is left alone for [`BACK_OFF`]; logged once while the error stays the same.
    BacksOff(UnitName, Error),
    /// The text of a unit's file isn't in the store; the one that differs from it in comments only is installed.
    TextLost(UnitName),
    /// systemd failed to unload removed units.
    CantUnload(Error),
    /// There are foreign unit files.
    Foreign(BTreeSet<UnitName>),
    /// The store was restored from a backup, or replaced: its revision went back, or its id is another one.
    StoreRolledBack {
        /// The highest revision seen before.
        seen: Revision,
        /// The revision now.
        now: Revision,
    },
    /// The lease ends too soon for the jobs that are due.
    LeaseEnds,
    /// A start is deferred until units that it would bring back have stopped.
    Deferred(UnitName),
    /// A unit is started again together with one that it needs.
    Returns(UnitName),
    /// A report in the store is more recent than the saved boot state.
    KnownFromReport(UnitName),
    /// These units have no assignment since the host came back, and keep running until the leader has decided.
    AwaitsLeader(Vec<UnitName>),
    /// systemd has let go of the host's lease, and stopped these units, which are started again once it is held.
    LeaseLapsed(Vec<UnitName>),
}

/// One host: its units and everything known about them.
#[derive(Debug)]
pub struct HostState {
    id: MachineId,
    /// The TTL of the host's lease.
    ttl: Duration,
    units: Units,
    /// Units to be reconciled because something happened to them.
    dirty: BTreeSet<UnitName>,
    /// Units that systemd must be asked about.
    unseen: BTreeSet<UnitName>,
    /// Units whose observed state is current: no action or signal since.
    fresh: BTreeSet<UnitName>,
    /// Whether the assignments have been listed: until then a missing assignment means nothing.
    assignments_known: bool,
    /// The store's history as observed.
    history: StoreHistory,
    /// Foreign units. `None` until the disk was read.
    foreign: Option<BTreeSet<UnitName>>,
    /// Whether the disk must be read (again).
    disk_unread: bool,
    /// Which parts of the boot state must be saved.
    unsaved: save::Unsaved,
    /// Units that systemd must reload: their file changed while loaded, or they were enabled.
    reload_due: BTreeSet<UnitName>,
    /// Units whose files are about to be written and that systemd must reload afterwards.
    installing: BTreeSet<UnitName>,
    /// Units whose next file is beside the present one, and what it is stored under.
    staged: BTreeMap<UnitName, UnitHash>,
    /// Units that are stopped for a new file or a restart, and aren't back yet.
    replacing: BTreeSet<UnitName>,
    /// Units whose start waits until others have stopped.
    deferred: BTreeSet<UnitName>,
    /// Removed units that systemd may still have in memory, and when to check.
    unloading: BTreeMap<UnitName, Duration>,
    /// Those of them that systemd unloads only on a reload.
    lingering: BTreeSet<UnitName>,
    /// File texts fetched during this pass.
    texts: BTreeMap<UnitHash, Result<String, String>>,
    /// Jobs that were decided on together and must still be queued.
    jobs: steps::Jobs,
    /// The units that systemd stops together with those that are about to be stopped.
    bindings: BTreeMap<UnitName, BTreeSet<UnitName>>,
    /// How often each step was taken in this pass.
    taken: BTreeMap<(UnitName, Step), usize>,
    /// Set from the registration until the leader has decided about the units without an assignment.
    returned: Option<Returned>,
    /// Whether systemd holds the host's lease.
    hold: lease::Hold,
    /// How many instructions to probe there have been.
    probings: u64,
    log: Vec<Log>,
}

impl HostState {
    /// The host `id`, before anything is known about it; its lease has the TTL `ttl`.
    #[must_use]
    pub fn new(id: MachineId, ttl: Duration) -> Self {
        Self {
            id,
            ttl,
            units: Units::default(),
            dirty: BTreeSet::new(),
            unseen: BTreeSet::new(),
            fresh: BTreeSet::new(),
            assignments_known: false,
            history: StoreHistory::default(),
            foreign: None,
            disk_unread: true,
            unsaved: save::Unsaved::default(),
            reload_due: BTreeSet::new(),
            installing: BTreeSet::new(),
            staged: BTreeMap::new(),
            replacing: BTreeSet::new(),
            deferred: BTreeSet::new(),
            unloading: BTreeMap::new(),
            lingering: BTreeSet::new(),
            texts: BTreeMap::new(),
            jobs: steps::Jobs::default(),
            bindings: BTreeMap::new(),
            taken: BTreeMap::new(),
            returned: None,
            hold: lease::Hold::default(),
            probings: 0,
            log: Vec::new(),
        }
    }

    /// Apply what has happened.
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
            Input::Reported(names) => self.see_reported(names),
            Input::Bindings(bindings) => self.bindings.extend(bindings),
            Input::LeaseChecked(held) => self.lease_checked(held),
            Input::LeaseHeld(hold, outcome) => self.lease_is_held(hold, outcome, now),
            Input::Decisions { leader, seen, wanted } => self.decided(leader.filter(|_| seen), &wanted, now),
            Input::Fetched(texts) => self.texts.extend(texts),
            Input::Staged(outcomes) => self.staged(outcomes, now),
            Input::Installed(outcomes) => self.installed(outcomes, now),
            Input::Reloaded(outcome) => self.reloaded(outcome, now),
            Input::Stopped(outcomes) => self.stopped(outcomes, now),
            Input::FailuresForgotten(_) => self.failures_forgotten(),
            Input::Started(outcomes) => self.started(outcomes),
            Input::Removed(outcomes) => self.removed(outcomes, now),
            Input::Inspected(asked, details) => self.inspected(&asked, details),
            Input::JournalRead { unit, invocation, lines } => self.journal_read(&unit, &invocation, lines),
            Input::Probed(stands) => self.probed(stands),
            Input::Saved(all) => self.saved(all),
            Input::Published(reports) => self.published(reports, now),
            Input::PublishFailed(names) => self.publish_failed(&names),
            Input::FormatChanged => self.forget_reports(),
        }
    }

    /// The next action. `lease_holds` is whether the host is still known to be part of the cluster. If it isn't, its
    /// assignments may be out of date and its units may run elsewhere, so nothing is started and nothing is stopped.
    pub fn next(&mut self, now: Now, lease_holds: bool) -> Action {
        if self.disk_unread {
            return Action::ReadDisk;
        }
        self.take_over_foreign();
        self.protect_orphans();
        self.await_leader();
        let urgent = self.save_first().or_else(|| self.check_lease()).or_else(|| self.hold_lease(lease_holds));
        let urgent = urgent.or_else(|| self.queue_jobs(now, lease_holds)).or_else(|| self.reload());
        let urgent = urgent.or_else(|| self.observe());
        let urgent = urgent.or_else(|| self.check_unloaded(now)).or_else(|| self.read_decisions(now));
        if let Some(action) = urgent.or_else(|| self.compare_other_files()) {
            return action;
        }
        if let Some(action) = self.carry_out(now, lease_holds).or_else(|| self.save()) {
            return action;
        }
        if let Some(action) = self.inspect().or_else(|| self.probe(now)).or_else(|| self.read_journals(now)) {
            return action;
        }
        let (changed, due) = self.unpublished(now);
        if !changed.is_empty() {
            return Action::Publish(changed);
        }
        // Saves that units were forgotten because their reports were deleted.
        self.save().unwrap_or_else(|| Action::Wait(self.wakes_at().into_iter().chain(due).min()))
    }

    /// Take what is to be logged since the last call.
    pub fn take_log(&mut self) -> Vec<Log> {
        std::mem::take(&mut self.log)
    }

    /// Begin a pass. What the previous pass decided on and didn't do is decided again from what is observed now.
    fn begin_pass(&mut self, now: Now) {
        self.end_back_off(now);
        self.begin_lease_pass(now);
        self.jobs = steps::Jobs::default();
        self.bindings.clear();
        self.taken.clear();
        self.texts.clear();
        self.fresh.clear();
        // A unit that was installed and then not started, because the pass was interrupted, wasn't observed since.
        let unread = self.units.iter().filter(|(_, unit)| unit.unread && unit.linked);
        self.unseen.extend(unread.map(|(name, _)| name.clone()));
        self.unsaved.failed = false;
    }

    /// When something is due that no signal will announce.
    fn wakes_at(&self) -> Option<Duration> {
        let held = self.units.values().filter_map(|unit| unit.held_until);
        let unloading = self.unloading.values().copied();
        let lease = self.hold.retry();
        held.chain(unloading).chain(lease).chain(self.returned.as_ref().and_then(Returned::next_look)).min()
    }

    /// The unit, to be changed; it will be reconciled again.
    fn mark_dirty(&mut self, name: &UnitName) -> &mut Unit {
        self.dirty.insert(name.clone());
        self.units.get_or_add(name)
    }

    /// Whether a unit keeps running without an assignment: it is foreign, the store has lost its record, or the leader
    /// hasn't decided about it yet. A template stays with such units, which may need it.
    fn is_protected(&self, name: &UnitName) -> bool {
        let assigned = self.units.get(name).is_some_and(|unit| unit.assignment.is_some());
        let awaited = self.awaits_leader(name) || (name.is_template() && self.returned.is_some());
        !assigned && (self.is_orphan(name) || self.is_foreign(name) || awaited)
    }
}

#[cfg(test)]
mod tests;
