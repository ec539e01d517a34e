//! How often the host in memory was called. A value, for tests; counts nothing itself.

/// The number of calls, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Calls of `files`.
    pub files: u64,
    /// Calls of `install`.
    pub install: u64,
    /// Calls of `remove`.
    pub remove: u64,
    /// Calls of `reload`.
    pub reload: u64,
    /// Calls of `start`.
    pub start: u64,
    /// Calls of `stop`.
    pub stop: u64,
    /// Calls of `units`.
    pub units: u64,
    /// Calls of `details`.
    pub details: u64,
    /// Journals that were read.
    pub journals: u64,
    /// Probes that were run.
    pub probes: u64,
    /// Files written, over all `install` calls.
    pub written: u64,
}
