//! Tests on real hosts: systemd as PID 1, a real etcd, failures of networks and power. Needs root; see
//! `docs/testing.md`.
//! Run with `cargo nextest run --profile lab`.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where, and what it saw")]

mod balancer;
#[path = "../syntax/cases.rs"]
mod cases;
mod chains;
mod chaos;
mod citizen;
mod conformance;
mod demo;
mod disconnect;
mod doctor;
mod failures;
mod globals;
mod harness;
mod health;
mod hosts;
mod journal;
mod load;
mod misuse;
#[allow(dead_code, reason = "shared with tests/import.rs")]
#[path = "../import/fleet.rs"]
mod old_fleet;
mod packages;
#[path = "../support/page.rs"]
mod page;
mod pages;
mod patterns;
mod reasons;
mod remote;
mod rollout_faults;
mod rollouts;
mod scheduling;
mod security;
mod sets;
mod standalone;
mod succession;
mod syntax;
mod templates;
mod upgrade;
mod workflow;
