//! What the cluster says of units, for ever: a watch that is opened again whenever it ends. Owns its connections;
//! understands nothing of what is said.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::api::client::{Client, ClientError, Watch};
use crate::api::wire::{ErrorDetail, WatchLine};

/// Between attempts: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A fleetd that is away for less isn't worth a word.
const SILENCE: Duration = Duration::from_secs(1);

/// What comes of the cluster.
#[derive(Debug)]
pub(super) enum Seen {
    /// A line of a watch.
    Line(WatchLine),
    /// A new watch: all units are told of anew.
    Begun,
    /// For whoever looks on.
    Note(String),
}

/// The watch.
pub(super) struct Cluster<'a> {
    client: &'a Client,
    patterns: &'a [String],
    seen: mpsc::Sender<Seen>,
    lost: Option<(Instant, bool)>,
    delay: Duration,
}

impl<'a> Cluster<'a> {
    /// Of the units that match one of `patterns`.
    pub(super) fn new(client: &'a Client, patterns: &'a [String], seen: mpsc::Sender<Seen>) -> Self {
        Self { client, patterns, seen, lost: None, delay: RETRY.0 }
    }

    /// Watch until there is no point in it: an answer that can't be understood, or one that won't change.
    pub(super) async fn run(mut self) -> ClientError {
        loop {
            let Err(error) = self.watch().await;
            match error {
                // 5xx: fleetd is there, its store isn't; that passes too.
                ClientError::Api(detail) if detail.code < 500 => return ClientError::Api(detail),
                error @ ClientError::Protocol(_) => return error,
                error => self.lose(&error).await,
            }
        }
    }

    async fn watch(&mut self) -> Result<Infallible, ClientError> {
        let mut watch: Watch = self.client.watch(self.patterns).await?;
        self.say(Seen::Begun).await;
        loop {
            match watch.next().await? {
                WatchLine::Error(why) => {
                    return Err(ClientError::Api(ErrorDetail { code: 503, message: why, problems: vec![] }));
                }
                line => {
                    let synced = matches!(line, WatchLine::Synced(_));
                    self.say(Seen::Line(line)).await;
                    if synced {
                        self.delay = RETRY.0;
                        if let Some((_, true)) = self.lost.take() {
                            self.say(Seen::Note("fleetd is back".into())).await;
                        }
                    }
                }
            }
        }
    }

    async fn lose(&mut self, error: &ClientError) {
        let now = Instant::now();
        let (since, told) = *self.lost.get_or_insert((now, false));
        if !told && now >= since + SILENCE {
            self.lost = Some((since, true));
            self.say(Seen::Note(format!("{error}; what runs is followed, what moves isn't until it is back"))).await;
        }
        sleep(self.delay).await;
        self.delay = (2 * self.delay).min(RETRY.1);
    }

    /// Whoever listens to nobody any longer ends us.
    async fn say(&self, seen: Seen) {
        drop(self.seen.send(seen).await);
    }
}
