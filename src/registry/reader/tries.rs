//! How often a read is tried. Owns which error of the store leads to another attempt.

use crate::store::Error;

/// Retries of a read whose revision was compacted meanwhile.
const MAX_READS: usize = 3;

/// Attempts at one read.
#[derive(Debug, Default)]
pub(super) struct Tries(usize);

impl Tries {
    /// Whether to read again after `error`: only if the revision that is read was compacted meanwhile.
    pub(super) fn again(&mut self, error: Error) -> Result<(), Error> {
        self.0 += 1;
        match error {
            Error::Compacted if self.0 < MAX_READS => Ok(()),
            Error::Compacted => {
                Err(Error::Unavailable("the store forgets its revisions faster than they can be read".into()))
            }
            other => Err(other),
        }
    }
}
