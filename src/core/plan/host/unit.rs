//! One unit as its host knows it: its assignment, observed state, what was carried out, and what was reported. Values
//! only.

use std::sync::Arc;
use std::time::Duration;

use crate::model::body::BodyHash;
use crate::model::dependency::Dependencies;
use crate::model::disconnect::ends_with_lease;
use crate::model::file::UnitFile;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::systemd::{ActiveState, Details, UnitState};
use crate::model::unit::{Assignment, Target, UnitReport};
use crate::plan::converge::{Done, Seen, is_to_restart};
use crate::plan::fit;

use super::boot::{Executed, StateSince};
use super::readiness::{Probes, Readiness, probes_of};

/// One unit. Only [`HostState`](super::HostState) changes it.
#[derive(Debug, Default)]
pub struct Unit {
    /// Its assignment to this host.
    pub assignment: Option<Assignment>,
    /// Whether its assignment exists and can't be decoded: the unit then stays as it is.
    pub(super) unreadable: bool,
    /// The file on disk, if there is one.
    pub file: Option<Known>,
    /// The hash of another file that may be assigned to it, and whether that has the same body as the one on disk.
    pub(super) compared: Option<(UnitHash, bool)>,
    /// Its last observed state in systemd.
    pub state: UnitState,
    /// Since when `active` and `sub` have these values, in ms since the epoch.
    pub(super) since: u64,
    /// Its state as an earlier daemon saved it, until systemd was asked.
    pub(super) saved_state: Option<StateSince>,
    /// Why it failed, and how often systemd has restarted it.
    pub(super) diagnosis: Diagnosis,
    /// Whether it is ready.
    pub(super) readiness: Readiness,
    /// Whether systemd must read its file the next time it is asked, because it is unknown how it was loaded.
    pub(super) unread: bool,
    /// Whether this daemon has linked its file, even if systemd hasn't loaded it yet.
    pub(super) linked: bool,
    /// Whether its file was removed in this boot and systemd hasn't said since that it is down.
    pub(super) removed: bool,
    /// What was carried out in this boot.
    pub executed: Option<Executed>,
    /// If that is only the saved state of an earlier daemon, since when the unit was as that daemon saw it last, in ms
    /// since the epoch; 0 if it never saw it. The report in the store may be newer.
    pub(super) unconfirmed: Option<u64>,
    /// Whether to retry a start that failed because a file was missing.
    pub(super) retry: bool,
    /// Whether it was up when it was observed before, and isn't any more, although nobody has asked for that here.
    pub(super) went_down: bool,
    /// Whether the job that started it has ended and it wasn't observed since, so that nobody knows whether it is still
    /// up. Not if the job has failed, or the unit ends by itself and has.
    pub(super) ended_unseen: bool,
    /// The restart for which this daemon last stopped it.
    pub(super) stopped_for: Option<Revision>,
    /// Until when it is left alone after a failure, as [`Now::monotonic`](super::Now::monotonic).
    pub held_until: Option<Duration>,
    /// Its report in the store, as far as this daemon knows; `None` if unknown.
    pub reported: Option<Option<UnitReport>>,
}

/// What is known of a unit beyond its state; `diagnosis` has the rules.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    /// Whether something happened since systemd was last asked.
    pub(super) due: bool,
    /// Whether systemd was asked.
    pub(super) inspected: bool,
    pub(super) details: Details,
    pub(super) journal: Journal,
    /// When a growing number of restarts was last reported.
    pub(super) restarts_reported: Option<Duration>,
    /// When another status text, or another reason why it isn't ready, was last reported.
    pub(super) text_reported: Option<Duration>,
}

/// The journal of the invocation that failed.
#[derive(Debug, Default)]
pub(super) enum Journal {
    #[default]
    Unread,
    /// It is being read; the report waits until then.
    Awaited(Duration),
    Read(Vec<String>),
}

