//! The progress of a command on a unit: the cluster's progress of the unit, as far as it concerns this request. Pure.
//! Owns which generation counts; the API decides whether it is done (`progress`), and `follow` owns time.

use crate::api::wire::{Operation, Progress, UnitView};
use crate::model::name::UnitName;
use crate::model::revision::Revision;

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
}

/// What the cluster reports about a unit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Observed<'a> {
    /// The unit doesn't exist.
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
        Observed::Gone => return Progress::of_absent(goal.operation, false),
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
    match (&view.progress, goal.changed) {
        (Some(Progress::Idle(what)), true) => Progress::Waiting(what.clone()),
        (Some(Progress::Idle(_)), false) if view.global => Progress::Settling,
        (Some(Progress::Idle(_)), false) => Progress::Done,
        (Some(progress), _) => progress.clone(),
        (None, _) => Progress::Waiting("its progress isn't told".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::Observed::There;
    use super::*;
    use crate::model::unit::Desired;

    fn view(desired: Desired, generation: u64, progress: Progress) -> UnitView {
        UnitView {
            name: "a.service".parse().unwrap(),
            hash: crate::model::name::UnitHash::new("0"),
            description: String::new(),
            global: false,
            desired,
            current: String::new(),
            generation: Revision(generation),
            machine: None,
            hosts: Vec::new(),
            waiting: None,
            states: Vec::new(),
            progress: Some(progress),
        }
    }

    fn goal(operation: Operation) -> Goal {
        Goal { name: "a.service".parse().unwrap(), operation, generation: Revision(7), changed: true }
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
    fn the_gone_and_the_leaving_are_told_apart() {
        let of = |operation, observed| progress(&goal(operation), observed);
        assert_eq!(of(Operation::Destroy, Observed::Gone), Progress::Done);
        assert!(matches!(of(Operation::Destroy, Observed::Leaving), Progress::Waiting(_)));
        assert!(matches!(of(Operation::Start, Observed::Gone), Progress::Failed(_)));
    }
}
