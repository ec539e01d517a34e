//! `fleetctl undrain`: hosts take units again, and with `--restore` those come back that have left. Owns what is shown
//! of it; the leader decides who comes back when.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::api::client::ClientError;
use crate::api::wire::{AskHosts, DrainOptions, HostAsk, MachineView, RestoreView, ReturnWhat, ReturningUnit};
use crate::cli::args::Undrain;
use crate::cli::commands::course::{Became, PAUSE, Seen};
use crate::cli::commands::{plan, rebalance};
use crate::cli::error::{Error, Exit};
use crate::cli::follow::interrupted;
use crate::cli::input::{hosts, names};
use crate::cli::output::people::count;
use crate::cli::session::Session;
use crate::model::name::{MachineId, UnitName};

/// Run `undrain`.
pub(in crate::cli) async fn undrain(session: &Session, args: &Undrain) -> Result<Exit, Error> {
    let all = session.client.machines().await?;
    let found =
        hosts::known(&args.named.hosts, &all).map_err(|lines| Error::failures(lines).because("nothing was changed"))?;
    let mut wrong = Vec::new();
    for host in found.iter().filter(|host| host.drain.is_none()) {
        // Units may still be coming back, which a plain `undrain` ends.
        let units = returning(session, host).await?;
        if units.is_none_or(|units| !args.restore && is_over(&units)) {
            wrong.push(format!("undrain {}: it isn't drained", host.name()));
        }
    }
    if !wrong.is_empty() {
        return Err(Error::failures(wrong).because("nothing was changed"));
    }
    let ids = found.iter().map(|host| host.id.clone()).collect();
    let options = DrainOptions { parallel: args.parallel, restore: args.restore, ..DrainOptions::default() };
    let ask = AskHosts { ask: HostAsk::Undrain, hosts: ids, why: String::new(), options };
    if args.plan.plan {
        return plan::of_ask(session, session.client.plan_hosts(&ask).await?);
    }
    session.client.ask_hosts(&ask).await?;
    for host in &found {
        let still = if host.cordon.is_some() { "; it stays cordoned" } else { "" };
        session.line(&format!("{} is no longer drained{still}", hosts::shown(host)));
    }
    if !args.restore {
        session.out.messages(rebalance::hints(session, &found).await);
    }
    let (exit, back) = if args.restore && !args.no_block {
        Watch { session, hosts: found, seen: BTreeMap::new() }.run().await?
    } else {
        (Exit::Ok, found.iter().map(|host| printed(host, 0, &[])).collect())
    };
    if session.is_json() {
        session.out.json(&back);
    }
    Ok(exit)
}

