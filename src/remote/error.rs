//! Why a command didn't run on a host. Owns the two kinds that callers distinguish; knows no exit codes and prints
//! nothing.

use crate::ssh;

/// The error of a command that didn't run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The program can't be started on this host, and why.
    NotStarted(String),
    /// The host can't be reached.
    Unreachable {
        /// The error, one sentence on each line.
        lines: Vec<String>,
        /// Advice for the user.
        hint: Option<String>,
    },
}

impl Error {
    /// An unreachable host.
    pub(crate) fn unreachable(line: impl Into<String>) -> Self {
        Self::Unreachable { lines: vec![line.into()], hint: None }
    }

    /// The error on one line.
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
