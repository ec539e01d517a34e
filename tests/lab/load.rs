//! Clients that send a given number of requests a second, each on its own connection and independently of the others.
//! Knows nothing of the lab, and judges nothing.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

/// The time limit of a request: longer than any ambassador holds a connection.
const PATIENCE: Duration = Duration::from_secs(45);

/// One request.
#[derive(Debug)]
pub(crate) struct Shot {
    /// When it began.
    pub(crate) at: Instant,
    /// How long it took.
    pub(crate) took: Duration,
    /// The body of a 200, or what went wrong.
    pub(crate) answer: Result<String, String>,
}

/// A running load.
pub(crate) struct Load {
    stop: oneshot::Sender<()>,
    shots: mpsc::Receiver<Shot>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Request `/` from `address` (`host:port`), `rate` times a second, with `host` in the `Host:` header.
    pub(crate) fn start(address: &str, host: &str, rate: u32) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let (tell, shots) = mpsc::channel();
        let (address, host) = (address.to_owned(), host.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
                // On a busy machine, requests that were missed aren't made up for by a burst.
                tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
                let mut asked = tokio::task::JoinSet::new();
                loop {
                    tokio::select! {
                        _ = tick.tick() => {}
                        _ = &mut stopped => break,
                    }
                    let (address, host, tell) = (address.clone(), host.clone(), tell.clone());
                    asked.spawn(async move {
                        let at = Instant::now();
                        let answer = match tokio::time::timeout(PATIENCE, ask(&address, &host)).await {
                            Ok(answer) => answer.map_err(|error| error.to_string()),
                            Err(_) => Err("no answer".into()),
                        };
                        // The receiver may be gone.
                        drop(tell.send(Shot { at, took: at.elapsed(), answer }));
                    });
                    while asked.try_join_next().is_some() {}
                }
                while asked.join_next().await.is_some() {}
            });
        });
        Self { stop, shots, thread }
    }

    /// Stop sending. Returns all requests in the order in which they began, after the last one has ended.
    pub(crate) fn stop(self) -> Vec<Shot> {
        drop(self.stop);
        self.thread.join().unwrap();
        let mut shots: Vec<_> = self.shots.iter().collect();
        shots.sort_by_key(|shot| shot.at);
        shots
    }
}

/// The requests that failed, with their time since `zero`, for a message.
pub(crate) fn failures(shots: &[Shot], zero: Instant) -> Vec<String> {
    let since = |at: Instant| at.saturating_duration_since(zero).as_secs_f64();
    let failed = shots.iter().filter_map(|shot| Some((shot, shot.answer.as_ref().err()?)));
    failed
        .map(|(shot, why)| format!("{:.2} s (took {:.2} s): {why}", since(shot.at), shot.took.as_secs_f64()))
        .collect()
}

async fn ask(address: &str, host: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.contains(" 200 ") {
        Ok(body.trim().to_owned())
    } else {
        Err(std::io::Error::other(format!("{status:?} {body}")))
    }
}
