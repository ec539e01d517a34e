//! What a command waits for with a unit, and how far that is: the cluster's progress of the unit, as far as it concerns
//! a request, or a state that the unit is to reach. Pure. The API decides whether an operation is done (`progress`),
//! and `follow` owns time.

use crate::api::client::progress_of;
use crate::api::wire::{Operation, Progress, StateView, UnitView};
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::unit::{Desired, UnitReport};

/// What was requested for one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Goal {
    /// The unit.
    pub(super) name: UnitName,
    /// The requested operation.
    pub(super) operation: Operation,
    /// A host that has carried out this generation has carried out the request.
    pub(super) generation: Revision,
    /// Whether the request changed anything; if not, earlier results count.
    pub(super) changed: bool,
    /// When it counts as started.
    pub(super) until: Until,
}

/// When a unit counts as started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Until {
    /// Its probes say that it is ready; without probes, it is active
    #[default]
    Ready,
    /// It is active
    Active,
}

/// A state that `fleetctl wait` waits for, no matter who brings it about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum AwaitedState {
    /// It is active on its host, or on all of its hosts
    Active,
    /// It is ready according to its probes, without probes active, or a oneshot that has finished
    Ready,
    /// It runs nowhere
    Inactive,
    /// What was asked of it is done, or has failed
    Settled,
}

impl AwaitedState {
    /// The word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Ready => "ready",
            Self::Inactive => "inactive",
            Self::Settled => "settled",
        }
    }
}

/// What the cluster reports about a unit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Observed<'a> {
    /// The unit hasn't existed since the wait began.
    Unknown,
    /// The unit doesn't exist any more.
    Gone,
    /// It was destroyed and must still be stopped and removed on a host.
    Leaving,
    /// The unit exists.
    There(&'a UnitView),
}

/// The progress of `goal`.
pub(super) fn progress(goal: &Goal, observed: Observed<'_>) -> Progress {
    let view = match observed {
        Observed::There(view) => view,
        Observed::Unknown | Observed::Gone => return Progress::of_absent(goal.operation, false),
        Observed::Leaving => return Progress::of_absent(goal.operation, true),
    };
    if view.generation < goal.generation {
        return Progress::Waiting("the cluster has yet to take notice".into());
    }
    if view.generation > goal.generation && goal.operation.desired() != Some(view.desired) {
        // A destroyed unit was submitted again; for other operations, the desired state was changed by another request.
        return match goal.operation {
            Operation::Destroy => Progress::Done,
            _ => Progress::Failed(format!("is to be {} meanwhile, as somebody else asked", view.desired)),
        };
    }
    let progress = match goal.until {
        Until::Ready => towards_desired(view),
        Until::Active => without_probes(view, Some(goal.operation)),
    };
    match (progress, goal.changed) {
        (Progress::Idle(what), true) => Progress::Waiting(what),
        (Progress::Idle(_), false) => over(view),
        (progress, _) => progress,
    }
}

/// How far a unit is on its way to `state`. [`Progress::Failing`] and [`Progress::Unplaced`] may still become better
/// without a request; [`Progress::Failed`] may not.
pub(super) fn reached(state: AwaitedState, observed: Observed<'_>) -> Progress {
    let view = match (observed, state) {
        (Observed::There(view), _) => view,
        (Observed::Leaving, AwaitedState::Inactive | AwaitedState::Settled) => {
            return Progress::of_absent(Operation::Destroy, true);
        }
        (Observed::Leaving, AwaitedState::Active | AwaitedState::Ready) => {
            return Progress::Failed("is being destroyed".into());
        }
        (Observed::Gone | Observed::Unknown, AwaitedState::Inactive) | (Observed::Gone, AwaitedState::Settled) => {
            return Progress::Done;
        }
        (Observed::Gone | Observed::Unknown, _) => return Progress::Failed("is not in the cluster".into()),
    };
    match state {
        AwaitedState::Active | AwaitedState::Ready => running(view, state),
        AwaitedState::Inactive => stopped(view),
        AwaitedState::Settled => settled(view),
    }
}

