//! `fleetctl drain`: units leave hosts, and no new ones come. Owns what is shown of it; the leader decides who leaves
//! when.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::api::client::ClientError;
use crate::api::wire::{AskHosts, DrainOptions, DrainView, DrainWhat, DrainedUnit, HostAsk, MachineList, MachineView};
use crate::cli::args::Drain;
use crate::cli::commands::course::{Became, PAUSE, Seen};
use crate::cli::commands::plan;
use crate::cli::error::{Error, Exit};
use crate::cli::follow::interrupted;
use crate::cli::input::{hosts, names};
use crate::cli::output::people::count;
use crate::cli::session::Session;
use crate::model::name::{MachineId, UnitName};

/// Run `drain`.
pub(in crate::cli) async fn drain(session: &Session, args: &Drain) -> Result<Exit, Error> {
    let all = session.client.machines().await?;
    let found =
        hosts::known(&args.named.hosts, &all).map_err(|lines| Error::failures(lines).because("nothing was changed"))?;
    if is_every_host(&all, &found) && !args.leaving.force {
        let names: Vec<String> = found.iter().map(|host| host.name()).collect();
        let line = format!("drain {}: that is every host; nothing would fit", names.join(" "));
        return Err(Error::failure(line).because("nothing was changed"));
    }
    let ask = AskHosts {
        ask: HostAsk::Drain,
        hosts: found.iter().map(|host| host.id.clone()).collect(),
        why: args.leaving.why.clone().unwrap_or_default(),
        options: DrainOptions {
            parallel: args.leaving.parallel,
            deadline: args.leaving.deadline.map(|deadline| deadline.as_secs()),
            globals: args.globals,
            force: args.leaving.force,
            restore: false,
        },
    };
    if args.plan.plan {
        return plan::of_ask(session, session.client.plan_hosts(&ask).await?);
    }
    let asked = session.client.ask_hosts(&ask).await?.hosts;
    for host in &found {
        let changed = asked.iter().any(|asked| asked.id == host.id && asked.changed);
        session.line(&format!("{}{}", hosts::shown(host), if changed { " is drained" } else { " is drained already" }));
    }
    if args.no_block {
        return Ok(Exit::Ok);
    }
    let (exit, left) = Watch { session, hosts: found, globals: args.globals, seen: BTreeMap::new() }.run().await?;
    if session.is_json() {
        session.out.json(&left);
    }
    Ok(exit)
}

/// Whether no host would take units any more.
fn is_every_host(all: &MachineList, found: &[&MachineView]) -> bool {
    let is_closed = |host: &MachineView| host.cordon.is_some() || host.drain.is_some() || found.contains(&host);
    found.iter().any(|host| host.gone.is_none()) && all.machines.iter().all(is_closed)
}

/// Looks on until no unit leaves any more.
struct Watch<'a> {
    session: &'a Session,
    hosts: Vec<&'a MachineView>,
    /// Whether global units leave as well.
    globals: bool,
    /// The units that were on hosts.
    seen: BTreeMap<(MachineId, UnitName), Seen>,
}