/// What is known of a file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its hash. A file that isn't a valid unit file has a hash that no other file has.
    pub hash: UnitHash,
    /// The hash of its text, comments included.
    pub text: UnitHash,
    /// What systemd has of it; `None` if it isn't a valid unit file.
    pub(super) body: Option<BodyHash>,
    pub(super) dependencies: Dependencies,
    /// Whether it can run on this host only: it is global, or names this host's id.
    pub(super) tied: bool,
    /// Whether it is meant to end by itself.
    pub(super) ends: bool,
    /// Whether systemd may start it again by itself (`Restart=`).
    pub(super) restarts: bool,
    /// Whether it may tell systemd what it is doing (`STATUS=`).
    pub(super) notifies: bool,
    /// Whether it has an `[Install]` section and must be enabled.
    pub(super) has_install: bool,
    /// Whether systemd stops it before the host's lease can have expired (`OnDisconnect=stop`).
    pub(super) ends_with_lease: bool,
    /// Its `[X-Health]` section.
    pub(super) probes: Option<Probes>,
}

impl Known {
    /// The file of `name` on `host`.
    pub(super) fn of(name: &UnitName, text: &str, host: &MachineId) -> Self {
        let Ok(file) = UnitFile::parse(text.as_bytes()) else {
            let (hash, text) = (UnitHash::new("damaged"), UnitHash::new("damaged"));
            let (body, dependencies) = (None, Dependencies::default());
            let (tied, ends, restarts, notifies, has_install, ends_with_lease) = Default::default();
            return Self {
                hash,
                text,
                body,
                dependencies,
                tied,
                ends,
                restarts,
                notifies,
                has_install,
                ends_with_lease,
                probes: None,
            };
        };
        let constraints = Constraints::parse(&file).ok().map(|parsed| Constraints::resolve(&Arc::new(parsed), name));
        let body = constraints.as_ref().map_or_else(|| BodyHash::of(&file), |constraints| constraints.body);
        let is_tied = |constraints: &Constraints| {
            constraints.global || (constraints.machine_id.is_some() && fit::machine_id(constraints, host).is_empty())
        };
        let tied = constraints.as_deref().is_some_and(is_tied);
        let ends_with_lease = ends_with_lease(&file);
        let dependencies = Dependencies::of(name, &file);
        let restarts = file.value("Service", "Restart").is_some_and(|value| !matches!(value, "" | "no"));
        let (ends, notifies) = (file.ends_by_itself(), file.may_notify());
        // Only an instance of a template can be enabled.
        let has_install = file.has_install() && !name.is_template();
        let (hash, text, body) = (file.hash(), file.text_hash(), Some(body));
        let probes = probes_of(name, &file);
        Self { hash, text, body, dependencies, tied, ends, restarts, notifies, has_install, ends_with_lease, probes }
    }
}

impl Unit {
    /// The hash of its file on disk.
    #[must_use]
    pub fn hash(&self) -> Option<&UnitHash> {
        self.file.as_ref().map(|file| &file.hash)
    }

    /// Units that are started together with it.
    pub(super) fn pulls(&self) -> &[UnitName] {
        self.file.as_ref().map_or(&[], |file| &file.dependencies.pulls)
    }

    /// Units that stop it when they are stopped.
    pub(super) fn binds(&self) -> &[UnitName] {
        self.file.as_ref().map_or(&[], |file| &file.dependencies.binds)
    }

    /// Whether its target is `launched`.
    pub(super) fn is_launched(&self) -> bool {
        self.assignment.as_ref().is_some_and(|assignment| assignment.target == Target::Launched)
    }

    /// Whether systemd may read its file to answer: the unit is meant to run, so the file is in memory already; or
    /// nothing is known of the file yet, or only what was observed before it existed.
    pub(super) fn is_for_reading(&self) -> bool {
        self.unread || (self.file.is_some() && (!self.state.load.is_found() || self.is_launched()))
    }

    /// What the text that it must have is stored under.
    pub(super) fn wanted_key(&self) -> Option<&UnitHash> {
        let assignment = self.assignment.as_ref()?;
        Some(assignment.text.as_ref().unwrap_or(&assignment.hash))
    }

    /// Whether systemd reads the same from its file and from one with this body, and knows the unit: such a file is
    /// written, and nothing else is done.
    pub(super) fn has_same_as(&self, body: Option<BodyHash>) -> bool {
        self.has_body(body) && self.seen().known
    }

    /// Whether systemd reads the same from its file and from one with this body; not if either isn't a valid unit file.
    pub(super) fn has_body(&self, body: Option<BodyHash>) -> bool {
        body.is_some() && self.file.as_ref().is_some_and(|file| file.body == body)
    }

    /// Whether it has a file and must get one with another hash.
    pub(super) fn has_another_file(&self) -> bool {
        let wanted = self.assignment.as_ref().filter(|assignment| assignment.target != Target::Removed);
        self.file.is_some() && wanted.is_some_and(|assignment| self.hash() != Some(&assignment.hash))
    }