/// The units that are to come back to a host; `None` if nothing was to.
async fn returning(session: &Session, host: &MachineView) -> Result<Option<Vec<ReturningUnit>>, Error> {
    match session.client.restore(&host.id).await {
        Ok(RestoreView { units }) => Ok(Some(units)),
        Err(ClientError::Api(detail)) if detail.code == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn printed(host: &MachineView, back: usize, units: &[ReturningUnit]) -> Value {
    json!({ "machine": host.id, "hostname": host.hostname, "back": back, "units": units })
}

/// Looks on until no unit comes back any more.
struct Watch<'a> {
    session: &'a Session,
    hosts: Vec<&'a MachineView>,
    /// The units that were to come back to hosts.
    seen: BTreeMap<(MachineId, UnitName), Seen>,
}

impl Watch<'_> {
    async fn run(mut self) -> Result<(Exit, Vec<Value>), Error> {
        let mut interrupts = signal(SignalKind::interrupt()).ok();
        let left = tokio::select! {
            left = self.follow() => left?,
            () = interrupted(interrupts.as_mut()) => {
                self.session.out.message("no longer watching; units go on coming back until `fleetctl undrain`");
                return Ok((Exit::Interrupted, Vec::new()));
            }
        };
        let mut all = Vec::new();
        let mut stays = false;
        for (host, units) in left {
            let back = self.seen.iter().filter(|((id, _), seen)| *id == host.id && seen.end == Some(true)).count();
            stays |= !units.is_empty();
            let stay = if units.is_empty() { String::new() } else { format!(", {} stay away", units.len()) };
            self.session.line(&format!("{}: {} back{stay}", host.name(), count(back, "unit")));
            units.iter().for_each(|unit| self.session.line(&reason(&host, unit)));
            all.push(printed(&host, back, &units));
        }
        Ok((Exit::failed_if(stays), all))
    }

    async fn follow(&mut self) -> Result<Vec<(MachineView, Vec<ReturningUnit>)>, Error> {
        loop {
            let mut left = Vec::new();
            let mut all_over = true;
            for host in self.hosts.clone() {
                // Without an answer, somebody has asked for something else.
                let units = returning(self.session, host).await?.unwrap_or_default();
                all_over &= is_over(&units);
                all_over &= self.tell(host, &units).await?;
                left.push((host.clone(), units));
            }
            if all_over {
                return Ok(left);
            }
            sleep(PAUSE).await;
        }
    }

    /// Say what has happened since the last look. Returns whether all is said of those that are gone from the list.
    async fn tell(&mut self, host: &MachineView, units: &[ReturningUnit]) -> Result<bool, Error> {
        for unit in units {
            let seen = self.seen.entry((host.id.clone(), unit.name.clone())).or_default();
            let waits = unit.why.as_deref().filter(|_| unit.what == ReturnWhat::Waits);
            let line = seen.look(&unit.name, unit.what == ReturnWhat::Comes, waits);
            line.into_iter().for_each(|line| self.session.line(line));
        }
        let is_gone = |name: &UnitName| !units.iter().any(|unit| unit.name == *name);
        let ended =
            |(id, name): &(MachineId, UnitName), seen: &Seen| *id == host.id && seen.end.is_none() && is_gone(name);
        let gone = self.seen.iter().filter(|(key, seen)| ended(key, seen));
        let gone: Vec<UnitName> = gone.map(|((_, name), _)| name.clone()).collect();
        if gone.is_empty() {
            return Ok(true);
        }
        let patterns: Vec<String> = gone.iter().map(names::exactly).collect();
        let now = self.session.client.units(&patterns).await?.units;
        let mut all_said = true;
        for name in gone {
            let Some(seen) = self.seen.get_mut(&(host.id.clone(), name.clone())) else { continue };
            let view = now.iter().find(|unit| unit.name == name);
            let (what, is_back) = match seen.became(view, Instant::now()) {
                Some(Became::On(machine)) if machine.id == host.id => ("is back".into(), true),
                Some(Became::On(machine)) => (format!("is on {}, as it was changed since", machine.name()), false),
                Some(Became::Nowhere(why)) => (why.to_owned(), false),
                None => {
                    all_said = false;
                    continue;
                }
            };
            let took = if is_back { seen.took() } else { String::new() };
            seen.end = Some(is_back);
            self.session.line(&format!("  {name}  {what}{took}"));
        }
        Ok(all_said)
    }
}

/// Whether nothing more comes.
fn is_over(units: &[ReturningUnit]) -> bool {
    units.iter().all(|unit| unit.what == ReturnWhat::Stays)
}

/// Why a unit stays where it is.
fn reason(host: &MachineView, unit: &ReturningUnit) -> String {
    let at = unit.machine.as_ref().map(|machine| format!(" on {}", machine.name())).unwrap_or_default();
    let why = unit.why.as_deref().unwrap_or("it doesn't fit there any more");
    format!("  {}  stays{at}; on {}: {why}", unit.name, host.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_is_over_when_nothing_more_comes() {
        use ReturnWhat::{Comes, Stays, Waits};
        let unit = |what: &ReturnWhat| {
            let (what, why, machine) = (*what, None, None);
            ReturningUnit { name: "a.service".parse().unwrap(), what, why, machine }
        };
        for (units, expected) in [(&[][..], true), (&[Stays], true), (&[Stays, Comes], false), (&[Waits], false)] {
            let units: Vec<ReturningUnit> = units.iter().map(unit).collect();
            assert_eq!(is_over(&units), expected, "{units:?}");
        }
    }
}
