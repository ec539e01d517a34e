//! `fleetctl reboot`: hosts reboot one after the other, each without its units. Owns what is shown of it; each host
//! carries out its own reboot.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::api::client::ClientError;
use crate::api::wire::{
    AskHosts, AskReboots, DrainOptions, HostAsk, MachineList, MachineView, RebootStage, RebootView,
};
use crate::cli::args::Reboot;
use crate::cli::commands::course::PAUSE;
use crate::cli::commands::plan;
use crate::cli::error::{Error, Exit};
use crate::cli::follow::interrupted;
use crate::cli::input::hosts;
use crate::cli::output::people::natural;
use crate::cli::session::Session;
use crate::model::name::MachineId;

/// Run `reboot`.
pub(in crate::cli) async fn reboot(session: &Session, args: &Reboot) -> Result<Exit, Error> {
    let all = session.client.machines().await?;
    let found = if args.all { everyone(&all) } else { hosts::known(&args.hosts, &all).map_err(unchanged)? };
    if args.cancel {
        return cancel(session, &found).await;
    }
    let away: Vec<String> = found
        .iter()
        .filter(|host| host.gone.is_some())
        .map(|host| format!("reboot {}: it is away", host.name()))
        .collect();
    if !away.is_empty() {
        return Err(Error::failures(away).because("nothing was changed"));
    }
    if args.plan.plan {
        return planned(session, &found, args.leaving.force).await;
    }
    let ask = AskReboots {
        hosts: found.iter().map(|host| host.id.clone()).collect(),
        why: args.leaving.why.clone().unwrap_or_default(),
        parallel: args.leaving.parallel,
        deadline: args.leaving.deadline.map(|deadline| deadline.as_secs()),
        force: args.leaving.force,
    };
    let new = session.client.ask_reboots(&ask).await?.hosts;
    for host in &found {
        let already = if new.contains(&host.id) { "" } else { " already" };
        session.line(&format!("{} is to reboot{already}", hosts::shown(host)));
    }
    if args.no_block {
        return Ok(Exit::Ok);
    }
    let watch = Watch { session, hosts: found, started: Instant::now(), seen: BTreeMap::new() };
    let (exit, done) = watch.run().await?;
    if session.is_json() {
        session.out.json(&done);
    }
    Ok(exit)
}

fn unchanged(lines: Vec<crate::cli::error::Line>) -> Error {
    Error::failures(lines).because("nothing was changed")
}

/// All registered hosts, by name.
fn everyone(all: &MachineList) -> Vec<&MachineView> {
    let mut found: Vec<&MachineView> = all.machines.iter().collect();
    found.sort_by(|a, b| natural(&a.name(), &b.name()).then_with(|| a.id.cmp(&b.id)));
    found
}

/// What would leave each host, one after the other.
async fn planned(session: &Session, hosts: &[&MachineView], force: bool) -> Result<Exit, Error> {
    if session.is_json() && hosts.len() > 1 {
        return Err(Error::failure("reboot --plan --output json: name one host").because("nothing was changed"));
    }
    let mut exit = Exit::Ok;
    for host in hosts {
        let options = DrainOptions { force, ..DrainOptions::default() };
        let ask = AskHosts { ask: HostAsk::Drain, hosts: vec![host.id.clone()], why: String::new(), options };
        session.line(&format!("{} would be drained, rebooted, and get its units back:", hosts::shown(host)));
        let planned = plan::of_ask(session, session.client.plan_hosts(&ask).await?)?;
        exit = if planned == Exit::Ok { exit } else { planned };
    }
    Ok(exit)
}

async fn cancel(session: &Session, found: &[&MachineView]) -> Result<Exit, Error> {
    let (mut wrong, mut done) = (Vec::new(), Vec::new());
    for host in found {
        if session.client.cancel_reboot(&host.id).await? {
            session.line(&format!("{} is to reboot no longer", hosts::shown(host)));
            done.push(printed(host, "cancelled", None));
        } else {
            wrong.push(format!("reboot --cancel {}: it isn't to reboot", host.name()));
        }
    }
    if !wrong.is_empty() {
        return Err(Error::failures(wrong));
    }
    if session.is_json() {
        session.out.json(&done);
    }
    Ok(Exit::Ok)
}

