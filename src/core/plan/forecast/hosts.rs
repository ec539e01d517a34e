//! A host on which everything works: what it does with an assignment, and what it reports then. Owns the rules by which
//! `plan::host` restarts a unit or leaves it alone, as far as they can be seen from a report; pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::body::BodyHash;
use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::systemd::{ActiveState, JobResult};
use crate::model::unit::{Assignment, Target, UnitReport};

/// What a host does with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plan) enum Deed {
    /// It gets the unit, and starts it or doesn't.
    Arrives(bool),
    /// It starts it.
    Starts,
    /// It stops it and starts it.
    Restarts,
    /// It stops it, and keeps it.
    Stops,
    /// It removes it, and has stopped it or not.
    Leaves(bool),
    /// It writes its file, and does nothing else.
    Writes,
}

/// What hosts that are registered were told and haven't done. While a rollout takes place, it waits for units that
/// haven't become healthy yet, and these count too.
pub(super) fn behind(cluster: &Cluster) -> BTreeSet<(MachineId, UnitName)> {
    let is_rolling = cluster.rollouts.values().any(|rollout| !rollout.value.phase.is_over());
    let is_behind = |host: &MachineId, name: &UnitName, assignment: &Assignment| match cluster.report(name, host) {
        Some(report) => !has_done(report, assignment) || (is_rolling && is_pending(report)),
        None => true,
    };
    let alive = cluster.schedule.iter().filter(|(host, _)| cluster.machines.contains_key(*host));
    let all = alive.flat_map(|(host, assignments)| {
        assignments.iter().map(move |(name, assignment)| (host, name, &assignment.value))
    });
    all.filter(|(host, name, assignment)| is_behind(host, name, assignment))
        .map(|(host, name, _)| (host.clone(), name.clone()))
        .collect()
}

fn has_done(report: &UnitReport, assignment: &Assignment) -> bool {
    report.generation >= assignment.generation && report.target == assignment.target && report.hash == assignment.hash
}

fn is_pending(report: &UnitReport) -> bool {
    report.target == Target::Launched && report.active != ActiveState::Failed && !report.is_healthy(true)
}

/// What a host reports once it has carried out `assignment`, of a unit that `ends` by itself or doesn't, and what it
/// has done for it. `None` if it has carried it out already.
pub(in crate::plan) fn carry_out(
    assignment: &Assignment,
    known: Option<&UnitReport>,
    ends: bool,
    bodies: &BTreeMap<UnitHash, BodyHash>,
) -> Option<(UnitReport, Option<Deed>)> {
    if known.is_some_and(|known| has_done(known, assignment) && !is_pending(known)) {
        return None;
    }
    let known = known.filter(|known| known.target != Target::Removed);
    let is_up = known.is_some_and(|known| !known.active.has_stopped());
    let deed = match (assignment.target, known) {
        (Target::Removed, None) => None,
        (Target::Removed, Some(_)) => Some(Deed::Leaves(is_up)),
        (target, None) => Some(Deed::Arrives(target == Target::Launched)),
        (Target::Loaded, Some(_)) if is_up => Some(Deed::Stops),
        (Target::Loaded, Some(known)) => (known.hash != assignment.hash).then_some(Deed::Writes),
        (Target::Launched, Some(known)) => launched(assignment, known, is_up, ends, bodies),
    };
    let is_launched = assignment.target == Target::Launched;
    let is_up = is_launched && !ends;
    let report = UnitReport {
        load: "loaded".into(),
        active: if is_up { "active" } else { "inactive" }.into(),
        sub: if is_up { "running" } else { "dead" }.into(),
        result: is_launched.then(|| "done".into()),
        ready: is_up.then_some(true),
        ..UnitReport::of(assignment)
    };
    Some((report, deed))
}

