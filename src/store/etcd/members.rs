//! The connection to an etcd cluster: one endpoint at a time, used until it fails, then the next.
//!
//! Owns connections, deadlines and what may be retried. `etcd-client`'s own balancer isn't used, since it spreads
//! requests over all endpoints, including dead ones. It must never send a change twice: a change that may have been
//! carried out is reported as `Unavailable`.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::Options;
use super::trouble::{Failure, Trouble, Troubles, classify};
use crate::store::Error;

/// The interval of HTTP/2 pings, and how long an answer may take. The server treats intervals below 5 s as an attack.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// The pause between two rounds over all endpoints, while an election may be under way.
const PAUSE: Duration = Duration::from_millis(100);

/// What may be retried on the next endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Every request: it is idempotent.
    Always,
    /// Only requests that were certainly not carried out.
    Undone,
}

/// The endpoints, and which of them is used.
#[derive(Debug)]
pub(super) struct Members {
    members: Vec<Member>,
    current: AtomicUsize,
    timeout: Duration,
}

/// The timeouts of a request.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For each endpoint.
    each: Duration,
    /// For all of them together.
    all: Duration,
}

#[derive(Debug)]
struct Member {
    /// For messages: `host:port`.
    address: String,
    endpoint: Endpoint,
    options: ConnectOptions,
    link: Mutex<Link>,
    /// Whether it has ever answered.
    answered: AtomicBool,
    /// A hint for the case that it closes the connection without ever having answered: with TLS 1.3 a server can reject
    /// a client silently after the handshake, and a TLS server closes a plain-text connection.
    hint: &'static str,
}

/// A connection, and the number of connections so far.
#[derive(Default)]
struct Link {
    client: Option<Client>,
    number: u64,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Members {
    /// Connects on the first request.
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let tls = tls(options)?;
        let members = options
            .endpoints
            .iter()
            .map(|endpoint| Member::new(endpoint, options, tls.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err(Error::Refused("no etcd endpoint is configured".into()));
        }
        Ok(Self { members, current: AtomicUsize::new(0), timeout: options.request_timeout })
    }

    /// Send `request` to the current endpoint; if it fails and `again` allows it, to the others. An attempt has the
    /// request timeout, all of them together twice that.
    pub(super) async fn call<T, F, R>(&self, again: Again, request: F) -> Result<T, Error>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        self.call_or(again, request).await?.ok_or_else(too_large)
    }

    /// As [`Self::call`], for a caller that waits no longer than `within`.
    pub(super) async fn call_within<T, F, R>(&self, within: Duration, again: Again, request: F) -> Result<T, Error>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        let (answer, _) = self.carry_out(self.hurry(within), again, request).await?;
        answer.ok_or_else(too_large)
    }

    /// As [`Self::call`]; also returns which endpoint answered, for [`Self::leave`].
    pub(super) async fn call_at<T, F, R>(&self, again: Again, request: F) -> Result<(T, usize), Error>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        let (answer, at) = self.carry_out(self.patience(), again, request).await?;
        Ok((answer.ok_or_else(too_large)?, at))
    }

    /// As [`Self::call`]; `None` if the answer is too large.
    pub(super) async fn call_or<T, F, R>(&self, again: Again, request: F) -> Result<Option<T>, Error>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        Ok(self.carry_out(self.patience(), again, request).await?.0)
    }

    fn patience(&self) -> Patience {
        Patience { each: self.timeout, all: 2 * self.timeout }
    }

    /// A caller that times out drops the request, and the silent endpoint would stay in use. So the attempts end before
    /// that, early enough for a second endpoint.
    fn hurry(&self, within: Duration) -> Patience {
        let all = (within * 9 / 10).min(self.patience().all);
        let turns = if self.members.len() > 1 { 2 } else { 1 };
        Patience { each: self.timeout.min(all / turns), all }
    }

    /// The answer, `None` if it is too large, and which endpoint answered.
    async fn carry_out<T, F, R>(
        &self,
        patience: Patience,
        again: Again,
        request: F,
    ) -> Result<(Option<T>, usize), Error>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        let end = Instant::now() + patience.all;
        let mut troubles = Troubles::default();
        let mut passing = false;
        for attempt in 1usize.. {
            let at = self.current.load(Ordering::Relaxed);
            let member = &self.members[at % self.members.len()];
            let trouble = match self.attempt(member, patience.each, end, &request).await {
                Ok(answer) => return Ok((Some(answer), at)),
                Err(Failure::TooLarge) => return Ok((None, at)),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Here(trouble)) => trouble,
            };
            self.leave(at, &trouble.text);
            troubles.note(&member.address, trouble.text);
            passing |= trouble.passing;
            if again == Again::Undone && !trouble.undone {
                break;
            }
            if attempt.is_multiple_of(self.members.len()) {
                // All refuse outright: waiting is left to the caller, which may have other work.
                if !std::mem::take(&mut passing) || Instant::now() + PAUSE >= end {
                    break;
                }
                sleep(PAUSE).await;
            }
            if Instant::now() >= end {
                break;
            }
        }
        Err(troubles.into_error())
    }

    /// Switch to the next endpoint, if the one at `at` is still in use.
    pub(super) fn leave(&self, at: usize, reason: &str) {
        if self.current.compare_exchange(at, at + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && self.members.len() > 1
        {
            let (from, to) = (&self.members[at % self.members.len()], &self.members[(at + 1) % self.members.len()]);
            tracing::info!(from = from.address, to = to.address, reason, "changing etcd endpoint");
        }
    }

    /// The name of the endpoint at `at`.
    pub(super) fn address(&self, at: usize) -> &str {
        &self.members[at % self.members.len()].address
    }

    async fn attempt<T, F, R>(
        &self,
        member: &Member,
        patience: Duration,
        end: Instant,
        request: &F,
    ) -> Result<T, Failure>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        let until = end.min(Instant::now() + patience);
        let (client, number) = match timeout_at(until, member.client()).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Failure::Here(Trouble::silent(patience, false))),
        };
        let failure = match timeout_at(until, request(client)).await {
            Ok(Ok(answer)) => {
                member.answered.store(true, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) => member.with_hint(classify(&error)),
            Err(_) => Failure::Here(Trouble::silent(patience, true)),
        };
        if matches!(failure, Failure::Here(_)) {
            member.hang_up(number).await;
        }
        Err(failure)
    }
}

