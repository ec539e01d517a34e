//! The engine: decides, for the whole cluster, where each unit goes. Every daemon has one; one of them leads.
//!
//! Owns leadership and the loop around [`plan::schedule`](crate::plan::schedule): mirror, plan, commit. Must never talk
//! to a host, and never write without the leader's key, as this leader wrote it, among the transaction's guards: then a
//! leader that has lost its lease without noticing can do no harm, and neither can a late commit of its own.
//!
//! ```text
//!  candidate -- leader key absent --> lead: mirror --> apply --> plan --> commit (guarded by the leader's key)
//!      ^                                      ^                              | conflict, unknown outcome: list again
//!      +------------ lease lost --------------+------------------------------+ done: wait until the mirror has seen it
//! ```

mod commit;
mod cost;
mod election;
mod grace;
mod lead;
mod planner;
mod sets;
mod state;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::{LeaseOf, Metrics};
use crate::model::machine::Machine;
use crate::model::name::{UnitHash, UnitName};
use crate::reconcile::{Backoff, Heartbeat, Outage};
use crate::registry::records::leader::LeaderRecord;
use crate::registry::sight::LastSeen;
use crate::store::Store;

pub use crate::plan::schedule::{Brake, Braked};
pub use crate::registry::sight::Sight;
use cost::Cost;
use lead::Term;

/// What an engine is created with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The host it runs on.
    pub machine: Machine,
    /// How long the cluster may be without a leader after its host died.
    pub ttl: Duration,
    /// When the units of hosts that are gone are held.
    pub brake: Brake,
    /// The time.
    pub clock: Clock,
}

/// The engine's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It waits to become leader.
    Candidate,
    /// It leads.
    Leading {
        /// Since when, ms since the epoch.
        since: u64,
        /// Hosts that are alive.
        hosts: usize,
        /// Submitted units.
        units: usize,
        /// Units that no host fits.
        waiting: usize,
        /// The hosts whose units are held after a mass loss.
        braked: Option<Braked>,
    },
}

/// The engine of one daemon.
#[derive(Debug)]
pub struct Engine<S> {
    store: S,
    options: Options,
    status: watch::Sender<Status>,
    sight: watch::Sender<Sight>,
    pulse: Heartbeat,
    metrics: Metrics,
    /// Units that an earlier term of this engine couldn't plan in time, with the files they had.
    left_out: Mutex<BTreeMap<UnitName, UnitHash>>,
}

impl<S: Store> Engine<S> {
    /// An engine, and a receiver of its status.
    pub fn new(store: S, options: Options) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(Status::Candidate);
        let (sight, pulse, metrics) = (watch::Sender::default(), Heartbeat::default(), Metrics::default());
        (Self { store, options, status, sight, pulse, metrics, left_out: Mutex::default() }, receiver)
    }

    /// The heartbeat that the watchdog checks.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        self.pulse.clone()
    }

    /// Report to `metrics`.
    #[must_use]
    pub fn measured(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Show in `sight` what is known of the cluster, for when the store is unreachable.
    #[must_use]
    pub fn showing(self, sight: watch::Sender<Sight>) -> Self {
        Self { sight, ..self }
    }

    /// Campaign for leadership and lead, until `stop`; then resign.
    pub async fn run(&self, stop: CancellationToken) {
        let mut backoff = Backoff::new(self.options.ttl, self.options.machine.id.as_str());
        let mut outage = Outage::new("the store (as engine)", self.options.clock);
        loop {
            let (lease, claim) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // A lease that was granted and not used expires by itself.
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
            let planner = Term::new(self, &lease, claim, &stop).run().await;
            self.metrics.leads(None);
            self.metrics.lease_held(LeaseOf::Leadership, false);
            self.status.send_replace(Status::Candidate);
            self.sees(None);
            // The next leader then needn't wait for the TTL, unless the store is unreachable.
            let _ = tokio::time::timeout(Duration::from_secs(1), lease.revoke()).await;
            if stop.is_cancelled() {
                return;
            }
            self.metrics.lease_lost(LeaseOf::Leadership);
            tracing::warn!("no longer leading: the leader's lease has ended");
            // A computation that was abandoned runs to its end. A second one beside it would only slow it down.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = planner.end() => {}
            }
        }
    }

    /// The store answers, and this is the leader.
    fn sees(&self, leader: Option<LeaderRecord>) {
        self.sight.send_replace(Sight { leader, cluster: None });
    }

    /// The store answers again: what was seen before is dropped, so that no change has to copy it.
    fn sees_again(&self) {
        self.sight.send_if_modified(|sight| sight.cluster.take().is_some());
    }

    /// The store no longer answers: keep what was seen last.
    fn sees_no_more(&self, seen: LastSeen) {
        self.sight.send_if_modified(|sight| {
            let first = sight.cluster.is_none();
            sight.cluster.get_or_insert(seen);
            first
        });
    }

    fn left_out(&self) -> BTreeMap<UnitName, UnitHash> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leave a unit out of planning until it has another file.
    fn leave_out(&self, Cost { unit, hash, patterns, names }: Cost) {
        tracing::warn!(
            %unit,
            "planning took too long: {patterns} patterns of Conflicts= and Replaces= are compared with {names} names; \
             this unit is left out until its file changes"
        );
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).insert(unit, hash);
    }
}
