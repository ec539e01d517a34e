//! Errors as answers: `{"error":{"code":404,"message":"…"}}`. Owns how a failure of the store or of a batch becomes a
//! status and a sentence, and that no sentence has the number of an error of the operating system.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::model::name::UnitName;
use crate::model::text::without_os_error;
use crate::registry::units;

use crate::api::wire::{ErrorBody, ErrorDetail, Problem};

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is wrong, and what to do.
    pub message: String,
    /// Everything that is wrong with the units in the request.
    pub problems: Vec<Problem>,
}

impl Failure {
    /// A failure as one sentence.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), problems: Vec::new() }
    }

    /// 400.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404 for a unit, in CoreOS fleet's words.
    #[must_use]
    pub fn no_such_unit() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unit does not exist")
    }

    /// 500 for a unit whose record can't be decoded: it exists, and nothing else is known about it.
    #[must_use]
    pub fn damaged(name: &UnitName, why: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{name}: {} ({why})", units::DAMAGED))
    }

    /// 503.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// 400 for a batch: everything that is wrong with it, as text and as data.
    #[must_use]
    pub fn problems(problems: Vec<units::Problem>) -> Self {
        let lines: Vec<String> = problems.iter().map(line).collect();
        let problems = problems.into_iter().map(|p| Problem { unit: p.unit, line: p.line, what: p.what }).collect();
        Self { status: StatusCode::BAD_REQUEST, message: lines.join("\n"), problems }
    }
}

impl Failure {
    /// The same without the unit's name and lines, for requests about one unit: CoreOS fleet's messages.
    #[must_use]
    pub fn of_one_unit(mut self) -> Self {
        if !self.problems.is_empty() {
            self.message = self.problems.drain(..).map(|problem| problem.what).collect::<Vec<_>>().join("; ");
        }
        self
    }
}

fn line(problem: &units::Problem) -> String {
    match problem.line {
        Some(line) => format!("{}:{line}: {}", problem.unit, problem.what),
        None => format!("{}: {}", problem.unit, problem.what),
    }
}

impl Failure {
    /// The sentence as it is sent.
    pub(super) fn sentence(&self) -> String {
        without_os_error(&self.message).into_owned()
    }

    /// The body as it is sent.
    pub(super) fn body(self) -> ErrorBody {
        let (code, message) = (self.status.as_u16(), self.sentence());
        let shown = |problem: Problem| Problem { what: without_os_error(&problem.what).into_owned(), ..problem };
        ErrorBody { error: ErrorDetail { code, message, problems: self.problems.into_iter().map(shown).collect() } }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sentence_has_the_number_of_an_error() {
        let why = "etcd at a:1 can't be reached: Connection reset by peer (os error 104)";
        let problem = Problem { unit: "a.service".into(), line: None, what: "is a folder (os error 21)".into() };
        let failure = Failure { problems: vec![problem], ..Failure::unavailable(why) };
        let shown = "etcd at a:1 can't be reached: Connection reset by peer";
        assert_eq!(failure.sentence(), shown);
        let ErrorDetail { code, message, problems } = failure.body().error;
        assert_eq!((code, message.as_str(), problems[0].what.as_str()), (503, shown, "is a folder"));
    }
}
