//! The engine: decides, for the whole cluster, where each unit goes. Every daemon has one; one of them leads.
//!
//! Owns leadership and the loop around [`plan::schedule`](crate::plan::schedule): mirror, plan, commit. It must never
//! talk to a host, and never write without the leader's key, as this leader wrote it, among the transaction's guards:
//! one that has lost its lease without knowing can't do harm, not for a millisecond, and neither can a commit of its
//! own that comes late.
//!
//! ```text
//!  candidate ── leader key absent ──▶ lead: mirror ──▶ apply ──▶ plan ──▶ commit (guarded by the leader's key)
//!      ▲                                      ▲                              │ conflict, unknown outcome: list again
//!      └──────────── lease lost ──────────────┴──────────────────────────────┘ done: wait until the mirror has seen it
//! ```

mod commit;
mod grace;
mod state;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::{LeaseOf, Metrics};
use crate::model::machine::Machine;
use crate::model::revision::Revision;
use crate::plan::check::always;
use crate::plan::schedule::{Scheduler, full};
use crate::reconcile::{Backoff, Heartbeat, Outage};
use crate::registry::commit::batch::Packed;
use crate::registry::commit::leader;
use crate::registry::keys::Key;
use crate::registry::mirror::{Mirror, Update};
use crate::registry::records::leader::LeaderRecord;
use crate::registry::{decode, point};
use crate::store::lease::Lease;
use crate::store::{Error, Event, Guard, Kv, Store};

use commit::Fence;
use grace::PresenceGrace;
use state::LeaderState;

/// Changes that come this close together are planned together: long enough for a batch, too short to be felt.
const COALESCE: Duration = Duration::from_millis(2);

/// But nothing waits longer for what may come behind it: in a large cluster something always does.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often everything is planned from scratch, expecting nothing: a difference is a bug.
const SELF_CHECK: Duration = Duration::from_secs(300);

/// What an engine is told once.
#[derive(Debug, Clone)]
pub struct Options {
    /// The host it runs on.
    pub machine: Machine,
    /// How long the cluster may be without a leader after its host died.
    pub ttl: Duration,
    /// The time.
    pub clock: Clock,
}

/// How the engine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It waits for leadership.
    Candidate,
    /// It leads.
    Leading {
        /// Since when, ms since the epoch.
        since: u64,
        /// Hosts that are alive.
        hosts: usize,
        /// Units submitted.
        units: usize,
        /// Units that no host fits.
        waiting: usize,
    },
}

/// The engine of one daemon.
#[derive(Debug)]
pub struct Engine<S> {
    store: S,
    options: Options,
    status: watch::Sender<Status>,
    pulse: Heartbeat,
    metrics: Metrics,
}

