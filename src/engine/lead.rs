//! One term of leadership: follow the store, plan what changed, commit. Owns the order of these steps and the reaction
//! to each outcome. Must never plan before it has seen its last commit, and never write without the fence.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::{Steady, utc};
use crate::model::author::Author;
use crate::model::format::Format;
use crate::model::name::MachineId;
use crate::model::revision::Revision;
use crate::model::rollout::Phase;
use crate::plan::rollouts::Writes;
use crate::plan::schedule::{Braked, Plan, Scheduler};
use crate::reconcile::{Backoff, Outage};
use crate::registry::commit::batch::Packed;
use crate::registry::mirror::{Mirror, Update};
use crate::registry::sight::LastSeen;
use crate::store::lease::Lease;
use crate::store::{Error, Guard, Store, Txn};

use super::commit::{self, Done, Fence};
use super::cost::Suspect;
use super::election::Claim;
use super::grace::PresenceGrace;
use super::planner::Planner;
use super::sets::Taken;
use super::state::LeaderState;
use super::{Engine, Status};

/// Changes that arrive this close together are planned together: long enough for a batch, too short to be noticed.
const COALESCE: Duration = Duration::from_millis(2);

/// The longest that a change waits for others: in a large cluster there is always one more.
const MAX_COALESCE: Duration = Duration::from_millis(50);

/// How often everything is planned from scratch. This must find nothing to do; a difference is a bug.
const SELF_CHECK: Duration = Duration::from_secs(300);

/// A clock that differs from the time that has passed by more than this was set.
const CLOCK_SET_MS: u64 = 1_000;

/// A leader whose plan takes longer than this resigns, and leaves the most expensive unit out when it leads again. Half
/// of what the watchdog allows.
const MAX_PLANNING: Duration = Duration::from_secs(60);

/// One term of leadership.
pub(super) struct Term<'a, S: Store> {
    engine: &'a Engine<S>,
    lease: &'a Lease<S>,
    stop: &'a CancellationToken,
    /// `None` after a commit with an unknown outcome, and when the format changes: the leader's key must be written
    /// again first.
    fence: Option<Fence>,
    /// The format that was published with the leader's key, or is to be published.
    format: Format,
    /// When it began, ms since the epoch.
    since: u64,
    /// By what the scheduler counts how long the units of hosts that are gone have been held.
    time: Steady,
    planner: Planner,
    /// The suspected cause of a plan that takes too long.
    suspect: Suspect,
    mirror: Mirror<S>,
    state: LeaderState,
    grace: PresenceGrace,
    grace_ends: Option<Instant>,
    backoff: Backoff,
    outage: Outage,
    follow_at: Instant,
    self_check: Instant,
    /// The last commit: nothing is planned before the mirror has seen it.
    committed: Revision,
    /// The number of units that no host fits.
    waiting: usize,
    /// The mass loss that was announced last, while it lasts.
    braked: Option<Braked>,
    /// When there is something to do although nothing has happened: a hold on a host that is gone ends, or a rollout
    /// goes on.
    due: Option<Instant>,
}

/// What a leader waits for.
enum Wake {
    /// The term is over.
    Over,
    /// There is nothing to do yet.
    Idle,
    /// Something is due, or changes have arrived.
    Due(Vec<Update>),
}

/// What to commit for a plan.
struct Planned {
    /// The number of units that no host fits.
    waiting: usize,
    transactions: Vec<Packed<Done>>,
    collections: Vec<Packed<()>>,
}

impl Planned {
    fn of(rollouts: Writes, plan: &Plan, scheduler: &Scheduler, by: &Author, fence: Fence) -> Self {
        let transactions = commit::transactions(plan, rollouts, scheduler.cluster(), by, fence);
        let collections = commit::collections(plan, fence);
        Self { waiting: plan.report.waiting, transactions, collections }
    }
}

