//! The HTTP API: `wire` (its JSON), `v1` (CoreOS fleet's), `v2` (what v1 can't say), `server`, and the `client` that
//! `fleetctl` uses. The server's side reads and writes through `registry` and asks `plan::explain` for reasons; it must
//! never know the engine, the agent or systemd, and it keeps no copy of the cluster.

pub mod client;
pub mod error;
pub mod health;
mod intake;
pub mod join;
pub mod listen;
pub mod server;
pub mod state;
mod v1;
mod v2;
pub mod wire;

#[cfg(test)]
mod openapi;
