//! Flotilla: `systemd` for a whole cluster.
//!
//! ```text
//!             v1/v2 HTTP            guarded txn                      guarded txn (leader's lease)
//!  fleetctl -------------> api ---------------->  STORE --watch--> engine -- plan::schedule --+
//!     ^                     ^                     |   ^                                       |
//!     |                     +---- range reads ----+   +--------------- schedule/<host>/… <----+
//!     |                                           | watch of this host's assignments only
//!     |                                           v
//!     +-- list, wait <------- state/… <-------- agent --- plan::host ---> action --> SYSTEMD --D-Bus--> PID 1
//!                                                 ^                                      |
//!                                                 +---------- signals, observe <---------+
//! ```
//!
//! Modules depend only on modules further in; `tests/layers` enforces this:
//!
//! * values: [`model`]: no async, I/O, clock or log, and no dependency on other modules;
//! * pure core: [`plan`]: values in, plans and reasons out; depends on `model` only. These two are the crate
//!   `flotilla_core` in `src/core`, so the compiler enforces that they use no other module;
//! * seams: [`store`], [`systemd`], [`clock`]: a small contract each, with adapters beneath;
//! * [`probe`]: connections and requests; depends on `model` only;
//! * [`metrics`]: what all others count; [`cli_docs`]: completions and manual pages of the programs; both depend on
//!   none of them;
//! * shell: `registry`, `engine`, `agent`, `api`, `daemon`, `journal`, `remote`, `cli`, `sidecar`: async and thin.

pub mod agent;
pub mod api;
pub mod cli;
pub mod cli_docs;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod journal;
pub mod metrics;
pub mod probe;
pub mod reboot;
pub mod reconcile;
pub mod registry;
pub mod remote;
pub mod sidecar;
pub mod ssh;
pub mod store;
pub mod systemd;
pub mod telemetry;

pub use flotilla_core::{model, plan};
