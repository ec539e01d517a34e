//! The API's server: `fleetd` answers `/fleet/v1` (CoreOS fleet's API) and `/fleet/v2` (what v1 can't express).
//! It reads and writes through `registry` and asks `plan` for reasons and progress; it must never know the engine, the
//! agent or systemd, and it keeps nothing of the cluster but the picture that those who watch share.
//!
//! `fleetlock` answers programs that reboot their host, on a socket of its own.
//!
//! `connections` accepts, `places` bounds how much goes on at once, `router` answers, `caller` refuses what the
//! socket's role doesn't permit and `own` what isn't a sidecar's own, `limits` bounds what a client may send,
//! `extract` is what handlers share, `views` joins records into what clients read, `error` and `health` say why a
//! request isn't done.

pub mod error;
pub mod health;
pub mod listen;
pub mod places;
pub mod state;

mod caller;
mod connections;
mod extract;
mod fleetlock;
mod limits;
mod own;
mod peer;
mod router;
mod v1;
mod v2;
mod views;

pub use connections::{serve, serve_stream};
