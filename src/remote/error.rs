//! Why a command didn't run on a host. Owns the two kinds that callers treat differently; knows no exit codes and
//! prints nothing.

use crate::ssh;

/// A command didn't run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The program can't be started on this host; why.
    NotStarted(String),
    /// The host can't be reached.
    Unreachable {
        /// What happened, one sentence a line.
        lines: Vec<String>,
        /// What may help.
        hint: Option<String>,
    },
}

impl Error {
    /// A host that can't be reached.
    pub(crate) fn unreachable(line: impl Into<String>) -> Self {
        Self::Unreachable { lines: vec![line.into()], hint: None }
    }

    /// What happened, on one line.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::NotStarted(line) => line.clone(),
            Self::Unreachable { lines, .. } => lines.join("; "),
        }
    }
}

impl From<ssh::Error> for Error {
    fn from(error: ssh::Error) -> Self {
        Self::Unreachable { lines: error.lines, hint: error.hint }
    }
}