impl Member {
    fn new(given: &str, options: &Options, tls: Option<&ClientTlsConfig>) -> Result<Self, Error> {
        let refused = |reason: String| Error::Refused(format!("the etcd endpoint `{given}` is invalid: {reason}"));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let uri = if given.contains("://") { given.to_owned() } else { format!("{scheme}://{given}") };
        let mut endpoint = Endpoint::from_shared(uri)
            .map_err(|error| refused(error.to_string()))?
            .connect_timeout(options.request_timeout / 2)
            .http2_keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        match (endpoint.uri().scheme_str(), tls) {
            (Some("https"), Some(tls)) => {
                endpoint = endpoint.tls_config(tls.clone()).map_err(|error| refused(error.to_string()))?;
            }
            (Some("https"), None) => return Err(refused("https needs a CA certificate".into())),
            (Some("http"), None) => {}
            (Some("http"), Some(_)) => return Err(refused("certificates are configured, but it is not https".into())),
            _ => return Err(refused("it must begin with http:// or https://".into())),
        }
        let Some(address) = endpoint.uri().authority().map(ToString::to_string) else {
            return Err(refused("it has no host".into()));
        };
        let mut connect = ConnectOptions::new().with_require_leader(true);
        if let Some((user, password)) = &options.user {
            connect = connect.with_user(user, password).with_auto_token_refresh(true);
        }
        let hint = match (tls, &options.identity) {
            (None, _) => "does it require https?",
            (Some(_), None) => "does it require a client certificate?",
            (Some(_), Some(_)) => "does it accept our certificate?",
        };
        let answered = AtomicBool::new(false);
        Ok(Self { address, endpoint, options: connect, link: Mutex::default(), answered, hint })
    }

    fn with_hint(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Here(trouble) if trouble.hung_up && !self.answered.load(Ordering::Relaxed) => {
                Failure::Here(Trouble { text: format!("{} ({})", trouble.text, self.hint), ..trouble })
            }
            other => other,
        }
    }

    /// A client on an open connection. Connecting and logging in are separate steps, so that after a failure the
    /// request is known not to have been sent.
    async fn client(&self) -> Result<(Client, u64), Failure> {
        let mut link = self.link.lock().await;
        if let Some(client) = &link.client {
            return Ok((client.clone(), link.number));
        }
        let channel = self.endpoint.connect().await.map_err(|error| Failure::Here(Trouble::unreachable(&error)))?;
        let client =
            Client::from_channel(Channel::Tonic(channel), Some(self.options.clone())).await.map_err(|error| {
                match classify(&error) {
                    Failure::Here(trouble) => Failure::Here(Trouble { undone: true, ..trouble }),
                    other => other,
                }
            })?;
        link.number += 1;
        link.client = Some(client.clone());
        Ok((client, link.number))
    }

    /// Don't use this connection for new requests; its watches end by themselves.
    async fn hang_up(&self, number: u64) {
        let mut link = self.link.lock().await;
        if link.number == number {
            link.client = None;
        }
    }
}

fn too_large() -> Error {
    Error::Refused("the answer is too large".into())
}

fn tls(options: &Options) -> Result<Option<ClientTlsConfig>, Error> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| Error::Refused(format!("`{}` can't be read: {error}", path.display())))
    };
    let Some(ca) = &options.ca else {
        return match options.identity {
            Some(_) => Err(Error::Refused("a client certificate for etcd needs a CA certificate too".into())),
            None => Ok(None),
        };
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
    if let Some((certificate, key)) = &options.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(Some(tls))
}
