//! The HTTP API: `wire` (its JSON), `server` (`fleetd`'s side) and `client` (what `fleetctl` and `fleet-sidecar` use).
//! Server and client are two rooms that meet in `wire` only; neither imports the other.

pub mod client;
pub mod server;
pub mod wire;

#[cfg(test)]
mod openapi;
