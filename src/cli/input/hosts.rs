//! Which host is meant by a name, an address, an id or the beginning of an id. Pure.

use crate::api::wire::{MachineList, MachineView};
use crate::cli::error::Line;
use crate::model::name::MachineId;

/// The shortest beginning of an id that names a host.
const SHORTEST: usize = 4;

/// The hosts with this name, address or id; otherwise those whose ids begin with it.
pub(in crate::cli) fn named<'a>(name: &str, hosts: &'a [MachineView]) -> Vec<&'a MachineView> {
    let is = |host: &&MachineView| [host.id.as_str(), &host.hostname, &host.ip].contains(&name);
    let begins = |host: &&MachineView| name.len() >= SHORTEST && host.id.as_str().starts_with(name);
    let exactly: Vec<&MachineView> = hosts.iter().filter(is).collect();
    if exactly.is_empty() { hosts.iter().filter(begins).collect() } else { exactly }
}

/// The lines for a name that several hosts have.
pub(in crate::cli) fn ambiguous(name: &str, hosts: &[&MachineView]) -> Vec<Line> {
    let lines = hosts.iter().map(|host| format!("  {}  {}  {}", host.id, host.hostname, host.ip));
    let head = format!("{name} could be any of these hosts:");
    std::iter::once(head).chain(lines).map(Line::Message).collect()
}

/// The host that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Meant<'a> {
    /// One that is registered, or remembered.
    Known(&'a MachineView),
    /// Nothing is known of it yet; this is its complete id.
    New(MachineId),
}

/// The host with this name: one that is registered, or else one that is gone, or else any that has it as its id.
///
/// # Errors
/// What is printed.
pub(in crate::cli) fn find<'a>(name: &str, hosts: &'a MachineList) -> Result<Meant<'a>, Vec<Line>> {
    for known in [&hosts.machines, &hosts.gone] {
        match named(name, known)[..] {
            [host] => return Ok(Meant::Known(host)),
            [] => {}
            ref several => return Err(ambiguous(name, several)),
        }
    }
    if let Ok(id) = name.parse() {
        return Ok(Meant::New(id));
    }
    let known: Vec<String> = hosts.machines.iter().map(MachineView::name).collect();
    let known = if known.is_empty() { "no host is registered".into() } else { format!("hosts: {}", known.join(", ")) };
    Err(vec![format!("no host {name} is known").into(), Line::hint(known)])
}

/// `n2 (10.0.0.2, 3ec325e8)`
pub(in crate::cli) fn shown(host: &MachineView) -> String {
    format!("{} ({}, {})", host.name(), host.ip, host.id.short())
}

/// The hosts that `names` name, each once: registered ones, or else those that are gone.
///
/// # Errors
/// What is wrong with the names.
pub(in crate::cli) fn known<'a>(names: &[String], hosts: &'a MachineList) -> Result<Vec<&'a MachineView>, Vec<Line>> {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for name in names {
        match find(name, hosts) {
            Ok(Meant::Known(host)) if found.contains(&host) => {}
            Ok(Meant::Known(host)) => found.push(host),
            Ok(Meant::New(_)) => wrong.push(format!("no host {name} is known").into()),
            Err(lines) => wrong.extend(lines),
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use super::*;

    /// A host whose id has only this digit.
    pub(in crate::cli) fn host(digit: char, hostname: &str) -> MachineView {
        let (metadata, builtin, version, since, gone, cordon, drain) = Default::default();
        let (id, ip) = (digit.to_string().repeat(32).parse().unwrap(), format!("ip-{hostname}"));
        MachineView { id, ip, hostname: hostname.into(), metadata, builtin, version, since, gone, cordon, drain }
    }

    #[test]
    fn hosts_that_are_up_come_before_those_that_are_gone() {
        let machines = vec![host('1', "n1"), host('2', "n2"), host('6', "n6"), host('7', "n6")];
        let hosts = MachineList { here: None, machines, gone: vec![host('3', "n2"), host('4', "n4")], offline: None };
        let find = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            match known(&names, &hosts) {
                Ok(hosts) => hosts.iter().map(|host| host.id.short().to_owned()).collect::<Vec<_>>().join(" "),
                Err(lines) => lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            }
        };
        for (names, found) in
            [(&["n2"][..], "22222222"), (&["3333"], "33333333"), (&["n4", "ip-n1", "1111"], "44444444 11111111")]
        {
            assert_eq!(find(names), found, "{names:?}");
        }
        let new = "5".repeat(32);
        assert_eq!(find(&[&new]), format!("no host {new} is known"));
        assert!(find(&["n1", "n5", "n6"]).starts_with("no host n5 is known; "), "{}", find(&["n5"]));
        assert!(find(&["n6"]).starts_with("n6 could be any of these hosts:; "), "{}", find(&["n6"]));
    }
}
