//! v2: units as they change, one JSON object a line. Owns what is told when: every unit, `synced`, then only what differs
//! from what was told; a unit's end only when no host has it any more.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::error::Failure;
use crate::api::join;
use crate::api::state::Api;
use crate::api::wire::WatchLine;
use crate::model::name::UnitName;
use crate::registry::follow::{Follower, Touched};
use crate::store::{Error, Store};

use super::scope;

/// Chunks on their way to a client that reads slowly; the store's watch holds the rest, and changes of one unit that it
/// didn't come to see become one.
const CHUNKS: usize = 4;

/// Lines are sent together up to about this size.
const CHUNK_BYTES: usize = 64 * 1024;

/// A client that reads nothing for so long has lost interest.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn get<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Response, Failure> {
    let mut telling = Telling {
        follower: Follower::new(api.reader.clone(), scope(&uri)?),
        api,
        told: BTreeMap::new(),
        chunk: Vec::new(),
    };
    // The first picture is read before the answer begins: what goes wrong until then still has a status.
    let first = telling.follower.next().await.map_err(|error| telling.api.failed(&error))?;
    let (send, chunks) = mpsc::channel(CHUNKS);
    tokio::spawn(async move { telling.run(first, &send).await });
    let body = Body::from_stream(ReceiverStream::new(chunks));
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], body).into_response())
}

type Chunks = mpsc::Sender<Result<Bytes, io::Error>>;

/// The client is gone.
struct Gone;

struct Telling<S> {
    api: Api<S>,
    follower: Follower<S>,
    /// What was told of each unit last, as a hash of its line; `None`: that it is leaving.
    told: BTreeMap<UnitName, Option<u64>>,
    chunk: Vec<u8>,
}

impl<S: Store> Telling<S> {
    async fn run(mut self, first: Touched, chunks: &Chunks) {
        let stop = self.api.stop.clone();
        tokio::select! {
            _ = self.tell_all(first, chunks) => {}
            () = chunks.closed() => {}
            () = stop.cancelled() => {
                let _ = chunks.try_send(Ok(line(&WatchLine::Error("this fleetd is stopping".into())).into()));
            }
        }
    }

    async fn tell_all(&mut self, first: Touched, chunks: &Chunks) -> Result<(), Gone> {
        let mut touched = first;
        loop {
            if let Err(error) = self.tell(touched, chunks).await? {
                return self.end(&error, chunks).await;
            }
            touched = loop {
                match tokio::time::timeout(self.api.settings.heartbeat, self.follower.next()).await {
                    Ok(Ok(touched)) => break touched,
                    Ok(Err(error)) => return self.end(&error, chunks).await,
                    // An empty line: a client that is gone is noticed, and one that is there knows that we are.
                    Err(_) => {
                        self.chunk.push(b'\n');
                        self.flush(chunks).await?;
                    }
                }
            };
        }
    }

    /// Tell what has become of the units touched; the inner error is the store's.
    async fn tell(&mut self, touched: Touched, chunks: &Chunks) -> Result<Result<(), Error>, Gone> {
        let (names, all) = match touched {
            Touched::Units(names) => (names, false),
            Touched::All => {
                let units = self.follower.cluster().units.keys();
                (units.chain(self.told.keys()).chain(self.follower.leaving()).cloned().collect(), true)
            }
        };
        let cluster = self.follower.cluster();
        let hashes = names.iter().filter_map(|name| Some(cluster.units.get(name)?.hash.clone())).collect();
        let briefs = match self.api.reader.briefs(&hashes).await {
            Ok(briefs) => briefs,
            Err(error) => return Ok(Err(error)),
        };
        for name in names {
            self.tell_one(&briefs, name);
            if self.chunk.len() >= CHUNK_BYTES {
                self.flush(chunks).await?;
            }
        }
        if all {
            self.chunk.extend(line(&WatchLine::Synced(self.follower.cluster().revision)));
        }
        self.flush(chunks).await.map(Ok)
    }

    fn tell_one(&mut self, briefs: &join::Briefs, name: UnitName) {
        let cluster = self.follower.cluster();
        let Some(unit) = cluster.units.get(&name) else {
            if !self.follower.is_gone(&name) {
                if self.told.insert(name.clone(), None) != Some(None) {
                    self.chunk.extend(line(&WatchLine::Leaving(name)));
                }
            } else if self.told.remove(&name).is_some() {
                self.chunk.extend(line(&WatchLine::Removed(name)));
            }
            return;
        };
        let text = line(&WatchLine::Unit(Box::new(join::unit(cluster, briefs, &name, unit))));
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = Some(hasher.finish());
        if self.told.insert(name, hash) != Some(hash) {
            self.chunk.extend(text);
        }
    }

    async fn end(&mut self, error: &Error, chunks: &Chunks) -> Result<(), Gone> {
        let why = self.api.failed(error).message;
        self.chunk.extend(line(&WatchLine::Error(why)));
        self.flush(chunks).await
    }

    async fn flush(&mut self, chunks: &Chunks) -> Result<(), Gone> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        chunks.send_timeout(Ok(chunk), PATIENCE).await.map_err(|_| Gone)
    }
}

fn line(line: &WatchLine) -> Vec<u8> {
    // Plain structs with string keys always encode.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}
