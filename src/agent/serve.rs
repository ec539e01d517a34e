//! One presence of a host: from its registration until the daemon stops or the lease is lost. Owns what is waited for,
//! and for how long; `pass` does the work.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::systemd::Event;
use crate::plan::host::Input;
use crate::reconcile::{Backoff, Heartbeat, Outage};
use crate::registry::keys;
use crate::registry::mirror::Update;
use crate::store::lease::Lease;
use crate::store::{self, Store};
use crate::systemd::Systemd;

use super::deadlines::Keeper;
use super::followed::Followed;
use super::health::Probes;
use super::inspect::Question;
use super::{Agent, End, Status, Trouble, Unreachable, assignments};

/// Events that arrive close together are coalesced: a batch arrives in several commits, and its jobs end one after the
/// other. The wait for the next event is 1 ms for each busy unit, within these bounds. systemd needs longer than that
/// for a unit, so it isn't delayed, and the fixed cost of a pass is paid less often.
const COALESCE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// An upper bound on coalescing, since a host can be busy for minutes.
const MAX_COALESCE: Duration = Duration::from_millis(100);

/// How often everything is compared with the disk and with systemd, in case a signal was lost.
const FULL_CHECK: Duration = Duration::from_secs(300);

/// What ended a wait.
enum Wake {
    /// The daemon stops, or the lease is lost.
    End(End),
    /// The lease can't be renewed because the store doesn't answer.
    LeaseFails,
    /// The lease was renewed after a failure.
    LeaseRenewed,
    /// The assignments have changed, or the watch has failed.
    Assignments(Result<Update, store::Error>),
    /// The same for the leader's key.
    Leader(Result<Update, store::Error>),
    /// systemd signalled something.
    Event(Event),
    /// What is done beside the passes has a result: a journal has been read, or the health of a unit has changed.
    Result(Input),
    /// A request for a dump.
    Question(Question),
    /// The heartbeat is due.
    Beat,
    /// A pass, or the full check, is due.
    Timer,
}

/// The state of one presence.
pub(super) struct Presence<'a, S: Store> {
    lease: &'a Lease<S>,
    keeper: &'a Keeper,
    events: &'a mut mpsc::UnboundedReceiver<Event>,
    stop: &'a CancellationToken,
    assignments: Followed<S>,
    /// The leader's key, which says in which format to report.
    leader: Followed<S>,
    /// Backoff between failed passes. A pass is the only way to detect a recovery, since assignments may not change for
    /// days.
    pass_backoff: Backoff,
    pass_at: Option<Instant>,
    full_check_at: Instant,
    /// During an outage of the store: when the lease would expire as known at its start. A later expiry means that the
    /// lease was renewed.
    cut_off: Option<Instant>,
    store_outage: Outage,
    systemd_outage: Outage,
    files_outage: Outage,
}

