//! A stream of JSON objects, one per line (NDJSON), that continues until the client, the daemon or the store ends it.
//! Owns its framing, its heartbeat, and the handling of a client that reads slowly or not at all; never what is sent.

use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::store::{Error, Store};

/// Chunks in transit to a client that reads slowly. Several changes of the same thing that it hasn't received become
/// one.
const CHUNKS: usize = 4;

/// Lines are sent together up to about this size.
const CHUNK_BYTES: usize = 64 * 1024;

/// The source of a stream.
pub(super) trait Story: Send + 'static {
    /// An update.
    type Update: Send;
    /// Its lines.
    type Line: Serialize;

    /// Wait for the next update; the first one is the complete state. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Self::Update, Error>> + Send;

    /// Write `update` into `lines`, which are sent afterwards.
    fn tell(&mut self, update: Self::Update, lines: &mut Lines) -> impl Future<Output = Result<(), End>> + Send;

    /// The last line, which says why the stream ends.
    fn error(message: String) -> Self::Line;
}

/// Why a stream ends.
pub(super) enum End {
    /// The client has disconnected.
    Gone,
    /// The store is unreachable.
    Store(Error),
}

/// Lines to be sent.
pub(super) struct Lines {
    chunk: Vec<u8>,
    /// A client that reads nothing for this long is disconnected.
    patience: Duration,
    chunks: mpsc::Sender<Result<Bytes, io::Error>>,
}

impl Lines {
    /// Add a line of [`line()`].
    pub(super) fn push(&mut self, line: &[u8]) {
        self.chunk.extend_from_slice(line);
    }

    /// Whether enough was added to be sent.
    pub(super) fn is_full(&self) -> bool {
        self.chunk.len() >= CHUNK_BYTES
    }

    /// Send what was added if it is enough.
    pub(super) async fn flush_if_full(&mut self) -> Result<(), End> {
        if self.is_full() { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        self.chunks.send_timeout(Ok(chunk), self.patience).await.map_err(|_| End::Gone)
    }
}

/// What tells two lines apart, so that one that was sent needn't be kept.
pub(super) fn fingerprint(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

/// The answer that streams `story`. The first update is read before it begins, so that an error until then still has a
/// status.
pub(super) async fn answer<S: Store, T: Story>(api: &Api<S>, mut story: T) -> Result<Response, Failure> {
    let first = story.next().await.map_err(|error| api.failed(&error))?;
    let (api, open) = (api.clone(), api.metrics.watching());
    let (chunks, body) = mpsc::channel(CHUNKS);
    let lines = Lines { chunk: Vec::new(), patience: api.settings.patience, chunks: chunks.clone() };
    tokio::spawn(async move {
        tokio::select! {
            () = tell(&api, story, first, lines) => {}
            () = chunks.closed() => {}
            () = api.stop.cancelled() => {
                let last = line(&T::error("this fleetd is stopping".into()));
                drop(chunks.try_send(Ok(last.into())));
            }
        }
        drop(open);
    });
    let body = Body::from_stream(ReceiverStream::new(body));
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], body).into_response())
}

async fn tell<S: Store, T: Story>(api: &Api<S>, mut story: T, first: T::Update, mut lines: Lines) {
    if let Err(End::Store(error)) = tell_all(&mut story, first, &mut lines, api.settings.heartbeat).await {
        lines.push(&line(&T::error(api.failed(&error).sentence())));
        drop(lines.flush().await);
    }
}

async fn tell_all<T: Story>(
    story: &mut T,
    first: T::Update,
    lines: &mut Lines,
    heartbeat: Duration,
) -> Result<(), End> {
    let mut update = first;
    loop {
        story.tell(update, lines).await?;
        lines.flush().await?;
        update = loop {
            match timeout(heartbeat, story.next()).await {
                Ok(next) => break next.map_err(End::Store)?,
                // An empty line detects a client that has disconnected, and shows the others that the stream is alive.
                Err(_) => lines.push(b"\n"),
            }
            lines.flush().await?;
        };
    }
}

/// A line.
pub(super) fn line(line: &impl Serialize) -> Vec<u8> {
    // Plain structs with string keys can always be encoded.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}
