//! What the cluster says of units, for as long as somebody wants it, handed to a channel. Understands nothing of what
//! is said; reconnecting is `api::client`'s.

use tokio::sync::mpsc;

use crate::api::client::{Client, ClientError, For, News};
use crate::api::wire::WatchLine;

/// What comes of the cluster.
#[derive(Debug)]
pub(super) enum Seen {
    /// A line of a watch.
    Line(WatchLine),
    /// A new watch: all units are told again.
    Begun,
    /// For the person who looks on.
    Note(String),
}

/// Follow the units that match one of `patterns` until there is no point in it: an answer that can't be understood, or
/// one that won't change.
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
        // Ends when the receiver is dropped, with the future that this is.
        drop(seen.send(news).await);
    }
}
