//! What is wrong with the `fleetd` that was asked, as it says itself. Pure. Owns how many open files need a person.

use crate::api::wire::{DaemonView, DaemonWait, WaitKind};
use crate::cli::commands::overview::{Finding, Problem};

/// A daemon with this share of the files that it may have open needs a person: without any, it can do nothing.
const MANY_PERCENT: u64 = 80;

/// What needs a person.
pub(super) fn findings(daemon: &DaemonView) -> Vec<Finding> {
    let found = |problem, text, since| {
        let (name, host) = (daemon.hostname.clone(), String::new());
        Finding { problem, name, host, text, since }
    };
    let clash = daemon.waits.as_ref().filter(|waits| waits.r#for == WaitKind::MachineId);
    let clash = clash.map(|DaemonWait { why, since, .. }| {
        // What follows is what to do.
        let why = why.split_once("; ").map_or(&**why, |(why, _)| why);
        found(Problem::MachineId, format!("its fleetd {why}"), *since)
    });
    let DaemonView { open_files, open_files_limit, .. } = daemon;
    let limit = open_files_limit.filter(|limit| *open_files > limit / 100 * MANY_PERCENT);
    let many = limit.map(|limit| {
        found(Problem::OpenFiles, format!("its fleetd has {open_files} files open, and may have {limit}"), 0)
    });
    clash.into_iter().chain(many).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(daemon: &DaemonView) -> Vec<(Problem, String, u64)> {
        findings(daemon)
            .into_iter()
            .map(|found| (found.problem, format!("{}: {}", found.name, found.text), found.since))
            .collect()
    }

    #[test]
    fn a_machine_id_that_clashes_is_told_without_what_to_do() {
        let why = "isn't registered with its cluster: another live host has the machine id 1: n1 (10.0.0.1), and this \
                   is n3 (10.0.0.3); give one of them its own (`rm …`) and restart it";
        let waits = |kind| Some(DaemonWait { r#for: kind, why: why.into(), since: 7 });
        let mut daemon = DaemonView { hostname: "n3".into(), waits: waits(WaitKind::MachineId), ..Default::default() };
        let text = "n3: its fleetd isn't registered with its cluster: another live host has the machine id 1: \
                    n1 (10.0.0.1), and this is n3 (10.0.0.3)";
        assert_eq!(told(&daemon), [(Problem::MachineId, text.to_owned(), 7)]);
        // Everything else is told by what the cluster, or the store, says.
        for kind in [WaitKind::Start, WaitKind::Store, WaitKind::Systemd, WaitKind::Other] {
            daemon.waits = waits(kind);
            assert_eq!(told(&daemon), []);
        }
    }

    #[test]
    fn many_open_files_need_a_person_if_there_is_a_limit() {
        let daemon =
            |open_files, open_files_limit| DaemonView { open_files, open_files_limit, ..DaemonView::default() };
        let text = ": its fleetd has 801 files open, and may have 1000".to_owned();
        assert_eq!(told(&daemon(801, Some(1000))), [(Problem::OpenFiles, text, 0)]);
        for (open, limit) in [(800, Some(1000)), (801, None), (0, Some(0)), (14, Some(65_536))] {
            assert_eq!(told(&daemon(open, limit)), [], "{open} of {limit:?}");
        }
    }
}
