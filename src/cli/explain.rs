//! The messages at the end of a command: done, failed, unplaced. Pure: values in, lines out; prints nothing.

use std::collections::BTreeMap;

use super::error::Line;
use super::output::people::{count, natural};
use super::wait::Goal;
use crate::api::wire::{DamagedUnit, HostReasons, Operation, StateView, UnitDetail, UnitView};
use crate::model::name::UnitName;

/// The most hosts with the same reasons that are named one by one.
pub(super) const SEVERAL: usize = 5;

/// The message about a unit with a damaged record.
pub(super) fn damaged(unit: &DamagedUnit) -> String {
    let DamagedUnit { name, why, .. } = unit;
    format!(
        "The record of unit {name} in the store is damaged ({why}). It keeps running where it is; submit it again with \
         its file, or destroy it"
    )
}

/// The line for a goal that was reached. Scripts parse these.
pub(super) fn done(goal: &Goal, view: Option<&UnitView>) -> String {
    let name = &goal.name;
    match (goal.operation, view) {
        (Operation::Destroy, _) => format!("Destroyed {name}"),
        (operation, Some(view)) if view.global => format!("Triggered global unit {name} {}", operation.verb()),
        (Operation::Unload, _) | (_, None) => format!("Unit {name} inactive"),
        (operation, Some(view)) => match &view.machine {
            Some(machine) => format!("Unit {name} {} on {}", operation.state(), machine.legend(false)),
            None => format!("Unit {name} inactive"),
        },
    }
}

/// The line for a goal that isn't waited for.
pub(super) fn triggered(goal: &Goal, global: bool) -> String {
    let kind = if global { "global unit" } else { "unit" };
    match goal.operation {
        Operation::Destroy => format!("Destroyed {}", goal.name),
        operation => format!("Triggered {kind} {} {}", goal.name, operation.verb()),
    }
}

/// The line for a unit that is in the state that was waited for: `web@1.service is active on n1`.
pub(super) fn reached(name: &UnitName, state: &str, view: Option<&UnitView>) -> String {
    match view {
        Some(UnitView { machine: Some(machine), .. }) => format!("{name} is {state} on {}", machine.name()),
        Some(view) if view.global && !view.states.is_empty() => {
            format!("{name} is {state} on {}", count(view.states.len(), "host"))
        }
        _ => format!("{name} is {state}"),
    }
}

/// The lines for a unit that failed. `before` is whether the same was requested earlier already.
pub(super) fn failed(name: &UnitName, view: Option<&UnitView>, why: &str, before: bool) -> Vec<Line> {
    let mut lines = vec![Line::Message(format!("{name} {why}"))];
    if view.is_some_and(|view| view.states.iter().any(|state| state.report.has_failed())) {
        lines.push(Line::hint(format!(
            "`fleetctl journal {name}` shows more; `fleetctl status {name}` what systemd knows"
        )));
        if view.is_some_and(|view| view.retry.is_some()) {
            let hint = "it is tried again by itself (Reschedule=on-failure); `fleetctl status` says when";
            lines.push(Line::hint(hint));
        }
        if before {
            lines.push(Line::hint(format!("it was to run already; `fleetctl restart {name}` tries again at once")));
        }
    }
    lines
}

/// The line about a unit that has failed on a host, can't be installed there, or is restarted again and again.
pub(super) fn trouble(name: &UnitName, state: &StateView) -> Option<String> {
    let host = state.machine.name();
    let restarts = match state.report.restarts {
        0 => String::new(),
        1 => ", 1 restart".into(),
        count => format!(", {count} restarts"),
    };
    match state.trouble() {
        Some(why) if state.report.failure.is_some() => Some(format!("{name} failed on {host}: {why}{restarts}")),
        Some(why) => Some(format!("{name} on {host}: {why}{restarts}")),
        None if state.report.missing => {
            Some(format!("{name} on {host}: should run and doesn't ({})", state.report.active))
        }
        None if state.report.restarts > 0 => Some(format!("{name} on {host}: {}{restarts}", state.report.sub)),
        None => None,
    }
}

