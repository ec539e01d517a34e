//! One unit that is waited for. Owns how long a state must last before it counts; prints nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::{End, Ended};
use crate::api::wire::{Operation, Progress, UnitView};
use crate::cli::wait::{AwaitedState, Goal, Observed, progress, reached};
use crate::model::name::UnitName;

/// How long a failing state may take to improve: a conflicting unit may be leaving.
const GRACE: Duration = Duration::from_secs(1);
/// How long a done state must last: a global unit may be assigned to more hosts, and a service that systemd considers
/// started as soon as it was forked may fail at once (no such user, no such program).
const SETTLE: Duration = Duration::from_millis(250);

/// What is waited for.
#[derive(Debug)]
pub(super) enum Awaited {
    /// A request of this command.
    Request(Goal),
    /// A state, no matter who brings it about.
    State(AwaitedState),
}

/// A unit that is waited for.
#[derive(Debug)]
pub(super) struct Tracked {
    /// The unit.
    pub(super) name: UnitName,
    /// What is waited for.
    pub(super) awaited: Awaited,
    /// The unit as last observed.
    pub(super) view: Option<UnitView>,
    /// It was destroyed and still has to be removed from its host.
    pub(super) leaving: bool,
    /// Whether the current watch has reported it.
    pub(super) reported: bool,
    /// Whether any watch has reported it.
    pub(super) known: bool,
    /// Whether the progress has been anything but done.
    pub(super) waited: bool,
    /// The current progress.
    pub(super) progress: Progress,
    /// Since when the progress is of this kind.
    pub(super) since: Instant,
    /// The end, if it has ended.
    pub(super) end: Option<End>,
}

impl Tracked {
    /// Before anything was observed.
    pub(super) fn new(name: UnitName, awaited: Awaited) -> Self {
        let progress = Progress::Waiting("asking".into());
        Self {
            name,
            awaited,
            view: None,
            leaving: false,
            reported: false,
            known: false,
            waited: false,
            progress,
            since: Instant::now(),
            end: None,
        }
    }

    /// Compute the progress from what was observed.
    pub(super) fn judge(&mut self) {
        let observed = match &self.view {
            Some(view) => Observed::There(view),
            None if self.leaving => Observed::Leaving,
            None if self.known => Observed::Gone,
            None => Observed::Unknown,
        };
        let mut progress = match &self.awaited {
            Awaited::Request(goal) => progress(goal, observed),
            Awaited::State(state) => reached(*state, observed),
        };
        if progress == Progress::Done && self.waited && self.comes_up() {
            progress = Progress::Settling;
        }
        if std::mem::discriminant(&progress) != std::mem::discriminant(&self.progress) {
            self.since = Instant::now();
        }
        self.waited |= !matches!(progress, Progress::Done | Progress::Settling);
        self.progress = progress;
    }

    /// Whether it is to run in the end, and may fail right after it seemed to.
    fn comes_up(&self) -> bool {
        match &self.awaited {
            Awaited::Request(goal) => matches!(goal.operation, Operation::Start | Operation::Restart),
            Awaited::State(state) => matches!(state, AwaitedState::Active | AwaitedState::Ready),
        }
    }

    /// The operation whose progress is asked for.
    pub(super) fn operation(&self) -> Option<Operation> {
        match &self.awaited {
            Awaited::Request(goal) => Some(goal.operation),
            Awaited::State(_) => None,
        }
    }

    /// Whether the request changed nothing, since the same was requested before.
    pub(super) fn was_asked_for_before(&self) -> bool {
        matches!(&self.awaited, Awaited::Request(goal) if !goal.changed)
    }