    /// Whether the assigned file has the same body as the one on disk; `None` if they weren't compared.
    pub(super) fn has_same_body(&self) -> Option<bool> {
        let assigned = &self.assignment.as_ref()?.hash;
        self.compared.as_ref().filter(|(hash, _)| hash == assigned).map(|(_, same)| *same)
    }

    /// Whether it has a file and must get another one, from which systemd reads something else.
    pub(super) fn is_outdated(&self) -> bool {
        self.has_another_file() && self.has_same_body() != Some(true)
    }

    /// Whether it must be stopped and come back, with another file or as it is.
    pub(super) fn is_replaced(&self) -> bool {
        self.is_outdated() || self.is_restarting()
    }

    /// Whether it must be restarted and hasn't been stopped yet.
    pub(super) fn is_restarting(&self) -> bool {
        self.assignment.as_ref().is_some_and(|assignment| is_to_restart(assignment, &self.seen()))
    }

    /// Whether it was started, should run and doesn't: it failed, was stopped by other means, or never came up. A unit
    /// that is meant to end by itself, and has, isn't missing.
    pub(super) fn is_missing(&self) -> bool {
        let Some((assignment, executed)) = self.assignment.as_ref().zip(self.executed.as_ref()) else { return false };
        let asked = assignment.target == Target::Launched && executed.generation == assignment.generation;
        asked && self.is_at_rest()
    }

    /// Whether it is down, for another reason than that it is meant to end by itself and has.
    pub(super) fn is_at_rest(&self) -> bool {
        let down = matches!(self.state.active, ActiveState::Inactive | ActiveState::Failed) && self.state.job.is_none();
        let refused = self.executed.as_ref().is_some_and(|executed| executed.error.is_some());
        down && (refused || !self.has_finished())
    }

    /// Whether it is meant to end by itself, and is down without having failed.
    pub(super) fn has_finished(&self) -> bool {
        let ends = self.file.as_ref().is_some_and(|file| file.ends);
        ends && self.state.active == ActiveState::Inactive && self.state.job.is_none()
    }

    /// Whether its error is about a file that isn't assigned any more.
    pub(super) fn lacks_another(&self) -> bool {
        let lacks = self.executed.as_ref().and_then(|executed| executed.lacks.as_ref());
        lacks.zip(self.assignment.as_ref()).is_some_and(|(lacks, assignment)| *lacks != assignment.hash)
    }

    /// The generation that was carried out. If a file couldn't be had, that is the one before, also when the file is
    /// there at last; if the unit is to have another one by now, it may be either.
    fn carried_out(&self, executed: &Executed) -> Revision {
        let Some(kept) = &executed.kept else { return executed.generation };
        let asked = self.assignment.as_ref().map(|assignment| assignment.generation);
        let is_kept = !self.lacks_another() || asked == Some(kept.generation);
        if is_kept { kept.generation } else { executed.generation }
    }

    /// The input of `converge`.
    pub(super) fn seen(&self) -> Seen {
        let done = self.executed.as_ref().map(|executed| {
            let generation = if executed.undone { Revision::default() } else { self.carried_out(executed) };
            Done { generation, target: executed.target, restart: executed.restart, rewrites: executed.rewrites }
        });
        let asked = self.assignment.as_ref().and_then(|assignment| assignment.restart);
        Seen {
            file: self.hash().cloned(),
            text: self.file.as_ref().map(|file| file.text.clone()),
            same_body: self.has_same_body() == Some(true),
            known: self.linked || self.state.load.is_found(),
            left_over: self.removed && (self.state.active.is_up() || self.state.job.is_some()),
            running: self.state.active.is_up(),
            job: self.state.job.clone(),
            done,
            stopped: asked.is_some() && self.stopped_for == asked,
            retry: self.retry,
            lacks_another: self.lacks_another(),
        }
    }

    /// Its state and since when, to be saved.
    pub(super) fn state_since(&self) -> Option<StateSince> {
        if self.saved_state.is_some() {
            return self.saved_state.clone();
        }
        let (active, sub, ready) = (self.state.active.clone(), self.state.sub.clone(), self.is_ready() == Some(true));
        (active != ActiveState::Unknown).then_some(StateSince { active, sub, since: self.since, ready })
    }
}
