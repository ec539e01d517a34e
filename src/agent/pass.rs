//! One pass: asks `plan::host` for the next action, carries it out and applies the outcome, until nothing is left to
//! do. Decides nothing: an action without a known outcome ends the pass, and the next pass observes its effect.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::name::UnitName;
use crate::plan::host::{Action, Input, Now, Question};
use crate::store::Store;
use crate::store::lease::Lease;
use crate::systemd::{self, Deadlines, Outcomes, Systemd};

use super::deadlines::Keeper;
use super::publish::OtherKeys;
use super::{Agent, Trouble, boot_state, log};

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Carry out everything that is due. Returns when to run again if nothing happens before.
    pub(super) async fn pass(&mut self, lease: &Lease<S>, keeper: &Keeper) -> Result<Option<Duration>, Trouble> {
        if self.state.is_rolled_back() {
            // The host's key may be an earlier one, or missing, even if its lease lives, and so may its reports.
            self.claimed = None;
            self.other_keys = OtherKeys::unknown();
            self.unlisted = true;
            self.claimed(lease).await?;
        }
        self.apply(Input::PassBegins);
        let mut unsaved = Ok(());
        loop {
            // systemd starts a job some time after it was queued, hence the margin.
            let lease_holds = Deadlines::before(lease.lives_until(), self.options.ttl).stop >= Instant::now();
            // The heartbeat is honest: each action takes a bounded time, and a pass has a bounded number of them.
            self.heartbeat.beat();
            let outcome = match self.state.next(self.now(), lease_holds) {
                Action::ReadDisk => Input::Disk(boot_state::disk(&self.host).await?),
                Action::Observe(question) => self.observe(question).await?,
                Action::CheckUnloaded(names) => Input::Unloaded(names.clone(), self.host.in_memory(names).await?),
                Action::ReadReports(names) => self.own_reports(names, lease.id()).await?,
                Action::ReadBindings(names) => Input::Bindings(self.host.stopped_with(names).await?),
                Action::CheckLease => Input::LeaseChecked(self.host.holds_lease().await?),
                Action::HoldLease(hold) => Input::LeaseHeld(hold, self.hold_lease(hold, lease, keeper).await?),
                Action::ReadDecisions(names) => self.decisions(names).await?,
                Action::Fetch(hashes) => self.fetch(hashes).await?,
                Action::Stage(files) => Input::Staged(self.host.stage(files).await),
                Action::Install(files) => self.install(files).await,
                Action::Reload => self.reload().await?,
                Action::Stop(names) => Input::Stopped(self.host.stop(names).await),
                Action::ResetFailed(names) => Input::FailuresForgotten(self.host.reset_failed(names).await),
                Action::Start(names) => Input::Started(self.host.start(names).await),
                Action::Remove(names) => Input::Removed(self.host.remove(names).await),
                Action::Inspect(names) => self.inspect(names).await?,
                Action::ReadJournals(asked) => {
                    self.read_journals(asked);
                    continue;
                }
                Action::Probe(asked) => {
                    self.probes.follow(asked);
                    continue;
                }
                Action::Save(state) => {
                    unsaved = boot_state::save(&self.host, &state).await;
                    Input::Saved(unsaved.is_ok())
                }
                Action::Publish(reports) => {
                    self.publish(lease, reports).await?;
                    continue;
                }
                Action::Wait(_) if self.unlisted => self.all_reported().await?,
                // Last, so that a host that can't write its own files still publishes its reports.
                Action::Wait(until) => return unsaved.map(|()| until).map_err(Trouble::from),
            };
            let unanswered = unanswered(&outcome);
            self.apply(outcome);
            unanswered?;
        }
    }

    /// Apply an input to the state machine, and write its log.
    pub(super) fn apply(&mut self, input: Input) {
        self.state.apply(input, self.now());
        self.state.take_log().into_iter().for_each(log::write);
    }

    /// The time as the state machine expects it.
    pub(super) fn now(&self) -> Now {
        Now { monotonic: self.begun.elapsed(), wall_ms: self.options.clock.now_ms() }
    }

    async fn install(&self, files: Vec<(UnitName, String)>) -> Input {
        let texts = files.clone();
        let outcomes = self.host.install(files).await;
        Input::Installed(texts.into_iter().zip(outcomes).map(|((name, text), (_, done))| (name, text, done)).collect())
    }

    async fn observe(&self, question: Question) -> Result<Input, systemd::Error> {
        let mut seen = Default::default();
        if !question.read.is_empty() {
            seen = self.host.units(question.read.clone()).await?;
        }
        if !question.recall.is_empty() {
            seen.extend(self.host.in_memory(question.recall.clone()).await?);
        }
        Ok(Input::Observed(question, seen))
    }

    /// Let systemd hold the lease until deadlines that the keeper renews, or let go of it. If systemd answers and this
    /// fails, that is an outcome.
    async fn hold_lease(
        &self,
        hold: bool,
        lease: &Lease<S>,
        keeper: &Keeper,
    ) -> Result<Result<(), systemd::Error>, systemd::Error> {
        let until = (hold && !self.options.alone).then(|| lease.lives_until());
        let deadlines = until.map(|until| Deadlines::before(until, self.options.ttl));
        keeper.renew(None);
        // The deadlines first: systemd must never hold the lease without them.
        let mut done = self.host.set_deadlines(deadlines).await;
        if done.is_ok() {
            done = self.host.hold_lease(hold).await;
        }
        if done.is_ok() {
            keeper.renew(until);
        }
        match done {
            Err(error @ systemd::Error::Unavailable(_)) => Err(error),
            done => Ok(done),
        }
    }

    /// If systemd answers and the reload fails, that is an outcome. If it doesn't answer, the outcome is unknown.
    async fn reload(&self) -> Result<Input, systemd::Error> {
        tracing::debug!("reloading systemd: a loaded file has changed, was enabled or was removed");
        let outcome = self.heartbeat.during(self.host.reload()).await;
        if outcome.is_err() {
            self.answers().await?;
        }
        Ok(Input::Reloaded(outcome))
    }
}

/// Fails if systemd didn't answer for some unit.
fn unanswered(outcome: &Input) -> Result<(), systemd::Error> {
    let of = |outcomes: &Outcomes| outcomes.iter().find_map(|(_, outcome)| unavailable(outcome));
    let found = match outcome {
        Input::Installed(outcomes) => outcomes.iter().find_map(|(_, _, outcome)| unavailable(outcome)),
        Input::Staged(outcomes)
        | Input::Stopped(outcomes)
        | Input::FailuresForgotten(outcomes)
        | Input::Started(outcomes)
        | Input::Removed(outcomes) => of(outcomes),
        _ => None,
    };
    found.map_or(Ok(()), Err)
}

fn unavailable(outcome: &Result<(), systemd::Error>) -> Option<systemd::Error> {
    outcome.as_ref().err().filter(|error| matches!(error, systemd::Error::Unavailable(_))).cloned()
}
