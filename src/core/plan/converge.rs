//! The next step of one unit on a host towards its assignment. Pure and level-triggered: it looks at what is there,
//! never at how that came about, so that a restart, a missed signal and a retry take the same path.
//!
//! One unit needs at most one [`Step`] at a time. [`host`](super::host) takes the steps of all units in phases (files,
//! then jobs, then removals), observes, and asks again, until nothing is needed or everything waits for systemd.

use std::collections::BTreeMap;

use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::systemd::JobKind;
use crate::model::unit::{Assignment, Target};

/// What is observed of one unit on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The hash of its file on disk.
    pub file: Option<UnitHash>,
    /// The hash of the text of that file, comments included.
    pub text: Option<UnitHash>,
    /// Whether systemd reads the same from that file and from the one that is assigned.
    pub same_body: bool,
    /// Whether systemd finds it (its `LoadState` isn't `not-found`), or it was linked by this daemon.
    pub known: bool,
    /// Whether its file was removed and something has started it meanwhile: systemd had it in memory still.
    pub left_over: bool,
    /// Whether it is anything but inactive or failed.
    pub running: bool,
    /// The kind of the job queued or running for it.
    pub job: Option<JobKind>,
    /// What was last carried out in this boot.
    pub done: Option<Done>,
    /// Whether it was stopped for the restart that its assignment requests. If anything has started it since, the
    /// restart is done.
    pub stopped: bool,
    /// Whether to retry a start that failed because another unit's file was missing.
    pub retry: bool,
    /// Whether what was carried out last is said to lack a file that isn't assigned any more.
    pub lacks_another: bool,
}

/// An assignment that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Its generation.
    pub generation: Revision,
    /// Its target.
    pub target: Target,
    /// The last restart that it requested.
    pub restart: Option<Revision>,
    /// The generation that another file with the same body carries out, once it is written.
    pub rewrites: Option<Revision>,
}

/// What to do next with one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Write its file and link it.
    Install,
    /// Queue a stop job.
    Stop,
    /// Queue a start job.
    Start,
    /// Remove its file, its links and its failed state; only once it has stopped.
    Remove,
    /// Record the assignment as carried out; there is nothing to do.
    Record,
}

/// The steps of many units, by phase. The first phase that isn't empty is carried out, then the units are observed
/// again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Steps {
    /// Phase 1: all files of a batch, before any job.
    pub install: Vec<UnitName>,
    /// Phase 2: stop jobs, and start jobs; all of them are queued before the first one ends.
    pub stop: Vec<UnitName>,
    /// See `stop`.
    pub start: Vec<UnitName>,
    /// Phase 3: units that have stopped.
    pub remove: Vec<UnitName>,
    /// At any time, since there is nothing to do.
    pub record: Vec<UnitName>,
}

impl Steps {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { install, stop, start, remove, record } = self;
        [install, stop, start, remove, record].into_iter().all(Vec::is_empty)
    }
}

/// The steps of `units`, given the assignment of each, if it has one, and what was observed.
pub fn converge<'a>(units: impl IntoIterator<Item = (&'a UnitName, Option<&'a Assignment>, &'a Seen)>) -> Steps {
    let mut sorted: BTreeMap<Step, Vec<UnitName>> = BTreeMap::new();
    for (name, assignment, seen) in units {
        if let Some(step) = next(assignment, seen) {
            sorted.entry(step).or_default().push(name.clone());
        }
    }
    let mut take = |step| sorted.remove(&step).unwrap_or_default();
    Steps {
        install: take(Step::Install),
        stop: take(Step::Stop),
        start: take(Step::Start),
        remove: take(Step::Remove),
        record: take(Step::Record),
    }
}

