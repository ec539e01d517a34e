//! The HTTP API: `wire` (its JSON), `v1`, `v2`, `server`, and the `client` that `fleetctl` uses.

pub mod client;
pub mod wire;
