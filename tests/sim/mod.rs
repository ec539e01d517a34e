//! A simulated cluster, for `tests/simulation.rs` (seeds) and `tests/scripts.rs` (scenarios): the real engine and
//! agent, the embedded store in memory, hosts in memory, and tokio's paused clock. One thread, no chance but the
//! seed's.
//!
//! * [`world`]: everything that lives, and what can be done to it;
//! * [`line`], [`probe`]: the ways from a daemon to the store and to its systemd, and what goes wrong there;
//! * [`judge`], [`machines`]: what must hold at every revision and at every event of a host;
//! * [`requests`], [`told`]: what an agent may ask of its host, by what it can know;
//! * [`settled`]: what must hold when all is over;
//! * [`pool`], [`play`]: what a seed plays with, and how;
//! * [`script`], [`show`]: the scenarios' language and what they print;
//! * [`planted`]: the bugs that show whether all that can fail;
//! * [`journal`], [`log`], [`random`].

pub(crate) mod journal;
pub(crate) mod judge;
pub(crate) mod line;
pub(crate) mod log;
pub(crate) mod machines;
pub(crate) mod planted;
pub(crate) mod play;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod random;
pub(crate) mod requests;
pub(crate) mod script;
pub(crate) mod settled;
pub(crate) mod show;
pub(crate) mod told;
pub(crate) mod world;
