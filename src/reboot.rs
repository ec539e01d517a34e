//! The reboots of this host that people ask for: it takes a slot, waits until its units have left, reboots, takes its
//! units back, and gives up its slot. If a program on the host has asked, the program takes the slot, reboots the host,
//! and says when it is back (`registry::reboots::program`); everything else is the same. Owns how often is looked, and
//! what is logged; `plan::reboot` decides what comes next, and the leader who leaves when. Must never reboot a host
//! that has no slot.
//!
//! All that it knows is in the store, and in one boot file: a daemon that is restarted goes on where it was. Each
//! transaction reads again what it changes, so that what a person asks meanwhile counts.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::cluster::Cluster;
use crate::model::maintenance::Maintenance;
use crate::model::name::MachineId;
use crate::model::reboot::{Group, Holder, Reboots};
use crate::model::revision::Revision;
use crate::plan::drain::Found;
use crate::plan::reboot::{Boot, Left, Release, Step, Turn, before, is_seen, is_settled, left, next};
use crate::reconcile::Backoff;
use crate::registry::drains::looked;
use crate::registry::keys::{self, Key};
use crate::registry::mirror::{Mirror, Update};
use crate::registry::reader::Reader;
use crate::registry::reboots::{self, Refusal};
use crate::registry::{maintenance, settings};
use crate::store::{Error, Event, Store};
use crate::systemd::{self, Systemd};

/// How often a host with a slot looks at its units.
const LOOK: Duration = Duration::from_secs(2);
/// A look at a large cluster takes time, of which looks take a fifth at most.
const SHARE: u32 = 4;
/// How long a host waits that isn't next, for each host before it, and at most.
const TURN: Duration = Duration::from_secs(2);
const LONGEST_TURN: Duration = Duration::from_secs(60);
/// How long after a reboot was asked for it is asked for again.
const AGAIN: Duration = Duration::from_secs(30);

/// The boot file with the generation of the request for which a reboot was begun in this boot.
const BEGUN: &str = "reboot.json";

/// This host.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its id.
    pub id: MachineId,
    /// Its present boot.
    pub boot: String,
    /// The TTL of its lease.
    pub ttl: Duration,
    /// The wall clock.
    pub clock: Clock,
}

/// What goes on with the reboots of one host.
pub struct Rebooter<S, H> {
    reader: Reader<S>,
    host: H,
    options: Options,
    metrics: Metrics,
    /// The reboots of all groups.
    groups: BTreeMap<Group, Reboots>,
    /// When its systemd was asked for the reboot last.
    requested: Option<Instant>,
    /// Whether nothing was left on the host when it was looked at last, for this reboot.
    was_empty: bool,
}

