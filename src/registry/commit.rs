//! The transactions that change records: the packer of larger changes, and the writes of single records by agents,
//! engine and announcers.
//!
//! Owns which guards protect which write, and how changes are packed into transactions. It must never decide what to
//! change, and never read.

pub mod batch;
pub mod hosts;
pub mod leader;
pub mod reports;
pub mod services;