impl<'a, S: Store> Term<'a, S> {
    pub(super) fn new(engine: &'a Engine<S>, lease: &'a Lease<S>, claim: Claim, stop: &'a CancellationToken) -> Self {
        let options = &engine.options;
        let suspect = Suspect::default();
        Self {
            engine,
            lease,
            stop,
            fence: Some(claim.fence),
            format: claim.format,
            since: options.clock.now_ms(),
            time: Steady::new(options.clock),
            planner: Planner::start(options.clock),
            state: LeaderState::new(engine.left_out(), options.brake, suspect.clone()),
            suspect,
            mirror: Mirror::new(engine.store.clone(), ""),
            grace: PresenceGrace::new(options.ttl),
            grace_ends: None,
            backoff: Backoff::new(options.ttl, options.machine.id.as_str()),
            outage: Outage::new("the store (as leader)", options.clock),
            follow_at: Instant::now(),
            self_check: Instant::now() + SELF_CHECK,
            committed: Revision::default(),
            waiting: 0,
            braked: None,
            due: None,
        }
    }

    /// Lead until the lease has ended, another leader has taken over, or the engine is stopped. Returns the planner,
    /// which may still be computing.
    ///
    /// # Panics
    /// If the planner panics: a leader that can't plan must not remain leader.
    pub(super) async fn run(mut self) -> Planner {
        self.engine.sees(Some(self.engine.record(self.since, self.format)));
        while self.turn().await.is_continue() {}
        self.planner
    }

    async fn turn(&mut self) -> ControlFlow<()> {
        self.engine.pulse.beat();
        let updates = match self.wait().await {
            Wake::Over => return ControlFlow::Break(()),
            Wake::Idle => return ControlFlow::Continue(()),
            Wake::Due(updates) => updates,
        };
        // It is set again after the next plan.
        self.due = None;
        let changes = updates.len().max(1);
        self.compute(|state| updates.into_iter().for_each(|update| state.follow(update))).await?;
        if self.state.take_rolled_back() {
            tracing::debug!(commit = %self.committed, "the store was restored, and may have lost the last commit");
            self.committed = Revision::default();
        }
        if self.state.leader() != Some(self.lease.id()) {
            // Every guard would fail.
            tracing::debug!("another leader has taken over, or the leader's key was deleted");
            return ControlFlow::Break(());
        }
        if self.state.needs_list() {
            self.mirror.reset();
            return ControlFlow::Continue(());
        }
        if self.is_held_back() {
            return ControlFlow::Continue(());
        }
        self.engine.metrics.coalesced(changes);
        let began = Instant::now();
        let done = self.plan_and_commit().await?;
        self.engine.metrics.reconciled(began.elapsed(), done.as_ref().err().map(Error::class));
        match done {
            Ok(last) => {
                self.backoff.reset();
                self.committed = last.unwrap_or(self.committed);
                self.publish_status();
                ControlFlow::Continue(())
            }
            Err(Error::LeaseLost) => ControlFlow::Break(()),
            Err(error) => {
                self.list_again(&error);
                ControlFlow::Continue(())
            }
        }
    }

