//! Exit codes and errors of commands, as the lines that are printed. Owns the hints; prints nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::process::ExitCode;

use crate::api::client::{ClientError, Endpoint};
use crate::api::wire::ErrorDetail;
use crate::{journal, remote};

/// A line for stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// What is the case.
    Message(String),
    /// What to do about it. It is for people, so it is printed on a terminal only.
    Hint(String),
}

impl Line {
    /// A hint.
    pub(super) fn hint(text: impl Into<String>) -> Self {
        Self::Hint(text.into())
    }

    /// The text of a message; `None` for a hint.
    pub(super) fn message(&self) -> Option<&str> {
        match self {
            Self::Message(text) => Some(text),
            Self::Hint(_) => None,
        }
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Self::Message(text)
    }
}

impl From<&String> for Line {
    fn from(text: &String) -> Self {
        Self::Message(text.clone())
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::Message(text.into())
    }
}

impl From<&Line> for Line {
    fn from(line: &Line) -> Self {
        line.clone()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(text) => f.write_str(text),
            Self::Hint(text) => write!(f, "hint: {text}"),
        }
    }
}

/// Tests compare lines as they are printed.
#[cfg(test)]
impl<T: AsRef<str>> PartialEq<T> for Line {
    fn eq(&self, text: &T) -> bool {
        let printed = self.to_string();
        printed == text.as_ref()
    }
}

/// The result of a command, for its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Ok,
    /// Not done, or not all of it.
    Failure,
    /// The command line is invalid; nothing was done.
    Usage,
    /// A question was answered, and something needs a person.
    Findings,
    /// Ctrl-C while waiting.
    Interrupted,
    /// The exit status of a command on a host; 128 plus the signal's number if a signal ended it.
    Status(u8),
    /// A host is unreachable, as in `ssh`.
    Unreached,
}

impl Exit {
    /// [`Exit::Failure`] if `failed`.
    pub(super) fn failed_if(failed: bool) -> Self {
        if failed { Self::Failure } else { Self::Ok }
    }

    /// The exit code of a command that did this and then `next`: the first that isn't a success; Ctrl-C precedes it.
    pub(super) fn and(self, next: Self) -> Self {
        if self == Self::Ok || next == Self::Interrupted { next } else { self }
    }

    /// The result of a program that exited with `status`.
    pub(super) fn of_status(status: u8) -> Self {
        if status == 0 { Self::Ok } else { Self::Status(status) }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Ok => Self::SUCCESS,
            Exit::Failure => Self::FAILURE,
            Exit::Usage => Self::from(2),
            Exit::Findings => Self::from(3),
            // The number for a death by SIGINT, as in shells.
            Exit::Interrupted => Self::from(130),
            Exit::Status(status) => Self::from(status),
            Exit::Unreached => Self::from(255),
        }
    }
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Error {
    /// The exit code.
    pub(super) exit: Exit,
    /// For stderr.
    pub(super) lines: Vec<Line>,
}

impl Error {
    /// An invalid command line.
    pub(super) fn usage(line: impl Into<String>, hint: &str) -> Self {
        Self { exit: Exit::Usage, lines: vec![line.into().into(), Line::hint(hint)] }
    }

    /// A failure.
    pub(super) fn failure(line: impl Into<String>) -> Self {
        Self { exit: Exit::Failure, lines: vec![line.into().into()] }
    }

    /// An unreachable host.
    pub(super) fn unreached(line: impl Into<String>) -> Self {
        Self { exit: Exit::Unreached, lines: vec![line.into().into()] }
    }

