//! Performs health checks: a connection, a request, or a command. Owns when they are made, and how many results in a
//! row change the verdict.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Stand;
use crate::sidecar::check::Check;
use crate::sidecar::{args, shell};

/// The interval until it is up for the first time, since others wait for it.
const EAGER: Duration = Duration::from_millis(250);

/// The verdict and the results that count towards changing it.
#[derive(Debug)]
struct Health {
    rise: u32,
    fall: u32,
    up: bool,
    /// The number of consecutive results that contradict `up`.
    against: u32,
}

impl Health {
    fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, up: false, against: 0 }
    }

    /// Apply a result; returns whether the verdict changes.
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

/// Check `target` until the receiver is dropped.
pub(super) fn follow(check: Check, target: (String, u16), options: &args::Announce) -> watch::Receiver<Stand> {
    let first = Stand { up: false, why: format!("waiting for its check ({check})") };
    let (tell, stand) = watch::channel(first);
    let (interval, limit) = (options.interval, options.timeout);
    let mut health = Health::new(options.rise, options.fall);
    tokio::spawn(async move {
        let mut began = false;
        while !tell.is_closed() {
            let next = Instant::now() + if began { interval } else { interval.min(EAGER) };
            let answer = timeout(limit, probe(&check, &target, limit)).await;
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

async fn probe(check: &Check, (address, port): &(String, u16), limit: Duration) -> Result<(), String> {
    match check {
        Check::Tcp => connect(&authority(address, *port)).await.map(drop),
        Check::Http { authority: None, path } => get(&authority(address, *port), path).await,
        Check::Http { authority: Some(authority), path } => get(authority, path).await,
        // It enforces the timeout itself, and cleans up.
        Check::Command(command) => shell::run(command, limit.mul_f32(0.95)).await,
    }
}

/// `host:port`, with brackets around an IPv6 address.
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
    // The connection is driven only until the response's head has arrived: the body isn't read.
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
    fn rise_and_fall_count_in_a_row() {
        let mut health = Health::new(2, 3);
        let turns: Vec<bool> = [1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1].map(|good| health.take(good == 1)).into();
        let turned: Vec<usize> = (0..turns.len()).filter(|at| turns[*at]).collect();
        assert_eq!((turned, health.up), (vec![3, 9, 12], true));
    }
}
