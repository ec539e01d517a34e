//! How a fix is shown: what to do as a sentence, and the commands to type. Pure.

use crate::api::server::views::machine_ref;
use crate::api::wire::{RemedyStep, RemedyView};
use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::text::shell_word;
use crate::plan::remedy::{Remedy, Step};

/// A fix; `hosts` has the names of hosts.
pub(super) fn view(hosts: &Cluster, remedy: &Remedy) -> RemedyView {
    let steps = remedy.steps.iter().map(|it| step(hosts, it)).collect();
    RemedyView { steps, machine: remedy.host.as_ref().map(|host| machine_ref(hosts, host)) }
}

fn step(hosts: &Cluster, step: &Step) -> RemedyStep {
    let (kind, what, commands) = match step {
        Step::Start(unit) => ("start", format!("start {unit}"), vec![format!("fleetctl start {unit}")]),
        Step::Open { host, cordoned, drained } => open(&word(hosts, host), *cordoned, *drained),
        Step::Metadata { host, set, unset } => {
            let host = word(hosts, host);
            let pairs: Vec<String> = set.iter().map(|(key, value)| shell_word(&format!("{key}={value}"))).collect();
            let keys: Vec<String> = unset.iter().map(|key| shell_word(key)).collect();
            let mut commands = Vec::new();
            if !pairs.is_empty() {
                commands.push(format!("fleetctl set-metadata {host} {}", pairs.join(" ")));
            }
            if !keys.is_empty() {
                commands.push(format!("fleetctl unset-metadata {host} {}", keys.join(" ")));
            }
            ("metadata", format!("change the metadata of {host}, if that is what it is"), commands)
        }
        Step::Move { unit, to } => {
            let to = word(hosts, to);
            ("move", format!("move {unit} to {to}"), vec![format!("fleetctl move {unit} {to}")])
        }
        Step::Drop { units, line, option } => dropped(units, *line, option),
        Step::Join { like } => {
            ("join", format!("add a host like {}, without its units", word(hosts, like)), Vec::new())
        }
    };
    RemedyStep { kind: kind.into(), what, commands }
}

fn open(host: &str, cordoned: bool, drained: bool) -> (&'static str, String, Vec<String>) {
    let mut commands = Vec::new();
    if drained {
        commands.push(format!("fleetctl undrain {host}"));
    }
    if cordoned {
        commands.push(format!("fleetctl uncordon {host}"));
    }
    ("open", format!("let {host} take units again"), commands)
}

/// The template of a set comes before its members.
fn dropped(units: &[UnitName], line: usize, option: &str) -> (&'static str, String, Vec<String>) {
    let file = units.first().map_or("", |unit| unit.as_str());
    let all = match units {
        [_, .., _] => ", which all members of the set have",
        _ => "",
    };
    (
        "drop",
        format!("take line {line} out of the file of {file}{all}: {option}"),
        vec![format!("fleetctl edit {file}")],
    )
}

/// How a host is called in a command: by its name, if no other host has it.
fn word(hosts: &Cluster, host: &MachineId) -> String {
    let name = hosts.hostname(host).unwrap_or_default();
    let same = hosts.machines.values().filter(|machine| machine.hostname == name).count();
    if same == 1 && !name.is_empty() { shell_word(name) } else { host.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::machine::Machine;

    fn id(at: u64) -> MachineId {
        format!("{at:032x}").parse().unwrap()
    }

    #[test]
    fn each_step_has_the_commands_to_type() {
        let mut hosts = Cluster::default();
        for (at, name) in [(1, "n1"), (2, "n2"), (3, "twin"), (4, "twin")] {
            hosts.machines.insert(id(at), Machine::new(id(at), name));
        }
        let unit = |name: &str| name.parse::<UnitName>().unwrap();
        let set = [("zone".to_owned(), "a b".to_owned()), ("disk".to_owned(), "ssd".to_owned())].into();
        for (shown, commands) in [
            (Step::Start(unit("a.service")), vec!["fleetctl start a.service".to_owned()]),
            (
                Step::Open { host: id(1), cordoned: true, drained: true },
                vec!["fleetctl undrain n1".into(), "fleetctl uncordon n1".into()],
            ),
            (
                Step::Metadata { host: id(2), set, unset: ["gpu".to_owned()].into() },
                vec!["fleetctl set-metadata n2 disk=ssd 'zone=a b'".into(), "fleetctl unset-metadata n2 gpu".into()],
            ),
            (Step::Move { unit: unit("b.service"), to: id(3) }, vec![format!("fleetctl move b.service {}", id(3))]),
            (
                Step::Drop {
                    units: vec![unit("w@.service"), unit("w@1.service")],
                    line: 4,
                    option: "Conflicts=w@*".into(),
                },
                vec!["fleetctl edit w@.service".into()],
            ),
            (Step::Join { like: id(1) }, vec![]),
        ] {
            assert_eq!(step(&hosts, &shown).commands, commands, "{shown:?}");
        }
    }
}
