//! Errors of `etcd-client` and the network, classified by what is to be done next.
//!
//! Owns every comparison with etcd's codes and texts, and the messages that name an endpoint and its fault. It must
//! never retry: that belongs to `members`.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use tonic::Code;

use crate::store::Error;

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

    /// The connection can't be established.
    pub(super) fn unreachable(error: &tonic::transport::Error) -> Self {
        Self { text: unreachable(error), undone: true, passing: false, hung_up: false }
    }
}

/// Classify an error of `etcd-client`.
pub(super) fn classify(error: &etcd_client::Error) -> Failure {
    use etcd_client::Error as E;
    let status = match error {
        E::GRpcStatus(status) => status,
        // `etcd-client` turns a keep-alive answer with TTL 0 into this text.
        E::LeaseKeepAliveError(text) if text.contains("lease not found") => return Failure::Final(Error::LeaseLost),
        E::InvalidArgs(text) => return Failure::Final(Error::Refused(text.clone())),
        E::InvalidUri(error) => return Failure::Final(Error::Refused(error.to_string())),
        other => return here(format!("fails: {other}"), false, true),
    };
    let text = status.message().strip_prefix("etcdserver: ").unwrap_or(status.message());
    let refused = |text: String| Failure::Final(Error::Refused(text));
    match status.code() {
        Code::NotFound if text.contains("lease not found") => Failure::Final(Error::LeaseLost),
        Code::OutOfRange if text.contains("compacted") => Failure::Final(Error::Compacted),
        Code::OutOfRange | Code::ResourceExhausted if text.contains("decoded message length too large") => {
            Failure::TooLarge
        }
        Code::ResourceExhausted if text.contains("space exceeded") => {
            here("has no space left (raise its quota, or compact, defragment and disarm)".into(), true, false)
        }
        Code::ResourceExhausted if text.contains("too many requests") => here("is overloaded".into(), true, true),
        Code::InvalidArgument if text.contains("user name is empty") => {
            refused("etcd requires a user name and a password".into())
        }
        Code::InvalidArgument if text.contains("authentication failed") => {
            refused("etcd does not accept the user name or the password".into())
        }
        Code::FailedPrecondition if text.contains("authentication is not enabled") => {
            refused("a user name is configured, but authentication is not enabled in etcd".into())
        }
        Code::PermissionDenied => refused("etcd does not permit this user to do that".into()),
        Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted | Code::FailedPrecondition => {
            refused(text.to_owned())
        }
        // Connection errors occur before the server has seen the request; it also says "no leader" before it handles
        // one.
        Code::Unavailable if is_connecting(status) => here(unreachable(status), true, false),
        Code::Unavailable if text == "no leader" => here("has no leader (no quorum)".into(), true, true),
        Code::Unavailable if text.contains("leader") => here("has lost its leader".into(), false, true),
        _ if text.contains("timed out") || text.contains("deadline exceeded") => {
            here("timed out waiting for a majority of its members (no quorum?)".into(), false, true)
        }
        Code::Unauthenticated => here("no longer accepts our session".into(), true, true),
        Code::Cancelled => hung_up(),
        _ if status_source(status).is_some() => hung_up(),
        _ => here(format!("fails: {text}"), false, true),
    }
}

fn here(text: String, undone: bool, passing: bool) -> Failure {
    Failure::Here(Trouble { text, undone, passing, hung_up: false })
}

fn hung_up() -> Failure {
    Failure::Here(Trouble { text: "closed the connection".into(), undone: false, passing: true, hung_up: true })
}

fn status_source(status: &tonic::Status) -> Option<&(dyn std::error::Error + 'static)> {
    std::error::Error::source(status)
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// Whether connecting failed, so that nothing was sent. `tonic` doesn't export that error, but an error sent by the
/// server has no source, and one of an open connection passes through `hyper`.
fn is_connecting(status: &tonic::Status) -> bool {
    status_source(status).is_some_and(|source| chain(source).all(|error| !error.is::<hyper::Error>()))
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> String {
    let kind = chain(error).find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => "refuses connections".into(),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "can't be reached: no route".into(),
        Some(io::ErrorKind::TimedOut) => "does not accept a connection in time".into(),
        _ => {
            let mut texts: Vec<String> = chain(error).map(ToString::to_string).collect();
            texts.dedup();
            format!("can't be reached: {}", texts.last().map_or("unknown error", String::as_str))
        }
    }
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
    fn errors_are_classed_by_what_to_do_next() {
        let class = |code, text: &str| classify(&etcd_client::Error::GRpcStatus(tonic::Status::new(code, text)));
        let is = |failure, error| matches!(failure, Failure::Final(e) if e == error);
        assert!(is(class(Code::NotFound, "etcdserver: requested lease not found"), Error::LeaseLost));
        assert!(is(
            class(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            Error::Compacted
        ));
        assert!(matches!(class(Code::OutOfRange, "decoded message length too large: 5"), Failure::TooLarge));
        assert!(matches!(class(Code::InvalidArgument, "etcdserver: x"), Failure::Final(Error::Refused(x)) if x == "x"));
        for (code, text, undone) in [
            (Code::Unavailable, "etcdserver: no leader", true),
            (Code::Unavailable, "etcdserver: leader changed", false),
            (Code::Unavailable, "etcdserver: request timed out", false),
            (Code::Unknown, "context deadline exceeded", false),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", true),
        ] {
            match class(code, text) {
                Failure::Here(trouble) => assert_eq!(trouble.undone, undone, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
