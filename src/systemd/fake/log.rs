//! The log of the host in memory. Owns the words for what can happen; must never decide that something happens.

use std::time::Duration;

use crate::model::name::UnitName;

/// Something that happened on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When, since the host was created.
    pub at: Duration,
    /// The unit; `None` if it concerns the whole host.
    pub unit: Option<UnitName>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A process was started.
    Starting,
    /// The service is up; a oneshot has finished.
    Started,
    /// The process was asked to terminate.
    Stopping,
    /// The process has terminated.
    Stopped,
    /// The process failed, while starting or later by itself.
    Failed,
    /// The process ended with the power of the host, or was killed because it didn't stop before the lease ended.
    Killed,
    /// systemd reloaded all unit files.
    Reloaded,
    /// The host was rebooted.
    Rebooted,
    /// systemd has let go of the host's lease.
    Lapsed,
}
