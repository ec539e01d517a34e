//! The backends of an ambassador: which ones exist, which are reachable, and which gets the next connection. Owns the
//! effect of a failed attempt: the backend gets no connection until a probe in the background has reached it again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::balance::{Candidate, choose};
use crate::model::service::{InstanceName, ServiceName};
use crate::sidecar::args::Balance;
use crate::sidecar::service_watch::Instances;

/// How soon an unreachable backend is probed again, at first and at most.
const PROBE_DELAY: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// A backend.
#[derive(Debug)]
pub(super) struct Backend {
    name: InstanceName,
    address: String,
    port: u16,
    active: AtomicU32,
    /// Cancelled when it isn't announced any more.
    gone: CancellationToken,
}

/// A connection that counts towards a backend's load until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Backend>);

impl Backend {
    /// Connect to it.
    ///
    /// # Errors
    /// Why it failed, as a sentence.
    pub(super) async fn connect(&self, limit: Duration) -> Result<TcpStream, String> {
        match timeout(limit, TcpStream::connect((self.address.as_str(), self.port))).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(format!("{}: {error}", self.place())),
            Err(_) => Err(format!("{}: no answer within {} s", self.place(), limit.as_secs_f64())),
        }
    }

    fn place(&self) -> String {
        format!("{} ({} port {})", self.name, self.address, self.port)
    }

    /// Count a connection until the returned value is dropped.
    pub(super) fn count(self: &Arc<Self>) -> Counted {
        self.active.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self))
    }
}

impl Counted {
    /// Cancelled when the backend isn't announced any more.
    pub(super) fn gone(&self) -> &CancellationToken {
        &self.0.gone
    }

    /// The backend's name.
    pub(super) fn name(&self) -> &InstanceName {
        &self.0.name
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A backend and its state.
#[derive(Debug)]
struct Member {
    backend: Arc<Backend>,
    weight: u16,
    credit: i64,
    since: u64,
    /// The last attempt to reach it failed.
    out: bool,
}

impl Member {
    fn takes(&self) -> bool {
        !self.out && self.weight > 0
    }
}

/// The number of backends, and how many of them take connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count {
    pub(super) all: usize,
    pub(super) up: usize,
}

/// All backends. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    members: Arc<Mutex<Vec<Member>>>,
    how: Balance,
    limit: Duration,
    count: watch::Sender<Count>,
}

impl Pool {
    /// An empty pool. Connecting may take up to `limit`.
    pub(super) fn new(how: Balance, limit: Duration) -> Self {
        Self { members: Arc::default(), how, limit, count: watch::Sender::new(Count::default()) }
    }

    /// Notifies when backends come and go.
    pub(super) fn counts(&self) -> watch::Receiver<Count> {
        self.count.subscribe()
    }

    /// Apply what is announced now. A backend with another address is a different one; connections to the old one are
    /// kept.
    pub(super) fn update(&self, instances: &Instances) {
        let mut members = self.members();
        let mut old: BTreeMap<(InstanceName, String, u16), Member> = members
            .drain(..)
            .map(|member| {
                let backend = &member.backend;
                ((backend.name.clone(), backend.address.clone(), backend.port), member)
            })
            .collect();
        for (name, is) in instances.iter().map(|((_, name), view): (&(ServiceName, _), _)| (name, &view.is)) {
            let known = old.remove(&(name.clone(), is.address.clone(), is.port));
            let mut member = known.unwrap_or_else(|| {
                tracing::info!("{name} is at {} port {}", is.address, is.port);
                let backend = Backend {
                    name: name.clone(),
                    address: is.address.clone(),
                    port: is.port,
                    active: AtomicU32::new(0),
                    gone: CancellationToken::new(),
                };
                Member { backend: Arc::new(backend), weight: 0, credit: 0, since: is.since, out: false }
            });
            // It was announced again, so an earlier failure doesn't count.
            if member.since != is.since {
                (member.since, member.out) = (is.since, false);
            }
            member.weight = is.weight;
            members.push(member);
        }
        for member in old.into_values() {
            let active = member.backend.active.load(Ordering::Relaxed);
            tracing::info!("{} is gone; connections left to it: {active}", member.backend.place());
            member.backend.gone.cancel();
        }
        self.recount(&members);
    }

    /// The backend for the next connection; `None` if none is reachable.
    pub(super) fn pick(&self) -> Option<Arc<Backend>> {
        let mut members = self.members();
        let mut candidates: Vec<Candidate> = members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.takes())
            .map(|(index, member)| Candidate {
                index,
                weight: member.weight,
                active: member.backend.active.load(Ordering::Relaxed),
                credit: member.credit,
            })
            .collect();
        let chosen = choose(self.how, &mut candidates)?;
        for candidate in candidates {
            members[candidate.index].credit = candidate.credit;
        }
        Some(Arc::clone(&members[chosen].backend))
    }

    /// A connection attempt failed: the backend gets no more until a probe succeeds.
    pub(super) fn failed(&self, backend: &Arc<Backend>, why: &str) {
        let mut members = self.members();
        let Some(member) = find(&mut members, backend).filter(|member| !member.out) else { return };
        tracing::warn!("{why}");
        (member.out, member.credit) = (true, 0);
        self.recount(&members);
        drop(members);
        tokio::spawn(self.clone().revive(Arc::clone(backend)));
    }

    /// Probe the backend until it is reachable, removed, or announced again.
    async fn revive(self, backend: Arc<Backend>) {
        let mut wait = *PROBE_DELAY.start();
        loop {
            tokio::select! {
                () = backend.gone.cancelled() => return,
                () = sleep(wait) => {}
            }
            if !find(&mut self.members(), &backend).is_some_and(|member| member.out) {
                return;
            }
            if backend.connect(self.limit).await.is_ok() {
                let mut members = self.members();
                if let Some(member) = find(&mut members, &backend).filter(|member| member.out) {
                    tracing::info!("{} can be reached again", backend.place());
                    member.out = false;
                    self.recount(&members);
                }
                return;
            }
            wait = (wait * 2).min(*PROBE_DELAY.end());
        }
    }

    fn recount(&self, members: &[Member]) {
        let count = Count { all: members.len(), up: members.iter().filter(|member| member.takes()).count() };
        self.count.send_if_modified(|said| std::mem::replace(said, count) != count);
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find<'a>(members: &'a mut [Member], backend: &Arc<Backend>) -> Option<&'a mut Member> {
    members.iter_mut().find(|member| Arc::ptr_eq(&member.backend, backend))
}