/// The lines for a unit that fits no host: `waiting` is the cluster's summary, `detail` has its reasons if they are
/// available.
pub(super) fn unplaced(
    name: &UnitName,
    operation: Option<Operation>,
    waiting: &str,
    detail: Option<&UnitDetail>,
) -> Vec<Line> {
    let then = if operation == Some(Operation::Load) { "is loaded" } else { "starts" };
    let head = format!("{name} can't run anywhere yet; it stays submitted and {then} as soon as a host fits:");
    let mut lines = vec![Line::Message(head)];
    lines.extend(reasons(waiting, detail).into_iter().map(Line::Message));
    if let Some(operation) = operation {
        let verb = operation.verb();
        lines.push(Line::hint(format!("there is no need to {verb} it again; to give it up: `fleetctl unload {name}`")));
    }
    lines
}

/// Why a unit waits, for each host, indented; the summary if there are no details.
pub(super) fn reasons(waiting: &str, detail: Option<&UnitDetail>) -> Vec<String> {
    let mut lines = Vec::new();
    let reasons = detail.map_or(&[][..], |detail| &detail.reasons);
    let rows = by_host(reasons);
    let width = rows.iter().map(|(host, _)| host.chars().count()).max().unwrap_or(0);
    for (host, misfits) in rows {
        if misfits.is_empty() {
            lines.push(format!("  {host:width$}  would do"));
        }
        for (index, misfit) in misfits.iter().enumerate() {
            let host = if index == 0 { host.as_str() } else { "" };
            lines.push(format!("  {host:width$}  {misfit}"));
        }
    }
    if reasons.is_empty() {
        lines.push(format!("  {}", detail.and_then(|detail| detail.why.as_deref()).unwrap_or(waiting)));
    }
    lines
}

