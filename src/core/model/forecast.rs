//! What can happen to a unit because of a change, as a value.

use serde::{Deserialize, Serialize};

/// What happens to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It gets a host, and is started there.
    Placed,
    /// It gets a host, and isn't started there.
    Loaded,
    /// It leaves its host, and gets another one.
    Moves,
    /// It is started on the host that it has.
    Starts,
    /// It is stopped and started on its host.
    Restarts,
    /// It is stopped, and stays on its host.
    Stops,
    /// It is stopped, and leaves its host.
    Leaves,
    /// It leaves its host, on which it didn't run.
    Unloaded,
    /// Its file is written, and nothing is stopped or started: systemd reads the same from it, or it doesn't run.
    Rewritten,
    /// No host fits.
    Waits,
}