impl<S: Store> Presence<'_, S> {
    /// Wait for the next thing to do.
    async fn wait<H: Systemd>(&mut self, agent: &mut AgentEnds<'_, H>) -> Wake {
        let timer = self.pass_at.unwrap_or(self.full_check_at);
        let cut_off = self.cut_off;
        tokio::select! {
            biased;
            // Cancel-safe: these waits only read a token, the lease's expiry and the clock.
            () = self.stop.cancelled() => Wake::End(End::Stopped),
            () = self.lease.lost() => Wake::End(End::Lost),
            () = self.lease.failing(), if cut_off.is_none() => Wake::LeaseFails,
            () = async { self.lease.renewed_beyond(cut_off.unwrap_or_else(Instant::now)).await },
                if cut_off.is_some() =>
            {
                Wake::LeaseRenewed
            }
            // Cancel-safe: a mirror keeps its position, even in the middle of a list.
            update = self.assignments.next() => Wake::Assignments(update),
            update = self.leader.next() => Wake::Leader(update),
            // Cancel-safe: `recv` takes an event only when it returns it. A closed channel means that the adapter has
            // ended; the full check makes up for its events. The assignments come first: coalescing takes the events
            // anyway, and a busy host must still receive its assignments.
            Some(event) = self.events.recv() => Wake::Event(event),
            Some(read) = agent.journals.recv() => Wake::Result(read),
            changed = agent.probes.next() => Wake::Result(changed),
            Some(question) = agent.questions.recv() => Wake::Question(question),
            () = agent.heartbeat.due() => Wake::Beat,
            () = tokio::time::sleep_until(timer) => Wake::Timer,
        }
    }

    /// The store doesn't answer.
    fn store_fails(&mut self, error: &dyn std::fmt::Display) {
        self.store_outage.failed(error);
        self.cut_off.get_or_insert(self.lease.lives_until());
    }

    /// The store answers.
    fn store_works(&mut self) {
        self.store_outage.works();
        self.cut_off = None;
    }

    /// The assignments were read. After an outage the leader's key is read at once, too.
    fn assignments_work(&mut self) {
        self.store_works();
        if self.assignments.works() {
            self.leader.retry();
        }
    }
}

