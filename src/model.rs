//! Values: the data model of a cluster. No async, I/O, clock or log, and no dependency on other modules.

pub mod author;
pub mod body;
pub mod cluster;
pub mod dependency;
pub mod exec_probe;
pub mod failure;
pub mod file;
pub mod format;
pub mod glob;
pub mod history;
pub mod instance;
pub mod listen;
pub mod machine;
pub mod name;
pub mod placement;
pub mod progress;
pub mod reserved;
pub mod revision;
pub mod role;
pub mod rule;
pub mod service;
pub mod systemd;
pub mod text;
pub mod unit;
