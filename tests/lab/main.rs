//! Real hosts: systemd as PID 1, a real etcd, networks and power that go away. Needs root; see `docs/testing.md`.
//! Run with `cargo nextest run --profile lab`.

mod chains;
mod failures;
mod harness;
mod misuse;
mod standalone;
mod workflow;
