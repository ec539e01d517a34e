//! The HTTP client of `fleetctl`: endpoints, connections, deadlines, and the v2 API as typed calls.
//! Owns how bytes reach `fleetd`. Never decides what to ask or what an answer means, and prints nothing.

mod batch;
mod connect;
mod endpoint;
mod fleet;
mod follow;
mod metadata;
mod offline;
mod older;
mod plans;
mod reboots;
mod rollouts;
mod services;
mod settings;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::api::wire::{
    AskHosts, AskedHosts, ClusterView, DrainView, ErrorBody, ErrorDetail, MachineList, Operation, RestoreView, SetList,
    UnitDetail, UnitHistory, UnitList, WatchLine,
};
use crate::model::glob::Glob;
use crate::model::json;
use crate::model::name::{MachineId, UnitName};

pub use batch::Part;
pub use connect::{Dial, Dialing, Duplex, Stream, Tls, TlsError};
pub use endpoint::{Endpoint, EndpointError};
pub use fleet::Fleet;
pub use follow::{Follow, For, Line, News};
pub use older::progress_of;
pub use services::By;
use stream::Watch;

/// Longer queries go unfiltered: `http::Uri` ends at 64 KiB, and a list of everything is the smaller evil.
const MAX_QUERY: usize = 48 * 1024;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No endpoint could be reached, or the one that could went silent.
    #[error("can't reach fleetd at {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", nor at "))]
    Unreachable(Vec<Unreachable>),
    /// The server's own words.
    #[error("{}", .0.message)]
    Api(ErrorDetail),
    /// An answer that is none.
    #[error("{0}")]
    Protocol(String),
    /// A batch that took several requests, and one of them failed: those before it are done.
    #[error("{error}")]
    Partly {
        /// What the failed request met.
        error: Box<ClientError>,
        /// How much was done before it.
        done: Part,
    },
}

/// How long an endpoint may take to be connected to, if there is another one to try.
const NEXT_AFTER: Duration = Duration::from_secs(1);

/// One endpoint that didn't answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint}: {why}")]
pub struct Unreachable {
    /// Which.
    pub endpoint: Endpoint,
    /// The operating system's class of the error, for hints.
    pub kind: std::io::ErrorKind,
    /// In words.
    pub why: String,
}

/// A client of one cluster.
#[derive(Debug)]
pub struct Client {
    endpoints: Vec<Endpoint>,
    patience: Duration,
    tls: Option<Tls>,
    dial: Option<Arc<dyn Dial>>,
    /// Called with a line when another endpoint is tried.
    tell: Option<fn(String)>,
    /// The endpoint that is tried first: the one that answered last.
    preferred: AtomicUsize,
    /// The connection of the last call, for the next one.
    idle: Mutex<Option<Connection>>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    endpoint: Endpoint,
}

