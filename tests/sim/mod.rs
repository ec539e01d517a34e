//! A simulated cluster, for `tests/simulation.rs` (seeds) and `tests/scripts.rs` (scenarios): the real engine and
//! agent, the embedded store in memory, hosts in memory, and tokio's paused clock. There is one thread, and the seed is
//! the only source of randomness.
//!
//! * [`world`]: the cluster and its hosts, and what can be done to them;
//! * [`line`], [`probe`]: the connections of a daemon to the store and to its systemd, and their faults;
//! * [`freeze`]: daemons that are suspended and continue;
//! * [`health`]: the probes of units;
//! * [`forge`]: records that somebody writes past the daemons;
//! * [`judge`], [`machines`]: what must hold at every revision and at every event of a host;
//! * [`requests`], [`told`]: what an agent may request of its host, given what it can know;
//! * [`rollouts`]: who is told to run which file, and how many are away for it;
//! * [`reboots`]: what must hold when a host reboots;
//! * [`retries`]: who is moved or started again because it has failed, and when;
//! * [`rolled`]: the units that a seed rolls out;
//! * [`settled`]: what must hold when all faults have ended;
//! * [`pool`], [`play`]: the units that a seed uses, and what it does;
//! * [`script`], [`show`]: the language of scenarios, and their output;
//! * [`marks`]: the rare branches that seeds and scenarios must reach;
//! * [`planted`]: the bugs that show that each invariant can be violated;
//! * [`journal`], [`log`], [`random`].

pub(crate) mod forge;
pub(crate) mod freeze;
pub(crate) mod health;
pub(crate) mod journal;
pub(crate) mod judge;
pub(crate) mod line;
pub(crate) mod log;
pub(crate) mod machines;
pub(crate) mod marks;
pub(crate) mod planted;
pub(crate) mod play;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod random;
pub(crate) mod reboots;
pub(crate) mod requests;
pub(crate) mod retries;
pub(crate) mod rolled;
pub(crate) mod rollouts;
pub(crate) mod script;
pub(crate) mod settled;
pub(crate) mod show;
pub(crate) mod told;
pub(crate) mod world;