/// The parts of an agent that `Presence::wait` needs.
struct AgentEnds<'a, H> {
    questions: &'a mut mpsc::Receiver<Question>,
    journals: &'a mut mpsc::UnboundedReceiver<Input>,
    probes: &'a mut Probes<H>,
    heartbeat: &'a Heartbeat,
}

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Reconcile until the presence ends.
    pub(super) async fn serve(
        &mut self,
        lease: &Lease<S>,
        keeper: &Keeper,
        events: &mut mpsc::UnboundedReceiver<Event>,
        stop: &CancellationToken,
    ) -> End {
        let mut presence = self.begin(lease, keeper, events, stop);
        loop {
            self.heartbeat.beat();
            let (questions, journals, probes) = (&mut self.questions.1, &mut self.journals.read, &mut self.probes);
            let mut ends = AgentEnds { questions, journals, probes, heartbeat: &self.heartbeat };
            let wake = presence.wait(&mut ends).await;
            let pass = match wake {
                Wake::End(end) => return end,
                other => self.take(&mut presence, other),
            };
            if pass {
                self.coalesce(&mut presence).await;
                if let Some(end) = self.timed_pass(&mut presence).await {
                    return end;
                }
            }
            self.show(&presence);
        }
    }

    fn begin<'a>(
        &self,
        lease: &'a Lease<S>,
        keeper: &'a Keeper,
        events: &'a mut mpsc::UnboundedReceiver<Event>,
        stop: &'a CancellationToken,
    ) -> Presence<'a, S> {
        let (id, clock) = (&self.options.machine.id, self.options.clock);
        let backoff = Backoff::new(self.options.ttl, id.as_str());
        Presence {
            lease,
            keeper,
            events,
            stop,
            assignments: Followed::new(self.store.clone(), &keys::assignments_of(id), backoff.clone()),
            leader: Followed::new(self.store.clone(), keys::LEADER, backoff.clone()),
            pass_backoff: backoff,
            pass_at: None,
            // A new presence begins with a full check.
            full_check_at: Instant::now(),
            cut_off: None,
            store_outage: Outage::new("the store", clock),
            systemd_outage: Outage::new("systemd", clock),
            files_outage: Outage::of_files("/run/fleet", clock),
        }
    }

    /// Apply what ended a wait; returns whether a pass is due.
    fn take(&mut self, presence: &mut Presence<'_, S>, wake: Wake) -> bool {
        match wake {
            Wake::End(_) | Wake::Beat => return false,
            Wake::Question(question) => {
                question.answer(&self.state);
                return false;
            }
            Wake::LeaseFails => {
                presence.store_fails(&"it doesn't answer to keep-alives");
                return false;
            }
            Wake::LeaseRenewed => {
                presence.store_works();
                presence.assignments.retry();
                presence.leader.retry();
                return false;
            }
            Wake::Assignments(Ok(update)) => {
                presence.assignments_work();
                self.follow_assignments(update);
            }
            Wake::Leader(Ok(update)) => {
                presence.store_works();
                if presence.leader.works() {
                    presence.assignments.retry();
                }
                return self.follow_format(update);
            }
            Wake::Assignments(Err(error)) => {
                presence.store_fails(&error);
                presence.assignments.fails();
            }
            Wake::Leader(Err(error)) => {
                presence.store_fails(&error);
                presence.leader.fails();
            }
            Wake::Event(event) => self.apply(Input::Event(event)),
            Wake::Result(result) => self.apply(result),
            Wake::Timer => {
                if presence.full_check_at <= Instant::now() {
                    presence.full_check_at = Instant::now() + FULL_CHECK;
                    self.apply(Input::CheckAll);
                }
            }
        }
        true
    }

    fn follow_assignments(&mut self, update: Update) {
        let read = assignments::read(update, &mut self.damage);
        self.apply(read);
    }

    /// Apply further events and assignments that follow closely.
    async fn coalesce(&mut self, presence: &mut Presence<'_, S>) {
        let latest = Instant::now() + MAX_COALESCE;
        loop {
            let busy = u32::try_from(self.state.dirty() + self.state.jobs()).unwrap_or(u32::MAX);
            let quiet = Duration::from_millis(1).saturating_mul(busy).clamp(COALESCE.0, COALESCE.1);
            let quiet = latest.min(Instant::now() + quiet);
            let follows = presence.assignments.is_due();
            // Cancel-safe for the same reasons as in `Presence::wait`.
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(quiet) => break,
                Some(event) = presence.events.recv() => self.apply(Input::Event(event)),
                // A failure ends up at the next `Presence::wait`, which handles it.
                Ok(update) = presence.assignments.next(), if follows => {
                    presence.assignments_work();
                    self.follow_assignments(update);
                }
            }
        }
    }

    /// Run one pass and schedule the next one; returns why the presence ends, if it does.
    async fn timed_pass(&mut self, presence: &mut Presence<'_, S>) -> Option<End> {
        let began = Instant::now();
        let passed = self.pass(presence.lease, presence.keeper).await;
        self.metrics.passed(began.elapsed(), passed.as_ref().err().map(Trouble::class));
        self.metrics.queues(self.state.dirty(), self.state.jobs(), presence.events.len());
        match &passed {
            Ok(until) => {
                presence.systemd_outage.works();
                presence.files_outage.works();
                presence.pass_backoff.reset();
                presence.pass_at = until.map(|until| self.begun + until);
                return None;
            }
            Err(Trouble::Store(error @ (store::Error::LeaseLost | store::Error::Conflict))) => {
                tracing::debug!(%error, "a report was refused: this daemon no longer holds the host's key");
                return Some(End::Lost);
            }
            Err(Trouble::Store(error)) => presence.store_fails(error),
            Err(Trouble::Systemd(error)) => presence.systemd_outage.failed(error),
            // Says nothing about systemd: a pass reads these files before it asks systemd, and writes them at its end.
            Err(Trouble::Files(error)) => presence.files_outage.failed(error),
        }
        presence.pass_at = Some(Instant::now() + presence.pass_backoff.next_wait());
        None
    }

    fn show(&self, presence: &Presence<'_, S>) {
        let broken = presence.store_outage.since().map(Unreachable::Store);
        let broken = broken.or(presence.systemd_outage.since().map(Unreachable::Systemd));
        let files = || presence.files_outage.cause().map(|(since, why)| Unreachable::Files { since, why });
        let broken = broken.or_else(files);
        let settled = presence.pass_at.is_none() && self.state.is_settled();
        let now = Status::Present { units: self.state.count(), settled, unreachable: broken };
        self.status.send_if_modified(|status| {
            let changed = *status != now;
            *status = now;
            changed
        });
    }
}