/// The next step of one unit; `None` if there is nothing to do, or systemd is already working on it.
#[must_use]
pub fn next(assignment: Option<&Assignment>, seen: &Seen) -> Option<Step> {
    let Some(assignment) = assignment.filter(|assignment| assignment.target != Target::Removed) else {
        return away(assignment, seen);
    };
    if seen.file.as_ref() != Some(&assignment.hash) {
        // A file is never replaced under a running unit: its ExecStop= must be the one it was started with.
        let differs = seen.file.is_some() && !seen.same_body;
        return if differs { stopped(seen, Step::Install) } else { Some(Step::Install) };
    }
    // systemd reads the same from every text with this hash, so a running unit can have its text replaced.
    if !seen.known || (assignment.text.is_some() && seen.text != assignment.text) {
        return Some(Step::Install);
    }
    if seen.done.is_some_and(|done| done.rewrites == Some(assignment.generation)) {
        return Some(Step::Record);
    }
    let carried_out = |done: Done| done.generation == assignment.generation && done.target == assignment.target;
    let is_done = seen.done.is_some_and(carried_out);
    if is_done && !seen.lacks_another {
        return (seen.retry && assignment.target == Target::Launched).then_some(Step::Start);
    }
    if is_done && !is_to_restart(assignment, seen) {
        return Some(Step::Record);
    }
    match assignment.target {
        Target::Launched if is_to_restart(assignment, seen) => stopped(seen, Step::Start),
        Target::Launched => Some(Step::Start),
        // Only units that were launched by an assignment are stopped: one that another unit pulled in keeps running.
        _ if seen.done.is_some_and(|done| done.target == Target::Launched) => stopped(seen, Step::Record),
        _ => Some(Step::Record),
    }
}

/// Whether a unit must be stopped before it is started. This happens once for each request: a host without a record of
/// the unit, such as after a reboot, starts it for the first time and needs no restart.
#[must_use]
pub fn is_to_restart(assignment: &Assignment, seen: &Seen) -> bool {
    let asked = assignment.target == Target::Launched && assignment.restart.is_some();
    asked && seen.done.is_some_and(|done| done.restart != assignment.restart)
}

/// The next step of a unit that isn't assigned to this host, or not any more.
fn away(assignment: Option<&Assignment>, seen: &Seen) -> Option<Step> {
    if seen.file.is_some() || seen.left_over {
        return stopped(seen, Step::Remove);
    }
    let assignment = assignment.map(|assignment| (assignment.generation, assignment.target));
    let done = seen.done.map(|done| (done.generation, done.target));
    (assignment.is_some() && done != assignment).then_some(Step::Record)
}

