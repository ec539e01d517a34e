//! Caches summaries of unit files by hash. The file of a hash never changes, so an entry is never out of date. Owns the
//! size of the cache; must never keep texts, which would make a daemon as large as its cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::file::UnitFile;
use crate::model::name::UnitHash;
use crate::model::placement::Constraints;

use super::records::file::FileRecord;

/// The number of files that are certainly cached; up to twice as many may be. About 200 bytes each.
const MIN_CACHED: usize = 8192;

/// What tables and plans need to know about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSummary {
    /// `Description=`.
    pub description: Box<str>,
    /// The constraints in `[X-Fleet]`, with unresolved specifiers.
    pub constraints: Arc<Constraints>,
}

impl FileSummary {
    /// The summary of a stored file.
    ///
    /// # Errors
    /// A sentence, if it is damaged.
    pub fn of(file: &UnitFile) -> Result<Self, String> {
        Ok(Self {
            description: file.value("Unit", "Description").unwrap_or_default().into(),
            constraints: Arc::new(FileRecord::constraints_of(file)?),
        })
    }
}

/// Summaries of files, by hash.
pub type FileSummaries = HashMap<UnitHash, Arc<FileSummary>>;

/// Summaries by hash. Two generations instead of a list ordered by use: when the young one is full it becomes the old
/// one, and an entry that is used again moves back. Unused entries are thus dropped at the cost of a hash map.
#[derive(Debug, Default)]
pub struct FileSummaryCache {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<UnitHash, Arc<FileSummary>>,
    old: HashMap<UnitHash, Arc<FileSummary>>,
}

impl FileSummaryCache {
    /// The cached summary of `hash`.
    #[must_use]
    pub fn get(&self, hash: &UnitHash) -> Option<Arc<FileSummary>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(summary) = generations.young.get(hash) {
            return Some(Arc::clone(summary));
        }
        let summary = generations.old.remove(hash)?;
        generations.insert(hash.clone(), Arc::clone(&summary));
        Some(summary)
    }

    /// Cache a summary.
    pub fn insert(&self, hash: UnitHash, summary: Arc<FileSummary>) {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, summary);
    }
}

impl Generations {
    fn insert(&mut self, hash: UnitHash, summary: Arc<FileSummary>) {
        if self.young.len() >= MIN_CACHED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_kept_and_the_rest_is_bounded() {
        let file = UnitFile::parse(b"[Unit]\nDescription=d\n[X-Fleet]\nGlobal=true\n").unwrap();
        let summary = Arc::new(FileSummary::of(&file).unwrap());
        assert!(summary.constraints.global && &*summary.description == "d");
        let (summaries, hash) = (FileSummaryCache::default(), |n: usize| UnitHash::new(&format!("{n:040x}")));
        for n in 0..4 * MIN_CACHED {
            summaries.insert(hash(n), Arc::clone(&summary));
            assert!(summaries.get(&hash(0)).is_some());
        }
        assert!(summaries.get(&hash(1)).is_none());
        let generations = summaries.generations.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * MIN_CACHED);
    }

    #[test]
    fn a_damaged_file_says_so() {
        let summary = |text: &str| {
            let hash = UnitFile::parse(text.as_bytes()).map_or(UnitHash::new("0"), |file| file.hash());
            FileRecord { text: text.into() }.file(&hash).and_then(|file| FileSummary::of(&file))
        };
        assert!(summary("[Unit").unwrap_err().contains("bad section header"));
        assert!(summary("[X-Fleet]\nBogus=1").unwrap_err().contains("Bogus"));
        let other = FileRecord { text: "[Unit]\nDescription=d\n".into() };
        assert!(other.file(&UnitHash::new("0")).unwrap_err().contains("of another file"));
    }
}
