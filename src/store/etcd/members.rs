//! The connection to an etcd cluster: one endpoint at a time, used until it fails, then the next.
//!
//! Owns which endpoint is used, deadlines and what may be retried. It must never send a change twice: a change that may
//! have been carried out is reported as `Unavailable`. It must never send anything to a member of another cluster.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::classify::{Failure, Trouble, Troubles, classify};
use super::client::{Connection as _, Fault, Member};
use super::identity::Identity;
use crate::store::{Error, StoreMember};

/// The pause between two rounds over all endpoints, while an election may be under way.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

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
pub(super) struct Members<M: Member> {
    endpoints: Vec<Endpoint<M>>,
    current: AtomicUsize,
    identity: watch::Sender<Identity>,
    timeout: Duration,
}

/// The timeouts of a request.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// For each endpoint.
    each: Duration,
    /// For all of them together.
    all: Duration,
}

/// An endpoint and its connection.
struct Endpoint<M: Member> {
    member: M,
    connected: Mutex<Connected<M::Connection>>,
    /// Whether it has ever answered.
    answered: AtomicBool,
}

impl<M: Member> std::fmt::Debug for Endpoint<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("member", &self.member).finish_non_exhaustive()
    }
}

/// A connection, the cluster to which it leads, and the number of connections so far.
struct Connected<C> {
    connection: Option<(C, u64)>,
    number: u64,
}

impl<M: Member> Members<M> {
    /// Connects on the first request, beginning with the first member.
    pub(super) fn new(members: Vec<M>, timeout: Duration) -> Result<Self, Error> {
        if members.is_empty() {
            return Err(Error::Refused("no etcd endpoint is configured".into()));
        }
        let identity = watch::Sender::new(Identity::new(members.len()));
        let endpoints = members.into_iter().map(Endpoint::new).collect();
        Ok(Self { endpoints, current: AtomicUsize::new(0), identity, timeout })
    }

    /// Send `request` to the current endpoint; if it fails and `again` allows it, to the others. An attempt has the
    /// request timeout, all of them together twice that.
    pub(super) async fn call<T, F, R>(&self, again: Again, request: F) -> Result<T, Error>
    where
        F: Fn(M::Connection) -> R + Send + Sync,
        R: Future<Output = Result<T, Fault>> + Send,
        T: Send,
    {
        self.call_or(again, request).await?.ok_or_else(too_large)
    }

    /// As [`Self::call`]; if the cluster isn't the one with the id `of`, if that is given, nothing is sent, and the
    /// error is [`Error::Conflict`].
    pub(super) async fn call_in<T, F, R>(&self, of: Option<u64>, again: Again, request: F) -> Result<T, Error>
    where
        F: Fn(M::Connection) -> R + Send + Sync,
        R: Future<Output = Result<T, Fault>> + Send,
        T: Send,
    {
        let (answer, _) = self.carry_out((self.timeouts(), of), again, request).await?;
        answer.ok_or_else(too_large)
    }

    /// As [`Self::call`], for a caller that waits no longer than `within`.
    pub(super) async fn call_within<T, F, R>(&self, within: Duration, again: Again, request: F) -> Result<T, Error>
    where
        F: Fn(M::Connection) -> R + Send + Sync,
        R: Future<Output = Result<T, Fault>> + Send,
        T: Send,
    {
        let (answer, _) = self.carry_out((self.hurry(within), None), again, request).await?;
        answer.ok_or_else(too_large)
    }

    /// As [`Self::call`]; also returns which endpoint answered, for [`Self::leave`].
    pub(super) async fn call_at<T, F, R>(&self, again: Again, request: F) -> Result<(T, usize), Error>
    where
        F: Fn(M::Connection) -> R + Send + Sync,
        R: Future<Output = Result<T, Fault>> + Send,
        T: Send,
    {
        let (answer, at) = self.carry_out((self.timeouts(), None), again, request).await?;
        Ok((answer.ok_or_else(too_large)?, at))
    }