/// The reasons of each host, by the natural order of their names; more than [`SEVERAL`] hosts with the same reasons are
/// one row, `498 hosts`.
fn by_host(reasons: &[HostReasons]) -> Vec<(String, &[String])> {
    let mut rows: Vec<(String, &[String])> =
        reasons.iter().map(|reason| (reason.machine.name(), reason.misfits.as_slice())).collect();
    rows.sort_by(|a, b| natural(&a.0, &b.0));
    let mut sizes: BTreeMap<&[String], usize> = BTreeMap::new();
    for (_, misfits) in &rows {
        *sizes.entry(misfits).or_default() += 1;
    }
    rows.retain_mut(|(host, misfits)| match sizes.get_mut(&*misfits) {
        // This row was printed with the first host of its kind.
        Some(0) => false,
        Some(size) if *size > SEVERAL => {
            *host = count(std::mem::take(size), "host");
            true
        }
        _ => true,
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::MachineRef;
    use crate::cli::condition;
    use crate::cli::wait::Until;
    use crate::model::failure::Failure;
    use crate::model::name::UnitHash;
    use crate::model::revision::Revision;
    use crate::model::systemd::ActiveState;
    use crate::model::unit::Desired;
    use crate::model::unit::UnitReport;

    fn machine(digit: char, hostname: &str) -> MachineRef {
        MachineRef {
            id: digit.to_string().repeat(32).parse().unwrap(),
            ip: "10.0.0.1".into(),
            hostname: hostname.into(),
        }
    }

    fn view(global: bool, placed: bool) -> UnitView {
        UnitView {
            name: "a.service".parse().unwrap(),
            hash: UnitHash::new("0"),
            description: String::new(),
            global,
            replicas: None,
            desired: Desired::Launched,
            current: String::new(),
            generation: Revision(1),
            machine: placed.then(|| machine('a', "n1")),
            done: None,
            hosts: Vec::new(),
            waiting: None,
            retry: None,
            progress: None,
            states: vec![],
        }
    }

    fn name() -> UnitName {
        "a.service".parse().unwrap()
    }

    fn goal(operation: Operation) -> Goal {
        Goal { name: name(), operation, generation: Revision(1), changed: true, until: Until::Ready }
    }

    #[test]
    fn lines_are_fleets() {
        let cases = [
            (Operation::Start, Some(view(false, true)), "Unit a.service launched on aaaaaaaa.../10.0.0.1"),
            (Operation::Load, Some(view(false, true)), "Unit a.service loaded on aaaaaaaa.../10.0.0.1"),
            (Operation::Stop, Some(view(false, true)), "Unit a.service loaded on aaaaaaaa.../10.0.0.1"),
            (Operation::Stop, Some(view(false, false)), "Unit a.service inactive"),
            (Operation::Unload, Some(view(false, false)), "Unit a.service inactive"),
            (Operation::Start, Some(view(true, false)), "Triggered global unit a.service start"),
            (Operation::Destroy, None, "Destroyed a.service"),
        ];
        for (operation, view, line) in cases {
            assert_eq!(done(&goal(operation), view.as_ref()), line);
        }
        assert_eq!(triggered(&goal(Operation::Stop), false), "Triggered unit a.service stop");
        assert_eq!(MachineRef { ip: String::new(), ..machine('b', "") }.legend(false), "bbbbbbbb...");
    }

    #[test]
    fn what_is_wrong_with_a_unit_on_a_host_is_one_line() {
        let state = condition::tests::state("n1 active running");
        let line = |state: &StateView| trouble(&"a.service".parse().unwrap(), state).unwrap_or_default();
        let with = |report| StateView { report, ..state.clone() };
        assert_eq!(line(&state), "");
        let again = with(UnitReport { restarts: 29, ..state.report.clone() });
        assert_eq!(line(&again), "a.service on n1: running, 29 restarts");
        let exit = Some("exited 7/NOTRUNNING".into());
        let failure = Some(Box::new(Failure { result: "exit-code".into(), exit, ..Failure::default() }));
        let failed = with(UnitReport { restarts: 1, failure, ..state.report.clone() });
        assert_eq!(line(&failed), "a.service failed on n1: exit status 7/NOTRUNNING, 1 restart");
        let missing = with(UnitReport { active: ActiveState::Inactive, missing: true, ..state.report.clone() });
        assert_eq!(line(&missing), "a.service on n1: should run and doesn't (inactive)");
        let full = with(UnitReport { error: Some("/run is full".into()), ..state.report.clone() });
        assert_eq!(line(&full), "a.service on n1: /run is full");
    }

    #[test]
    fn all_reasons_of_all_hosts_are_told() {
        let reason = |digit, host: &str, misfits: &[&str]| HostReasons {
            machine: machine(digit, host),
            misfits: misfits.iter().map(|misfit| (*misfit).into()).collect(),
        };
        let detail = UnitDetail {
            revision: None,
            unit: view(false, false),
            text: String::new(),
            by: None,
            why: None,
            reasons: vec![
                reason('a', "n1", &["no disk=ssd", "conflicts with b"]),
                reason('b', "node10", &["no disk=ssd"]),
            ],
            choice: None,
            offline: None,
        };
        assert_eq!(
            unplaced(&name(), Some(Operation::Start), "no host", Some(&detail)),
            [
                "a.service can't run anywhere yet; it stays submitted and starts as soon as a host fits:",
                "  n1      no disk=ssd",
                "          conflicts with b",
                "  node10  no disk=ssd",
                "hint: there is no need to start it again; to give it up: `fleetctl unload a.service`"
            ]
        );
        assert_eq!(unplaced(&name(), Some(Operation::Load), "no host is alive", None)[1], "  no host is alive");
    }

    #[test]
    fn many_hosts_with_the_same_reasons_are_one_row() {
        let reason =
            |host: &str, misfit: &str| HostReasons { machine: machine('a', host), misfits: vec![misfit.to_owned()] };
        let mut all: Vec<HostReasons> =
            (0..498).rev().map(|number| reason(&format!("n{number}"), "has no metadata gpu")).collect();
        all.insert(7, reason("x10", "conflicts with b"));
        all.insert(9, reason("x9", "conflicts with b"));
        let rows: Vec<(String, &str)> =
            by_host(&all).into_iter().map(|(host, misfits)| (host, misfits[0].as_str())).collect();
        let (many, few) = ("has no metadata gpu", "conflicts with b");
        assert_eq!(rows, [("498 hosts".into(), many), ("x9".into(), few), ("x10".into(), few)]);
        let rows = by_host(&all[494..]).into_iter().map(|(host, _)| host).collect::<Vec<_>>();
        assert_eq!(rows, ["6 hosts"], "of those that are asked about");
        assert_eq!(by_host(&all[495..]).len(), SEVERAL);
    }
}
