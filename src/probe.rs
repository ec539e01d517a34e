//! Makes the connections and requests of probes, for `fleetd` and for `fleet-sidecar`. Owns their sockets, and what is
//! said of a failure; when a probe is made, and what follows from its result, belongs to others.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;

use crate::model::probe::Target;
use crate::model::span;

/// The name of the program in requests.
const USER_AGENT: &str = concat!("flotilla/", env!("CARGO_PKG_VERSION"));

/// How much of an answer is read at once, and the longest head of one without a final status, in bytes.
const AT_ONCE: usize = 1000;
const LONGEST_HEAD: usize = 8192;

/// How many names are looked up at a time. A lookup occupies a thread until the resolver gives up, which may be long
/// after the probe has.
static LOOKUPS: Semaphore = Semaphore::const_new(4);

/// An address to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// `target`, with `host` and `port` for what it doesn't say.
    #[must_use]
    pub fn of(target: &Target, host: &str, port: u16) -> Self {
        Self { host: target.host.clone().unwrap_or_else(|| host.into()), port: target.port.unwrap_or(port) }
    }
}

impl fmt::Display for Endpoint {
    /// `HOST:PORT`, with brackets around an IPv6 address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = Target { host: Some(self.host.clone()), port: Some(self.port) };
        write!(f, "{target}")
    }
}

/// Connect to `endpoint`.
///
/// # Errors
/// Why it failed, in a few words.
pub async fn tcp(endpoint: &Endpoint, limit: Duration) -> Result<(), String> {
    within(limit, connect(endpoint)).await.map(drop)
}

/// Request `path` from `endpoint`; an answer with a status below 400 is good. Its body isn't read.
///
/// # Errors
/// Why it failed, in a few words.
pub async fn http(endpoint: &Endpoint, path: &str, limit: Duration) -> Result<(), String> {
    let status = within(limit, get(endpoint, path)).await?;
    if status.is_client_error() || status.is_server_error() {
        let reason = status.canonical_reason().unwrap_or_default();
        return Err(format!("{} {reason}", status.as_str()).trim_end().into());
    }
    Ok(())
}

/// `work`, unless it takes longer than `limit`.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| Err(format!("no answer within {}", span::shown(limit)));
    tokio::time::timeout(limit, work).await.unwrap_or_else(late)
}

async fn connect(endpoint: &Endpoint) -> Result<TcpStream, String> {
    let mut failure = "no address".to_owned();
    for address in addresses(endpoint).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = in_words(&error),
        }
    }
    Err(failure)
}

/// An address is used as it is; a name is looked up.
async fn addresses(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    let Endpoint { host, port } = endpoint.clone();
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    // Never closed.
    let permit = LOOKUPS.acquire().await.map_err(|error| error.to_string())?;
    // A task of its own, so that the permit is held for as long as the thread is busy.
    let lookup = tokio::spawn(async move {
        let found = lookup_host((host, port)).await.map(Vec::from_iter);
        drop(permit);
        found
    });
    match lookup.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(format!("{}: {}", endpoint.host, in_words(&error))),
        Err(error) => Err(error.to_string()),
    }
}

/// `connection refused`, if the kind of the error says enough.
fn in_words(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, PermissionDenied, TimedOut,
    };
    match error.kind() {
        kind @ (ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | PermissionDenied
        | TimedOut) => kind.to_string(),
        _ => error.to_string(),
    }
}

/// The status of the answer. Nothing is read of it but what comes with its first line.
async fn get(endpoint: &Endpoint, path: &str) -> Result<StatusCode, String> {
    let broken = |error: std::io::Error| in_words(&error);
    let mut stream = connect(endpoint).await?;
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: {endpoint}\r\nuser-agent: {USER_AGENT}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::with_capacity(AT_ONCE);
    loop {
        if let Some(status) = final_status(&mut answer)? {
            return Ok(status);
        }
        if answer.len() >= LONGEST_HEAD {
            return Err("the answer's head doesn't end".into());
        }
        answer.reserve(AT_ONCE);
        if stream.read_buf(&mut answer).await.map_err(broken)? == 0 {
            return Err("closed the connection without an answer".into());
        }
    }
}