/// The progress of the operation that a watch asked for, or that leads to the desired state.
fn towards_desired(view: &UnitView) -> Progress {
    view.progress.clone().unwrap_or_else(|| Progress::Waiting("its progress isn't told".into()))
}

/// The progress of `operation`, or of the one that leads to the desired state, as if the unit had no probes.
fn without_probes(view: &UnitView, operation: Option<Operation>) -> Progress {
    if view.states.iter().all(|state| state.report.ready.is_none()) {
        return towards_desired(view);
    }
    let mut view = view.clone();
    for state in &mut view.states {
        (state.report.ready, state.report.health) = (None, None);
    }
    progress_of(&view, operation)
}

/// Nothing is under way; more hosts may still get a global unit.
fn over(view: &UnitView) -> Progress {
    if view.global { Progress::Settling } else { Progress::Done }
}

fn running(view: &UnitView, state: AwaitedState) -> Progress {
    let progress = if state == AwaitedState::Active { without_probes(view, None) } else { towards_desired(view) };
    let up = |state: &&StateView| state.report.active.is_active() && state.report.job.is_none();
    let down = of_its_hosts(view).find(|state| !up(state));
    if let (AwaitedState::Active, Some(_)) = (state, view.done) {
        return Progress::Failed("has run once, and is done".into());
    }
    let has_host = of_its_hosts(view).next().is_some();
    if view.desired != Desired::Launched {
        let waiting = || Progress::Waiting(format!("nobody has asked for its start: it is to be {}", view.desired));
        return if has_host && down.is_none() { over(view) } else { waiting() };
    }
    match (progress, down) {
        (Progress::Done | Progress::Settling | Progress::Idle(_), Some(down)) => match missing(view) {
            Some(why) => Progress::Failed(why),
            None if state == AwaitedState::Ready => over(view),
            None => Progress::Failed(format!("has finished on {}, and is {}", down.machine.name(), down.report.active)),
        },
        (progress, _) => progress,
    }
}

fn stopped(view: &UnitView) -> Progress {
    let is_up = |state: &&StateView| state.report.job.is_some() || !state.report.active.has_stopped();
    if let Some(StateView { machine, report, .. }) = view.states.iter().find(is_up) {
        let UnitReport { active, sub, .. } = report;
        return Progress::Waiting(format!("on {} ({active}, {sub})", machine.name()));
    }
    match towards_desired(view) {
        // A host may still start it.
        Progress::Waiting(what) => Progress::Waiting(what),
        _ => over(view),
    }
}

fn settled(view: &UnitView) -> Progress {
    match towards_desired(view) {
        Progress::Done | Progress::Settling | Progress::Idle(_) => {
            missing(view).map_or_else(|| over(view), Progress::Failed)
        }
        progress => progress,
    }
}

/// The reports that count: those of all hosts of a global unit, otherwise that of the host it is on.
fn of_its_hosts(view: &UnitView) -> impl Iterator<Item = &StateView> {
    let host = view.machine.as_ref().map(|machine| &machine.id);
    view.states.iter().filter(move |state| view.global || Some(&state.machine.id) == host)
}

fn missing(view: &UnitView) -> Option<String> {
    let state = of_its_hosts(view).find(|state| state.report.missing)?;
    Some(format!("should run and doesn't ({} on {})", state.report.active, state.machine.name()))
}

#[cfg(test)]
mod tests {
    use super::Observed::There;
    use super::*;
    use crate::cli::condition::tests::unit;

    fn view(desired: Desired, generation: u64, progress: Progress) -> UnitView {
        UnitView { generation: Revision(generation), progress: Some(progress), ..unit("a.service", desired, &[]) }
    }

