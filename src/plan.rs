//! The minds: pure functions and state machines from values to plans, each with the reasons for what it decides.
//!
//! * [`fit`]: may this unit run on this host; if not, every reason why.
//! * [`schedule`]: which host gets which unit; incremental, for the engine.
//! * [`host`]: all decisions of one host, one action at a time; for the agent.
//! * [`converge`]: what one unit on a host needs next; for `host`.
//! * [`explain`]: why a unit isn't where it should be; per request, for the API.
//! * [`progress`]: whether what was asked of a unit is done, and what it waits for; for the API.
//! * [`check`]: what must hold of a cluster; for tests, simulations and the engine's periodic audit.
//!
//! Nothing here waits, reads a clock, logs, or draws lots: the same values always give the same plan. Trouble is part
//! of a plan's report, never an error. Imports [`crate::model`] only.

pub mod check;
pub mod converge;
pub mod explain;
pub mod fit;
pub mod host;
pub mod progress;
pub mod schedule;