impl Client {
    /// A client of the first of `endpoints` that answers. `patience` bounds connecting, waiting for an answer, and each
    /// pause within one.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, patience: Duration) -> Self {
        let (tell, preferred) = (None, AtomicUsize::new(0));
        Self { endpoints, patience, tls: None, dial: None, tell, preferred, idle: Mutex::new(None) }
    }

    /// Call `tell` with a line whenever an endpoint is given up for the next one.
    #[must_use]
    pub fn telling(self, tell: fn(String)) -> Self {
        Self { tell: Some(tell), ..self }
    }

    /// For `https://` endpoints, which can't be reached without.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Reach the endpoints through `dial`.
    #[must_use]
    pub fn through(self, dial: Arc<dyn Dial>) -> Self {
        Self { dial: Some(dial), ..self }
    }

    /// All units, or those that match one of `patterns`. More than a URL can hold are not filtered: the caller picks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn units(&self, patterns: &[String]) -> Result<UnitList, ClientError> {
        self.get(&with_names("/fleet/v2/units", patterns)).await
    }

    /// The sets, or those whose templates match one of `patterns`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn sets(&self, patterns: &[String]) -> Result<SetList, ClientError> {
        self.get(&with_names("/fleet/v2/sets", patterns)).await
    }

    /// One unit, its text, and why it isn't where it should be.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 when there is no such unit.
    pub async fn unit(&self, name: &UnitName) -> Result<UnitDetail, ClientError> {
        self.get(&format!("/fleet/v2/units/{}", encode(name.as_str()))).await
    }

    /// The texts that a unit's file had before.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 when there is no such unit and there was none.
    pub async fn history(&self, name: &UnitName) -> Result<UnitHistory, ClientError> {
        self.get(&format!("/fleet/v2/units/{}/history", encode(name.as_str()))).await
    }

    /// All hosts.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn machines(&self) -> Result<MachineList, ClientError> {
        self.get("/fleet/v2/machines").await
    }

    /// Ask something of hosts, all or none. The leader acts on it after the answer.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 if a host isn't known, 405 from a `fleetd` that doesn't
    /// know this request yet. After [`ClientError::Unreachable`] it may have been done nevertheless.
    pub async fn ask_hosts(&self, ask: &AskHosts) -> Result<AskedHosts, ClientError> {
        self.call(&Method::POST, "/fleet/v2/machines", batch::json(ask)?.into(), self.patience).await
    }

    /// What becomes of the units that come back to a host after a drain.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 if nothing was to come back.
    pub async fn restore(&self, host: &MachineId) -> Result<RestoreView, ClientError> {
        self.get(&format!("/fleet/v2/machines/{}/restore", encode(host.as_str()))).await
    }

    /// What becomes of the units on a host that is drained.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 if no such host is drained.
    pub async fn drain(&self, host: &MachineId) -> Result<DrainView, ClientError> {
        self.get(&format!("/fleet/v2/machines/{}/drain", encode(host.as_str()))).await
    }

    /// Forget a host that is gone.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 if nothing is known of such a host, 409 if it is
    /// registered.
    pub async fn forget(&self, host: &MachineId) -> Result<(), ClientError> {
        let path = format!("/fleet/v2/machines/{}", encode(host.as_str()));
        self.call_for_bytes(&Method::DELETE, &path, Bytes::new(), self.patience).await.map(drop)
    }

    /// The whole cluster.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 from a `fleetd` that doesn't know this question yet.
    pub async fn status(&self) -> Result<ClusterView, ClientError> {
        self.get("/fleet/v2/status").await
    }

    /// Whether every endpoint is a socket of this host, so that the `fleetd` behind it is this host's.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.dial.is_none() && self.endpoints.iter().all(|endpoint| matches!(endpoint, Endpoint::Unix(_)))
    }

    /// Follow the units that match one of `patterns`, or all, and the progress of `operation` if there is one.
    #[must_use]
    pub fn follow(&self, patterns: &[String], operation: Option<Operation>, whom: For) -> Follow<'_, WatchLine> {
        let mut path = with_names("/fleet/v2/watch", patterns);
        if let Some(operation) = operation {
            let separator = if path.contains('?') { '&' } else { '?' };
            path += &format!("{separator}operation={}", operation.verb());
        }
        Follow::new(self, path, whom)
    }

    /// Follow what `host` has of `unit`, and nothing else.
    #[must_use]
    pub fn follow_on(&self, host: &MachineId, unit: &UnitName, whom: For) -> Follow<'_, WatchLine> {
        let path = with_names("/fleet/v2/watch", &[Glob::escape(unit.as_str())]);
        Follow::new(self, format!("{path}&host={host}"), whom)
    }

    async fn open<L: DeserializeOwned>(&self, path: &str) -> Result<Watch<L>, ClientError> {
        let (connection, response) = self.send(None, &Method::GET, path, Bytes::new(), self.patience).await?;
        tracing::debug!(path, status = response.status().as_u16(), "watch");
        if !response.status().is_success() {
            let (status, body) = (response.status(), self.body(&connection, response).await?);
            return Err(refusal(status, &body, &Method::GET, path.split('?').next().unwrap_or_default()));
        }
        Ok(Watch::new(connection.endpoint, connection.sender, response.into_body()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(&Method::GET, path, Bytes::new(), self.patience).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let answer = self.call_for_bytes(method, path, body, patience).await?;
        json::decode(&answer).map_err(|error| {
            ClientError::Protocol(format!("can't understand fleetd's answer to {method} {path}: {error}"))
        })
    }

    async fn call_for_bytes(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        let mut idle = self.idle.lock().await;
        let (connection, response) = self.send(idle.take(), method, path, body, patience).await?;
        let status = response.status();
        let body = self.body(&connection, response).await?;
        *idle = Some(connection);
        drop(idle);
        tracing::debug!(%method, path, status = status.as_u16(), bytes = body.len(), "answered");
        if !status.is_success() {
            return Err(refusal(status, &body, method, path));
        }
        Ok(body)
    }

    /// Send over `idle` if it still lives, else over a new connection.
    async fn send(
        &self,
        idle: Option<Connection>,
        method: &Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<(Connection, Response<Incoming>), ClientError> {
        if let Some(mut connection) = idle {
            let request = connection.request(method, path, body.clone())?;
            match timeout(patience, connection.sender.try_send_request(request)).await {
                Ok(Ok(response)) => return Ok((connection, response)),
                // It never left: the server had hung up. A new connection will do.
                Ok(Err(error)) if error.message().is_some() => {}
                Ok(Err(error)) => return Err(connection.broken(error.error())),
                Err(_) => return Err(connection.silent(patience)),
            }
        }
        let mut connection = self.connect().await?;
        let request = connection.request(method, path, body)?;
        match timeout(patience, connection.sender.send_request(request)).await {
            Ok(Ok(response)) => Ok((connection, response)),
            Ok(Err(error)) => Err(connection.broken(&error)),
            Err(_) => Err(connection.silent(patience)),
        }
    }

    /// The whole body, however long, as long as it keeps coming.
    async fn body(&self, connection: &Connection, response: Response<Incoming>) -> Result<Vec<u8>, ClientError> {
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        loop {
            match timeout(self.patience, incoming.frame()).await {
                Ok(None) => return Ok(body),
                Ok(Some(Ok(frame))) => body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Ok(Some(Err(error))) => return Err(connection.broken(&error)),
                Err(_) => return Err(connection.silent(self.patience)),
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let mut failures = Vec::new();
        let (count, first) = (self.endpoints.len(), self.preferred.load(Ordering::Relaxed));
        let order = (0..count).map(|step| (first + step) % count);
        for (index, endpoint) in order.map(|index| (index, &self.endpoints[index])) {
            let next = Some((index + 1) % count).filter(|_| failures.len() + 1 < count);
            let patience = if next.is_some() { self.patience.min(NEXT_AFTER) } else { self.patience };
            let opening = async {
                let stream = connect::open(endpoint, self.dial.as_deref(), self.tls.as_ref()).await?;
                speak(stream).await
            };
            let failure = match timeout(patience, opening).await {
                Ok(Ok(sender)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(Connection { sender, endpoint: endpoint.clone() });
                }
                Ok(Err(error)) => Unreachable::new(endpoint, &error),
                Err(_) => Unreachable::silent(endpoint, patience),
            };
            if let Some((tell, next)) = self.tell.zip(next) {
                tell(format!("{failure}; trying {}", self.endpoints[next]));
            }
            failures.push(failure);
        }
        Err(ClientError::Unreachable(failures))
    }
}

impl Connection {
    fn request(&self, method: &Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.endpoint.host())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("fleetctl/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| ClientError::Protocol(format!("{path}: {error}")))
    }

    fn broken(&self, error: &hyper::Error) -> ClientError {
        tracing::debug!(endpoint = %self.endpoint, %error, "connection broken");
        ClientError::Unreachable(vec![Unreachable {
            endpoint: self.endpoint.clone(),
            kind: std::io::ErrorKind::ConnectionAborted,
            why: hung_up(error),
        }])
    }

    fn silent(&self, patience: Duration) -> ClientError {
        ClientError::Unreachable(vec![Unreachable::silent(&self.endpoint, patience)])
    }
}

impl Unreachable {
    fn new(endpoint: &Endpoint, error: &std::io::Error) -> Self {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "no such socket".into(),
            std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
            std::io::ErrorKind::PermissionDenied => "permission denied".into(),
            _ => error.to_string(),
        };
        Self { endpoint: endpoint.clone(), kind: error.kind(), why }
    }

    fn silent(endpoint: &Endpoint, patience: Duration) -> Self {
        let why = format!("no answer within {} s", patience.as_secs_f64());
        Self { endpoint: endpoint.clone(), kind: std::io::ErrorKind::TimedOut, why }
    }
}

async fn speak(stream: Stream) -> std::io::Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    // Ends with the sender; what goes wrong, the call that is under way reports.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Why, if whatever carries the connection can tell.
fn hung_up(error: &hyper::Error) -> String {
    if error.is_parse() {
        return "what answers there isn't fleetd".into();
    }
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match cause.filter(|cause| cause.kind() == std::io::ErrorKind::Other || cause.get_ref().is_some()) {
        Some(cause) => cause.to_string(),
        None => "it hung up".into(),
    }
}

fn refusal(status: StatusCode, body: &[u8], method: &Method, path: &str) -> ClientError {
    let mut detail = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => ErrorDetail::default(),
    };
    detail.code = status.as_u16();
    if detail.message.is_empty() {
        detail.message = format!("fleetd answered {method} {path} with {status} and nothing else");
    }
    ClientError::Api(detail)
}

fn with_names(path: &str, patterns: &[String]) -> String {
    let query: Vec<String> = patterns.iter().map(|pattern| format!("name={}", encode(pattern))).collect();
    let query = query.join("&");
    if query.is_empty() || query.len() > MAX_QUERY { path.into() } else { format!("{path}?{query}") }
}

/// Percent-encoding of all but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
                encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_and_too_many_are_not_sent() {
        assert_eq!(encode("web@1\\x2d.service"), "web%401%5Cx2d.service");
        assert_eq!(with_names("/u", &[]), "/u");
        assert_eq!(with_names("/u", &["a*".into(), "b".into()]), "/u?name=a%2A&name=b");
        assert_eq!(with_names("/u", &vec!["x".repeat(100); 1000]), "/u");
    }

    #[test]
    fn refusals_always_say_something() {
        let said = |body: &[u8]| refusal(StatusCode::NOT_FOUND, body, &Method::GET, "/x").to_string();
        assert_eq!(said(br#"{"error":{"code":404,"message":"unit does not exist"}}"#), "unit does not exist");
        let nothing = "fleetd answered GET /x with 404 Not Found and nothing else";
        assert_eq!(
            (said(b"<html>").as_str(), said(br#"{"error":{"code":404,"message":""}}"#).as_str()),
            (nothing, nothing)
        );
    }
}
