//! A stream of JSON objects, one a line (NDJSON), that goes on until the client, the daemon or the store ends it. Owns
//! its framing, and what becomes of a client that reads slowly or not at all; never what is told.

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::server::state::Api;
use crate::store::Store;

/// Chunks on their way to a client that reads slowly; the store's watch holds the rest, and changes of one thing that
/// it didn't come to see become one.
const CHUNKS: usize = 4;

/// Lines are sent together up to about this size.
const CHUNK_BYTES: usize = 64 * 1024;

/// The client is gone.
pub(super) struct Gone;

/// Lines on their way.
pub(super) struct Lines {
    chunk: Vec<u8>,
    /// A client that reads nothing for so long has lost interest.
    patience: Duration,
    chunks: mpsc::Sender<Result<Bytes, io::Error>>,
}

impl Lines {
    /// Add a line of [`line()`].
    pub(super) fn push(&mut self, line: &[u8]) {
        self.chunk.extend_from_slice(line);
    }

    /// An empty line: a client that is gone is noticed, and one that is there knows that we are.
    pub(super) async fn beat(&mut self) -> Result<(), Gone> {
        self.push(b"\n");
        self.flush().await
    }

    /// Send what was added if it is much.
    pub(super) async fn flush_if_full(&mut self) -> Result<(), Gone> {
        if self.chunk.len() < CHUNK_BYTES { Ok(()) } else { self.flush().await }
    }

    /// Send what was added.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        self.chunks.send_timeout(Ok(chunk), self.patience).await.map_err(|_| Gone)
    }
}

/// The answer whose lines `tell` says; `last` is the line that says why, when the daemon stops before that ends.
pub(super) fn answer<S: Store, F>(api: &Api<S>, last: Vec<u8>, tell: impl FnOnce(Lines) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (stop, open, patience) = (api.stop.clone(), api.metrics.watching(), api.settings.patience);
    let (chunks, body) = mpsc::channel(CHUNKS);
    let telling = tell(Lines { chunk: Vec::new(), patience, chunks: chunks.clone() });
    tokio::spawn(async move {
        tokio::select! {
            _ = telling => {}
            () = chunks.closed() => {}
            () = stop.cancelled() => drop(chunks.try_send(Ok(last.into()))),
        }
        drop(open);
    });
    let body = Body::from_stream(ReceiverStream::new(body));
    ([(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], body).into_response()
}

/// A line.
pub(super) fn line(line: &impl Serialize) -> Vec<u8> {
    // Plain structs with string keys always encode.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}
