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
