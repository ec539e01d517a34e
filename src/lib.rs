//! Flotilla: `systemd` for a whole cluster.
//!
//! ```text
//!             v1/v2 HTTP            guarded txn                      guarded txn (leader's lease)
//!  fleetctl ─────────────▶ api ────────────────▶  STORE ──watch──▶ engine ── plan::schedule ──┐
//!     ▲                     ▲                     │   ▲                                       │
//!     │                     └──── range reads ────┘   └─────────────── schedule/<host>/… ◀────┘
//!     │                                           │ watch of this host's assignments only
//!     │                                           ▼
//!     └── list, status, wait ◀── state/… ◀── agent ─── plan::host ───▶ action ──▶ SYSTEMD ──D-Bus──▶ PID 1
//!                                             ▲                                      │
//!                                             └──────────── signals, observe ◀───────┘
//! ```
//!
//! Every arrow of the source points inwards to values; `tests/layers` holds it so:
//!
//! * values: [`model`], no async, no I/O, no clock, no log, nothing else of ours;
//! * minds: [`plan`], pure: values in, plan and report out; imports `model` only;
//! * seams: [`store`], [`systemd`], [`clock`], a small contract each, adapters beneath;
//! * [`metrics`]: what all of them count; [`cli_docs`]: what the programs print of their command lines; know none of
//!   them;
//! * shell: `registry`, `engine`, `agent`, `api`, `daemon`, `journal`, `remote`, `cli`, `sidecar`, async and thin.

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
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod registry;
pub mod remote;
pub mod sidecar;
pub mod ssh;
pub mod store;
pub mod systemd;
pub mod telemetry;
