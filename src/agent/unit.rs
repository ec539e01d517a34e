//! One unit as its host knows it: assigned, observed, carried out, reported; and what follows from that. Values only.

use tokio::time::Instant;

use crate::model::name::UnitHash;
use crate::model::revision::Revision;
use crate::model::unit::{Assignment, Target, UnitReport};
use crate::plan::converge::{Done, Job, Seen, is_to_restart};
use crate::systemd;

use super::boot_state::Executed;
use super::units::Needs;

/// One unit.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// Its assignment.
    pub(super) entry: Option<Assignment>,
    /// The hash of the file on disk.
    pub(super) file: Option<UnitHash>,
    /// What that file says of other units.
    pub(super) needs: Needs,
    /// What systemd said last.
    pub(super) systemd: systemd::Unit,
    /// Since when its `active` and `sub` are so, ms since the epoch.
    pub(super) since: u64,
    /// Whether systemd is to read its file when it is asked about it next: nothing is known of what it makes of it.
    pub(super) unread: bool,
    /// Whether this daemon has linked its file, whatever systemd says yet.
    pub(super) linked: bool,
    /// What was carried out in this boot.
    pub(super) record: Option<Executed>,
    /// Whether to try a start again that failed for want of a file.
    pub(super) retry: bool,
    /// The restart it was stopped for last, by this daemon.
    pub(super) stopped_for: Option<Revision>,
    /// Until when it is left alone after a failure of its file.
    pub(super) held: Option<Instant>,
    /// Whether its entry is there and can't be read: then it stays as it is.
    pub(super) unreadable: bool,
    /// What the store has of it, as far as this daemon knows; `None` when it doesn't.
    pub(super) reported: Option<Option<UnitReport>>,
}

impl Unit {
    /// Whether systemd may be made to read its file for an answer: it runs, so that the file is in memory already, or
    /// nothing is known of the file yet, and what is known is of the time before there was one.
    pub(super) fn is_for_reading(&self) -> bool {
        let launched = |entry: &Assignment| entry.target == Target::Launched;
        let unknown = matches!(self.systemd.load.as_str(), "" | "not-found");
        self.unread || (self.file.is_some() && (unknown || self.entry.as_ref().is_some_and(launched)))
    }

    /// Whether it has a file, and is to have another.
    pub(super) fn is_outdated(&self) -> bool {
        let wanted = self.entry.as_ref().filter(|entry| entry.target != Target::Removed);
        self.file.is_some() && wanted.is_some_and(|entry| self.file.as_ref() != Some(&entry.hash))
    }

    /// Whether it is to be stopped and to come back, with another file or as it is.
    pub(super) fn is_replaced(&self) -> bool {
        self.is_outdated() || self.is_restarting()
    }

    /// Whether it is to be stopped and started again, and hasn't been stopped yet.
    pub(super) fn is_restarting(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| is_to_restart(entry, &self.seen()))
    }

    pub(super) fn seen(&self) -> Seen {
        let job = match self.systemd.job.as_deref() {
            None => None,
            Some("stop") => Some(Job::Stop),
            Some(_) => Some(Job::Other),
        };
        let done = self.record.as_ref().map(|record| {
            let generation = if record.undone { Revision::default() } else { record.generation };
            Done { generation, target: record.target, restart: record.restart }
        });
        let asked = self.entry.as_ref().and_then(|entry| entry.restart);
        Seen {
            file: self.file.clone(),
            known: self.linked || !matches!(self.systemd.load.as_str(), "" | "not-found"),
            running: !matches!(self.systemd.active.as_str(), "" | "inactive" | "failed"),
            job,
            done,
            stopped: asked.is_some() && self.stopped_for == asked,
            retry: self.retry,
        }
    }
}
