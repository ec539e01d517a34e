//! Health checks: a connection, a request, or a command. Owns when they are made and what they make of a row of
//! answers.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Stand;
use crate::sidecar::{args, shell};

/// Until it is up for the first time it is looked at more often: others wait for it.
const EAGER: Duration = Duration::from_millis(250);

/// How to find out whether an instance is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    /// It takes connections.
    Tcp,
    /// It answers a request with a status below 400.
    Http {
        /// Whom to ask, as `host:port`; `None` for the address announced.
        authority: Option<String>,
        /// What to ask for.
        path: String,
    },
    /// A command ends with exit status 0.
    Command(String),
}

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "tcp" {
            return Ok(Self::Tcp);
        }
        if let Some(rest) = text.strip_prefix("http://") {
            let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
            let known = if authority.is_empty() { "localhost" } else { authority };
            let uri: Uri = format!("http://{known}{path}").parse().map_err(|error| format!("`{text}`: {error}"))?;
            let authority = (!authority.is_empty()).then(|| {
                let host = uri.host().unwrap_or_default();
                format!("{host}:{}", uri.port_u16().unwrap_or(80))
            });
            return Ok(Self::Http { authority, path: path.into() });
        }
        match text.strip_prefix("cmd ").map(str::trim) {
            Some(command) if !command.is_empty() => Ok(Self::Command(command.into())),
            _ => Err("write tcp, http://HOST:PORT/PATH or 'cmd COMMAND'".into()),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Http { authority, path } => write!(f, "http://{}{path}", authority.as_deref().unwrap_or_default()),
            Self::Command(command) => write!(f, "cmd {command}"),
        }
    }
}

/// A row of answers, and what is made of it.
#[derive(Debug)]
struct Health {
    rise: u32,
    fall: u32,
    up: bool,
    /// Answers in a row that speak against `up`.
    against: u32,
}

impl Health {
    fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, up: false, against: 0 }
    }

    /// Take an answer in; whether it turns the tide.
    fn take(&mut self, good: bool) -> bool {
        self.against = if good == self.up { 0 } else { self.against + 1 };
        let enough = if self.up { self.fall } else { self.rise };
        let turns = self.against >= enough;
        if turns {
            (self.up, self.against) = (!self.up, 0);
        }
        turns
    }
}

/// Check what is at `target`, for as long as somebody listens.
pub(super) fn follow(check: Check, target: (String, u16), options: &args::Announce) -> watch::Receiver<Stand> {
    let first = Stand { up: false, why: format!("waiting for its check ({check})") };
    let (tell, stand) = watch::channel(first);
    let (interval, limit) = (options.interval, options.timeout);
    let mut health = Health::new(options.rise, options.fall);
    tokio::spawn(async move {
        let mut began = false;
        while !tell.is_closed() {
            let next = Instant::now() + if began { interval } else { interval.min(EAGER) };
            let answer = timeout(limit, check.once(&target, limit)).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs_f64())));
            if health.take(answer.is_ok()) {
                began = true;
                let why = match &answer {
                    Ok(()) => String::new(),
                    Err(why) => format!("its check ({check}) fails: {why}"),
                };
                tracing::info!("{}", if why.is_empty() { "its check passes" } else { &why });
                tell.send_replace(Stand { up: health.up, why });
            } else if let (false, Err(why)) = (began, &answer) {
                let why = format!("its check ({check}) fails: {why}");
                tell.send_if_modified(|stand| std::mem::replace(&mut stand.why, why.clone()) != why);
            }
            sleep_until(next).await;
        }
    });
    stand
}

impl Check {
    async fn once(&self, (address, port): &(String, u16), limit: Duration) -> Result<(), String> {
        match self {
            Self::Tcp => connect(&authority(address, *port)).await.map(drop),
            Self::Http { authority: None, path } => get(&authority(address, *port), path).await,
            Self::Http { authority: Some(authority), path } => get(authority, path).await,
            // It counts the time by itself, and cleans up behind it.
            Self::Command(command) => shell::run(command, limit.mul_f32(0.95)).await,
        }
    }
}

/// `host:port`, with brackets where they belong.
fn authority(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

async fn connect(authority: &str) -> Result<TcpStream, String> {
    TcpStream::connect(authority).await.map_err(|error| format!("{authority}: {error}"))
}

async fn get(authority: &str, path: &str) -> Result<(), String> {
    let stream = connect(authority).await?;
    let broken = |error: hyper::Error| format!("{authority}: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("fleet-sidecar/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    // The connection is driven only until the answer's head is there: nobody reads its body.
    let connection = async {
        drop(connection.await);
        std::future::pending::<Infallible>().await
    };
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer.map_err(broken)?,
        never = connection => match never {},
    };
    let status = answer.status();
    if status.is_client_error() || status.is_server_error() {
        return Err(format!("{authority} answers {status}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read() {
        let http = |authority: Option<&str>, path: &str| {
            Ok(Check::Http { authority: authority.map(Into::into), path: path.into() })
        };
        assert_eq!("tcp".parse(), Ok(Check::Tcp));
        assert_eq!("http://n1:80/a?b=c".parse(), http(Some("n1:80"), "/a?b=c"));
        assert_eq!("http://n1".parse(), http(Some("n1:80"), "/"));
        assert_eq!("http://[::1]:81/x".parse(), http(Some("[::1]:81"), "/x"));
        assert_eq!("http:///health".parse(), http(None, "/health"));
        assert_eq!("cmd pg_isready -q".parse(), Ok(Check::Command("pg_isready -q".into())));
        for bad in ["", "cmd ", "cmd", "https://x/", "tcp:1", "http://a b/", "true"] {
            assert!(bad.parse::<Check>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rise_and_fall_count_in_a_row() {
        let mut health = Health::new(2, 3);
        let turns: Vec<bool> = [1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1].map(|good| health.take(good == 1)).into();
        let turned: Vec<usize> = (0..turns.len()).filter(|at| turns[*at]).collect();
        assert_eq!((turned, health.up), (vec![3, 9, 12], true));
    }
}