fn printed(host: &MachineView, state: &str, why: Option<&str>) -> Value {
    json!({ "machine": host.id, "hostname": host.hostname, "state": state, "why": why })
}

/// Looks on until no host goes on any more.
struct Watch<'a> {
    session: &'a Session,
    hosts: Vec<&'a MachineView>,
    started: Instant,
    /// What was said last of hosts.
    seen: BTreeMap<MachineId, Seen>,
}

/// What was seen of a host.
struct Seen {
    said: String,
    /// Since when it has its slot.
    since: Option<Instant>,
}

impl Watch<'_> {
    async fn run(mut self) -> Result<(Exit, Vec<Value>), Error> {
        let mut interrupts = signal(SignalKind::interrupt()).ok();
        let ended = tokio::select! {
            ended = self.follow() => ended,
            () = interrupted(interrupts.as_mut()) => {
                self.session.out.message("no longer watching; the hosts go on until `fleetctl reboot --cancel`");
                return Ok((Exit::Interrupted, Vec::new()));
            }
        };
        let left = match ended {
            Ok(left) => left,
            // The host over which this command talks to the cluster may be the one that goes down.
            Err(ClientError::Unreachable(_)) if self.is_here_on_its_way() => {
                self.session.out.message("the host that was asked reboots now; the others go on: `fleetctl status`");
                return Ok((Exit::Ok, Vec::new()));
            }
            Err(error) => return Err(error.into()),
        };
        let mut all = Vec::new();
        for host in &self.hosts {
            let view = left.iter().find(|view| view.machine.id == host.id);
            let why = view.map(|view| if view.error.is_empty() { "waits" } else { &view.error });
            all.push(printed(host, if view.is_some() { "stays" } else { "done" }, why));
        }
        if !left.is_empty() {
            self.session.out.message("the hosts that are left go on when they can, until `fleetctl reboot --cancel`");
        }
        Ok((Exit::failed_if(!left.is_empty()), all))
    }

    /// Returns those that don't go on: one of them can't, and the others wait for it.
    async fn follow(&mut self) -> Result<Vec<RebootView>, ClientError> {
        loop {
            let all = self.session.client.reboots().await?.reboots;
            let ours: Vec<RebootView> = all.iter().filter(|view| self.is_ours(&view.machine.id)).cloned().collect();
            self.tell(&ours, &all);
            if ours.is_empty() || all.iter().any(|view| !view.error.is_empty()) {
                return Ok(ours);
            }
            sleep(PAUSE).await;
        }
    }

    fn is_ours(&self, id: &MachineId) -> bool {
        self.hosts.iter().any(|host| host.id == *id)
    }

    fn is_here_on_its_way(&self) -> bool {
        self.seen.values().any(|seen| seen.since.is_some())
    }

    /// Say what has happened since the last look.
    fn tell(&mut self, ours: &[RebootView], all: &[RebootView]) {
        for host in &self.hosts {
            let view = ours.iter().find(|view| view.machine.id == host.id);
            let empty = || Seen { said: String::new(), since: None };
            let seen = self.seen.entry(host.id.clone()).or_insert_with(empty);
            if view.is_some_and(|view| view.stage != RebootStage::Waits) {
                seen.since.get_or_insert_with(Instant::now);
            }
            let now = match view {
                Some(view) => said(view, all),
                None => {
                    let took = seen.since.unwrap_or(self.started).elapsed().as_secs();
                    if seen.said.starts_with("done") { seen.said.clone() } else { format!("done ({took} s)") }
                }
            };
            if now != seen.said {
                self.session.line(&format!("{}: {now}", host.name()));
                seen.said = now;
            }
        }
    }
}

/// What a host does.
fn said(view: &RebootView, all: &[RebootView]) -> String {
    if !view.error.is_empty() {
        return format!("can't reboot: {}", view.error);
    }
    match view.stage {
        RebootStage::Waits => {
            let holder = all.iter().find(|other| other.group == view.group && other.stage != RebootStage::Waits);
            match holder {
                Some(holder) => format!("waits for {}", holder.machine.name()),
                None => "waits".into(),
            }
        }
        RebootStage::Leaves => "its units leave".into(),
        RebootStage::Away => "reboots".into(),
        RebootStage::Returns => "has rebooted; its units come back".into(),
    }
}
