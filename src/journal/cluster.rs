//! Watches units for as long as needed and sends what it receives to a channel. Doesn't interpret it; `api::client`
//! reconnects.

use tokio::sync::mpsc;

use crate::api::client::{Client, ClientError, For, News};
use crate::api::wire::WatchLine;

/// What was received.
#[derive(Debug)]
pub(super) enum Seen {
    /// A line of a watch.
    Line(WatchLine),
    /// A new watch has begun: all units are reported again.
    Begun,
    /// A message for the user.
    Note(String),
}

/// Watch the units that match one of `patterns`. Returns on an error that a retry can't resolve: a response that can't
/// be decoded, or a refusal.
pub(super) async fn follow(client: &Client, patterns: &[String], seen: mpsc::Sender<Seen>) -> ClientError {
    let mut watch = client.follow(patterns, None, For::APerson);
    loop {
        let news = match watch.next().await {
            Ok(News::Begun) => Seen::Begun,
            Ok(News::Line(line)) => Seen::Line(line),
            Ok(News::Lost(error)) => {
                Seen::Note(format!("{error}; what runs is followed, what moves isn't until it is back"))
            }
            Ok(News::Back) => Seen::Note("fleetd is back".into()),
            Ok(News::Broken) => continue,
            Err(error) => return error,
        };
        // Fails if the receiver was dropped; this future is dropped with it.
        drop(seen.send(news).await);
    }
}
