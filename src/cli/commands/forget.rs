//! `fleetctl forget`: hosts that are gone and won't be back are no longer listed, and their units are no longer held.
//! Owns which hosts can be.

use serde_json::json;

use crate::api::wire::{MachineList, MachineView};
use crate::cli::args::Forget;
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::hosts;
use crate::cli::mass_loss::is_one_of_many;
use crate::cli::session::Session;

/// Run the command. Nothing is forgotten unless every host that is named can be.
pub(in crate::cli) async fn run(session: &Session, args: &Forget) -> Result<Exit, Error> {
    let list = session.client.machines().await?;
    let mut found: Vec<&MachineView> = Vec::new();
    let mut wrong = Vec::new();
    if args.held {
        found.extend(list.gone.iter().filter(|host| is_one_of_many(host).is_some()));
        if found.is_empty() {
            let why = "no units are held: no hosts that vanished together are still gone".to_owned();
            return Err(Error::failures(vec![why]).because("nothing was changed"));
        }
    }
    for name in &args.hosts {
        match find(name, &list) {
            Ok(host) if found.contains(&host) => {}
            Ok(host) => found.push(host),
            Err(lines) => wrong.extend(lines),
        }
    }
    if !wrong.is_empty() {
        return Err(Error::failures(wrong).because("nothing was changed"));
    }
    let mut forgotten = Vec::new();
    let mut result = Ok(Exit::Ok);
    for host in found {
        if let Err(error) = session.client.forget(&host.id).await {
            result = Err(error.into());
            break;
        }
        session.line(&format!("Forgot {}", hosts::shown(host)));
        forgotten.push(json!({ "machine": host.id, "ip": host.ip, "hostname": host.hostname }));
    }
    if session.is_json() {
        session.out.json(&forgotten);
    }
    result
}

/// The host that is gone and has this name. A host that was installed again has its name from the one that is gone.
fn find<'a>(name: &str, list: &'a MachineList) -> Result<&'a MachineView, Vec<Line>> {
    match hosts::named(name, &list.gone)[..] {
        [host] => return Ok(host),
        [] => {}
        ref several => return Err(hosts::ambiguous(name, several)),
    }
    Err(match hosts::named(name, &list.machines)[..] {
        [host, ..] => vec![
            format!("{} ({}) isn't gone; only a host that is gone can be forgotten", host.name(), host.ip).into(),
            Line::hint("stop its fleetd first: `systemctl disable --now fleetd.socket fleetd`"),
        ],
        [] => {
            let gone: Vec<String> = list.gone.iter().map(MachineView::name).collect();
            let gone = if gone.is_empty() { "no host is gone".into() } else { format!("gone: {}", gone.join(", ")) };
            vec![format!("no host {name} is known").into(), Line::hint(gone)]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::input::hosts::tests::host;

    #[test]
    fn a_host_that_is_gone_is_found_by_what_is_unique() {
        let machines = vec![host('1', "n1"), host('2', "n2")];
        let gone = vec![host('3', "n2"), host('4', "n4"), host('5', "n5"), host('6', "n5")];
        let hosts = MachineList { here: None, machines, gone, offline: None };
        let find = |name: &str| match find(name, &hosts) {
            Ok(host) => host.id.short().to_owned(),
            Err(lines) => lines[0].to_string(),
        };
        for (name, found) in [
            ("n2", "33333333"),
            ("ip-n4", "44444444"),
            ("4444", "44444444"),
            ("444", "no host 444 is known"),
            ("n5", "n5 could be any of these hosts:"),
            ("5555", "55555555"),
            ("n1", "n1 (ip-n1) isn't gone; only a host that is gone can be forgotten"),
            ("1111", "n1 (ip-n1) isn't gone; only a host that is gone can be forgotten"),
            ("", "no host  is known"),
        ] {
            assert_eq!(find(name), found, "{name}");
        }
    }
}