/// Why a step was not completed.
enum Trouble {
    /// The store: it is tried again.
    Store(Error),
    /// The record can't be read, or others change it all the time.
    Other(String),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Store(error) | Refusal::Lost(error) => Self::Store(error),
            Refusal::Damaged(corrupt) => Self::Other(corrupt.to_string()),
            Refusal::Away(_) | Refusal::TooMany | Refusal::Contended => {
                Self::Other("others change the reboots all the time".into())
            }
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl<S: Store, H: Systemd> Rebooter<S, H> {
    /// For the host on which it runs.
    #[must_use]
    pub fn new(store: S, host: H, options: Options) -> Self {
        let (reader, metrics, groups) = (Reader::new(store), Metrics::default(), BTreeMap::new());
        Self { reader, host, options, metrics, groups, requested: None, was_empty: false }
    }

    /// Count the hosts that are to reboot in `metrics`.
    #[must_use]
    pub fn measured(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Go on with what is asked of this host, until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut mirror = Mirror::new(self.reader.store().clone(), keys::REBOOTS);
        let mut backoff = Backoff::new(self.options.ttl, self.options.id.as_str());
        // When something is to be done without a change.
        let mut due = None;
        loop {
            let changed = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                update = mirror.next() => update.map(|update| self.learn(update)).map_err(Trouble::Store),
                () = until(due) => Ok(()),
            };
            let done = async {
                changed?;
                self.step().await
            };
            // A store that doesn't answer must not hold up the end of the daemon. What a step has begun, the next
            // daemon finds in the store.
            let done = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                done = done => done,
            };
            let pause = match done {
                Ok(pause) => {
                    backoff.reset();
                    pause
                }
                // The agent, which needs the store as well, says so.
                Err(Trouble::Store(error)) => {
                    let pause = backoff.next_wait();
                    tracing::debug!(%error, "the reboot of this host waits for the store");
                    // The mirror would try again at once.
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => Some(Duration::ZERO),
                    }
                }
                Err(Trouble::Other(why)) => {
                    tracing::warn!("the reboot of this host doesn't go on: {why}");
                    Some(AGAIN)
                }
            };
            due = pause.map(|pause| Instant::now() + pause);
        }
    }

    /// Take in what has changed.
    fn learn(&mut self, update: Update) {
        match update {
            Update::Reset { kvs, .. } => self.groups = reboots::groups(&self.reader, &kvs).into_iter().collect(),
            Update::Batch(batch) => {
                for event in batch.events {
                    match event {
                        Event::Put(kv) => self.groups.extend(reboots::groups(&self.reader, &[kv])),
                        Event::Delete(key) => {
                            self.groups.retain(|group, _| Key::Reboots(group.clone()).to_string() != key)
                        }
                    }
                }
            }
        }
        let count = |of: fn(&Reboots) -> usize| self.groups.values().map(of).sum();
        self.metrics.reboots(count(|all| all.holders.len()), count(|all| all.queue.len()));
    }

    /// Do what comes next. Returns when to do so again without a change; `None` if nothing is asked of the host.
    async fn step(&mut self) -> Result<Option<Duration>, Trouble> {
        let Options { id, boot, .. } = self.options.clone();
        let Some((group, all)) = self.mine() else { return Ok(None) };
        let begun = self.host.read_boot_file(BEGUN).await.map_err(|error| Trouble::Other(error.to_string()))?;
        let begun = begun.and_then(|text| serde_json::from_str(&text).ok());
        let asked = maintenance::asked_of(&self.reader, &id).await?;
        let asked = asked.map_err(|corrupt| Trouble::Other(corrupt.to_string()))?;
        let next = next(&all, (&id, Boot { id: &boot, begun }), &asked);
        self.was_empty &= matches!(next, Step::Reboot | Step::Permit);
        match next {
            Step::Nothing => Ok(None),
            Step::Take => self.take(&group, &all).await.map(Some),
            Step::Release(why) => self.release(&group, why).await,
            Step::Reboot => self.reboot(&group, &all).await.map(Some),
            Step::Permit => self.permit(&group, &all).await.map(Some),
            Step::BringBack => {
                tracing::info!("this host has rebooted, and takes its units back");
                reboots::bring_back(&self.reader, &group, &id).await?;
                Ok(Some(LOOK))
            }
            Step::Settle => self.settle(&group).await,
        }
    }

    /// The reboots of which this host is one: those of the group in which it has a slot, whatever it waits for.
    fn mine(&self) -> Option<(Group, Reboots)> {
        let id = &self.options.id;
        let holds = self.groups.iter().find(|(_, all)| all.holder(id).is_some());
        let waits = || self.groups.iter().find(|(_, all)| all.has(id));
        holds.or_else(waits).map(|(group, all)| (group.clone(), all.clone()))
    }

    async fn take(&self, group: &Group, all: &Reboots) -> Result<Duration, Trouble> {
        let me = &self.options.id;
        let slots = settings::read(&self.reader).await?.reboot_slots();
        if reboots::turn_of(&self.reader, all, me, slots).await? != Turn::Now {
            let turns = u32::try_from(before(all, me).count() + 1).unwrap_or(u32::MAX);
            return Ok(TURN.saturating_mul(turns).min(LONGEST_TURN));
        }
        let now = self.options.clock.now_ms();
        let claim = |all: &Reboots, began: Option<Revision>, revision: Revision| {
            // It may have been cancelled meanwhile.
            let request = all.queued(me)?;
            Some((Holder::of(request.clone(), now), request.drain(began, (now, revision))))
        };
        if reboots::take(&self.reader, (group, me), (slots, claim)).await?.holder(me).is_some() {
            tracing::info!("this host is to reboot, and is drained");
        }
        Ok(LOOK)
    }

    async fn release(&self, group: &Group, why: Release) -> Result<Option<Duration>, Trouble> {
        reboots::release(&self.reader, group, &self.options.id, false).await?;
        match why {
            Release::RebootedBefore => tracing::info!("this host was to reboot, and has done so by itself"),
            Release::Undrained => tracing::warn!("this host was to reboot, but isn't drained any more: it stays up"),
            Release::Done => tracing::info!("this host was to reboot, and has"),
        }
        Ok(None)
    }

    async fn reboot(&mut self, group: &Group, all: &Reboots) -> Result<Duration, Trouble> {
        let began = Instant::now();
        // It is going down, and answers to nobody any more.
        if let Some(rest) = self.requested.and_then(|at| (at + AGAIN).checked_duration_since(began)) {
            return Ok(rest);
        }
        let why = match self.left().await? {
            Some(Left::Nothing) => match self.begin(group, all).await? {
                Ok(()) => {
                    self.requested = Some(Instant::now());
                    tracing::info!("no unit is left that could run elsewhere: this host reboots");
                    return Ok(AGAIN);
                }
                Err(error) => format!("it can't be rebooted: {error}"),
            },
            left => held_up(left),
        };
        self.wait(group, all, &why, began).await
    }

    /// Once nothing is left on this host, its program may reboot it.
    async fn permit(&mut self, group: &Group, all: &Reboots) -> Result<Duration, Trouble> {
        let began = Instant::now();
        let left = self.left().await?;
        if left != Some(Left::Nothing) {
            return self.wait(group, all, &held_up(left), began).await;
        }
        if reboots::begin(&self.reader, group, &self.options.id).await? {
            tracing::info!("no unit is left that could run elsewhere: the program that asked may reboot this host");
        }
        Ok(LOOK)
    }

    /// What is left on this host; `None` if that isn't known for certain.
    async fn left(&mut self) -> Result<Option<Left>, Trouble> {
        let is_drained = |asked: &Maintenance| asked.drain.is_some();
        let found = self.look(is_drained, |found, id| found.drained.get(id).map_or(Left::Nothing, left)).await?;
        // What was decided before the leader knew of the drain may yet arrive.
        let was_empty = std::mem::replace(&mut self.was_empty, found == Some(Left::Nothing));
        Ok(found.filter(|left| *left != Left::Nothing || was_empty))
    }

    /// Say what holds the reboot up, if there is anything new to say. Returns when to look again; the look began at
    /// `began`.
    async fn wait(&self, group: &Group, all: &Reboots, error: &str, began: Instant) -> Result<Duration, Trouble> {
        if all.holder(&self.options.id).is_some_and(|holder| holder.error != error) {
            if !error.is_empty() {
                tracing::warn!("the reboot of this host doesn't go on: {error}");
            }
            reboots::note(&self.reader, group, &self.options.id, error).await?;
        }
        Ok(pause(began))
    }

    /// Noted in `/run` first, which is empty after the reboot, then in the store: whoever finds the second note without
    /// the first knows that the host has rebooted.
    async fn begin(&self, group: &Group, all: &Reboots) -> Result<Result<(), systemd::Error>, Trouble> {
        let request = all.holder(&self.options.id).and_then(|holder| holder.request.as_ref());
        let generation = request.map(|request| request.generation.0.to_string()).unwrap_or_default();
        if let Err(error) = self.host.write_boot_file(BEGUN, &generation).await {
            return Ok(Err(error));
        }
        if !reboots::begin(&self.reader, group, &self.options.id).await? {
            return Err(Trouble::Other("it has been cancelled meanwhile".into()));
        }
        Ok(self.host.request_reboot().await)
    }

    async fn settle(&self, group: &Group) -> Result<Option<Duration>, Trouble> {
        let began = Instant::now();
        let is_restored = |asked: &Maintenance| asked.restore.is_some();
        let settled = self.look(is_restored, |found, id| found.returning.get(id).is_none_or(is_settled)).await?;
        // Without an answer, the restore is over, which the next step sees, or the leader hasn't seen this host.
        if settled.unwrap_or(false) {
            return self.release(group, Release::Done).await;
        }
        Ok(Some(pause(began)))
    }

    /// A look at this host, if this is asked of it.
    async fn look<T: Send + 'static>(
        &self,
        is_asked: fn(&Maintenance) -> bool,
        of: impl FnOnce(Found, &MachineId) -> T + Send + 'static,
    ) -> Result<Option<T>, Trouble> {
        let (id, clock) = (&self.options.id, self.options.clock);
        // Of a host that the leader hasn't seen, nothing is decided, and so nothing is known.
        let is_asked = |cluster: &Cluster| is_seen(cluster, id) && cluster.asked_of(id).is_some_and(is_asked);
        let host = id.clone();
        Ok(looked(&self.reader, clock, is_asked, move |_, found| of(found, &host)).await?)
    }
}

/// How long to wait after a look that began at `began`.
fn pause(began: Instant) -> Duration {
    LOOK.max(began.elapsed() * SHARE)
}

/// What holds a reboot up, empty if units are still leaving: `gpu.service fits no other host`
fn held_up(left: Option<Left>) -> String {
    let Some(Left::Stuck(units)) = left else { return String::new() };
    match &*units {
        [unit] => format!("{unit} fits no other host"),
        [unit, rest @ ..] => format!("{unit} and {} more fit no other host", rest.len()),
        [] => String::new(),
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
