//! The JSON of errors, the same in v1 and v2. Types only.

use serde::{Deserialize, Serialize};

/// The body of every error: `{"error":{"code":404,"message":"…"}}`, as fleet's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What is wrong, and what to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorDetail {
    /// The HTTP status.
    pub code: u16,
    /// One sentence, or several lines.
    pub message: String,
    /// v2: everything that is wrong with the units in the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// A mistake in a unit of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Problem {
    /// The unit's name, as it was sent.
    pub unit: String,
    /// The line of its file, from 1; omitted if no line is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
}
