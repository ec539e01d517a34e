//! Equal names, ids and hashes share one text. A cluster's records repeat them in every family, and a leader and its
//! API each keep what they have decoded: copies of names, ids and hashes were an eighth of a leader's heap. Owns the
//! table of the texts in use; must never influence what is decided, and keeps no text that nobody has.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The table isn't searched for texts that nobody has any more before it has this many.
const FIRST_SWEEP: usize = 1024;

static TEXTS: LazyLock<Mutex<Texts>> = LazyLock::new(Mutex::default);

/// `text`, from the table if somebody has it.
pub(super) fn shared(text: &str) -> Arc<str> {
    TEXTS.lock().unwrap_or_else(PoisonError::into_inner).shared(text)
}

/// The texts in use, and some that nobody has any more.
#[derive(Debug, Default)]
struct Texts {
    all: HashSet<Arc<str>, Key>,
    /// How many were in use after the last sweep.
    kept: usize,
}

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.all.get(text) {
            return known.clone();
        }
        // A sweep looks at no more than twice as many texts as were inserted since the one before, so an insertion
        // costs the same on average however many there are.
        if self.all.len() >= 2 * self.kept + FIRST_SWEEP {
            self.all.retain(|text| Arc::strong_count(text) > 1);
            self.all.shrink_to(self.all.len() + FIRST_SWEEP);
            self.kept = self.all.len();
        }
        let new = Arc::from(text);
        self.all.insert(Arc::clone(&new));
        new
    }
}

/// The key of a hash for short texts, which is several times as fast as the standard library's: that one was a twentieth
/// of what reading a list of units costs. Without the key, which each process has anew, nobody can make texts collide.
#[derive(Debug)]
struct Key(u64);

impl Default for Key {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0) | 1)
    }
}

impl BuildHasher for Key {
    type Hasher = Hash;

    fn build_hasher(&self) -> Hash {
        Hash { state: self.0, key: self.0 }
    }
}

struct Hash {
    state: u64,
    key: u64,
}

impl Hash {
    /// Both halves of the product matter: each of its bits depends on bits of all of the word.
    fn mix(&mut self, word: u64) {
        let (low, high) = (self.state ^ word).carrying_mul(self.key, 0);
        self.state = low ^ high;
    }
}

impl Hasher for Hash {
    fn write(&mut self, text: &[u8]) {
        let (words, rest) = text.as_chunks();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        self.mix(rest.iter().fold(1, |word, byte| word << 8 | u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one() {
        let (one, other) = (shared("web@1.service"), shared("web@1.service"));
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(&*one, "web@1.service");
    }

    #[test]
    fn texts_that_are_alike_have_different_hashes() {
        let texts = (0..10_000).map(|n| format!("web@{n}.service")).chain((0..64).map(|n| "0".repeat(n)));
        let (key, texts): (Key, Vec<String>) = (Key::default(), texts.collect());
        let hashes: HashSet<u64> = texts.iter().map(|text| key.hash_one(text.as_str())).collect();
        assert_eq!(hashes.len(), texts.len());
        assert_ne!(
            key.hash_one("web.service"),
            Key::default().hash_one("web.service"),
            "each table has a key of its own"
        );
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten() {
        let mut texts = Texts::default();
        let held: Vec<_> = (0..100).map(|n| texts.shared(&format!("held {n}"))).collect();
        for n in 0..100_000 {
            texts.shared(&format!("dropped {n}"));
        }
        assert!(texts.all.len() <= 2 * held.len() + FIRST_SWEEP + 1, "{} texts", texts.all.len());
        assert!(held.iter().all(|text| Arc::ptr_eq(text, &texts.shared(text))), "what is held stays");
    }
}
