//! The commands of `fleetctl`, one a file. Each says what is asked of the cluster or of a host, and what is printed of
//! the answer.

mod choose;
pub(super) mod fd_forward;
pub(super) mod journal;
pub(super) mod ssh;
pub(super) mod status;
