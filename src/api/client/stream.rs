//! One answer to `GET /fleet/v2/watch` or a similar request, as a stream of lines. Owns the framing and the timeout for
//! heartbeats; never reconnects, which `follow` does.

use std::marker::PhantomData;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::model::json;

use super::{ClientError, Endpoint, Unreachable};

/// fleetd sends an empty line every 10 s. If three of them are missing the connection is dead, whatever the kernel
/// assumes.
const SILENCE: Duration = Duration::from_secs(35);

/// An open watch.
#[derive(Debug)]
pub(super) struct Watch<L> {
    endpoint: Endpoint,
    /// Keeps the connection open.
    _sender: SendRequest<Full<Bytes>>,
    body: Incoming,
    /// Received bytes of lines that weren't returned yet, from `read` on.
    buffer: Vec<u8>,
    read: usize,
    heard: Instant,
    lines: PhantomData<fn() -> L>,
}

impl<L: DeserializeOwned> Watch<L> {
    pub(super) fn new(endpoint: Endpoint, sender: SendRequest<Full<Bytes>>, body: Incoming) -> Self {
        Self { endpoint, _sender: sender, body, buffer: Vec::new(), read: 0, heard: Instant::now(), lines: PhantomData }
    }

    /// The next line. Cancel-safe: received parts of a line are kept.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if the stream has ended, [`ClientError::Protocol`] for a line that can't be
    /// decoded.
    pub(super) async fn next(&mut self) -> Result<L, ClientError> {
        loop {
            if let Some(line) = self.line() {
                if line.is_empty() {
                    continue;
                }
                return json::decode(&line).map_err(|error| {
                    ClientError::Protocol(format!("can't understand a line of fleetd's watch: {error}"))
                });
            }
            match timeout_at(self.heard + SILENCE, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    self.heard = Instant::now();
                    self.buffer.drain(..std::mem::take(&mut self.read));
                    self.buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                }
                Ok(Some(Err(_)) | None) | Err(_) => {
                    return Err(ClientError::Unreachable(vec![Unreachable {
                        endpoint: self.endpoint.clone(),
                        kind: std::io::ErrorKind::ConnectionAborted,
                        why: "it hung up".into(),
                    }]));
                }
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let rest = &self.buffer[self.read..];
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = rest[..end].trim_ascii().to_vec();
        self.read += end + 1;
        Some(line)
    }
}