    /// As [`Self::call`]; `None` if the answer is too large.
    pub(super) async fn call_or<T, F, R>(&self, again: Again, request: F) -> Result<Option<T>, Error>
    where
        F: Fn(M::Connection) -> R + Send + Sync,
        R: Future<Output = Result<T, Fault>> + Send,
        T: Send,
    {
        Ok(self.carry_out((self.timeouts(), None), again, request).await?.0)
    }

    /// Ask each endpoint about its member, all at once, each within the request timeout. Which endpoint is used stays
    /// as it is.
    pub(super) async fn ask_each(&self) -> Vec<StoreMember> {
        let status = |connection: M::Connection| async move { connection.status().await };
        let ask = |at: usize| async move {
            let end = Instant::now() + self.timeout;
            let mut state = self.attempt((at, None), self.timeout, end, &status).await;
            // The connection may have broken long ago: what counts is whether another one can be opened.
            if matches!(&state, Err(Failure::Here(trouble)) if trouble.hung_up) {
                state = self.attempt((at, None), self.timeout, end, &status).await;
            }
            let answer = match state {
                Ok(status) => Ok(status.state),
                Err(Failure::Here(trouble)) => Err(trouble.text),
                Err(Failure::Final(error)) => Err(error.to_string()),
                Err(Failure::TooLarge) => Err(too_large().to_string()),
            };
            StoreMember { address: self.address(at).to_owned(), answer }
        };
        join_all((0..self.endpoints.len()).map(ask)).await
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts { each: self.timeout, all: 2 * self.timeout }
    }

    /// A caller that times out drops the request, and the silent endpoint would stay in use. So the attempts end before
    /// that, early enough for a second endpoint.
    fn hurry(&self, within: Duration) -> Timeouts {
        let all = (within * 9 / 10).min(self.timeouts().all);
        let turns = if self.endpoints.len() > 1 { 2 } else { 1 };
        Timeouts { each: self.timeout.min(all / turns), all }
    }

    /// Changes when our cluster is replaced by another one, whose revisions mean something else.
    pub(super) fn replaced(&self) -> watch::Receiver<Identity> {
        self.identity.subscribe()
    }

    /// Whether the endpoint at `at` belongs to our cluster.
    fn admits(&self, at: usize, cluster: u64) -> bool {
        let mut ours = false;
        self.identity.send_if_modified(|identity| {
            let before = identity.ours();
            ours = identity.heard(at % self.endpoints.len(), cluster);
            let replaced = before.is_some_and(|before| identity.ours() != Some(before));
            if replaced {
                tracing::warn!(
                    endpoint = self.address(at),
                    "most etcd endpoints belong to another cluster now: using it"
                );
            }
            replaced
        });
        ours
    }

