//! Fuzz targets: each is given any bytes and panics if a property doesn't hold. Owns the table of the targets.
//!
//! `contrib/fuzz` links each with libFuzzer. `tests/fuzz.rs` contains this file too, and plays the corpora without a
//! fuzzer. A target must be deterministic, must not depend on earlier inputs, and must touch no file and no network.

pub mod targets;

/// A target.
pub type Target = fn(&[u8]);

/// All targets, by the names of their programs and corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("api", targets::api::target),
    ("config", targets::config::target),
    ("fleet_section", targets::fleet_section::target),
    ("glob", targets::glob::target),
    ("health_section", targets::health_section::target),
    ("journal", targets::journal::target),
    ("known_hosts", targets::known_hosts::target),
    ("names", targets::names::target),
    ("record", targets::record::target),
    ("rollout_section", targets::rollout_section::target),
    ("ssh_config", targets::ssh_config::target),
    ("unit_file", targets::unit_file::target),
];
