//! The pure core: functions and state machines from values to plans, each with the reasons for its decisions.
//!
//! * [`fit`]: may this unit run on this host; if not, every reason why.
//! * [`schedule`]: which host gets which unit; incremental, for the engine.
//! * [`host`]: all decisions of one host, one action at a time; for the agent.
//! * [`health`]: what follows from the results of a unit's probes; for the agent.
//! * [`converge`]: the next step of one unit on a host; for `host`.
//! * [`templates`]: which templates a host must have because of a unit; for `wanted`.
//! * [`wanted`]: the assignment that a host must have of a unit that belongs there; for `schedule` and `check`.
//! * `absence`: which units stay assigned to a host that is gone, and until when; for `schedule` and `check`.
//! * [`once`]: whether a unit that runs once has run to its end; for `schedule`.
//! * [`gate`]: with which file a unit is scheduled while its rollout hasn't let it through to another; for the engine.
//! * [`pace`]: how a rollout goes on from member to member; for `rollouts`.
//! * [`rollouts`]: the gates and rollouts of a cluster, in front of `schedule`; for the engine.
//! * [`drain`]: which units are told to leave hosts that are drained; for the engine and the API.
//! * [`rebalance`]: which units a person may want on other hosts, because they are better there; for the API.
//! * [`reschedule`]: when a unit that has failed is moved or started again; for the engine and the API.
//! * [`sets`]: which members a set has, and how its count changes; for the API, by way of `registry`.
//! * [`forecast`]: what a change would lead to, decided by `rollouts` and `schedule` on a copy; for the API.
//! * [`explain`]: why a unit isn't where it should be; on request, for the API.
//! * [`account`]: the same of every host, and why a unit is where it is; on request, for the API.
//! * [`remedy`]: what a person could do so that a unit that waits is placed; on request, for the API.
//! * [`whatif`]: where units would be if hosts were lost or added, or units started; on request, for the API.
//! * `trial`: a copy of the cluster on which changes are tried and taken back; for `remedy` and `whatif`.
//! * [`progress`]: whether a requested operation is done, and what it waits for; for the API.
//! * [`check`]: the invariants of a cluster; for tests, simulations and the engine's periodic audit.
//!
//! Nothing here waits, reads a clock, logs or uses randomness: the same values always give the same plan. Problems are
//! part of a plan's report, never an error. Imports [`crate::model`] only.

mod absence;
pub mod account;
pub mod check;
pub mod converge;
pub mod drain;
pub mod explain;
pub mod fit;
pub mod forecast;
pub mod gate;
pub mod health;
pub mod host;
pub mod once;
pub mod pace;
pub mod progress;
pub mod rebalance;
pub mod reboot;
pub mod remedy;
pub mod reschedule;
pub mod rollouts;
pub mod schedule;
pub mod sets;
pub mod templates;
mod trial;
pub mod wanted;
pub mod whatif;
