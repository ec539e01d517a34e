//! Faults of members and connections, classified by what is to be done next.
//!
//! Owns what etcd's codes and texts mean, and the messages that name an endpoint and its fault. It must never retry:
//! that belongs to `members`.

use std::fmt::Write as _;
use std::time::Duration;

use super::client::{Code, Fault};
use crate::store::Error;

/// A member without a leader.
pub(super) const NO_LEADER: &str = "has no leader (no quorum)";

/// How a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Every endpoint would return this.
    Final(Error),
    /// The answer is too large.
    TooLarge,
    /// This endpoint failed; another one may succeed.
    Here(Trouble),
}

/// The fault of one endpoint.
#[derive(Debug)]
pub(super) struct Trouble {
    /// Completes the sentence `etcd at ENDPOINT …`.
    pub(super) text: String,
    /// The request was certainly not carried out: it wasn't sent, or was rejected at once.
    pub(super) undone: bool,
    /// It may be over soon, such as an election.
    pub(super) passing: bool,
    /// It closed a connection that was established, or seemed to be.
    pub(super) hung_up: bool,
}

impl Trouble {
    /// No answer in time. Not passing: the timeout was long enough.
    pub(super) fn silent(waited: Duration, sent: bool) -> Self {
        let text = format!("does not answer within {} s", (waited.as_secs_f64() * 10.0).round() / 10.0);
        Self { text, undone: !sent, passing: false, hung_up: false }
    }

    /// A member of another cluster.
    pub(super) fn foreign() -> Self {
        Self { text: "belongs to another cluster".into(), undone: true, passing: false, hung_up: false }
    }
}

/// What to do about a fault.
pub(super) fn classify(fault: Fault) -> Failure {
    match fault {
        Fault::Unreachable(text) => here(text, true, false),
        Fault::Broken => hung_up(),
        Fault::LeaseGone => Failure::Final(Error::LeaseLost),
        Fault::TooLarge => Failure::TooLarge,
        Fault::Malformed(text) => Failure::Final(Error::Refused(text)),
        Fault::Other(text) => here(format!("fails: {text}"), false, true),
        Fault::Answer(code, text) => answered(code, text),
    }
}

fn answered(code: Code, text: String) -> Failure {
    let refused = |text: &str| Failure::Final(Error::Refused(text.into()));
    match code {
        Code::NotFound if text.contains("lease not found") => Failure::Final(Error::LeaseLost),
        Code::OutOfRange if text.contains("compacted") => Failure::Final(Error::Compacted),
        Code::ResourceExhausted if text.contains("space exceeded") => {
            here("has no space left (raise its quota, or compact, defragment and disarm)".into(), true, false)
        }
        Code::ResourceExhausted if text.contains("too many requests") => here("is overloaded".into(), true, true),
        Code::InvalidArgument if text.contains("user name is empty") => {
            refused("etcd requires a user name and a password")
        }
        Code::InvalidArgument if text.contains("authentication failed") => {
            refused("etcd does not accept the user name or the password")
        }
        Code::FailedPrecondition if text.contains("authentication is not enabled") => {
            refused("a user name is configured, but authentication is not enabled in etcd")
        }
        Code::PermissionDenied => refused("etcd does not permit this user to do that"),
        Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted | Code::FailedPrecondition => {
            Failure::Final(Error::Refused(text))
        }
        // A member says this before it handles a request.
        Code::Unavailable if text == "no leader" => here(NO_LEADER.into(), true, true),
        Code::Unavailable if text.contains("leader") => here("has lost its leader".into(), false, true),
        _ if text.contains("timed out") || text.contains("deadline exceeded") => {
            here("timed out waiting for a majority of its members (no quorum?)".into(), false, true)
        }
        Code::Unauthenticated => here("no longer accepts our session".into(), true, true),
        _ => here(format!("fails: {text}"), false, true),
    }
}

fn here(text: String, undone: bool, passing: bool) -> Failure {
    Failure::Here(Trouble { text, undone, passing, hung_up: false })
}

fn hung_up() -> Failure {
    Failure::Here(Trouble { text: "closed the connection".into(), undone: false, passing: true, hung_up: true })
}

/// The latest fault of each endpoint, for one message.
#[derive(Debug, Default)]
pub(super) struct Troubles(Vec<(String, String)>);

impl Troubles {
    pub(super) fn note(&mut self, endpoint: &str, text: String) {
        self.0.retain(|(known, _)| known != endpoint);
        self.0.push((endpoint.to_owned(), text));
    }

    /// Endpoints with the same fault are listed together.
    pub(super) fn into_error(mut self) -> Error {
        let mut sentence = "etcd".to_owned();
        while let Some((endpoint, text)) = self.0.first().cloned() {
            let (same, rest) = self.0.into_iter().partition(|(_, other)| *other == text);
            self.0 = rest;
            let same: Vec<(String, String)> = same;
            let endpoints: Vec<&str> = same.iter().map(|(endpoint, _)| endpoint.as_str()).collect();
            let joint = if sentence.len() > 4 { ";" } else { "" };
            let endpoints = if endpoints.is_empty() { endpoint } else { endpoints.join(", ") };
            // Writing to a string can't fail.
            let _ = write!(sentence, "{joint} at {endpoints} {text}");
        }
        Error::Unavailable(sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_suffer_the_same_are_named_together() {
        let mut troubles = Troubles::default();
        for (endpoint, text) in
            [("a:1", "x"), ("a:1", "refuses connections"), ("b:1", "y"), ("c:1", "refuses connections")]
        {
            troubles.note(endpoint, text.into());
        }
        let sentence = "etcd at a:1, c:1 refuses connections; at b:1 y";
        assert_eq!(troubles.into_error(), Error::Unavailable(sentence.into()));
    }

    #[test]
    fn faults_are_classed_by_what_to_do_next() {
        let answer = |code, text: &str| classify(Fault::Answer(code, text.into()));
        let is = |failure, error| matches!(failure, Failure::Final(e) if e == error);
        assert!(is(answer(Code::NotFound, "requested lease not found"), Error::LeaseLost));
        assert!(is(answer(Code::OutOfRange, "mvcc: required revision has been compacted"), Error::Compacted));
        assert!(matches!(answer(Code::InvalidArgument, "x"), Failure::Final(Error::Refused(x)) if x == "x"));
        assert!(matches!(classify(Fault::TooLarge), Failure::TooLarge));
        for (fault, undone) in [
            (Fault::Answer(Code::Unavailable, "no leader".into()), true),
            (Fault::Answer(Code::Unavailable, "leader changed".into()), false),
            (Fault::Answer(Code::Unavailable, "request timed out".into()), false),
            (Fault::Answer(Code::Unknown, "context deadline exceeded".into()), false),
            (Fault::Answer(Code::ResourceExhausted, "mvcc: database space exceeded".into()), true),
            (Fault::Unreachable("refuses connections".into()), true),
            (Fault::Broken, false),
            (Fault::Other("x".into()), false),
        ] {
            match classify(fault.clone()) {
                Failure::Here(trouble) => assert_eq!(trouble.undone, undone, "{fault:?}"),
                other => panic!("{fault:?}: {other:?}"),
            }
        }
    }
}
