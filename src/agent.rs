//! The agent: makes one host be what its slice of the schedule says, and reports what it is.
//!
//! Owns the loop, the host's presence and its reports. It must never look at another host's slice, never decide where a unit
//! goes, and never touch a unit because the store, the leader or the daemon went away: only because its slice says so.
//!
//! One task. It waits for a change of the slice, a signal of systemd or a timer, looks at what they concern, asks
//! [`converge`](crate::plan::converge) what is needed, does it, and publishes what has changed. Nothing in it waits for a job.

mod ledger;
mod presence;
mod publish;
mod unit;
mod units;
mod work;

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::machine::Machine;
use crate::model::revision::Revision;
use crate::reconcile::{Backoff, Outage};
use crate::registry::keys;
use crate::registry::mirror::Mirror;
use crate::store::lease::Lease;
use crate::store::{self, Store};
use crate::systemd::{self, Event, Systemd};

use units::Units;

/// What comes close together is looked at together: a batch arrives in several commits, and its jobs end one after the other. The
/// more is under way, the longer the next signal is waited for: a millisecond for each unit, between these two. systemd needs more
/// than that for a unit, so it isn't kept waiting; and what it needs for each pass, however small, is needed less often.
const COALESCE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// But nothing waits longer for what may come behind it: a host can be busy for minutes.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often everything is compared with the disk and with systemd, in case a signal was lost after all.
const FULL_CHECK: Duration = Duration::from_secs(300);

/// How long a unit whose file could not be written or removed is left alone.
const HOLD: Duration = Duration::from_secs(30);

/// What an agent is told once.
#[derive(Debug, Clone)]
pub struct Options {
    /// The host, as it presents itself to the cluster.
    pub machine: Machine,
    /// How long the host may be silent before the cluster takes it for dead.
    pub ttl: Duration,
    /// The time.
    pub clock: Clock,
}

/// How the agent stands, for the API's readiness and the status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The host isn't registered, and this is why.
    Away(String),
    /// The host is registered.
    Present {
        /// Units in its slice.
        units: usize,
        /// Whether nothing is under way.
        settled: bool,
    },
}

/// How soon to look again whether the host is still known to be part of the cluster.
const UNSURE: Duration = Duration::from_millis(500);

/// How far a pass got.
enum Progress {
    /// To its end.
    Done,
    /// It left things as they are: for all this host knows the cluster may have taken it for dead.
    Unsure,
}

/// Why a pass could not be finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Store(#[from] store::Error),
    #[error("{0}")]
    Systemd(#[from] systemd::Error),
}

/// Why serving ended.
enum End {
    /// The daemon stops.
    Stopped,
    /// The host's presence is gone: register again.
    Lost,
}

/// The agent of one host.
#[derive(Debug)]
pub struct Agent<S, H> {
    store: S,
    host: H,
    options: Options,
    status: watch::Sender<Status>,
    units: Units,
    /// The revision of the host's key as this daemon wrote it last; `None` before, and while an earlier request may yet be done.
    claimed: Option<Revision>,
}

impl<S: Store, H: Systemd> Agent<S, H> {
    /// An agent, and how it stands from now on.
    pub fn new(store: S, host: H, options: Options) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(Status::Away("starting".into()));
        let units = Units::new(options.clock);
        (Self { store, host, options, status, units, claimed: None }, receiver)
    }

    /// Run until `stop`. Units and presence are left as they are: whoever comes back goes on with them.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut events = self.host.events();
        *self.units.horizon() = ledger::read_horizon(&self.host).await;
        loop {
            let lease = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Cancel-safe enough: a lease granted and not noted runs out by itself.
                lease = self.register() => lease,
            };
            self.units.begin();
            match self.serve(&lease, &mut events, &stop).await {
                End::Stopped => return,
                End::Lost => {
                    tracing::warn!("the cluster took this host for dead; registering again");
                    self.status.send_replace(Status::Away("registering again".into()));
                }
            }
        }
    }

    async fn serve(
        &mut self,
        lease: &Lease<S>,
        events: &mut mpsc::UnboundedReceiver<Event>,
        stop: &CancellationToken,
    ) -> End {
        let id = self.options.machine.id.clone();
        let mut mirror = Mirror::new(self.store.clone(), &keys::slice(&id));
        let mut backoff = Backoff::new(self.options.ttl, id.as_str());
        let mut store_outage = Outage::new("the store", self.options.clock);
        let mut host_outage = Outage::new("systemd", self.options.clock);
        // A new presence begins with a look at everything.
        let mut full_check = Instant::now();
        let mut follow_at = Instant::now();
        let mut retry_at: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                () = lease.lost() => return End::Lost,
                // Both halves are cancel-safe: the wait is to a point in time, and a mirror goes on where it was.
                update = async { tokio::time::sleep_until(follow_at).await; mirror.next().await } => match update {
                    Ok(update) => {
                        store_outage.works();
                        backoff.reset();
                        self.units.follow(update);
                    }
                    Err(error) => {
                        store_outage.failed(&error);
                        follow_at = Instant::now() + backoff.next_wait();
                    }
                },
                // `recv` is cancel-safe; a closed channel would be a dead adapter, which the full check bridges. After the mirror:
                // events are taken below in any case, and a host where something happens all the time must still hear what it is told.
                Some(event) = events.recv() => self.units.note(&event),
                () = tokio::time::sleep_until(retry_at.unwrap_or(full_check)) => {
                    if full_check <= Instant::now() {
                        full_check = Instant::now() + FULL_CHECK;
                        self.units.check_all();
                    }
                }
            }
            let patience = Instant::now() + PATIENCE;
            loop {
                let busy = u32::try_from(self.units.under_way()).unwrap_or(u32::MAX);
                let quiet = Duration::from_millis(1).saturating_mul(busy).clamp(COALESCE.0, COALESCE.1);
                let quiet = patience.min(Instant::now() + quiet);
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(quiet) => break,
                    Some(event) = events.recv() => self.units.note(&event),
                    // A failure here is met again by whoever follows next, who counts it.
                    Ok(update) = mirror.next(), if follow_at <= Instant::now() => self.units.follow(update),
                }
            }
            retry_at = match self.pass(lease).await {
                Ok(Progress::Done) => {
                    host_outage.works();
                    self.units.next_look().map(|wait| Instant::now() + wait)
                }
                Ok(Progress::Unsure) => Some(Instant::now() + UNSURE),
                Err(Trouble::Store(store::Error::LeaseLost | store::Error::Conflict)) => return End::Lost,
                Err(Trouble::Store(error)) => {
                    store_outage.failed(&error);
                    Some(Instant::now() + backoff.next_wait())
                }
                Err(Trouble::Systemd(error)) => {
                    host_outage.failed(&error);
                    Some(Instant::now() + backoff.next_wait())
                }
            };
            let (units, settled) = (self.units.len(), self.units.is_settled() && retry_at.is_none());
            self.status.send_if_modified(|status| {
                let now = Status::Present { units, settled };
                let changed = *status != now;
                *status = now;
                changed
            });
        }
    }
}