    /// The answer, `None` if it is too large, and which endpoint answered. With `of`, the id of a cluster, nothing is
    /// sent to another one.
    async fn carry_out<T, F, R>(
        &self,
        (timeouts, of): (Timeouts, Option<u64>),
        again: Again,
        request: F,
    ) -> Result<(Option<T>, usize), Error>
    where
        F: Fn(M::Connection) -> R + Send + Sync,
        R: Future<Output = Result<T, Fault>> + Send,
        T: Send,
    {
        let end = Instant::now() + timeouts.all;
        let mut troubles = Troubles::default();
        let mut passing = false;
        for attempt in 1usize.. {
            let at = self.current.load(Ordering::Relaxed);
            let trouble = match self.attempt((at, of), timeouts.each, end, &request).await {
                Ok(answer) => return Ok((Some(answer), at)),
                Err(Failure::TooLarge) => return Ok((None, at)),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Here(trouble)) => trouble,
            };
            self.leave(at, &trouble.text);
            troubles.note(self.address(at), trouble.text);
            passing |= trouble.passing;
            if again == Again::Undone && !trouble.undone {
                break;
            }
            if attempt.is_multiple_of(self.endpoints.len()) {
                // All refuse outright: waiting is left to the caller, which may have other work.
                if !std::mem::take(&mut passing) || Instant::now() + ROUND_PAUSE >= end {
                    break;
                }
                sleep(ROUND_PAUSE).await;
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
            && self.endpoints.len() > 1
        {
            tracing::info!(from = self.address(at), to = self.address(at + 1), reason, "changing etcd endpoint");
        }
    }

    /// The name of the endpoint at `at`.
    pub(super) fn address(&self, at: usize) -> &str {
        self.endpoints[at % self.endpoints.len()].member.address()
    }

    async fn attempt<T, F, R>(
        &self,
        (at, of): (usize, Option<u64>),
        timeout: Duration,
        end: Instant,
        request: &F,
    ) -> Result<T, Failure>
    where
        F: Fn(M::Connection) -> R + Send + Sync,
        R: Future<Output = Result<T, Fault>> + Send,
        T: Send,
    {
        let endpoint = &self.endpoints[at % self.endpoints.len()];
        let until = end.min(Instant::now() + timeout);
        let (connection, cluster, number) =
            match timeout_at(until, endpoint.connection(|cluster| self.admits(at, cluster))).await {
                Ok(connected) => connected.map_err(|failure| endpoint.with_hint(failure))?,
                Err(_) => return Err(Failure::Here(Trouble::silent(timeout, false))),
            };
        if of.is_some_and(|of| of != cluster) {
            return Err(Failure::Final(Error::Conflict));
        }
        let failure = match timeout_at(until, request(connection)).await {
            Ok(Ok(answer)) => {
                endpoint.answered.store(true, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(fault)) => endpoint.with_hint(classify(fault)),
            Err(_) => Failure::Here(Trouble::silent(timeout, true)),
        };
        if matches!(failure, Failure::Here(_)) {
            endpoint.hang_up(number).await;
        }
        Err(failure)
    }
}

impl<M: Member> Endpoint<M> {
    fn new(member: M) -> Self {
        Self {
            member,
            connected: Mutex::new(Connected { connection: None, number: 0 }),
            answered: AtomicBool::new(false),
        }
    }

    fn with_hint(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Here(trouble) if trouble.hung_up && !self.answered.load(Ordering::Relaxed) => {
                Failure::Here(Trouble { text: format!("{} ({})", trouble.text, self.member.hint()), ..trouble })
            }
            other => other,
        }
    }

    /// An open connection to a member of a cluster that `admits` accepts. Connecting is separate from the request, so
    /// that after a failure the request is known not to have been sent, and never reaches another cluster.
    /// Returns the id of that cluster too, and the number of the connection.
    async fn connection(&self, admits: impl Fn(u64) -> bool + Send) -> Result<(M::Connection, u64, u64), Failure> {
        let mut connected = self.connected.lock().await;
        let (connection, cluster) = match connected.connection.take() {
            Some(open) => open,
            None => {
                let open = self.connect().await.map_err(|fault| match classify(fault) {
                    Failure::Here(trouble) => Failure::Here(Trouble { undone: true, ..trouble }),
                    other => other,
                })?;
                connected.number += 1;
                open
            }
        };
        if !admits(cluster) {
            return Err(Failure::Here(Trouble::foreign()));
        }
        connected.connection = Some((connection.clone(), cluster));
        Ok((connection, cluster, connected.number))
    }

    async fn connect(&self) -> Result<(M::Connection, u64), Fault> {
        let connection = self.member.connect().await?;
        let cluster = connection.status().await?.cluster;
        Ok((connection, cluster))
    }

    /// Don't use this connection for new requests; its watches end by themselves.
    async fn hang_up(&self, number: u64) {
        let mut connected = self.connected.lock().await;
        if connected.number == number {
            connected.connection = None;
        }
    }
}

fn too_large() -> Error {
    Error::Refused("the answer is too large".into())
}