/// What becomes of a unit that a host has and must start.
fn launched(
    assignment: &Assignment,
    known: &UnitReport,
    is_up: bool,
    ends: bool,
    bodies: &BTreeMap<UnitHash, BodyHash>,
) -> Option<Deed> {
    let body = |hash: &UnitHash| bodies.get(hash);
    let same_body =
        known.hash == assignment.hash || body(&known.hash).is_some_and(|one| Some(one) == body(&assignment.hash));
    let restart = assignment.restart.is_some_and(|restart| restart > known.generation);
    let has_ended = known.active == ActiveState::Inactive && known.result == Some(JobResult::Done);
    let is_over = ends && known.target == Target::Launched && has_ended;
    match (is_up, same_body && !restart) {
        (true, false) => Some(Deed::Restarts),
        (false, false) => Some(Deed::Starts),
        (false, true) if known.generation < assignment.generation && (known.hash == assignment.hash || !is_over) => {
            Some(Deed::Starts)
        }
        (_, true) => (known.hash != assignment.hash).then_some(Deed::Writes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::file::UnitFile;
    use crate::model::placement::Constraints;
    use crate::model::revision::Revision;

    /// A file, and what systemd has of it.
    fn file(program: &str, section: &str) -> (UnitHash, BodyHash) {
        let text = format!("[Service]\nExecStart=/bin/{program}\n{section}\n");
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        (file.hash(), Constraints::parse(&file).unwrap().body)
    }

    #[test]
    fn what_a_host_does_follows_from_what_it_has_and_what_it_is_told() {
        let files = [file("a", ""), file("a", "[X-Fleet]\nMachineMetadata=zone=a"), file("b", "")];
        let bodies = files.iter().cloned().collect();
        let hash = |at: usize| files[at].0.clone();
        let assignment =
            |target: Target, at: usize, generation: u64| Assignment::new(hash(at), target, Revision(generation));
        let (gone, loaded, launched) = (Target::Removed, Target::Loaded, Target::Launched);
        let restart = |generation: u64, restart: u64| Assignment {
            restart: Some(Revision(restart)),
            ..assignment(launched, 0, generation)
        };
        let known = |target: Target, active: &str| {
            let (report, _) = carry_out(&assignment(target, 0, 3), None, false, &bodies).unwrap();
            Some(UnitReport { active: active.into(), ..report })
        };
        let over = known(launched, "inactive");
        for (case, assignment, known, ends, expected) in [
            ("it is new", assignment(launched, 0, 5), None, false, Some(Deed::Arrives(true))),
            ("it is new", assignment(loaded, 0, 5), None, false, Some(Deed::Arrives(false))),
            ("it was removed", assignment(launched, 0, 5), known(gone, "inactive"), false, Some(Deed::Arrives(true))),
            ("nothing is left to remove", assignment(gone, 0, 5), None, false, None),
            ("it runs", assignment(gone, 0, 5), known(launched, "active"), false, Some(Deed::Leaves(true))),
            ("it doesn't run", assignment(gone, 0, 5), known(loaded, "inactive"), false, Some(Deed::Leaves(false))),
            ("it runs", assignment(loaded, 0, 5), known(launched, "active"), false, Some(Deed::Stops)),
            ("it doesn't run", assignment(loaded, 2, 5), known(loaded, "inactive"), false, Some(Deed::Writes)),
            ("it is loaded", assignment(launched, 0, 5), known(loaded, "inactive"), false, Some(Deed::Starts)),
            ("it failed", assignment(launched, 0, 5), known(launched, "failed"), false, Some(Deed::Starts)),
            ("it runs already", assignment(launched, 0, 5), known(launched, "active"), false, None),
            (
                "systemd would read the same",
                assignment(launched, 1, 5),
                known(launched, "active"),
                false,
                Some(Deed::Writes),
            ),
            ("another file", assignment(launched, 2, 5), known(launched, "active"), false, Some(Deed::Restarts)),
            ("another file", assignment(launched, 2, 5), known(launched, "failed"), false, Some(Deed::Starts)),
            ("a restart", restart(5, 5), known(launched, "active"), false, Some(Deed::Restarts)),
            ("a restart that it has done", restart(5, 3), known(launched, "active"), false, None),
            ("it is over", assignment(launched, 1, 5), over.clone(), true, Some(Deed::Writes)),
            ("it is over, and is asked for again", assignment(launched, 0, 5), over, true, Some(Deed::Starts)),
        ] {
            let (report, deed) = carry_out(&assignment, known.as_ref(), ends, &bodies).unwrap();
            assert_eq!(deed, expected, "{case}");
            assert!(
                has_done(&report, &assignment) && carry_out(&assignment, Some(&report), ends, &bodies).is_none(),
                "{case}"
            );
        }
    }
}