    /// Whether it is still waited for.
    pub(super) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// When the progress takes effect; `None` if it never does by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        match (&self.progress, &self.awaited) {
            (Progress::Waiting(_) | Progress::Idle(_), _) => None,
            // It may still get there without a request.
            (Progress::Failing(_) | Progress::Unplaced(_), Awaited::State(state))
                if *state != AwaitedState::Settled =>
            {
                None
            }
            (Progress::Failed(_), Awaited::State(_)) | (Progress::Failing(_) | Progress::Unplaced(_), _) => {
                Some(self.since + GRACE)
            }
            (Progress::Settling, _) => Some(self.since + SETTLE),
            (Progress::Done | Progress::Failed(_), _) => Some(self.since),
        }
    }

    /// Whether the progress has taken effect: it is done, or it has failed.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// Whether it may not get done.
    pub(super) fn is_troubled(&self) -> bool {
        matches!(self.progress, Progress::Failing(_) | Progress::Failed(_) | Progress::Unplaced(_))
    }

    /// What it waits for.
    pub(super) fn doing(&self) -> String {
        match &self.progress {
            Progress::Waiting(what) | Progress::Idle(what) => what.clone(),
            Progress::Failing(why) | Progress::Failed(why) => why.clone(),
            Progress::Unplaced(_) => "waiting for a host that fits".into(),
            Progress::Done | Progress::Settling => "done, looking on for a moment".into(),
        }
    }

    /// The result, which is that of the whole wait if it hasn't ended by itself.
    pub(super) fn ended(mut self, otherwise: &End) -> Ended {
        let end = match (self.end.take(), otherwise) {
            (Some(end), _) => end,
            (None, End::TimedOut(_)) => End::TimedOut(self.doing()),
            (None, otherwise) => otherwise.clone(),
        };
        // The unit is printed as the cluster has it.
        if let Some(view) = &mut self.view {
            view.progress = None;
        }
        Ended { name: self.name, view: self.view, end }
    }
}

/// When a unit takes effect that hadn't when it was last `settled` which units have ended; perhaps in the past, because
/// time has passed since. What had taken effect by then waits for others.
pub(super) fn next_due(tracked: &[Tracked], settled: Instant) -> Option<Instant> {
    tracked.iter().filter(|one| one.is_open()).filter_map(Tracked::due).filter(|due| *due > settled).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::condition::tests::unit;
    use crate::model::unit::Desired;

    fn tracked(state: AwaitedState, progress: Progress) -> Tracked {
        let mut one = Tracked::new("a.service".parse().unwrap(), Awaited::State(state));
        let view = unit("a.service", Desired::Launched, &["n1 activating start"]);
        one.view = Some(UnitView { progress: Some(progress), ..view });
        one.judge();
        one
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_counts_after_it_has_lasted() {
        let failing = || Progress::Failing("no".into());
        let failed = || Progress::Failed("no".into());
        let unplaced = || Progress::Unplaced("no host".into());
        let cases = [
            (AwaitedState::Active, Progress::Waiting("w".into()), None),
            (AwaitedState::Active, failing(), None),
            (AwaitedState::Ready, unplaced(), None),
            (AwaitedState::Active, failed(), Some(GRACE)),
            (AwaitedState::Settled, failing(), Some(GRACE)),
            (AwaitedState::Settled, unplaced(), Some(GRACE)),
            (AwaitedState::Settled, Progress::Done, Some(Duration::ZERO)),
        ];
        for (state, progress, expected) in cases {
            let one = tracked(state, progress.clone());
            assert_eq!(one.due().map(|due| due - one.since), expected, "{state:?} {progress:?}");
        }
        // A unit that comes up while it is waited for must stay up for a moment.
        let mut one = tracked(AwaitedState::Ready, Progress::Waiting("w".into()));
        one.view = Some(UnitView { progress: Some(Progress::Done), ..one.view.unwrap() });
        one.view.as_mut().unwrap().states[0].report.active = "active".into();
        one.judge();
        assert_eq!(one.due().map(|due| due - one.since), Some(SETTLE));
        assert!(!one.is_over(Instant::now()));
        tokio::time::advance(SETTLE).await;
        assert!(one.is_over(Instant::now()));
    }

    /// Something else has woken the loop just before a unit was due, and it is due by the time that it sleeps again.
    #[tokio::test(start_paused = true)]
    async fn what_becomes_due_between_two_looks_is_not_missed() {
        let one = [tracked(AwaitedState::Active, Progress::Failed("no".into()))];
        let (settled, due) = (Instant::now(), one[0].since + GRACE);
        tokio::time::advance(GRACE + SETTLE).await;
        assert_eq!(next_due(&one, settled), Some(due));
        assert_eq!(next_due(&one, Instant::now()), None, "it was looked at, and waits for others");
    }
}
