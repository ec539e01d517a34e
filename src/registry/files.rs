//! What unit files say, by hash. A hash never changes its meaning, so what was read once needs no second look.
//! Owns the bounded memory of it; must never keep texts, which would make a daemon as large as its cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::file::UnitFile;
use crate::model::name::UnitHash;
use crate::model::placement::Constraints;

use super::keys::FileRecord;

/// Files remembered for certain; up to twice as many are. Some 200 bytes each.
const KEPT: usize = 8192;

/// What tables and plans need of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    /// `Description=`.
    pub description: Box<str>,
    /// `[X-Fleet]`, specifiers unresolved.
    pub constraints: Arc<Constraints>,
}

impl Brief {
    /// The brief of a file that was checked before it was stored.
    ///
    /// # Errors
    /// A sentence, for one that is damaged.
    pub fn of(record: &FileRecord) -> Result<Self, String> {
        let file = UnitFile::parse(record.text.as_bytes()).map_err(|error| error.to_string())?;
        let constraints = Constraints::parse(&file)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        Ok(Self {
            description: file.value("Unit", "Description").unwrap_or_default().into(),
            constraints: Arc::new(constraints),
        })
    }
}

/// Briefs by hash. Two generations instead of a list by use: when the young one is full it becomes the old one, and
/// what is asked for again moves back. That forgets what nobody asks for, at the cost of a hash map.
#[derive(Debug, Default)]
pub struct Briefs {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<UnitHash, Arc<Brief>>,
    old: HashMap<UnitHash, Arc<Brief>>,
}

impl Briefs {
    /// What is remembered of `hash`.
    #[must_use]
    pub fn get(&self, hash: &UnitHash) -> Option<Arc<Brief>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(brief) = generations.young.get(hash) {
            return Some(Arc::clone(brief));
        }
        let brief = generations.old.remove(hash)?;
        generations.insert(hash.clone(), Arc::clone(&brief));
        Some(brief)
    }

    /// Remember.
    pub fn insert(&self, hash: UnitHash, brief: Arc<Brief>) {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, brief);
    }
}

impl Generations {
    fn insert(&mut self, hash: UnitHash, brief: Arc<Brief>) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, brief);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_kept_and_the_rest_is_bounded() {
        let record = FileRecord { text: "[Unit]\nDescription=d\n[X-Fleet]\nGlobal=true\n".into() };
        let brief = Arc::new(Brief::of(&record).unwrap());
        assert!(brief.constraints.global && &*brief.description == "d");
        let (briefs, hash) = (Briefs::default(), |n: usize| UnitHash::new(&format!("{n:040x}")));
        for n in 0..4 * KEPT {
            briefs.insert(hash(n), Arc::clone(&brief));
            assert!(briefs.get(&hash(0)).is_some());
        }
        assert!(briefs.get(&hash(1)).is_none());
        let generations = briefs.generations.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * KEPT);
    }

    #[test]
    fn a_damaged_file_says_so() {
        assert!(Brief::of(&FileRecord { text: "[Unit".into() }).unwrap_err().contains("bad section header"));
        assert!(Brief::of(&FileRecord { text: "[X-Fleet]\nBogus=1".into() }).unwrap_err().contains("Bogus"));
    }
}