    fn goal(operation: Operation) -> Goal {
        Goal {
            name: "a.service".parse().unwrap(),
            operation,
            generation: Revision(7),
            changed: true,
            until: Until::Ready,
        }
    }

    #[test]
    fn the_answer_counts_that_is_about_this_request() {
        use Desired::{Inactive, Launched, Loaded};
        use Operation::{Destroy, Restart, Start, Stop, Unload};
        let overruled = |desired| Progress::Failed(format!("is to be {desired} meanwhile, as somebody else asked"));
        let early = || Progress::Waiting("the cluster has yet to take notice".into());
        let told = || Progress::Waiting("told".into());
        let cases = [
            (Start, Launched, 6, early()),
            (Start, Launched, 7, told()),
            (Start, Launched, 9, told()),
            (Restart, Launched, 9, told()),
            (Start, Loaded, 9, overruled(Loaded)),
            (Stop, Loaded, 9, told()),
            (Stop, Inactive, 9, overruled(Inactive)),
            (Unload, Inactive, 7, told()),
            (Unload, Launched, 8, overruled(Launched)),
            (Destroy, Launched, 6, early()),
            (Destroy, Launched, 7, told()),
            (Destroy, Launched, 8, Progress::Done),
        ];
        for (operation, desired, generation, expected) in cases {
            let said = progress(&goal(operation), There(&view(desired, generation, told())));
            assert_eq!(said, expected, "{operation:?} {desired} {generation}");
        }
    }

    #[test]
    fn what_is_idle_is_over_unless_something_was_changed() {
        let mut view = view(Desired::Launched, 7, Progress::Idle("starting on n1".into()));
        let started = goal(Operation::Start);
        let old = Goal { changed: false, ..started.clone() };
        assert_eq!(progress(&started, There(&view)), Progress::Waiting("starting on n1".into()));
        assert_eq!(progress(&old, There(&view)), Progress::Done);
        view.global = true;
        assert_eq!(progress(&old, There(&view)), Progress::Settling, "more hosts may have it");
    }

    #[test]
    fn a_unit_that_isnt_ready_counts_as_started_if_active_is_enough() {
        for (state, until, expected) in [
            ("n1 active running ready=no", Until::Ready, "waiting w"),
            ("n1 active running ready=no", Until::Active, "done"),
            ("n1 activating start ready=no", Until::Active, "waiting starting on n1 (activating, start)"),
            // Without probes, the cluster's own answer counts.
            ("n1 active running", Until::Active, "waiting w"),
        ] {
            let mut view = unit("a.service", Desired::Launched, &[state]);
            (view.generation, view.progress) = (Revision(7), Some(Progress::Waiting("w".into())));
            view.states[0].report.generation = Revision(7);
            let goal = Goal { until, ..goal(Operation::Start) };
            assert_eq!(words(&progress(&goal, There(&view))), expected, "{state} {until:?}");
        }
    }

    #[test]
    fn the_gone_and_the_leaving_are_told_apart() {
        let of = |operation, observed| progress(&goal(operation), observed);
        assert_eq!(of(Operation::Destroy, Observed::Gone), Progress::Done);
        assert!(matches!(of(Operation::Destroy, Observed::Leaving), Progress::Waiting(_)));
        assert!(matches!(of(Operation::Start, Observed::Gone), Progress::Failed(_)));
    }

