//! The commands of `fleetctl`, one a file. Each says what is asked of the cluster or of a host, and what is printed of
//! the answer.

mod choose;
pub(super) mod fd_forward;
pub(super) mod import;
mod instances;
pub(super) mod journal;
pub(super) mod list;
pub(super) mod restart;
pub(super) mod services;
pub(super) mod show;
pub(super) mod ssh;
pub(super) mod status;
pub(super) mod units;
