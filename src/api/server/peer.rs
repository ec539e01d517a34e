//! Identifies the other end of a connection. Owns how this is determined; must never trust what a client says about
//! itself.

use std::fs;
use std::net::IpAddr;

use tokio::net::unix::UCred;

use crate::model::author::Author;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// A process on this host (`SO_PEERCRED`); `None` if the kernel doesn't say which.
    Unix(Option<UCred>),
    /// An address.
    Tcp(IpAddr),
}

impl Peer {
    /// The author of a request by this peer. Reads files in `/proc` and `/etc/passwd`; what they don't contain is
    /// omitted.
    pub(super) fn author(&self) -> Author {
        match self {
            Self::Tcp(address) => Author { address: address.to_string(), ..Author::default() },
            Self::Unix(None) => Author::default(),
            Self::Unix(Some(process)) => {
                let cgroup = process.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
                let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
                Author {
                    uid: Some(process.uid()),
                    user: user(&passwd, process.uid()).unwrap_or_default().into(),
                    unit: cgroup.as_deref().and_then(unit).unwrap_or_default().into(),
                    ..Author::default()
                }
            }
        }
    }
}

/// The name of user `uid` in the text of a `passwd(5)`.
fn user(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid)).then_some(name)
    })
}

/// The innermost service or scope in the text of a `/proc/PID/cgroup`, in systemd's hierarchy.
fn unit(cgroup: &str) -> Option<&str> {
    let path = cgroup.lines().find_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    })?;
    path.rsplit('/').find(|part| part.ends_with(".service") || part.ends_with(".scope"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_id() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\nfleet:x:998:998::/:/usr/sbin/nologin\n";
        assert_eq!((user(passwd, 998), user(passwd, 0), user(passwd, 1)), (Some("fleet"), Some("root"), None));
    }

    #[test]
    fn a_process_belongs_to_the_innermost_unit() {
        let cases = [
            ("0::/system.slice/ssh.service\n", Some("ssh.service")),
            ("0::/user.slice/user-0.slice/session-4.scope\n", Some("session-4.scope")),
            ("0::/system.slice/web.service/worker\n", Some("web.service")),
            ("4:cpu:/x\n1:name=systemd:/system.slice/cron.service\n", Some("cron.service")),
            ("0::/\n", None),
            ("", None),
        ];
        for (cgroup, expected) in cases {
            assert_eq!(unit(cgroup), expected, "{cgroup:?}");
        }
    }
}
