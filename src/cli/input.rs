//! The interpretation of arguments: the command line's spelling and errors, names and patterns of units, unit files.
//! Resolves and checks them; changes nothing in the cluster and prints nothing.

pub(super) mod argv;
pub(super) mod batch;
pub(super) mod check;
pub(super) mod files;
pub(super) mod finding;
pub(super) mod hosts;
pub(super) mod lint;
pub(super) mod names;
pub(super) mod refused;
pub(super) mod select;
pub(super) mod slot;
mod words;