    /// Wait until something is due, then for further changes that follow closely.
    async fn wait(&mut self) -> Wake {
        let (mirror, follow_at) = (&mut self.mirror, self.follow_at);
        let due = self.due.map_or(self.self_check, |due| due.min(self.self_check));
        let alarm = self.grace_ends.unwrap_or(due);
        let first = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Wake::Over,
            () = self.lease.lost() => return Wake::Over,
            // Cancel-safe: the wait ends at a point in time, and a mirror keeps its position.
            update = async { tokio::time::sleep_until(follow_at).await; mirror.next().await } => match update {
                Ok(update) => {
                    self.outage.works();
                    self.engine.sees_again();
                    Some(update)
                }
                Err(error) => {
                    self.outage.failed(&error);
                    self.follow_at = Instant::now() + self.backoff.next_wait();
                    self.keep_in_sight();
                    return Wake::Idle;
                }
            },
            () = self.engine.pulse.due() => return Wake::Idle,
            () = tokio::time::sleep_until(alarm) => None,
        };
        if first.is_none() && self.check_itself().await.is_break() {
            return Wake::Over;
        }
        let mut updates: Vec<Update> = first.into_iter().collect();
        let latest = Instant::now() + MAX_COALESCE;
        while let quiet = latest.min(Instant::now() + COALESCE)
            && let Ok(Ok(update)) = tokio::time::timeout_at(quiet, self.mirror.next()).await
        {
            updates.push(update);
        }
        Wake::Due(updates)
    }

    /// The store no longer answers: what was seen last stays available. It is shared with the scheduler, not copied.
    fn keep_in_sight(&mut self) {
        let at = self.engine.options.clock.now_ms();
        if let Some(scheduler) = self.state.scheduler() {
            self.engine.sees_no_more(LastSeen { cluster: scheduler.snapshot(), at });
        }
    }

    /// Compute with the leader's state, on the planner's thread. `Break` if the term ended meanwhile. The heartbeat
    /// isn't renewed until it is done: a planner that never ends is a hang, which the watchdog must end.
    async fn compute<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut LeaderState) -> T + Send + 'static,
    ) -> ControlFlow<(), T> {
        let began = Instant::now();
        let mut state = std::mem::take(&mut self.state);
        let job = self.planner.run(move || {
            let result = work(&mut state);
            (state, result)
        });
        tokio::select! {
            biased;
            (state, result) = job => {
                self.state = state;
                return ControlFlow::Continue(result);
            }
            () = self.stop.cancelled() => return ControlFlow::Break(()),
            () = self.lease.lost() => {}
            () = tokio::time::sleep(MAX_PLANNING) => {}
        }
        tracing::debug!("leadership ends during a computation");
        if let Some(cost) = self.suspect.blamed(began.elapsed(), self.engine.options.ttl) {
            self.engine.leave_out(cost);
        }
        ControlFlow::Break(())
    }

    /// Whether nothing may be planned yet: absent hosts may still register, or the last commit hasn't been seen.
    fn is_held_back(&mut self) -> bool {
        let options = &self.engine.options;
        let now_ms = options.clock.unstepped_ms();
        let cluster = self.state.scheduler().map(|scheduler| scheduler.cluster());
        self.grace_ends = cluster.and_then(|cluster| self.grace.evaluate(cluster, &options.machine.id, now_ms));
        if self.grace_ends.is_some() {
            tracing::debug!("waiting for absent hosts, which may register again");
        } else if self.state.revision() < self.committed {
            tracing::debug!(commit = %self.committed, "waiting until the last commit has been seen");
        } else {
            return false;
        }
        true
    }

    /// Plan what is dirty and commit it. Returns the revision of the last commit, if there was anything to do.
    async fn plan_and_commit(&mut self) -> ControlFlow<(), Result<Option<Revision>, Error>> {
        let format = self.lowest_format();
        if format != self.format {
            tracing::info!(before = %self.format, now = %format, "the registered hosts have another lowest format");
            (self.format, self.fence) = (format, None);
        }
        let fence = match self.fence {
            Some(fence) => fence,
            None => match self.engine.claim_again(self.lease, format).await {
                Ok(fence) => *self.fence.insert(fence),
                Err(error) => return ControlFlow::Continue(Err(error)),
            },
        };
        let mut last = None;
        for repair in self.state.repairs(fence) {
            match self.engine.store.commit(self.of_this_store(repair.txn)).await {
                Ok(revision) => last = Some(revision),
                Err(error) => return ControlFlow::Continue(Err(error)),
            }
        }
        let now_ms = self.now_ms();
        if !self.state.is_dirty(now_ms) {
            return ControlFlow::Continue(Ok(last));
        }
        let by = Author { host: Some(self.engine.options.machine.id.clone()), ..Author::default() };
        let planned = self.compute(move |state| {
            let (rollouts, plan) = state.plan(now_ms)?;
            Some(Planned::of(rollouts, &plan, state.scheduler()?, &by, fence))
        });
        let planned = planned.await?;
        let Some(planned) = planned else { return ControlFlow::Continue(Ok(last)) };
        self.waiting = planned.waiting;
        ControlFlow::Continue(self.commit(planned).await.map(|revision| revision.or(last)))
    }

    /// The time of day for the scheduler, in ms since the epoch. It follows the clock while nothing depends on how much
    /// time passes, so that what is stored is right for the next leader; otherwise it isn't set.
    fn now_ms(&mut self) -> u64 {
        let now_ms = self.time.now_ms();
        if !self.state.is_timing(now_ms) {
            self.time.begin_again();
            if self.time.now_ms().abs_diff(now_ms) > CLOCK_SET_MS {
                tracing::debug!("the clock of this host was set; nothing is held, so the leader follows it");
            }
        }
        self.time.now_ms()
    }

    /// The lowest format of the registered hosts: what all of them can read.
    fn lowest_format(&mut self) -> Format {
        let cluster = self.state.scheduler().map(|scheduler| scheduler.cluster());
        let machines = cluster.into_iter().flat_map(|cluster| cluster.machines.values());
        self.engine.options.machine.lowest_format(machines.map(|machine| machine.format))
    }

    /// The same, only for the store from which it was planned. One that was restored from a backup may have the
    /// leader's key as this leader wrote it, and not the units and files that it has placed since.
    fn of_this_store(&self, mut txn: Txn) -> Txn {
        txn.guards.extend(self.state.cluster().map(Guard::Cluster));
        txn
    }

    /// Commit a plan. Its decisions are logged only after they are in the store, since they might not take effect.
    async fn commit(&self, planned: Planned) -> Result<Option<Revision>, Error> {
        let mut last = None;
        for Packed { txn, tags } in planned.transactions {
            self.engine.pulse.beat();
            let done = self.engine.store.commit(self.of_this_store(txn)).await;
            for task in tags.iter().filter_map(|step| step.task) {
                self.engine.metrics.tasks(task, 1, done.is_ok());
            }
            last = Some(done?);
            for completed in tags.into_iter().flat_map(|step| step.completes) {
                completed.log();
                completed.rescheduled().into_iter().for_each(|what| self.engine.metrics.rescheduled(what));
                completed.asked_move().into_iter().for_each(|what| self.engine.metrics.asked_move(what));
            }
        }
        for collection in planned.collections {
            match self.engine.store.commit(self.of_this_store(collection.txn)).await {
                Ok(revision) => last = Some(revision),
                Err(Error::Conflict) => tracing::debug!("a file that was to be deleted is used again, and kept"),
                Err(error) => return Err(error),
            }
        }
        Ok(last)
    }

    /// A commit was refused, or its outcome is unknown: read the store's state again, and prevent the commit from
    /// taking effect late.
    fn list_again(&mut self, error: &Error) {
        self.fence = None;
        if *error == Error::Conflict {
            tracing::debug!("a commit was refused: something else has changed meanwhile; listing again");
        } else {
            tracing::debug!("the outcome of a commit is unknown; listing again");
            self.outage.failed(error);
        }
        self.mirror.reset();
        self.follow_at = Instant::now() + self.backoff.next_wait();
    }

    fn publish_status(&mut self) {
        let due = self.state.due();
        let Some(scheduler) = self.state.scheduler() else { return };
        let cluster = scheduler.cluster();
        let (hosts, units) = (cluster.machines.len(), cluster.units.len());
        let is_cordoned = |host: &&MachineId| cluster.is_closed(host);
        let cordoned =
            cluster.maintenance.keys().filter(is_cordoned).filter(|host| cluster.machines.contains_key(*host));
        let (cordoned, resources) = (cordoned.count(), scheduler.resources());
        let (waiting, leaving) = (scheduler.asked_to_move().count(), scheduler.on_their_way().count());
        let braked = scheduler.braked();
        let now_ms = self.time.now_ms();
        self.due = due.map(|due| Instant::now() + Duration::from_millis(due.saturating_sub(now_ms)));
        announce(self.braked, braked, hosts, now_ms);
        self.braked = braked;
        self.engine.metrics.cluster_size(hosts, units, self.waiting);
        self.engine.metrics.rollouts(Phase::ALL.map(|phase| (phase.key(), self.state.rollouts(phase))));
        self.publish_sets();
        self.engine.metrics.hosts_cordoned(cordoned);
        self.engine.metrics.moves(waiting, leaving);
        for (kind, offered, taken) in resources {
            self.engine.metrics.resources(kind.key(), offered, taken);
        }
        self.engine.metrics.hosts_held(braked.map_or(0, |braked| braked.hosts));
        let now = Status::Leading { since: self.since, hosts, units, waiting: self.waiting, braked };
        self.engine.status.send_if_modified(|status| {
            let changed = *status != now;
            *status = now;
            changed
        });
    }

    fn publish_sets(&mut self) {
        let Some(Taken { all, counts }) = self.state.take_sets() else { return };
        self.engine.metrics.sets(all);
        counts.iter().for_each(|(set, counts)| self.engine.metrics.set_members(set.as_str(), *counts));
    }

    /// If it is due and nothing is dirty: plan from scratch and check the invariants. Both must find nothing.
    async fn check_itself(&mut self) -> ControlFlow<()> {
        if Instant::now() < self.self_check {
            return ControlFlow::Continue(());
        }
        self.self_check = Instant::now() + SELF_CHECK;
        let now_ms = self.now_ms();
        for fault in self.compute(move |state| state.check_itself(now_ms)).await? {
            tracing::error!("{fault}; please report this");
        }
        tracing::debug!("checked the cluster against the invariants and a plan from scratch");
        ControlFlow::Continue(())
    }
}