impl<S: Store> Engine<S> {
    /// An engine, and how it stands from now on.
    pub fn new(store: S, options: Options) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(Status::Candidate);
        let (pulse, metrics) = (Heartbeat::default(), Metrics::default());
        (Self { store, options, status, pulse, metrics }, receiver)
    }

    /// Its sign of life.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        self.pulse.clone()
    }

    /// Count what it does in `metrics`.
    #[must_use]
    pub fn measured(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Stand for leadership and lead, until `stop`; then give leadership back.
    pub async fn run(&self, stop: CancellationToken) {
        let mut backoff = Backoff::new(self.options.ttl, self.options.machine.id.as_str());
        let mut outage = Outage::new("the store (as engine)", self.options.clock);
        loop {
            let (lease, fence) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // A lease that was granted and not used runs out by itself.
                campaign = self.campaign() => match campaign {
                    Ok(won) => won,
                    Err(error) => {
                        outage.failed(&error);
                        tokio::select! {
                            biased;
                            () = stop.cancelled() => return,
                            () = backoff.wait() => continue,
                        }
                    }
                },
            };
            outage.works();
            backoff.reset();
            tracing::info!("leading");
            self.metrics.leads(Some(self.options.clock.now_ms()));
            self.metrics.lease_held(LeaseOf::Leadership, true);
            self.lead(&lease, fence, &stop).await;
            self.metrics.leads(None);
            self.metrics.lease_held(LeaseOf::Leadership, false);
            self.status.send_replace(Status::Candidate);
            if stop.is_cancelled() {
                // The next leader needn't wait for the TTL. If the store is away it has to.
                let _ = tokio::time::timeout(Duration::from_secs(1), lease.revoke()).await;
                return;
            }
            self.metrics.lease_lost(LeaseOf::Leadership);
            tracing::warn!("no longer leading: the leader's lease has ended");
        }
    }

    /// Wait until nobody leads, and be the one who does.
    async fn campaign(&self) -> Result<(Lease<S>, Fence), Error> {
        let key = Key::Leader.to_string();
        let mut mirror = Mirror::new(self.store.clone(), &key);
        let mut holder: Option<Kv> = None;
        loop {
            self.pulse.beat();
            let update = tokio::select! {
                biased;
                update = mirror.next() => update?,
                () = self.pulse.due() => continue,
            };
            match update {
                Update::Reset { kvs, .. } => holder = kvs.into_iter().find(|kv| kv.key == key),
                Update::Batch(batch) => {
                    for event in batch.events {
                        match event {
                            Event::Put(kv) if kv.key == key => holder = Some(kv),
                            Event::Delete(name) if name == key => holder = None,
                            _ => {}
                        }
                    }
                }
            }
            if let Some(kv) = &holder {
                // The daemon before this one on the same host: it is gone, and needn't be waited for. Another host with
                // the same id is none.
                let me = self.record(0);
                let mine = decode::<LeaderRecord>(kv).is_ok_and(|leader| LeaderRecord { since: 0, ..leader } == me);
                if let (true, Some(lease)) = (mine, kv.lease) {
                    self.store.revoke(lease).await?;
                }
                continue;
            }
            let lease = Lease::grant(&self.store, self.options.ttl).await?;
            match self.claim(Guard::Absent(key.clone()), &lease).await {
                Ok(fence) => return Ok((lease, fence)),
                // Somebody else was faster.
                Err(Error::Conflict) => lease.revoke().await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Who it is.
    fn record(&self, since: u64) -> LeaderRecord {
        let Machine { id, hostname, ip, .. } = self.options.machine.clone();
        LeaderRecord { machine: id, hostname, ip, since }
    }

    /// Write the leader's key.
    async fn claim(&self, guard: Guard, lease: &Lease<S>) -> Result<Fence, Error> {
        let leader = self.record(self.options.clock.now_ms());
        leader::claim(&self.store, &leader, lease.id(), guard).await.map(Fence)
    }

    /// Write the leader's key anew, after which nothing that was sent under the old one can be done any more.
    async fn claim_again(&self, lease: &Lease<S>) -> Result<Fence, Error> {
        let key = Key::Leader.to_string();
        let (_, held) = point(&self.store, &key, None).await?;
        let Some(kv) = held.filter(|kv| kv.lease == Some(lease.id())) else { return Err(Error::LeaseLost) };
        self.claim(Guard::Unchanged(key, kv.revision), lease).await
    }

    async fn lead(&self, lease: &Lease<S>, fence: Fence, stop: &CancellationToken) {
        let mut fence = Some(fence);
        let since = self.options.clock.now_ms();
        let mut backoff = Backoff::new(self.options.ttl, self.options.machine.id.as_str());
        let mut outage = Outage::new("the store (as leader)", self.options.clock);
        let mut mirror = Mirror::new(self.store.clone(), "");
        let mut state = LeaderState::default();
        let mut follow_at = Instant::now();
        let mut self_check = Instant::now() + SELF_CHECK;
        // Nothing is planned before the mirror has seen what was committed last.
        let mut committed = Revision::default();
        let mut waiting = 0;
        let mut grace = PresenceGrace::new(self.options.ttl);
        let mut grace_ends: Option<Instant> = None;
        loop {
            self.pulse.beat();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = lease.lost() => return,
                // Cancel-safe: the wait is to a point in time, and a mirror goes on where it was.
                update = async { tokio::time::sleep_until(follow_at).await; mirror.next().await } => match update {
                    Ok(update) => {
                        outage.works();
                        state.follow(update);
                    }
                    Err(error) => {
                        outage.failed(&error);
                        follow_at = Instant::now() + backoff.next_wait();
                        continue;
                    }
                },
                () = self.pulse.due() => continue,
                () = tokio::time::sleep_until(grace_ends.unwrap_or(self_check)) => {
                    if self_check <= Instant::now() {
                        self_check = Instant::now() + SELF_CHECK;
                        if let Some(scheduler) = state.scheduler() {
                            check_self(scheduler, self.options.clock.now_ms());
                        }
                    }
                }
            }
            let patience = Instant::now() + PATIENCE;
            let mut changes = 1;
            while let quiet = patience.min(Instant::now() + COALESCE)
                && let Ok(Ok(update)) = tokio::time::timeout_at(quiet, mirror.next()).await
            {
                state.follow(update);
                changes += 1;
            }
            if state.leader() != Some(lease.id()) {
                // Taken over or deleted: every guard would fail.
                return;
            }
            if state.needs_list() {
                mirror.reset();
                continue;
            }
            let now_ms = self.options.clock.now_ms();
            grace_ends = state
                .scheduler()
                .and_then(|scheduler| grace.evaluate(scheduler.cluster(), &self.options.machine.id, now_ms));
            if grace_ends.is_some() || state.revision() < committed {
                continue;
            }
            self.metrics.coalesced(changes);
            let began = Instant::now();
            let planned = self.plan(&mut state, &mut fence, lease, &mut waiting).await;
            self.metrics.reconciled(began.elapsed(), planned.as_ref().err().map(Error::class));
            match planned {
                Ok(last) => {
                    backoff.reset();
                    committed = last.unwrap_or(committed);
                }
                Err(Error::LeaseLost) => return,
                Err(error) => {
                    // Done, not done, or not known: look at what is, and let it not be done later.
                    fence = None;
                    if error != Error::Conflict {
                        outage.failed(&error);
                    }
                    mirror.reset();
                    follow_at = Instant::now() + backoff.next_wait();
                    continue;
                }
            }
            if let Some(scheduler) = state.scheduler() {
                let (hosts, units) = (scheduler.cluster().machines.len(), scheduler.cluster().units.len());
                self.metrics.pictures(hosts, units, waiting);
                self.status.send_if_modified(|status| {
                    let now = Status::Leading { since, hosts, units, waiting };
                    let changed = *status != now;
                    *status = now;
                    changed
                });
            }
        }
    }

    /// Plan what is dirty and commit it; the revision of the last commit, if there was anything to do.
    async fn plan(
        &self,
        state: &mut LeaderState,
        fence: &mut Option<Fence>,
        lease: &Lease<S>,
        waiting: &mut usize,
    ) -> Result<Option<Revision>, Error> {
        let fence = match *fence {
            Some(fence) => fence,
            None => *fence.insert(self.claim_again(lease).await?),
        };
        let mut last = None;
        for repair in state.repairs(fence) {
            last = Some(self.store.commit(repair.txn).await?);
        }
        let now = self.options.clock.now_ms();
        let Some(scheduler) = state.scheduler().filter(|scheduler| scheduler.is_dirty()) else { return Ok(last) };
        let plan = scheduler.plan(now);
        *waiting = plan.report.waiting;
        for Packed { txn, tags } in commit::transactions(&plan, scheduler.cluster(), fence) {
            self.pulse.beat();
            let done = self.store.commit(txn).await;
            for task in tags.iter().filter_map(|step| step.task) {
                self.metrics.tasks(task, 1, done.is_ok());
            }
            last = Some(done?);
            for decision in tags.iter().filter_map(|step| step.completes) {
                tracing::info!(unit = %decision.unit, "{}", decision.why);
            }
        }
        for collection in commit::collections(&plan, fence) {
            match self.store.commit(collection.txn).await {
                Ok(revision) => last = Some(revision),
                // The same file was submitted again meanwhile, so it stays.
                Err(Error::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(last)
    }
}

/// Plan from scratch and check the invariants: both must find nothing.
fn check_self(scheduler: &Scheduler, now_ms: u64) {
    if scheduler.is_dirty() {
        return;
    }
    for violation in always(scheduler.cluster()) {
        tracing::error!("the schedule breaks a rule: {violation}; please report this");
    }
    for decision in full(scheduler.cluster().clone(), now_ms).decisions {
        tracing::error!("planning from scratch would decide otherwise: {decision}; please report this");
    }
}
