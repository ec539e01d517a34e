//! Warns about insecure configurations: a password that every user of this host can read, an etcd that accepts writes
//! from anyone, or a TCP port whose clients may change units. Owns the warnings; refuses nothing.

use std::net::IpAddr;

use crate::model::listen::{Listen, Place};
use crate::model::role::Operation;

use super::{EtcdSettings, StoreSettings};

/// The permission to read a file for users who are neither its owner nor in its group.
const READABLE_BY_ALL: u32 = 0o004;

/// The warning about the file itself, given its content and permissions.
pub(super) fn of_file(file: &str, text: &str, mode: u32) -> Option<String> {
    let is_password = |line: &str| {
        let value = line.trim_start().strip_prefix("etcd_password").map(str::trim_start);
        value.and_then(|value| value.strip_prefix(['=', ':'])).is_some_and(|value| !value.trim().is_empty())
    };
    let exposed = mode & READABLE_BY_ALL != 0 && text.lines().any(is_password);
    exposed.then(|| {
        format!(
            "{file} holds etcd_password and every user of this host can read it; `chown root:fleet {file}; chmod 640 \
             {file}` ends that"
        )
    })
}

/// The warning about an etcd on other hosts that is used without TLS and without a user.
pub(super) fn of_store(store: &StoreSettings) -> Option<String> {
    let StoreSettings::Etcd(EtcdSettings { endpoints, user: None, .. }) = store else { return None };
    let open = endpoints.iter().find(|endpoint| endpoint.strip_prefix("http://").is_some_and(|rest| !is_here(rest)))?;
    Some(format!(
        "{open} is etcd without TLS and without a user: everyone who can reach it can run anything as root on every \
         host of the cluster"
    ))
}

/// The warnings about TCP ports whose clients may do more than read: every user of this host is such a client.
pub(super) fn of_sockets(sockets: &[Listen]) -> impl Iterator<Item = String> {
    let changes = |listen: &&Listen| matches!(listen.place, Place::Tcp(_)) && listen.grant.permits(Operation::Operate);
    sockets.iter().filter(changes).map(|listen| {
        let Listen { place, grant } = listen;
        let what = if grant.permits(Operation::Submit) { "run anything as root on every host" } else { "stop units" };
        format!("{place} has the role {grant}: every user and every container in this host's network can {what}")
    })
}

/// Whether the text after `http://` refers to this host.
fn is_here(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn store(text: &str) -> StoreSettings {
        super::super::settings("f", text, &BTreeMap::new(), false).unwrap().store
    }

    #[test]
    fn a_password_that_everybody_can_read_is_named() {
        let cases = [
            ("etcd_password=hunter2", 0o100_644, true),
            ("etcd_username=u\n  etcd_password : hunter2\n", 0o100_604, true),
            ("etcd_password=hunter2", 0o100_640, false),
            ("etcd_password=\n#etcd_password=hunter2\netcd_password_file=x", 0o100_644, false),
            ("verbosity=1", 0o100_644, false),
        ];
        for (text, mode, exposed) in cases {
            let said = of_file("/etc/fleet/fleet.conf", text, mode);
            assert_eq!(said.is_some(), exposed, "{text} {mode:o}");
            assert!(!said.unwrap_or_default().contains("hunter2"));
        }
    }

    #[test]
    fn a_port_whose_clients_may_change_units_is_named() {
        let text = "listen=unix:///a,tcp://127.0.0.1:1,127.0.0.1:2?role=admin,127.0.0.1:3?role=operator&name=a*";
        let settings = super::super::settings("f", text, &BTreeMap::new(), false).unwrap();
        let said: Vec<String> = of_sockets(&settings.listen).collect();
        let everyone = "every user and every container in this host's network can";
        assert_eq!(
            said,
            [
                format!("127.0.0.1:2 has the role admin: {everyone} run anything as root on every host"),
                format!("127.0.0.1:3 has the role operator of a*: {everyone} stop units"),
            ]
        );
    }

    #[test]
    fn an_etcd_that_takes_writes_from_anybody_is_named() {
        let cases = [
            ("", false),
            ("standalone=true", false),
            ("etcd_servers=http://localhost:2379,http://127.0.0.2:2379,http://[::1]:2379", false),
            ("etcd_servers=https://10.0.0.1:2379", false),
            ("etcd_servers=http://10.0.0.1:2379\netcd_username=u\netcd_password=p", false),
            ("etcd_servers=http://127.0.0.1:2379,http://10.0.0.1:2379", true),
            ("etcd_servers=http://[fd00::1]:2379", true),
            ("etcd_servers=http://etcd.example.com:2379", true),
        ];
        for (text, open) in cases {
            assert_eq!(of_store(&store(text)).is_some(), open, "{text}");
        }
        let said = of_store(&store("etcd_servers=http://127.0.0.1:2379,http://10.0.0.1:2379"));
        assert!(said.unwrap().starts_with("http://10.0.0.1:2379 is etcd without TLS"));
    }
}
