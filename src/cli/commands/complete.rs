//! `__complete`: what the completion scripts ask for, one candidate on each line. Owns the time that it may take. It
//! never prints an error, since it is asked while somebody types, and never logs in anywhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use clap::FromArgMatches as _;

use crate::api::client::{Client, ClientError};
use crate::cli::args::{self, Globals};
use crate::cli::error::Error;
use crate::cli::input::slot::{self, Slot, Values};
use crate::cli::input::{argv, names};
use crate::cli::output::Printer;
use crate::cli::output::people::natural;

/// How long the cluster may take to answer: together with the start of this program less than 150 ms, which a person
/// doesn't notice.
const PATIENCE: Duration = Duration::from_millis(120);

/// Print what the last of `words` may be. `client` makes the client that the options on the line ask for.
pub(in crate::cli) fn run(
    out: &Printer,
    words: &[String],
    client: impl AsyncFnOnce(&Globals) -> Result<Client, Error>,
) {
    let Some(slot) = slot::of(&args::documented(), words) else { return };
    let mut candidates: BTreeSet<String> = match slot.values {
        Values::Fields(fields) => fields.iter().map(|field| (*field).to_owned()).collect(),
        _ => ask(&slot, words, client).into_iter().collect(),
    };
    if let Values::Units { files: true, .. } = slot.values {
        candidates.extend(files(&slot.begun));
    }
    let mut fitting: Vec<&String> = candidates
        .iter()
        .filter(|candidate| candidate.starts_with(&slot.begun) && !slot.named.contains(candidate))
        .collect();
    fitting.sort_by(|a, b| natural(a, b));
    for candidate in fitting {
        out.line(&format!("{}{candidate}", slot.head));
    }
}

/// The names that the cluster knows; none if it doesn't answer in time.
fn ask(slot: &Slot, words: &[String], client: impl AsyncFnOnce(&Globals) -> Result<Client, Error>) -> Vec<String> {
    let Some(globals) = globals(words).filter(|globals| globals.reach.tunnel.is_empty()) else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let answer = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, async {
            let client = client(&globals).await.ok()?;
            known(&client, slot.values).await.ok()
        })
        .await
    });
    // A name of a host that is still being resolved isn't waited for.
    runtime.shutdown_background();
    answer.ok().flatten().unwrap_or_default()
}

/// The global options on an unfinished line.
fn globals(words: &[String]) -> Option<Globals> {
    let command = args::command();
    let words = ["fleetctl"].into_iter().chain(words.iter().map(String::as_str)).map(Into::into);
    let words = argv::normalise(&command, words);
    let matches = command.ignore_errors(true).try_get_matches_from(words).ok()?;
    Globals::from_arg_matches(&matches).ok()
}

async fn known(client: &Client, values: Values) -> Result<Vec<String>, ClientError> {
    let mut known = Vec::new();
    if let Values::Hosts | Values::HostsAndUnits = values {
        let machines = client.machines().await?.machines;
        let name = |machine: crate::api::wire::MachineView| {
            if machine.hostname.is_empty() { machine.ip } else { machine.hostname }
        };
        known.extend(machines.into_iter().map(name));
    }
    if let Values::Units { .. } | Values::HostsAndUnits = values {
        let templates = matches!(values, Values::Units { templates: true, .. });
        let units = client.units(&[]).await?.units;
        known.extend(
            units.into_iter().filter(|unit| templates || !unit.name.is_template()).map(|unit| unit.name.to_string()),
        );
    }
    if values == Values::Services {
        let services = client.services(&[]).await?.services;
        known.extend(services.into_iter().map(|service| service.name.to_string()));
    }
    Ok(known)
}

/// Unit files and folders that begin with `begun`.
fn files(begun: &str) -> Vec<String> {
    let head = &begun[..begun.rfind('/').map_or(0, |slash| slash + 1)];
    let read = std::fs::read_dir(if head.is_empty() { Path::new(".") } else { Path::new(head) });
    let mut found = Vec::new();
    for entry in read.into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if entry.path().is_dir() && !name.starts_with('.') {
            found.push(format!("{head}{name}/"));
        } else if names::with_type(&name) == name && names::unit(&name).is_ok() {
            found.push(format!("{head}{name}"));
        }
    }
    found
}
