//! What is known of the health of one unit: its probes, what they say, and since which start of the unit. Values only;
//! `health` has the rules.

use std::sync::Arc;

use crate::model::file::UnitFile;
use crate::model::health::{Health, SECTION};
use crate::model::name::UnitName;
use crate::plan::health::Stand;

/// What a file's `[X-Health]` says; `Err` if it can't be read, because an earlier version has accepted it.
pub(super) type Probes = Result<Arc<Health>, String>;

/// The `[X-Health]` section of the file of `name`, if it has one.
pub(super) fn probes_of(name: &UnitName, file: &UnitFile) -> Option<Probes> {
    match Health::parse(file, name) {
        Ok(health) => health.map(|health| Ok(Arc::new(health))),
        Err(problems) => {
            let why: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Some(Err(format!("[{SECTION}] can't be used: {}", why.join("; "))))
        }
    }
}

/// What is known of a unit's health.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    /// What its probes say.
    pub(super) stand: Stand,
    /// What is being probed since which start, and the number of the instructions.
    pub(super) probing: Option<(u64, Arc<Health>, Start)>,
    /// The number of the instructions of its last start, after that has ended; 0 if there were none.
    pub(super) last: u64,
    /// Since when the unit is active, in ms since the epoch.
    pub(super) active_since: u64,
}

impl Readiness {
    /// The unit has become active, or is found active by a daemon that has just begun; `ready` is what an earlier one
    /// knew of it then.
    pub(super) fn begins(&mut self, since: u64, ready: bool) {
        (self.active_since, self.last) = (since, 0);
        self.stand = Stand { ready, ..Stand::default() };
    }
}

/// A start of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Since when it is active.
    pub(super) since: u64,
    /// How often systemd had restarted it by itself; `None` if that isn't known.
    pub(super) restarts: Option<u32>,
}

impl Start {
    /// Whether both may be the same start.
    pub(super) fn may_be(self, other: Self) -> bool {
        let restarted = self.restarts.zip(other.restarts).is_some_and(|(one, other)| one != other);
        self.since == other.since && !restarted
    }
}
