//! Logs records that can't be decoded, each once and not at every list. Owns how many of them are remembered.

use std::collections::HashSet;
use std::fmt;

/// How many are remembered as logged.
const TOLD: usize = 1000;

/// The damage that was logged.
#[derive(Debug, Default)]
pub struct Damage(HashSet<String>);

impl Damage {
    /// Log what is wrong with a record, unless that was done before.
    pub fn warn(&mut self, what: &impl fmt::Display) {
        if self.0.len() >= TOLD {
            self.0.clear();
        }
        let line = what.to_string();
        if !self.0.contains(&line) {
            tracing::warn!("{line}");
            self.0.insert(line);
        }
    }
}
