//! `file/<hash>`: unit files by content; units with equal files share one. A text that differs from the one under the
//! hash of its file in comments and white space only has a key of its own, the hash of the text. Written with the first
//! unit that refers to it. Its second writer is the leader, which deletes a file that nothing refers to any more.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::cluster::{Change, Versioned};
use crate::model::file::UnitFile;
use crate::model::name::UnitHash;
use crate::model::placement::Constraints;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

/// A unit file in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The text as it was last submitted with this hash.
    pub text: String,
}

impl FileRecord {
    /// The file, which is stored under `hash`: that is its hash, or that of its text.
    ///
    /// # Errors
    /// A sentence, if the text isn't a unit file, or isn't this one.
    pub fn file(&self, hash: &UnitHash) -> Result<UnitFile, String> {
        let file = UnitFile::parse(self.text.as_bytes()).map_err(|error| error.to_string())?;
        if file.hash() == *hash || file.text_hash() == *hash {
            return Ok(file);
        }
        Err(format!("it is the text of another file, with the hash {}", file.hash().short()))
    }

    /// The constraints in a file that was stored. They were checked when it was submitted, so an error means damage.
    ///
    /// # Errors
    /// A sentence.
    pub fn constraints_of(file: &UnitFile) -> Result<Constraints, String> {
        Constraints::parse(file)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

impl Family for Records {
    const PATTERN: &'static str = "file/<hash>";
    const WRITER: Writer = Writer::Api;
    type Names = (UnitHash,);
    type Record = FileRecord;

    #[cfg(test)]
    const FORMS: &'static [Form] =
        &[Form::today("file/dc244fef41a3382ca41f5c4ebc8b33614902a7ea", r#"{"text":"[Service]\nExecStart=/bin/a\n"}"#)];

    /// A cluster keeps only the constraints: with the texts, a leader would be as large as all files together.
    fn change((hash,): (UnitHash,), record: Option<Versioned<FileRecord>>) -> Result<Option<Change>, String> {
        let constraints = match record {
            Some(Versioned { value, revision }) => {
                let constraints = FileRecord::constraints_of(&value.file(&hash)?)?;
                Some(Versioned { value: Arc::new(constraints), revision })
            }
            None => None,
        };
        Ok(Some(Change::File(hash, constraints)))
    }
}
