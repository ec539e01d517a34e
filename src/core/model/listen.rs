//! Where the API listens, as written in `listen=`: an address, and what its clients may do. Pure.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::role::{Grant, Role, pairs};

/// The group that may open a socket with the role of an admin, unless another one is named.
const ADMINS: &str = "fleet";

/// Why a TCP port can't have the role of an announcer.
pub const NOT_ON_TCP: &str =
    "an announcer needs a Unix socket: of a TCP client the kernel doesn't say which unit it is";

/// The group of sidecars, which may open a socket with the role of an announcer.
const SIDECARS: &str = "fleet-sidecar";

/// Whether only this host can connect to an address, also if it is an IPv4 one written as IPv6 (`::ffff:127.0.0.1`).
#[must_use]
pub fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub place: Place,
    /// What its clients may do.
    pub grant: Grant,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket, open to root and to the group.
    Unix {
        /// Its path.
        path: PathBuf,
        /// The group.
        group: String,
    },
    /// A TCP port.
    Tcp(SocketAddr),
}

impl Listen {
    /// A Unix socket for admins.
    #[must_use]
    pub fn admins(path: PathBuf) -> Self {
        Self { place: Place::Unix { path, group: ADMINS.into() }, grant: Grant::all(Role::Admin) }
    }

    /// A Unix socket for sidecars.
    #[must_use]
    pub fn announcers(path: PathBuf) -> Self {
        Self { place: Place::Unix { path, group: SIDECARS.into() }, grant: Grant::all(Role::Announcer) }
    }
}

/// `unix:///PATH` or `tcp://ADDRESS:PORT` (also without `tcp://`), then optionally `?` and `key=value` pairs: those of
/// a [`Grant`], and `group=` for a Unix socket. Without a role, a Unix socket is for admins and TCP for readers,
/// because every user of the host can connect to it.
impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, options) =
            text.split_once('?').map_or((text, None), |(address, options)| (address, Some(options)));
        let pairs = options.map(pairs).transpose()?.unwrap_or_default();
        let (groups, grant): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(key, _)| *key == "group");
        let grant = |default: Role| {
            if grant.is_empty() { Ok(Grant::all(default)) } else { Grant::from_pairs(grant.iter().copied()) }
        };
        if let Some(path) = address.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err("must be unix:///PATH, with an absolute path".into());
            }
            let grant = grant(Role::Admin)?;
            let group = match (&groups[..], grant.role) {
                ([(_, "")], _) => return Err("`group` is empty".into()),
                ([(_, group)], _) => (*group).to_owned(),
                ([], Role::Admin) => ADMINS.to_owned(),
                ([], Role::Announcer) => SIDECARS.to_owned(),
                ([], role) => {
                    return Err(format!("`group` is missing: who may use the socket as {role}, besides root"));
                }
                _ => return Err("`group` is given twice".into()),
            };
            return Ok(Self { place: Place::Unix { path: path.into(), group }, grant });
        }
        let tcp = address.strip_prefix("tcp://").unwrap_or(address);
        let tcp = tcp.parse().map_err(|_| "must be unix:///PATH or tcp://127.0.0.1:PORT".to_owned())?;
        if !groups.is_empty() {
            return Err("`group` is for Unix sockets: every user of the host can connect to TCP".into());
        }
        let grant = grant(Role::Reader)?;
        if grant.role == Role::Announcer {
            return Err(NOT_ON_TCP.into());
        }
        Ok(Self { place: Place::Tcp(tcp), grant })
    }
}

/// `/run/fleet.sock (admin)`
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.place, self.grant)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path, .. } => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_role() {
        for (text, shown, group) in [
            ("unix:///run/fleet.sock", "/run/fleet.sock (admin)", "fleet"),
            ("unix:///run/a?role=admin&group=wheel", "/run/a (admin)", "wheel"),
            ("unix:///run/a?group=wheel&role=operator&name=web@*", "/run/a (operator of web@*)", "wheel"),
            ("unix:///run/a?group=wheel", "/run/a (admin)", "wheel"),
            ("unix:///run/a?role=announcer&name=web", "/run/a (announcer of web)", "fleet-sidecar"),
            ("tcp://127.0.0.1:1", "127.0.0.1:1 (reader)", ""),
            ("[::1]:1?role=admin", "[::1]:1 (admin)", ""),
        ] {
            let listen: Listen = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(listen.to_string(), shown, "{text}");
            let found = if let Place::Unix { group, .. } = listen.place { group } else { String::new() };
            assert_eq!(found, group, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, what) in [
            ("unix://run/a", "must be unix:///PATH, with an absolute path"),
            ("localhost:1", "must be unix:///PATH or tcp://127.0.0.1:PORT"),
            ("unix:///a?role=reader", "`group` is missing: who may use the socket as reader, besides root"),
            ("unix:///a?group=", "`group` is empty"),
            ("unix:///a?group=a&group=b", "`group` is given twice"),
            ("tcp://127.0.0.1:1?group=a", "`group` is for Unix sockets: every user of the host can connect to TCP"),
            ("tcp://127.0.0.1:1?rolle=a", "`rolle` is unknown; `role` and `name` are known"),
            ("tcp://127.0.0.1:1?", "`` must be key=value"),
            ("tcp://127.0.0.1:1?role=announcer", NOT_ON_TCP),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap_err(), what, "{text}");
        }
    }
}