/// Log the begin and the end of a mass loss, each once.
fn announce(before: Option<Braked>, now: Option<Braked>, present: usize, now_ms: u64) {
    match (before, now) {
        (None, Some(Braked { hosts, until })) => {
            let (all, until) = (present + hosts, utc(until));
            tracing::warn!(
                "{hosts} of {all} hosts have vanished together, so the store or the network may have failed: their \
                 units are held until {until}, or until the hosts are back; if they are really gone: \
                 fleetctl forget --held"
            );
        }
        (Some(Braked { hosts, until }), None) if until <= now_ms => {
            tracing::info!(
                "{hosts} hosts that vanished together aren't back in time: their units are placed on others"
            );
        }
        (Some(_), None) => tracing::info!("the hosts that vanished together are back or forgotten: no unit is held"),
        (None, None) | (Some(_), Some(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Brake, Options};
    use super::*;
    use crate::clock::Clock;
    use crate::model::machine::Machine;
    use crate::store::embedded::Embedded;

    /// What takes down the leader's term takes down the daemon, which systemd starts again.
    #[tokio::test]
    async fn a_planner_that_panics_ends_the_term_with_its_panic() {
        for clock in [Clock::system(), Clock::simulated(0)] {
            let task = tokio::spawn(async move {
                let machine = Machine::new("3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap(), "");
                let options = Options { machine, ttl: Duration::from_secs(10), brake: Brake::off(), clock };
                let (engine, _) = Engine::new(Embedded::in_memory(), options);
                let (lease, claim) = engine.campaign().await.unwrap();
                let stop = CancellationToken::new();
                let mut term = Term::new(&engine, &lease, claim, &stop);
                term.compute(|_| panic!("no host is like that")).await
            });
            let panic = task.await.unwrap_err().into_panic();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"no host is like that"), "{clock:?}");
        }
    }
}
