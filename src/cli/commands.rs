//! The commands of `fleetctl`, one in each file: what each requests from the cluster or from a host, and how the result
//! is printed.

mod back;
mod between;
mod choose;
pub(super) mod complete;
pub(super) mod context;
mod counted;
pub(super) mod diff;
pub(super) mod edit;
mod effect;
pub(super) mod export;
pub(super) mod fd_forward;
pub(super) mod forget;
pub(super) mod history;
pub(super) mod import;
mod instances;
pub(super) mod journal;
pub(super) mod list;
mod members;
mod option_changes;
mod replace;
pub(super) mod restart;
pub(super) mod restore;
pub(super) mod rollback;
pub(super) mod rollout;
pub(super) mod scale;
mod send;
pub(super) mod services;
pub(super) mod show;
pub(super) mod ssh;
pub(super) mod status;
pub(super) mod submit;
mod unified;
pub(super) mod units;
pub(super) mod verify;
pub(super) mod wait_for;
mod watch;