/// The status of an answer that begins with `bytes`, as soon as its first line is there. Interim answers (`1xx`) are
/// removed from them, and aren't the answer (RFC 9110, 15.2).
fn final_status(bytes: &mut Vec<u8>) -> Result<Option<StatusCode>, String> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let parsed = answer.parse(bytes);
        let status = answer.reason.and(answer.code).and_then(|code| StatusCode::from_u16(code).ok());
        match (status, parsed) {
            (Some(status), _) if !status.is_informational() => return Ok(Some(status)),
            (_, Ok(httparse::Status::Partial)) => return Ok(None),
            (Some(_), Ok(httparse::Status::Complete(length))) => drop(bytes.drain(..length)),
            (_, Err(error)) => return Err(format!("the answer isn't HTTP: {error}")),
            (None, Ok(httparse::Status::Complete(_))) => return Err("the answer has no status".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    /// A server that answers each connection with these bytes, or not at all.
    async fn server(answer: Option<&'static str>) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Some(answer) = answer {
                    let mut asked = [0; 1024];
                    let length = stream.read(&mut asked).await.unwrap();
                    assert!(asked[..length].starts_with(b"GET /ready HTTP/1.1\r\nhost: "));
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                kept.push(stream);
            }
        });
        Endpoint { host: "127.0.0.1".into(), port }
    }

    #[tokio::test]
    async fn an_answer_below_400_is_good() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(())),
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
            ("HTTP/1.0 302 Found\r\nlocation: /x\r\n\r\n", Ok(())),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Err("404 Not Found".to_owned())),
            ("HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\n", Err("503 Service Unavailable".to_owned())),
            ("HTTP/1.1 599 x\r\n\r\n", Err("599".to_owned())),
            ("HTTP/1.1 200\n", Ok(())),
            ("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 502 x\r\n", Err("502 Bad Gateway".to_owned())),
        ] {
            assert_eq!(http(&server(Some(answer)).await, "/ready", LIMIT).await, expected, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn what_isnt_an_answer_is_a_failure_with_a_reason() {
        let garbage = server(Some("220 mail.example.com ESMTP\r\n")).await;
        assert!(http(&garbage, "/ready", LIMIT).await.unwrap_err().contains("HTTP"));
        let endless: &str = format!("HTTP/1.1 100 x\r\na: {}", "b".repeat(9000)).leak();
        let endless = server(Some(endless)).await;
        assert_eq!(http(&endless, "/ready", LIMIT).await, Err("the answer's head doesn't end".into()));
        for part in ["HTTP/1.1 20", "HTTP/1.1 100 Continue\r\n\r\n"] {
            assert_eq!(final_status(&mut part.into()), Ok(None), "{part}");
        }
        let hasty = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = hasty.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = hasty.accept().await.unwrap();
            stream.read_u8().await.unwrap();
            stream.shutdown().await.unwrap();
            std::future::pending::<()>().await;
        });
        let hasty = Endpoint { host: "127.0.0.1".into(), port };
        let closed = Err("closed the connection without an answer".into());
        assert_eq!(http(&hasty, "/ready", LIMIT).await, closed);
        let silent = server(None).await;
        assert_eq!(http(&silent, "/ready", LIMIT).await, Err("no answer within 200 ms".into()));
        assert_eq!(tcp(&silent, LIMIT).await, Ok(()), "it accepts connections");
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let nobody = Endpoint { host: "127.0.0.1".into(), port };
        assert_eq!(tcp(&nobody, LIMIT).await, Err("connection refused".into()));
        assert_eq!(http(&nobody, "/ready", LIMIT).await, Err("connection refused".into()));
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_what_is_missing_is_filled_in() {
        let Endpoint { port, .. } = server(None).await;
        let target = Target { host: Some("localhost".into()), port: Some(port) };
        assert_eq!(tcp(&Endpoint::of(&target, "192.0.2.1", 1), LIMIT).await, Ok(()));
        let nothing = Endpoint::of(&Target::default(), "::1", 80);
        assert_eq!((nothing.to_string().as_str(), nothing.port), ("[::1]:80", 80));
        assert_eq!(LOOKUPS.available_permits(), 4);
        // A slow server of names has all lookups: a name isn't waited for any longer, and an address needs none.
        let slow = LOOKUPS.acquire_many(4).await.unwrap();
        let probe = async |host: &str| tcp(&Endpoint { host: host.into(), port }, LIMIT).await;
        assert_eq!(probe("localhost").await, Err("no answer within 200 ms".into()));
        assert_eq!(probe("127.0.0.1").await, Ok(()));
        drop(slow);
        assert_eq!(probe("localhost").await, Ok(()));
    }
}
