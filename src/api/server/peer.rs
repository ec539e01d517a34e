//! Identifies the other end of a connection. Owns how this is determined; must never trust what a client says about
//! itself.

use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;

use crate::model::author::Author;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// A process on this host; `None` if the kernel doesn't say which.
    Unix(Option<Process>),
    /// An address.
    Tcp(IpAddr),
}

/// The process that opened a connection (`SO_PEERCRED`). It may have ended since, and its id may belong to another one.
#[derive(Debug, Clone)]
pub(super) struct Process {
    credentials: UCred,
    identity: Arc<Identity>,
}

/// What distinguishes a process from a later one with the same id.
#[derive(Debug)]
enum Identity {
    /// The kernel's handle of it (`SO_PEERPIDFD`).
    Handle(OwnedFd),
    /// Before Linux 6.5: when it was started, in clock ticks since the boot, as read when the connection was accepted.
    Started(Option<u64>),
}

impl Peer {
    /// The other end of `stream`.
    pub(super) fn of(stream: &UnixStream) -> Self {
        let process = |credentials: UCred| {
            let started = || Identity::Started(credentials.pid().and_then(started));
            let identity = getsockopt(stream, PeerPidfd).map_or_else(|_| started(), Identity::Handle);
            Process { credentials, identity: Arc::new(identity) }
        };
        Self::Unix(stream.peer_cred().ok().map(process))
    }

    /// The unit of systemd that the process belongs to, as the kernel knows it; `None` if that isn't known for certain.
    pub(super) fn unit(&self) -> Option<String> {
        let Self::Unix(Some(process)) = self else { return None };
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", process.credentials.pid()?)).ok()?;
        // Only now: a process that still exists has had its id all the time.
        if process.exists() { unit(&cgroup).map(str::to_owned) } else { None }
    }

    /// The author of a request by this peer. Reads files in `/proc` and `/etc/passwd`; what they don't contain is
    /// omitted.
    pub(super) fn author(&self) -> Author {
        match self {
            Self::Tcp(address) => Author { address: address.to_string(), ..Author::default() },
            Self::Unix(None) => Author::default(),
            Self::Unix(Some(Process { credentials, .. })) => {
                let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
                Author {
                    uid: Some(credentials.uid()),
                    user: user(&passwd, credentials.uid()).unwrap_or_default().into(),
                    unit: self.unit().unwrap_or_default(),
                    ..Author::default()
                }
            }
        }
    }
}

impl Process {
    /// Whether it exists, and its id is thus its own.
    fn exists(&self) -> bool {
        match &*self.identity {
            Identity::Handle(handle) => {
                // A handle becomes readable when its process ends.
                let mut ended = [PollFd::new(handle, PollFlags::IN)];
                poll(&mut ended, Some(&Timespec::default())) == Ok(0)
            }
            Identity::Started(then) => then.is_some() && *then == self.credentials.pid().and_then(started),
        }
    }
}

/// When the process was started, in clock ticks since the boot.
fn started(pid: i32) -> Option<u64> {
    start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The start time in the text of a `/proc/PID/stat`. The second field is the program's name, in parentheses, and may
/// contain anything.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The name of user `uid` in the text of a `passwd(5)`.
fn user(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid)).then_some(name)
    })
}

/// The service or scope of the system's manager in the text of a `/proc/PID/cgroup`. systemd uses the unified hierarchy
/// or, on older systems, one of its own; the other one may exist all the same, without units.
fn unit(cgroup: &str) -> Option<&str> {
    let unified = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    let named = cgroup.lines().find_map(|line| line.split_once(":name=systemd:").map(|(_, path)| path));
    unified.and_then(unit_of).or_else(|| named.and_then(unit_of))
}

/// The outermost group in a path that isn't a slice. Groups inside it are named by the unit's own processes, such as a
/// user's manager.
fn unit_of(path: &str) -> Option<&str> {
    let name = path.split('/').find(|part| !part.is_empty() && !part.ends_with(".slice"))?;
    // systemd escapes names that would be taken for files of the kernel.
    let name = name.strip_prefix('_').unwrap_or(name);
    (name.ends_with(".service") || name.ends_with(".scope")).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn users_are_found_by_id() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\nfleet:x:998:998::/:/usr/sbin/nologin\n";
        assert_eq!((user(passwd, 998), user(passwd, 0), user(passwd, 1)), (Some("fleet"), Some("root"), None));
    }

    #[test]
    fn a_process_belongs_to_the_unit_that_the_systems_manager_made() {
        let cases = [
            ("0::/system.slice/ssh.service\n", Some("ssh.service")),
            ("0::/user.slice/user-0.slice/session-4.scope\n", Some("session-4.scope")),
            ("0::/system.slice/web.service/worker\n", Some("web.service")),
            ("0::/system.slice/system-web.slice/web@1.service\n", Some("web@1.service")),
            ("0::/system.slice/__x.service\n", Some("_x.service")),
            // Every user can name groups below these.
            ("0::/user.slice/user-7.slice/user@7.service/app.slice/web.service\n", Some("user@7.service")),
            ("0::/system.slice/evil.service/web.service\n", Some("evil.service")),
            ("0::/system.slice/evil.service/x.slice/web.service\n", Some("evil.service")),
            // Outside of the daemon's own group namespace.
            ("0::/../web.service\n", None),
            ("4:cpu:/x\n1:name=systemd:/system.slice/cron.service\n", Some("cron.service")),
            ("9:name=systemd:/\n0::/system.slice/web.service\n", Some("web.service")),
            ("1:name=systemd:/system.slice/web.service\n0::/\n", Some("web.service")),
            ("0::/init.scope\n", Some("init.scope")),
            ("0::/\n", None),
            ("", None),
        ];
        for (cgroup, expected) in cases {
            assert_eq!(unit(cgroup), expected, "{cgroup:?}");
        }
    }

    #[test]
    fn a_start_time_is_found_behind_any_name() {
        let rest: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b (c)) {}\n", rest.join(" "));
        assert_eq!((start_time(&stat), start_time("7 a"), start_time("7 (a) S 1")), (Some(22), None, None));
        assert!(started(i32::try_from(std::process::id()).unwrap()).is_some());
    }

    /// Its id may belong to another process by then, so nothing is read of it.
    #[tokio::test]
    async fn a_process_that_has_ended_has_no_unit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        // It connects, and waits to be killed; its child keeps the connection open until the other end is closed.
        let program = "import os, socket, sys, time\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
            os.set_inheritable(s.fileno(), True)\nos.fork() and time.sleep(60) or s.recv(1)";
        let mut python = std::process::Command::new("python3");
        let mut child = python.args(["-c", program]).arg(&path).stdout(Stdio::piped()).spawn().unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let peer = Peer::of(&stream);
        let Peer::Unix(Some(process)) = &peer else { panic!("{peer:?}") };
        let by_start = Process {
            credentials: process.credentials,
            identity: Arc::new(Identity::Started(process.credentials.pid().and_then(started))),
        };
        assert!(process.exists() && by_start.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.exists() && !by_start.exists());
        assert_eq!(peer.unit(), None);
        // The test leaves no process behind: this ends with the last one that has the pipe.
        drop((peer, stream));
        assert_eq!(std::io::read_to_string(child.stdout.take().unwrap()).unwrap(), "");
    }
}
