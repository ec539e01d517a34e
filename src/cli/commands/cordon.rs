//! `fleetctl cordon` and `fleetctl uncordon`: no new units are placed on a host, or again. Owns what is printed.

use serde_json::json;

use crate::api::wire::{AskHosts, AskedHost, DrainOptions, HostAsk, MachineList, MachineView};
use crate::cli::args::{Cordon, Uncordon};
use crate::cli::commands::rebalance;
use crate::cli::error::{Error, Exit};
use crate::cli::input::hosts;
use crate::cli::session::Session;

/// Run `cordon`.
pub(in crate::cli) async fn cordon(session: &Session, args: &Cordon) -> Result<Exit, Error> {
    let why = args.why.clone().unwrap_or_default();
    ask(session, &args.named.hosts, HostAsk::Cordon, why).await
}

/// Run `uncordon`.
pub(in crate::cli) async fn uncordon(session: &Session, args: &Uncordon) -> Result<Exit, Error> {
    ask(session, &args.named.hosts, HostAsk::Uncordon, String::new()).await
}

/// Nothing is asked unless every host that is named is known.
async fn ask(session: &Session, names: &[String], ask: HostAsk, why: String) -> Result<Exit, Error> {
    let all = session.client.machines().await?;
    let found = hosts::known(names, &all).map_err(|lines| Error::failures(lines).because("nothing was changed"))?;
    let ids = found.iter().map(|host| host.id.clone()).collect();
    let asked =
        session.client.ask_hosts(&AskHosts { ask, hosts: ids, why, options: DrainOptions::default() }).await?.hosts;
    let mut printed = Vec::new();
    let hosts = found.clone();
    for host in found {
        let Some(now) = asked.iter().find(|asked| asked.id == host.id) else { continue };
        session.line(&sentence(ask, host, now));
        printed.push(json!({
            "machine": host.id,
            "ip": host.ip,
            "hostname": host.hostname,
            "changed": now.changed,
            "cordon": now.cordon,
        }));
    }
    if session.is_json() {
        session.out.json(&printed);
    }
    if ask == HostAsk::Uncordon {
        session.out.messages(rebalance::hints(session, &hosts).await);
    }
    if ask == HostAsk::Cordon && are_all_cordoned(&all, &asked) {
        session.out.message("every host is cordoned now: nothing new can run anywhere");
    }
    Ok(Exit::Ok)
}

/// What has become of a host.
fn sentence(ask: HostAsk, host: &MachineView, now: &AskedHost) -> String {
    let shown = hosts::shown(host);
    match (ask, now.changed) {
        (HostAsk::Cordon, true) => format!("Cordoned {shown}"),
        (HostAsk::Cordon, false) => {
            let so = now.cordon.as_ref().map(ToString::to_string).unwrap_or_default();
            // The reason follows the word.
            format!("{shown} is cordoned already{}", so.trim_start_matches("cordoned"))
        }
        (_, true) => format!("Uncordoned {shown}"),
        (_, false) if host.drain.is_some() => {
            format!("{shown} isn't cordoned but drained; `fleetctl undrain {}`", host.name())
        }
        (_, false) => format!("{shown} isn't cordoned"),
    }
}

/// Whether no host takes new units any more.
fn are_all_cordoned(all: &MachineList, asked: &[AskedHost]) -> bool {
    let is_asked = |host: &MachineView| asked.iter().any(|asked| asked.id == host.id);
    !all.machines.is_empty()
        && all.machines.iter().all(|host| host.cordon.is_some() || host.drain.is_some() || is_asked(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::input::hosts::tests::host;
    use crate::model::author::Author;
    use crate::model::maintenance::Cordon;

    #[test]
    fn what_was_so_already_is_said_with_its_reason() {
        let by = Some(Box::new(Author { uid: Some(7), user: "ci".into(), ..Author::default() }));
        let cordon = Some(Cordon { since: 5, why: "kernel".into(), by });
        let said = |ask, changed, cordon: &Option<Cordon>| {
            let host = host('2', "n2");
            sentence(ask, &host, &AskedHost { id: host.id.clone(), changed, cordon: cordon.clone(), drain: None })
        };
        assert_eq!(said(HostAsk::Cordon, true, &cordon), "Cordoned n2 (ip-n2, 22222222)");
        let already = "n2 (ip-n2, 22222222) is cordoned already by ci: kernel";
        assert_eq!(said(HostAsk::Cordon, false, &cordon), already);
        assert_eq!(said(HostAsk::Uncordon, true, &None), "Uncordoned n2 (ip-n2, 22222222)");
        assert_eq!(said(HostAsk::Uncordon, false, &None), "n2 (ip-n2, 22222222) isn't cordoned");
    }
}
