//! The HTTP API from outside: a server on a unix socket over an embedded store, with raw HTTP requests. Clients rely on
//! its answers, so statuses and bodies are compared as they are sent.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test ends where it fails")]

#[path = "api/described.rs"]
mod described;
#[path = "support/description.rs"]
mod description;
#[path = "api/explain.rs"]
mod explain;
#[path = "api/fleetlock.rs"]
mod fleetlock;
#[path = "api/handed.rs"]
mod handed;
#[path = "api/harness.rs"]
mod harness;
#[path = "api/history.rs"]
mod history;
#[path = "api/hooks.rs"]
mod hooks;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/maintenance.rs"]
mod maintenance;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/offline.rs"]
mod offline;
#[path = "api/plan.rs"]
mod plan;
#[path = "support/port.rs"]
mod port;
#[path = "api/rebalance.rs"]
mod rebalance;
#[path = "api/reboots.rs"]
mod reboots;
#[path = "support/records.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod records;
#[path = "api/reports.rs"]
mod reports;
#[path = "api/riders.rs"]
mod riders;
#[path = "api/roles.rs"]
mod roles;
#[path = "api/rollouts.rs"]
mod rollouts;
#[path = "api/server.rs"]
mod server;
#[path = "api/sets.rs"]
mod sets;
#[path = "api/settings.rs"]
mod settings;
#[path = "api/v1.rs"]
mod v1;
#[path = "api/v2.rs"]
mod v2;
#[path = "api/watch.rs"]
mod watch;
#[path = "api/what_if.rs"]
mod what_if;
