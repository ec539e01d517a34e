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
    /// The constraints in the file. They were checked when the file was submitted, so an error means damage.
    ///
    /// # Errors
    /// A sentence.
    pub fn constraints(&self) -> Result<Constraints, String> {
        Self::constraints_of(&self.parse()?)
    }

    /// The file.
    ///
    /// # Errors
    /// A sentence, if the text isn't a unit file.
    pub fn parse(&self) -> Result<UnitFile, String> {
        UnitFile::parse(self.text.as_bytes()).map_err(|error| error.to_string())
    }

    /// The constraints in a file that was stored.
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
        &[Form::today("file/3750b3e9f3962a56c7582929426e9abb012754cf", r#"{"text":"[Service]\nExecStart=/bin/a\n"}"#)];

    /// A cluster keeps only the constraints: with the texts, a leader would be as large as all files together.
    fn change((hash,): (UnitHash,), record: Option<Versioned<FileRecord>>) -> Result<Option<Change>, String> {
        let constraints = match record {
            Some(Versioned { value, revision }) => Some(Versioned { value: Arc::new(value.constraints()?), revision }),
            None => None,
        };
        Ok(Some(Change::File(hash, constraints)))
    }
}