    /// The same error with another line.
    pub(super) fn because(mut self, line: impl Into<Line>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// A failure with several lines.
    pub(super) fn failures(lines: impl IntoIterator<Item = impl Into<Line>>) -> Self {
        Self { exit: Exit::Failure, lines: lines.into_iter().map(Into::into).collect() }
    }

    /// The error of an apply; `files` is where each unit's text came from.
    pub(super) fn of_apply(error: ClientError, files: &BTreeMap<String, String>) -> Self {
        match error {
            ClientError::Api(detail) => {
                let is_refused = !detail.problems.is_empty();
                let failed = Self::failures(problem_lines(detail, files));
                if is_refused { failed.because("nothing was changed") } else { failed }
            }
            ClientError::Partly { error, done } => {
                let failed = match *error {
                    ClientError::Api(detail) => Self::failures(problem_lines(detail, files)),
                    error => error.into(),
                };
                failed.because(format!("{done}; the same command again does the rest"))
            }
            error => error.into(),
        }
    }
}

/// What was wrong with a batch.
fn problem_lines(detail: ErrorDetail, files: &BTreeMap<String, String>) -> Vec<String> {
    let mut lines = vec![];
    for problem in &detail.problems {
        let file = files.get(&problem.unit).unwrap_or(&problem.unit);
        lines.push(problem_line(file, problem.line, &problem.what));
    }
    // If there are problems, the message only summarizes them.
    if lines.is_empty() || !detail.problems.iter().any(|problem| detail.message.contains(&problem.what)) {
        lines.insert(0, detail.message);
    }
    lines
}

/// `db.service:14: what is wrong`.
pub(super) fn problem_line(file: &str, line: Option<usize>, what: &str) -> String {
    match line {
        Some(line) if line > 0 => format!("{file}:{line}: {what}"),
        _ => format!("{file}: {what}"),
    }
}

impl From<remote::Error> for Error {
    fn from(error: remote::Error) -> Self {
        match error {
            remote::Error::NotStarted(line) => Self::failure(line),
            remote::Error::Unreachable { lines, hint } => {
                let lines = lines.into_iter().map(Line::Message);
                Self { exit: Exit::Unreached, lines: lines.chain(hint.map(Line::Hint)).collect() }
            }
        }
    }
}

impl From<journal::Error> for Error {
    fn from(error: journal::Error) -> Self {
        match error {
            journal::Error::Api(error) => error.into(),
            journal::Error::Remote(error) => error.into(),
            journal::Error::Lost { host, why } => {
                Self::unreached(format!("lost the connection to {host} before the end: {why}"))
                    .because(Line::hint("ask again, perhaps for less: `--since`, `--lines`"))
            }
            journal::Error::Refused { status, line } => {
                Self { exit: Exit::of_status(status), lines: vec![line.into()] }
            }
            journal::Error::Signal(why) => Self::failure(why.to_string()),
        }
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let mut lines = vec![Line::Message(error.to_string())];
        match &error {
            ClientError::Partly { done, .. } => lines.push(done.to_string().into()),
            ClientError::Unreachable(tried) => {
                lines.extend(tried.first().map(|first| Line::hint(hint(&first.endpoint, first.kind))));
            }
            ClientError::Api(detail) => {
                lines.extend(detail.problems.iter().map(|p| problem_line(&p.unit, p.line, &p.what).into()));
            }
            ClientError::Protocol(_) => {
                lines.push(Line::hint(
                    "are fleetctl and fleetd of the same version (`fleetctl version`, `fleetd --version`)?",
                ));
            }
        }
        Self { exit: Exit::Failure, lines }
    }
}

fn hint(endpoint: &Endpoint, kind: ErrorKind) -> &'static str {
    match (endpoint, kind) {
        // A tunnel returns this if its host can't connect to the endpoint; sockets have specific kinds of errors.
        (_, ErrorKind::Other) => {
            "is fleetd running on that host, and may the user you log in as use its socket (root and the group \
             `fleet` may)?"
        }
        (Endpoint::Unix(_), ErrorKind::PermissionDenied) => {
            "the socket is for root and the group `fleet`: use sudo, or have yourself added to that group"
        }
        (_, ErrorKind::TimedOut) => {
            "is fleetd busy, or stuck (`systemctl status fleetd`)? `--request-timeout SECONDS` gives it longer"
        }
        (_, ErrorKind::ConnectionAborted) => {
            "did fleetd stop meanwhile (`systemctl status fleetd`)? what was asked may have been done; asking again \
             does no harm"
        }
        (Endpoint::Unix(_), _) => {
            "is fleetd running here (`systemctl status fleetd`)? from another machine, use `--tunnel HOST` or \
             FLEETCTL_TUNNEL"
        }
        (Endpoint::Https(_), ErrorKind::InvalidData) => {
            "`--ca-file` names whom to trust; `--cert-file` and `--key-file` who you are"
        }
        (Endpoint::Http(_) | Endpoint::Https(_), _) => {
            "is fleetd running there, and is `--endpoint` (or FLEETCTL_ENDPOINT) right?"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client::Part;
    use crate::api::wire::Problem;

    #[test]
    fn problems_point_at_the_file_that_was_given() {
        let problem = |unit: &str, line, what: &str| Problem { unit: unit.into(), line, what: what.into() };
        let error = ClientError::Api(ErrorDetail {
            code: 400,
            message: "2 problems".into(),
            problems: vec![
                problem("a.service", Some(3), "unknown x; did you mean `y`?"),
                problem("b.service", None, "odd"),
            ],
        });
        let files = BTreeMap::from([("a.service".to_owned(), "units/a.service".to_owned())]);
        assert_eq!(
            Error::of_apply(error, &files).lines,
            ["2 problems", "units/a.service:3: unknown x; did you mean `y`?", "b.service: odd", "nothing was changed"]
        );
    }

    #[test]
    fn a_batch_that_is_done_in_part_has_changed_something() {
        let problems = vec![Problem { unit: "a.service".into(), line: None, what: "odd".into() }];
        let inner = ClientError::Api(ErrorDetail { code: 400, message: "a problem".into(), problems });
        let done = Part { done: 1, all: 3, first: "b.service".into(), last: "b.service".into() };
        let error = ClientError::Partly { error: Box::new(inner), done };
        let lines = Error::of_apply(error, &BTreeMap::new()).lines;
        let done = "1 of 3 units were done before that, b.service to b.service; the same command again does the rest";
        assert_eq!(lines, ["a problem", "a.service: odd", done]);
    }
}
