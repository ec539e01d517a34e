//! `__complete`: what the completion scripts ask for, one candidate on each line. It takes no longer than it may, never
//! prints an error, since it is asked while somebody types, and never logs in anywhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::FromArgMatches as _;
use tokio::time::Instant;

use crate::api::client::{Client, ClientError};
use crate::api::wire::{MachineList, MachineView};
use crate::cli::args::context::{self, Contexts};
use crate::cli::args::{self, Globals};
use crate::cli::condition::Kind;
use crate::cli::error::Error;
use crate::cli::input::slot::{self, Slot, Values};
use crate::cli::input::{argv, hosts, names};
use crate::cli::output::Printer;
use crate::cli::output::people::natural;
use crate::model::name::{TYPES, UnitName};

/// The states of systemd that `--state` takes, besides our own words.
const SYSTEMD_STATES: [&str; 5] = ["active", "activating", "deactivating", "reloading", "exited"];

/// Where candidates come from.
type Source = Box<dyn FnOnce() -> Vec<String> + Send>;

/// Print what the last of `words` may be, as far as it is known after `patience`. `client` makes the client that the
/// options on the line ask for.
pub(in crate::cli) fn run(
    out: &Printer,
    patience: Duration,
    words: &[String],
    client: impl AsyncFnOnce(&Globals) -> Result<Client, Error> + Send + 'static,
) {
    let Some(slot) = slot::of(&args::documented(), words) else { return };
    let candidates = within(patience, sources(&slot, words, client));
    let mut fitting: Vec<&String> = candidates
        .iter()
        .filter(|candidate| candidate.starts_with(&slot.begun) && !slot.named.contains(candidate))
        .collect();
    fitting.sort_by(|a, b| natural(a, b));
    for candidate in fitting {
        out.line(&format!("{}{candidate}", slot.head));
    }
}

/// What `sources` have found after `patience`. A source that hangs, such as a folder or a name server, isn't waited
/// for.
fn within(patience: Duration, sources: Vec<Source>) -> BTreeSet<String> {
    let deadline = Instant::now() + patience;
    let (sender, found) = mpsc::channel();
    for source in sources {
        let sender = sender.clone();
        thread::spawn(move || drop(sender.send(source())));
    }
    drop(sender);
    let mut all = BTreeSet::new();
    while let Ok(some) = found.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        all.extend(some);
    }
    all
}

fn sources(
    slot: &Slot,
    words: &[String],
    client: impl AsyncFnOnce(&Globals) -> Result<Client, Error> + Send + 'static,
) -> Vec<Source> {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let fixed = |words: Vec<String>| -> Vec<Source> { vec![Box::new(move || words)] };
    match &slot.values {
        Values::Words(words) => fixed(words.clone()),
        Values::Types => fixed(owned(&TYPES)),
        Values::States => {
            fixed(Kind::ALL.map(Kind::word).into_iter().chain(SYSTEMD_STATES).map(str::to_owned).collect())
        }
        Values::Contexts => vec![Box::new(contexts)],
        values => {
            let (values, words, begun) = (values.clone(), words.to_vec(), slot.begun.clone());
            let mut sources: Vec<Source> = Vec::new();
            if let Values::Units { files: true, instances, .. } = values {
                sources.push(Box::new(move || files(&begun, instances)));
            }
            sources.push(Box::new(move || ask(&values, &words, client)));
            sources
        }
    }
}

/// The names that the cluster knows; none if it doesn't answer, or if a login is needed to ask it.
fn ask(values: &Values, words: &[String], client: impl AsyncFnOnce(&Globals) -> Result<Client, Error>) -> Vec<String> {
    let Some(globals) = globals(words).filter(|globals| globals.reach.tunnel.is_empty()) else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let answer = runtime.block_on(async { known(&client(&globals).await.ok()?, values).await.ok() });
    answer.unwrap_or_default()
}

/// The names of the user's contexts.
fn contexts() -> Vec<String> {
    let contexts = Contexts::read(&context::folder()).unwrap_or_default();
    contexts.all.into_iter().map(|context| context.name).collect()
}

/// The global options on an unfinished line, and those of its context.
fn globals(words: &[String]) -> Option<Globals> {
    let words = ["fleetctl"].into_iter().chain(words.iter().map(String::as_str)).map(Into::into);
    let (command, words) = argv::understood(words).ok()?;
    let matches = command.ignore_errors(true).try_get_matches_from(words).ok()?;
    Globals::from_arg_matches(&matches).ok()
}