    /// A table of all states that can be waited for: `done`, or what is still missing.
    #[test]
    fn a_state_is_reached_or_not() {
        use Desired::{Inactive, Launched, Loaded};
        let waiting = || Progress::Waiting("w".into());
        let failing = || Progress::Failing("f".into());
        let failed = || Progress::Failed("f".into());
        let unplaced = || Progress::Unplaced("u".into());
        let idle = || Progress::Idle("i".into());
        let (dead, done) = ("n1 inactive dead missing", Progress::Done);
        let should_run = "failed should run and doesn't (inactive on n1)";
        let finished = "failed has finished on n1, and is inactive";
        let up = "waiting on n1 (active, running)";
        let cases = [
            // desired, on its host, progress, then: active, ready, inactive, settled
            (Launched, "n1 active running", done.clone(), ["done", "done", up, "done"]),
            (Launched, "n1 active running ready=yes", done.clone(), ["done", "done", up, "done"]),
            (Launched, "n1 refreshing refresh", done.clone(), ["done", "done", "waiting on n1 (refreshing", "done"]),
            (Launched, "n1 active running ready=no", waiting(), ["done", "waiting w", up, "waiting w"]),
            (Launched, "n1 activating start job=start", waiting(), ["waiting w", "waiting w", "on n1", "waiting w"]),
            (Launched, "n1 inactive dead", waiting(), ["waiting w"; 4]),
            (Launched, "n1 inactive dead result=done", done.clone(), [finished, "done", "done", "done"]),
            (Launched, "n1 inactive dead", idle(), [finished, "done", "done", "done"]),
            (Launched, dead, done.clone(), [should_run, should_run, "done", should_run]),
            (Launched, "n1 failed failed", failed(), ["failed f", "failed f", "done", "failed f"]),
            (Launched, "n1 activating auto-restart", failing(), ["failing f", "failing f", "on n1", "failing f"]),
            (Launched, "", unplaced(), ["unplaced u", "unplaced u", "done", "unplaced u"]),
            (Launched, "", waiting(), ["waiting w"; 4]),
            (Loaded, "n1 inactive dead", done.clone(), ["to be loaded", "to be loaded", "done", "done"]),
            (Loaded, "n1 active running", done.clone(), ["done", "done", up, "done"]),
            (Loaded, "n1 active running job=stop", waiting(), ["to be loaded", "to be loaded", "on n1", "waiting w"]),
            (Inactive, "", done, ["to be inactive", "to be inactive", "done", "done"]),
        ];
        let states = [AwaitedState::Active, AwaitedState::Ready, AwaitedState::Inactive, AwaitedState::Settled];
        for (desired, on, progress, expected) in cases {
            let on: Vec<&str> = (!on.is_empty()).then_some(on).into_iter().collect();
            let view = UnitView { progress: Some(progress), ..unit("a.service", desired, &on) };
            for (state, expected) in states.into_iter().zip(expected) {
                let said = words(&reached(state, There(&view)));
                assert!(said.contains(expected), "{desired} {on:?} {state:?}: {said} and not {expected}");
            }
        }
    }

    #[test]
    fn what_isnt_there_is_inactive_and_nothing_else() {
        let absent = "failed is not in the cluster";
        let leaving = "waiting waiting for its host to stop and forget it";
        let cases = [
            (Observed::Unknown, [absent, absent, "done", absent]),
            (Observed::Gone, [absent, absent, "done", "done"]),
            (Observed::Leaving, ["failed is being destroyed", "failed is being destroyed", leaving, leaving]),
        ];
        for (observed, expected) in cases {
            let states = [AwaitedState::Active, AwaitedState::Ready, AwaitedState::Inactive, AwaitedState::Settled];
            assert_eq!(states.map(|state| words(&reached(state, observed))), expected, "{observed:?}");
        }
    }

    #[test]
    fn a_global_unit_is_active_when_it_is_on_all_of_its_hosts() {
        let mut view = unit("a.service", Desired::Launched, &["n1 active running", "n2 activating start"]);
        (view.global, view.machine) = (true, None);
        view.progress = Some(Progress::Waiting("start job on n2".into()));
        assert_eq!(words(&reached(AwaitedState::Active, There(&view))), "waiting start job on n2");
        view.states[1].report.active = "active".into();
        view.progress = Some(Progress::Settling);
        assert_eq!(words(&reached(AwaitedState::Active, There(&view))), "settling");
    }

    fn words(progress: &Progress) -> String {
        let json = serde_json::to_value(progress).unwrap();
        let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("state"), word("why")).trim().to_owned()
    }
}
