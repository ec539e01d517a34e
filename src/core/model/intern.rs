//! Equal names, ids and hashes share one text. A cluster's records repeat them in every family, and a leader and its
//! API each keep what they have decoded: copies of names, ids and hashes were an eighth of a leader's heap. Owns the
//! table of the texts in use; must never influence what is decided, and keeps no text that nobody has.

use std::collections::HashSet;
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
    all: HashSet<Arc<str>>,
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
