//! Values: what a cluster is made of. No async, no I/O, no clock, no log, and nothing of ours from outside.

pub mod cluster;
pub mod dependency;
pub mod file;
pub mod glob;
pub mod machine;
pub mod name;
pub mod placement;
pub mod progress;
pub mod reserved;
pub mod revision;
pub mod rule;
pub mod service;
pub mod systemd;
pub mod unit;
