//! The real `fleet-sidecar` with the real API over a store in memory, and with real connections. Its notifications to
//! systemd are received on a socket.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "sidecar/ambassador.rs"]
mod ambassador;
#[path = "sidecar/announce.rs"]
mod announce;
#[path = "sidecar/api.rs"]
mod api;
#[path = "sidecar/harness.rs"]
mod harness;
#[path = "support/port.rs"]
mod port;
#[path = "support/records.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod records;
#[path = "sidecar/render.rs"]
mod render;
#[path = "sidecar/wait.rs"]
mod wait;
