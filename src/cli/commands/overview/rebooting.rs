//! What `fleetctl status` says of hosts that are to reboot. Pure. Owns when that needs a person: a host that has a slot
//! and doesn't go on holds up all others.

use super::{Finding, Problem};
use crate::api::wire::{RebootStage, RebootView};
use crate::cli::output::people::count;
use crate::clock::utc;

/// How long a host that reboots may be gone, in ms.
const REBOOT: u64 = 10 * 60 * 1000;

/// How long a host may have a slot whose program is to say that it is back, in ms: longer than a drain takes.
const PROGRAM: u64 = 2 * 60 * 60 * 1000;

/// The hosts that hold up others, or can't go on.
pub(super) fn findings(reboots: &[RebootView], now: u64) -> Vec<Finding> {
    reboots.iter().filter_map(|view| of_view(view, reboots, now)).collect()
}

fn of_view(view: &RebootView, all: &[RebootView], now: u64) -> Option<Finding> {
    let name = view.machine.name();
    let away = view.gone.filter(|since| now.saturating_sub(*since) >= REBOOT);
    let text = match (view.stage, away, view.error.as_str()) {
        (RebootStage::Waits, ..) => return None,
        (RebootStage::Away, Some(since), _) => {
            let since = if since == 0 { String::new() } else { format!(", away since {}", utc(since)) };
            format!("has the reboot slot{since}; `fleetctl forget {name}` gives it up")
        }
        (_, _, "") if !view.program.is_empty() && now.saturating_sub(view.since) >= PROGRAM => {
            let since = utc(view.since);
            format!(
                "has had the reboot slot since {since}: its program hasn't rebooted it, or doesn't say that it is \
                 back; `fleetctl reboot --cancel {name}` gives it up"
            )
        }
        (_, _, "") => return None,
        (.., error) => format!("is to reboot and can't: {error}; `fleetctl reboot --cancel {name}`"),
    };
    let waits = |other: &&RebootView| other.stage == RebootStage::Waits && other.group == view.group;
    let waiting = all.iter().filter(waits).count();
    let text = if waiting == 0 { text } else { format!("{text}; waiting for it: {}", count(waiting, "host")) };
    let since = view.gone.unwrap_or(view.since);
    Some(Finding { problem: Problem::Reboot, name, host: view.machine.ip.clone(), text, since })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::MachineRef;
    use crate::model::reboot::Group;

    #[test]
    fn a_host_that_holds_up_others_needs_a_person() {
        let view = |name: &str, stage, gone, error: &str| {
            let id = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
            let machine = MachineRef { id, ip: "10.0.0.2".into(), hostname: name.into() };
            let (why, by, program) = Default::default();
            let (group, error) = (Group::default(), error.to_owned());
            RebootView { machine, group, stage, since: 60_000, gone, why, by, program, error }
        };
        let waiting = view("n3", RebootStage::Waits, None, "");
        let (soon, late) = (120_000, 60_000 + REBOOT);
        let found = |first: &RebootView, now| {
            let found = findings(&[first.clone(), waiting.clone()], now);
            found.into_iter().map(|finding| format!("{} {}", finding.name, finding.text)).collect::<Vec<_>>()
        };
        let leaves = view("n2", RebootStage::Leaves, None, "");
        assert_eq!(found(&leaves, late), Vec::<String>::new());
        let away = view("n2", RebootStage::Away, Some(60_000), "");
        assert_eq!(found(&away, soon), Vec::<String>::new());
        let text = "n2 has the reboot slot, away since 00:01:00 UTC; `fleetctl forget n2` gives it up; \
                    waiting for it: 1 host";
        assert_eq!(found(&away, late), [text]);
        let program = RebootView { program: "c988".into(), ..leaves };
        assert_eq!(found(&program, late), Vec::<String>::new());
        let text = "n2 has had the reboot slot since 00:01:00 UTC: its program hasn't rebooted it, or doesn't say that \
                    it is back; `fleetctl reboot --cancel n2` gives it up; waiting for it: 1 host";
        assert_eq!(found(&program, 60_000 + PROGRAM), [text]);
        let stuck = view("n2", RebootStage::Leaves, None, "gpu.service fits no other host");
        let text = "n2 is to reboot and can't: gpu.service fits no other host; \
                    `fleetctl reboot --cancel n2`; waiting for it: 1 host";
        assert_eq!(found(&stuck, soon), [text]);
    }
}