/// `then`, once the unit has stopped.
fn stopped(seen: &Seen, then: Step) -> Option<Step> {
    match (&seen.job, seen.running) {
        (Some(JobKind::Stop), _) => None,
        _ if then == Step::Start && seen.stopped => Some(then),
        (Some(_), _) | (None, true) => Some(Step::Stop),
        (None, false) => Some(then),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(target: Target, generation: u64) -> Assignment {
        Assignment::new(UnitHash::new("a"), target, Revision(generation))
    }

    fn done(target: Target, generation: u64) -> Option<Done> {
        Some(Done { generation: Revision(generation), target, restart: None, rewrites: None })
    }

    fn there() -> Seen {
        Seen { file: Some(UnitHash::new("a")), known: true, ..Seen::default() }
    }

    #[test]
    fn a_unit_comes_up_in_order() {
        let assignment = assignment(Target::Launched, 5);
        assert_eq!(next(Some(&assignment), &Seen::default()), Some(Step::Install));
        assert_eq!(next(Some(&assignment), &there()), Some(Step::Start));
        let started = Seen { done: done(Target::Launched, 5), job: Some(JobKind::Start), ..there() };
        assert_eq!(next(Some(&assignment), &started), None);
        // A oneshot that has finished, or a service that has failed, isn't started again.
        assert_eq!(next(Some(&assignment), &Seen { job: None, ..started }), None);
    }

    #[test]
    fn a_restarted_daemon_adopts_what_runs() {
        let running = Seen { running: true, done: done(Target::Launched, 5), ..there() };
        assert_eq!(next(Some(&assignment(Target::Launched, 5)), &running), None);
    }

    #[test]
    fn a_reboot_starts_again() {
        // Neither the file nor the boot state is left from the last boot.
        assert_eq!(next(Some(&assignment(Target::Launched, 5)), &Seen::default()), Some(Step::Install));
        // With a units directory that outlives the boot, only the links are missing.
        assert_eq!(
            next(Some(&assignment(Target::Launched, 5)), &Seen { known: false, ..there() }),
            Some(Step::Install)
        );
    }

    #[test]
    fn a_changed_file_waits_for_the_stop() {
        let assignment = Assignment { hash: UnitHash::new("b"), ..assignment(Target::Launched, 6) };
        let running = Seen { running: true, done: done(Target::Launched, 5), ..there() };
        assert_eq!(next(Some(&assignment), &running), Some(Step::Stop));
        let stopping = Seen { job: Some(JobKind::Stop), ..running.clone() };
        assert_eq!(next(Some(&assignment), &stopping), None);
        assert_eq!(next(Some(&assignment), &Seen { running: false, ..running.clone() }), Some(Step::Install));
        let replaced = Seen { file: Some(UnitHash::new("b")), running: false, ..running };
        assert_eq!(next(Some(&assignment), &replaced), Some(Step::Start));
    }

    #[test]
    fn another_text_of_the_same_file_is_only_installed() {
        let text = |name: &str| Some(UnitHash::new(name));
        let of = |text| Assignment { text, ..assignment(Target::Launched, 5) };
        let running = Seen { running: true, text: text("x"), done: done(Target::Launched, 5), ..there() };
        assert_eq!(next(Some(&of(text("y"))), &running), Some(Step::Install));
        assert_eq!(next(Some(&of(text("x"))), &running), None);
        assert_eq!(next(Some(&of(None)), &running), None, "any text will do");
        let finished = Seen { running: false, ..running };
        assert_eq!(next(Some(&of(text("y"))), &finished), Some(Step::Install));
        assert_eq!(next(Some(&of(text("y"))), &Seen { text: text("y"), ..finished }), None);
    }

    #[test]
    fn a_file_with_the_same_body_is_installed_and_recorded() {
        let of = |target| Assignment { hash: UnitHash::new("b"), ..assignment(target, 6) };
        let rewrites = |target, undone: bool| {
            let generation = Revision(if undone { 0 } else { 5 });
            Some(Done { generation, rewrites: Some(Revision(6)), ..done(target, 5).unwrap() })
        };
        for target in [Target::Launched, Target::Loaded] {
            let there = Seen { same_body: true, done: done(target, 5), ..there() };
            for (running, job) in
                [(true, None), (false, None), (true, Some(JobKind::Start)), (true, Some(JobKind::Stop))]
            {
                let before = Seen { running, job, ..there.clone() };
                assert_eq!(next(Some(&of(target)), &before), Some(Step::Install), "{before:?}");
                let after = Seen { file: Some(UnitHash::new("b")), done: rewrites(target, false), ..before };
                assert_eq!(next(Some(&of(target)), &after), Some(Step::Record), "{after:?}");
            }
        }
        // The file is there, and something else is asked for as well.
        let replaced = Seen { file: Some(UnitHash::new("b")), running: true, done: done(Target::Loaded, 5), ..there() };
        assert_eq!(next(Some(&of(Target::Launched)), &replaced), Some(Step::Start));
        let restarted = Assignment { restart: Some(Revision(6)), ..of(Target::Launched) };
        let launched = Seen { done: done(Target::Launched, 5), ..replaced };
        assert_eq!(next(Some(&restarted), &launched), Some(Step::Stop));
        // Another request came since.
        let newer = Assignment { generation: Revision(7), ..of(Target::Launched) };
        let rewritten = Seen { done: rewrites(Target::Launched, false), ..launched };
        assert_eq!(next(Some(&newer), &rewritten), Some(Step::Start));
    }

    #[test]
    fn a_restart_is_a_stop_and_a_start_once() {
        let asked = |restart| Assignment { restart: Some(Revision(restart)), ..assignment(Target::Launched, restart) };
        let running = Seen { running: true, done: done(Target::Launched, 5), ..there() };
        assert_eq!(next(Some(&asked(6)), &running), Some(Step::Stop));
        assert_eq!(next(Some(&asked(6)), &Seen { job: Some(JobKind::Stop), ..running.clone() }), None);
        assert_eq!(next(Some(&asked(6)), &Seen { running: false, ..running.clone() }), Some(Step::Start));
        // Its start hangs, or it waits for its automatic restart.
        assert_eq!(next(Some(&asked(6)), &Seen { job: Some(JobKind::Start), ..running.clone() }), Some(Step::Stop));
        // Its socket started it again before it was observed.
        assert_eq!(next(Some(&asked(6)), &Seen { stopped: true, ..running.clone() }), Some(Step::Start));
        let through = |generation, restart| {
            let restart = Some(Revision(restart));
            Some(Done { generation: Revision(generation), target: Target::Launched, restart, rewrites: None })
        };
        assert_eq!(next(Some(&asked(6)), &Seen { done: through(6, 6), ..running.clone() }), None);
        // The daemon was killed after the stop.
        assert_eq!(next(Some(&asked(6)), &Seen { done: through(0, 6), ..running.clone() }), Some(Step::Start));
        assert_eq!(next(Some(&asked(7)), &Seen { done: through(6, 6), ..running.clone() }), Some(Step::Stop));
        // Another property of the unit has changed since.
        let changed = Assignment { generation: Revision(9), ..asked(6) };
        assert_eq!(next(Some(&changed), &Seen { done: through(6, 6), ..running.clone() }), Some(Step::Start));
        // After a reboot or a move it is only started.
        assert_eq!(next(Some(&asked(6)), &there()), Some(Step::Start));
        assert_eq!(next(Some(&asked(6)), &Seen { done: None, ..running }), Some(Step::Start));
    }

    #[test]
    fn loaded_stops_only_what_was_launched() {
        let assignment = assignment(Target::Loaded, 6);
        let launched = Seen { running: true, done: done(Target::Launched, 5), ..there() };
        assert_eq!(next(Some(&assignment), &launched), Some(Step::Stop));
        assert_eq!(next(Some(&assignment), &Seen { running: false, ..launched }), Some(Step::Record));
        // Started by another unit's Requires=.
        let pulled = Seen { running: true, done: done(Target::Loaded, 5), ..there() };
        assert_eq!(next(Some(&assignment), &pulled), Some(Step::Record));
    }

    #[test]
    fn what_leaves_is_stopped_before_it_is_removed() {
        for assignment in [None, Some(assignment(Target::Removed, 9))] {
            let assignment = assignment.as_ref();
            let running = Seen { running: true, done: done(Target::Launched, 5), ..there() };
            assert_eq!(next(assignment, &running), Some(Step::Stop));
            assert_eq!(next(assignment, &Seen { job: Some(JobKind::Stop), ..running.clone() }), None);
            // A hanging start job is replaced.
            assert_eq!(
                next(assignment, &Seen { job: Some(JobKind::Start), running: false, ..running.clone() }),
                Some(Step::Stop)
            );
            assert_eq!(next(assignment, &Seen { running: false, ..running }), Some(Step::Remove));
        }
    }

    #[test]
    fn gone_is_said_once() {
        let assignment = assignment(Target::Removed, 9);
        assert_eq!(next(Some(&assignment), &Seen::default()), Some(Step::Record));
        assert_eq!(next(Some(&assignment), &Seen { done: done(Target::Removed, 9), ..Seen::default() }), None);
        assert_eq!(next(None, &Seen::default()), None);
    }

    #[test]
    fn a_missing_dependency_is_tried_again_when_told() {
        let assignment = assignment(Target::Launched, 5);
        let blocked = Seen { done: done(Target::Launched, 5), ..there() };
        assert_eq!(next(Some(&assignment), &blocked), None);
        assert_eq!(next(Some(&assignment), &Seen { retry: true, ..blocked }), Some(Step::Start));
    }
}
