//! Fuzz targets: each is given any bytes and panics if a property doesn't hold. Owns the table of the targets.
//!
//! `contrib/fuzz` links each with libFuzzer. `tests/fuzz.rs` contains this file too, and plays the corpora without a
//! fuzzer. A target must be deterministic, must not depend on earlier inputs, and must touch no file and no network.

mod targets;

/// A target.
pub type Target = fn(&[u8]);

/// All targets, by the names of their programs and corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", targets::config::target),
    ("fleet_section", targets::fleet_section::target),
    ("glob", targets::glob::target),
    ("names", targets::names::target),
    ("record", targets::record::target),
    ("unit_file", targets::unit_file::target),
];

/// The target called `name`. Constant, so that a program contains, and the fuzzer observes, the code of one target
/// only.
///
/// # Panics
/// If there is none.
#[must_use]
pub const fn named(name: &str) -> Target {
    let mut at = 0;
    while !is_same(TARGETS[at].0.as_bytes(), name.as_bytes()) {
        at += 1;
    }
    TARGETS[at].1
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}
