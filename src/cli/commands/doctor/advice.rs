//! What to do about each kind of problem. Pure. Owns these sentences: each names a command that can be typed, or the
//! page that has more to say; none changes anything by itself.

use crate::cli::commands::overview::{Finding, Problem};

/// What to do about it.
pub(super) fn of(finding: &Finding) -> String {
    let Finding { problem, name, .. } = finding;
    match problem {
        Problem::Leaderless => {
            "look on the hosts with `journalctl -u fleetd -p warning`: each says why it doesn't lead".into()
        }
        Problem::MassLoss => {
            "look at etcd and at the network first; if the hosts are really gone, `fleetctl forget --held` moves their \
             units now"
                .into()
        }
        Problem::Gone => format!(
            "look on it with `systemctl status fleetd`; if it won't be back, `fleetctl forget {name}` removes it"
        ),
        Problem::Reboot => format!("`fleetctl reboot {name} --cancel` gives up the reboot, so that others can"),
        Problem::Clock => "look on it with `timedatectl` whether its clock is synchronized; once it is, `systemctl \
                           restart fleetd` corrects the times that it has told"
            .into(),
        Problem::MachineId => "on the one of the two hosts that is to have another id, type `rm /etc/machine-id && \
                               systemd-machine-id-setup`, and restart it"
            .into(),
        Problem::OpenFiles => {
            "`ls -l /proc/$(pidof fleetd)/fd` on it shows which these are; a larger `LimitNOFILE=` in \
                               `systemctl edit fleetd` makes room"
                .into()
        }
        Problem::Versions => of_versions(name),
        Problem::StoreFull
        | Problem::StoreCorrupt
        | Problem::StoreSilent
        | Problem::StoreAlarm
        | Problem::StoreLarge => of_store(*problem).into(),
        Problem::Damaged
        | Problem::Failed
        | Problem::Dead
        | Problem::Restarting
        | Problem::Unready
        | Problem::Waiting => of_unit(*problem, name),
        Problem::Stuck | Problem::Reverted | Problem::Paused | Problem::Unpromoted | Problem::Slow => {
            of_rollout(*problem, name)
        }
    }
}

fn of_versions(name: &str) -> String {
    if name == "etcd" {
        "finish the upgrade of etcd, one member at a time".into()
    } else {
        "finish the upgrade, one host at a time: `fleetctl list-machines --fields=hostname,version` lists them".into()
    }
}

fn of_store(problem: Problem) -> &'static str {
    match problem {
        Problem::StoreFull => {
            "compact and defragment etcd, then `etcdctl alarm disarm`; \"etcd is full\" in the runbook has the commands"
        }
        Problem::StoreCorrupt => {
            "take a snapshot of a member that is well (`etcdctl snapshot save`), then replace the one with the alarm"
        }
        Problem::StoreLarge => {
            "compact and defragment etcd before it refuses every change, and start it with \
             --auto-compaction-retention=1h"
        }
        Problem::StoreAlarm => "look at the log of that member",
        _ => "look on that host with `systemctl status etcd`; etcd works as long as more than half of its members do",
    }
}

fn of_unit(problem: Problem, name: &str) -> String {
    match problem {
        Problem::Damaged => format!("submit it again with its file (`fleetctl start --replace {name}`), or destroy it"),
        Problem::Failed => {
            format!(
                "`fleetctl journal {name}` shows why; once that is mended, `fleetctl reset-failed {name}` starts it"
            )
        }
        Problem::Dead => format!("`fleetctl journal {name}` shows who stopped it; `fleetctl start {name}` starts it"),
        Problem::Restarting => {
            format!("`fleetctl journal {name}` shows why it ends; `fleetctl stop {name}` ends the loop")
        }
        Problem::Unready => format!("`fleetctl journal {name}` shows what it does; its probes say that it isn't ready"),
        _ => format!("`fleetctl explain {name}` shows which rule excludes which host, and what would place it"),
    }
}

fn of_rollout(problem: Problem, name: &str) -> String {
    match problem {
        Problem::Stuck => {
            format!("`fleetctl rollout {name}` shows its members; submit a file that works with `--replace`")
        }
        Problem::Reverted => {
            format!("`fleetctl rollout {name}` shows why; `fleetctl rollout {name} retry` tries the same file again")
        }
        Problem::Paused => {
            format!("`fleetctl rollout {name} resume` goes on; `fleetctl rollback {name}` gives back the file before")
        }
        Problem::Unpromoted => format!("`fleetctl rollout {name} promote` goes on beyond the canaries"),
        _ => format!("`fleetctl rollout {name}` shows what it waits for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that a sentence names exists, with its arguments.
    #[test]
    fn what_is_advised_can_be_typed() {
        for problem in Problem::ALL {
            let finding =
                Finding { problem, name: "web.service".into(), host: String::new(), text: String::new(), since: 0 };
            let advice = of(&finding);
            for command in advice.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with("fleetctl ")) {
                let parsed = crate::cli::args::command().try_get_matches_from(command.split(' '));
                assert!(parsed.is_ok(), "{problem:?}: {command}: {}", parsed.unwrap_err());
            }
            assert!(advice.len() > 20, "{problem:?}");
        }
    }
}
