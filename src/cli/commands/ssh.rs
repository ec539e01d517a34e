//! `fleetctl ssh`: selects the host. `remote` runs the shell or the command there.

use crate::api::client::ClientError;
use crate::api::wire::{MachineRef, MachineView};
use crate::cli::args::Ssh;
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::names;
use crate::cli::session::Session;

/// Run the command.
pub(in crate::cli) async fn run(session: &Session, args: &Ssh) -> Result<Exit, Error> {
    let (machine, words) = match (&args.machine, &args.unit, args.words.as_slice()) {
        (Some(_), Some(_), _) => {
            return Err(Error::usage(
                "Both machine and unit flags provided, please specify only one.",
                "`fleetctl ssh --unit web.service`",
            ));
        }
        (Some(machine), None, words) => (by_machine(session, machine).await?, words),
        (None, Some(unit), words) => (by_unit(session, unit).await?, words),
        (None, None, [name, words @ ..]) => {
            let machine = match by_machine(session, name).await? {
                None => by_unit(session, name).await?,
                found => found,
            };
            (machine, words)
        }
        (None, None, []) => {
            return Err(Error::usage(
                "Unable to proceed: one machine or unit must be provided",
                "`fleetctl ssh n1`; `fleetctl list-machines` lists the hosts",
            ));
        }
    };
    let Some(machine) = machine else {
        return Err(Error::unreached("Unable to proceed: could not find matching unit or machine")
            .because(Line::hint("`fleetctl list-machines` and `fleetctl list-units` list them")));
    };
    // As in ssh and fleet: the words form a line for the shell.
    let line = (!words.is_empty()).then(|| words.join(" "));
    let status = session.hosts.shell(&machine, line.as_deref(), args.forward_agent, &session.out).await?;
    Ok(Exit::Status(status))
}

/// The only host with this hostname, address, id or prefix of an id.
async fn by_machine(session: &Session, name: &str) -> Result<Option<MachineRef>, Error> {
    let machines = session.client.machines().await?.machines;
    let exact = |machine: &&MachineView| [machine.id.as_str(), &machine.hostname, &machine.ip].contains(&name);
    let mut found: Vec<&MachineView> = machines.iter().filter(exact).collect();
    if found.is_empty() && !name.is_empty() {
        found = machines.iter().filter(|machine| machine.id.as_str().starts_with(name)).collect();
    }
    if let [_, _, ..] = found.as_slice() {
        let mut error = Error::unreached(format!("{name} could be any of these hosts:"));
        for machine in found {
            error = error.because(format!("  {}  {}  {}", machine.id, machine.hostname, machine.ip));
        }
        return Err(error.because("Unable to proceed: could not find matching unit or machine"));
    }
    Ok(found.first().map(|machine| MachineRef {
        id: machine.id.clone(),
        ip: machine.ip.clone(),
        hostname: machine.hostname.clone(),
    }))
}

/// The host of a unit. A global unit has several, so one must be named.
async fn by_unit(session: &Session, arg: &str) -> Result<Option<MachineRef>, Error> {
    let Ok(name) = names::unit(arg) else { return Ok(None) };
    let unit = match session.client.unit(&name).await {
        Err(ClientError::Api(detail)) if detail.code == 404 => return Ok(None),
        answer => answer?.unit,
    };
    if unit.global {
        let mut error = Error::unreached(format!("{name} is on every host that fits; say which one you mean:"));
        for state in &unit.states {
            let MachineRef { id, ip, hostname } = &state.machine;
            error = error.because(format!("  fleetctl ssh {hostname}  ({}.../{ip})", id.short()));
        }
        return Err(error);
    }
    match unit.machine {
        Some(machine) => Ok(Some(machine)),
        None => {
            let why = unit.waiting.unwrap_or_else(|| format!("it is {}", unit.desired));
            Err(Error::unreached(format!("{name} is on no host: {why}")))
        }
    }
}