async fn known(client: &Client, values: &Values) -> Result<Vec<String>, ClientError> {
    let mut known = hosts_of(client, values).await?;
    if *values == Values::RebootingHosts {
        known.extend(client.reboots().await?.reboots.into_iter().map(|reboot| reboot.machine.name()));
    }
    if let Values::Metadata | Values::HostsAndMetadata | Values::Keys | Values::KeysOf(_) = values {
        let list = client.machines().await?;
        match values {
            Values::KeysOf(name) => {
                let hosts = hosts::named(name, &list.machines).into_iter();
                known.extend(hosts.flat_map(|host| host.metadata.keys().cloned()));
            }
            Values::Keys => known.extend(list.machines.iter().flat_map(|host| host.metadata.keys().cloned())),
            _ => {
                let pairs = list.machines.iter().flat_map(|host| &host.metadata);
                known.extend(pairs.map(|(key, value)| format!("{key}={value}")));
            }
        }
    }
    if let Values::Units { .. } | Values::HostsAndUnits = values {
        let (templates, instances) = match values {
            Values::Units { templates, instances, .. } => (*templates, *instances),
            _ => (false, false),
        };
        let units = client.units(&[]).await?.units;
        known.extend(units.iter().filter_map(|unit| candidate(&unit.name, templates, instances)));
    }
    if let Values::Sets | Values::Scalable = values {
        let sets = client.sets(&[]).await?.sets;
        if *values == Values::Sets {
            known.extend(sets.into_iter().map(|set| set.name.to_string()));
        } else {
            let riders: BTreeSet<UnitName> = sets.into_iter().filter(|s| s.lead.is_some()).map(|s| s.name).collect();
            let templates = client.units(&[]).await?.units.into_iter().map(|unit| unit.name);
            let scalable = templates.filter(|name| name.is_template() && !riders.contains(name));
            known.extend(scalable.map(|name| name.to_string()));
        }
    }
    if *values == Values::Services {
        let services = client.services(&[]).await?.services;
        known.extend(services.into_iter().map(|service| service.name.to_string()));
    }
    Ok(known)
}

/// The names of the hosts that may be meant.
async fn hosts_of(client: &Client, values: &Values) -> Result<Vec<String>, ClientError> {
    let all = [Values::Hosts, Values::HostsAndUnits, Values::HostsAndMetadata];
    if !all.contains(values) && !matches!(values, Values::CordonedHosts | Values::DrainedHosts | Values::GoneHosts) {
        return Ok(Vec::new());
    }
    let MachineList { machines, gone, .. } = client.machines().await?;
    let is_cordoned = |host: &MachineView| host.cordon.is_some();
    let is_drained = |host: &MachineView| host.drain.is_some();
    let hosts: Vec<MachineView> = match values {
        Values::GoneHosts => gone,
        Values::CordonedHosts => machines.into_iter().chain(gone).filter(is_cordoned).collect(),
        Values::DrainedHosts => machines.into_iter().chain(gone).filter(is_drained).collect(),
        _ => machines,
    };
    let name = |host: MachineView| if host.hostname.is_empty() { host.ip } else { host.hostname };
    Ok(hosts.into_iter().map(name).collect())
}

/// What is offered of a unit. `instances` is whether a template stands for the beginning of its instances: `web@`.
fn candidate(name: &UnitName, templates: bool, instances: bool) -> Option<String> {
    match (name.is_template(), instances) {
        (false, _) => Some(name.to_string()),
        (true, true) => name.as_str().split_inclusive('@').next().map(str::to_owned),
        (true, false) => templates.then(|| name.to_string()),
    }
}

/// Unit files and folders that begin with `begun`.
fn files(begun: &str, instances: bool) -> Vec<String> {
    let head = &begun[..begun.rfind('/').map_or(0, |slash| slash + 1)];
    let read = std::fs::read_dir(if head.is_empty() { Path::new(".") } else { Path::new(head) });
    let mut found = Vec::new();
    for entry in read.into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if entry.path().is_dir() && !name.starts_with('.') {
            found.push(format!("{head}{name}/"));
        } else if names::with_type(&name) == name
            && let Ok(unit) = names::unit(&name)
        {
            found.extend(candidate(&unit, true, instances).map(|name| format!("{head}{name}")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that never answers costs the time that there is, and takes nothing from the others.
    #[test]
    fn what_hangs_is_not_waited_for() {
        let (never, hangs) = mpsc::channel::<Vec<String>>();
        let sources: Vec<Source> =
            vec![Box::new(move || hangs.recv().unwrap_or_default()), Box::new(|| vec!["a.service".into()])];
        let began = Instant::now();
        let found = within(Duration::from_millis(500), sources);
        let took = began.elapsed();
        assert_eq!(Vec::from_iter(found), ["a.service"]);
        assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(20), "{took:?}");
        drop(never);
        // Nothing is waited for without need.
        assert!(within(Duration::from_secs(3600), vec![Box::new(Vec::new)]).is_empty());
    }

    #[test]
    fn a_template_is_offered_as_what_it_is_used_for() {
        let of = |name: &str, templates, instances| candidate(&name.parse().unwrap(), templates, instances);
        assert_eq!(of("web@.service", true, false).as_deref(), Some("web@.service"));
        assert_eq!(of("web@.service", false, true).as_deref(), Some("web@"));
        assert_eq!(of("web@.service", false, false), None);
        assert_eq!(of("web@1.service", false, true).as_deref(), Some("web@1.service"));
    }
}
