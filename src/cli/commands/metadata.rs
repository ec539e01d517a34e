//! `fleetctl set-metadata` and `unset-metadata`: the metadata of one host. Owns what is said about each change; the API
//! owns what can be set.

use std::collections::BTreeMap;

use serde_json::json;

use crate::api::wire::MachineRef;
use crate::api::wire::v1::{MetadataChange, MetadataValue};
use crate::cli::args::{SetMetadata, UnsetMetadata};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::hosts::{self, Meant};
use crate::cli::session::Session;

/// The host that is meant, and its metadata; `None` if nothing is known of it yet.
struct Host {
    about: MachineRef,
    metadata: Option<BTreeMap<String, String>>,
}

/// `set-metadata`.
pub(in crate::cli) async fn set(session: &Session, args: &SetMetadata) -> Result<Exit, Error> {
    let host = find(session, &args.host).await?;
    let changes = args.pairs.iter().map(|(key, value)| change(&host, "add", key, Some(value)));
    session.client.change_metadata(&changes.collect::<Vec<_>>()).await?;
    let name = host.about.name();
    for (key, value) in &args.pairs {
        let before = host.metadata.as_ref().and_then(|metadata| metadata.get(key)).filter(|before| *before != value);
        let was = before.map_or_else(String::new, |before| format!(" (was {before})"));
        session.line(&format!("{name}: {key}={value}{was}"));
    }
    if host.metadata.is_none() {
        session.out.messages(&[Line::hint(format!("no host with the id {} is known yet", host.about.id))]);
    }
    print(session, host).await
}

/// `unset-metadata`.
pub(in crate::cli) async fn unset(session: &Session, args: &UnsetMetadata) -> Result<Exit, Error> {
    let host = find(session, &args.host).await?;
    let name = host.about.name();
    if args.all {
        let said = match session.client.forget_metadata(&host.about.id).await? {
            true => "what was set is removed; what its fleet.conf says applies again",
            false => "nothing was set",
        };
        session.line(&format!("{name}: {said}"));
        return print(session, host).await;
    }
    let changes = args.keys.iter().map(|key| change(&host, "remove", key, None));
    session.client.change_metadata(&changes.collect::<Vec<_>>()).await?;
    for key in &args.keys {
        match host.metadata.as_ref().map(|metadata| metadata.get(key)) {
            Some(Some(before)) => session.line(&format!("{name}: {key} removed (was {before})")),
            Some(None) => session.line(&format!("{name}: there was no {key}")),
            None => session.line(&format!("{name}: {key} removed")),
        }
    }
    print(session, host).await
}

async fn find(session: &Session, name: &str) -> Result<Host, Error> {
    let list = session.client.machines().await?;
    let meant = hosts::find(name, &list).map_err(|lines| Error::failures(lines).because("nothing was changed"))?;
    Ok(match meant {
        Meant::Known(host) => {
            let about = MachineRef { id: host.id.clone(), ip: host.ip.clone(), hostname: host.hostname.clone() };
            Host { about, metadata: Some(host.metadata.clone()) }
        }
        Meant::New(id) => {
            let (ip, hostname, metadata) = Default::default();
            Host { about: MachineRef { id, ip, hostname }, metadata }
        }
    })
}

fn change(host: &Host, op: &str, key: &str, value: Option<&String>) -> MetadataChange {
    let path = format!("/{}/metadata/{key}", host.about.id);
    MetadataChange { op: op.into(), path, value: value.cloned().map(MetadataValue::Plain) }
}

/// For programs: the host and all of its metadata, as they are now.
async fn print(session: &Session, host: Host) -> Result<Exit, Error> {
    if session.is_json() {
        let list = session.client.machines().await?;
        let now = list.machines.into_iter().chain(list.gone).find(|known| known.id == host.about.id);
        let metadata = now.map(|now| now.metadata).unwrap_or_default();
        let MachineRef { id, ip, hostname } = host.about;
        session.out.json(&json!({ "machine": id, "ip": ip, "hostname": hostname, "metadata": metadata }));
    }
    Ok(Exit::Ok)
}