impl Watch<'_> {
    async fn run(mut self) -> Result<(Exit, Vec<serde_json::Value>), Error> {
        let mut interrupts = signal(SignalKind::interrupt()).ok();
        let left = tokio::select! {
            left = self.follow() => left?,
            () = interrupted(interrupts.as_mut()) => {
                self.session.out.message("no longer watching; units go on leaving until `fleetctl undrain`");
                return Ok((Exit::Interrupted, Vec::new()));
            }
        };
        let mut printed = Vec::new();
        let mut stays = false;
        for (host, units) in left {
            let moved = self.seen.keys().filter(|(id, _)| *id == host.id).count() - units.len();
            let kept: Vec<&DrainedUnit> = units.iter().filter(|unit| unit.what != DrainWhat::Global).collect();
            stays |= !kept.is_empty();
            let stay = if kept.is_empty() { String::new() } else { format!(", {} stay", kept.len()) };
            self.session.line(&format!("{}: {} left{stay}", host.name(), count(moved, "unit")));
            kept.iter().flat_map(|unit| reasons(unit)).for_each(|line| self.session.line(&line));
            printed.push(json!({ "machine": host.id, "hostname": host.hostname, "left": moved, "units": units }));
        }
        Ok((Exit::failed_if(stays), printed))
    }

    async fn follow(&mut self) -> Result<Vec<(MachineView, Vec<DrainedUnit>)>, Error> {
        loop {
            let mut left = Vec::new();
            let mut is_over = true;
            for host in self.hosts.clone() {
                let units = match self.session.client.drain(&host.id).await {
                    Ok(DrainView { units }) => units,
                    // Somebody has undrained it.
                    Err(ClientError::Api(detail)) if detail.code == 404 => Vec::new(),
                    Err(error) => return Err(error.into()),
                };
                is_over &= is_over_with(self.globals, &units);
                is_over &= self.tell(host, &units).await?;
                left.push((host.clone(), units));
            }
            if is_over {
                return Ok(left);
            }
            sleep(PAUSE).await;
        }
    }

    /// Say what has happened since the last look. Returns whether it is known what has become of all that have left.
    async fn tell(&mut self, host: &MachineView, units: &[DrainedUnit]) -> Result<bool, Error> {
        for unit in units {
            let seen = self.seen.entry((host.id.clone(), unit.name.clone())).or_default();
            let waits = unit.why.as_deref().filter(|_| unit.what == DrainWhat::Waits);
            let line = seen.look(&unit.name, unit.what == DrainWhat::Leaves, waits);
            line.into_iter().for_each(|line| self.session.line(line));
        }
        let gone = |(id, name): &(MachineId, UnitName)| *id == host.id && !units.iter().any(|unit| unit.name == *name);
        let left = self.seen.iter().filter(|(key, seen)| gone(key) && seen.end.is_none());
        let left: Vec<UnitName> = left.map(|((_, name), _)| name.clone()).collect();
        if left.is_empty() {
            return Ok(true);
        }
        let patterns: Vec<String> = left.iter().map(names::exactly).collect();
        let now = self.session.client.units(&patterns).await?.units;
        let mut all_said = true;
        for name in left {
            let Some(seen) = self.seen.get_mut(&(host.id.clone(), name.clone())) else { continue };
            let view = now.iter().find(|unit| unit.name == name);
            let line = match seen.became(view, Instant::now()) {
                Some(Became::On(machine)) => format!("  {name}  moved to {}{}", machine.name(), seen.took()),
                Some(Became::Nowhere(why)) => format!("  {name}  {why}"),
                None => {
                    all_said = false;
                    continue;
                }
            };
            seen.end = Some(view.is_some());
            self.session.line(&line);
        }
        Ok(all_said)
    }
}

/// Whether nothing more leaves a host. Global units leave last, if they do, and only if nothing else stays.
fn is_over_with(globals: bool, units: &[DrainedUnit]) -> bool {
    let any = |what| units.iter().any(|unit| unit.what == what);
    let globals_follow = globals && any(DrainWhat::Global) && !any(DrainWhat::Stays);
    !any(DrainWhat::Leaves) && !any(DrainWhat::Waits) && !globals_follow
}

/// Why a unit stays, host by host.
fn reasons(unit: &DrainedUnit) -> Vec<String> {
    let hosts = unit.reasons.iter().flat_map(|host| {
        host.misfits.iter().map(|misfit| format!("    {}  {misfit}", host.machine.name())).collect::<Vec<_>>()
    });
    let why = unit.why.as_deref().unwrap_or("fits no other host (--force stops it nevertheless)");
    let head = format!("  {}  stays: {why}", unit.name);
    std::iter::once(head).chain(hosts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::input::hosts::tests::host;

    #[test]
    fn the_last_hosts_that_take_units_are_not_drained() {
        let mut machines = vec![host('1', "n1"), host('2', "n2"), host('3', "n3")];
        let every = |machines: &[MachineView], found: &[usize]| {
            let list = MachineList { machines: machines.to_vec(), ..MachineList::default() };
            is_every_host(&list, &found.iter().map(|at| &machines[*at]).collect::<Vec<_>>())
        };
        assert!(every(&machines, &[0, 1, 2]));
        assert!(!every(&machines, &[0, 1]));
        machines[2].cordon = Some(Default::default());
        assert!(every(&machines, &[0, 1]));
    }

    #[test]
    fn a_drain_is_over_when_nothing_more_leaves() {
        let unit = |what| DrainedUnit { name: "a.service".parse().unwrap(), what, why: None, reasons: Vec::new() };
        use DrainWhat::{Global, Leaves, Stays, Waits};
        for (globals, units, expected) in [
            (false, &[][..], true),
            (false, &[Leaves], false),
            (false, &[Stays, Waits], false),
            (false, &[Stays, Global], true),
            (true, &[Global], false),
            (true, &[Stays, Global], true),
        ] {
            let units: Vec<DrainedUnit> = units.iter().map(|what| unit(*what)).collect();
            assert_eq!(is_over_with(globals, &units), expected, "{globals} {units:?}");
        }
    }
}
