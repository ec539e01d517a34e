//! The route to a host: direct, or through the jump host with SSH within SSH; and the route to the API through that
//! host. Owns the tunnel. Each host behind the jump host has its own session to it, so that hosts don't block each
//! other.

use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::forward;
use crate::api::client::{Dial, Dialing, Endpoint, Stream};
use crate::api::wire::MachineRef;
use crate::ssh::{Error, Session, Ssh, Target, Way};

/// The host through which all others are reached, as in `ssh -J`: `[USER@]HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JumpHost {
    pub(super) host: String,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
}

impl FromStr for JumpHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why| Err(format!("`{text}` is not a valid jump host: {why}"));
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, text),
        };
        // An IPv6 address contains colons, so it is in brackets if there is a port.
        let (host, port) = match host.strip_prefix('[').map(|host| host.split_once(']')) {
            Some(Some((host, rest))) => (host, rest.strip_prefix(':').or((!rest.is_empty()).then_some(rest))),
            Some(None) => return bad("its bracket isn't closed"),
            None => match host.split_once(':') {
                Some((name, port)) if !port.contains(':') => (name, Some(port)),
                _ => (host, None),
            },
        };
        if host.is_empty() || user.as_deref() == Some("") || host.contains(char::is_whitespace) {
            return bad("write HOST, HOST:PORT or USER@HOST:PORT");
        }
        let port = match port.map(str::parse) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return bad("the port must be a number up to 65535"),
        };
        Ok(Self { host: host.into(), user, port })
    }
}

/// How to reach hosts.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) ssh: Ssh,
    pub(super) jump: Option<JumpHost>,
}

impl Route {
    /// The target for `machine`, direct or behind the jump host.
    pub(super) fn target(&self, machine: &MachineRef) -> Result<Target, Error> {
        let way = if self.jump.is_some() { Way::Behind } else { Way::Direct };
        let shown = if machine.hostname.is_empty() { None } else { Some(machine.hostname.as_str()) };
        self.ssh.target(&machine.ip, shown, way)
    }

    /// The target for the jump host.
    pub(super) fn jump_target(&self) -> Option<Result<Target, Error>> {
        let jump = self.jump.as_ref()?;
        Some(self.ssh.target(&jump.host, None, Way::Gate { user: jump.user.as_deref(), port: jump.port }))
    }

    /// Log in on a host.
    pub(super) async fn open(&self, machine: &MachineRef) -> Result<Session, Error> {
        log_in(&self.ssh, self.target(machine)?, |target| async move { self.connect(&target).await }).await
    }

    async fn connect(&self, target: &Target) -> Result<Session, Error> {
        let Some(jump) = self.jump_target() else { return self.ssh.connect(target, None).await };
        let jump = jump?;
        let gate = straight(&self.ssh, jump.clone()).await;
        // What that host refuses says nothing of this one's users.
        let gate = gate.map_err(|error| Error { refused: false, ..error })?;
        let over = gate.tcp(&target.address, target.port).await.map_err(|error| Error {
            lines: vec![format!("can't reach {} through {}: {error}", target.label(), jump.label())],
            hint: Some("is it up, and does its sshd listen on that port? `--ssh-port` selects another".into()),
            ..error
        })?;
        self.ssh.connect(target, Some(over)).await
    }
}

/// Log in on a host that is reached without another.
async fn straight(ssh: &Ssh, target: Target) -> Result<Session, Error> {
    log_in(ssh, target, |target| async move { ssh.connect(&target, None).await }).await
}

/// Log in with `connect`. If nobody chose a user, the one who types is tried first, and if the host refuses that one,
/// CoreOS's: a host tells who its users are only in this way.
async fn log_in<F>(ssh: &Ssh, target: Target, connect: impl Fn(Target) -> F) -> Result<Session, Error>
where
    F: Future<Output = Result<Session, Error>>,
{
    let refusal = match connect(target.clone()).await {
        Err(error) if error.refused => error,
        result => return result,
    };
    let Some(other) = target.otherwise() else { return Err(refusal) };
    match connect(other.clone()).await {
        Ok(session) => {
            ssh.remember(&other);
            Ok(session)
        }
        Err(error) if error.refused => {
            let also = format!("and not as {}, the user of CoreOS, either", other.user);
            Err(Error { lines: refusal.lines.into_iter().chain([also]).collect(), ..refusal })
        }
        Err(error) => Err(error),
    }
}

/// The tunnel to the API through the jump host: one session for all its connections.
#[derive(Debug)]
pub(super) struct Tunnel {
    ssh: Ssh,
    target: Target,
    session: Mutex<Option<Arc<Session>>>,
}

impl Tunnel {
    /// Log in on the jump host.
    pub(super) async fn open(ssh: Ssh, target: Target) -> Result<Self, Error> {
        let session = straight(&ssh, target.clone()).await?;
        Ok(Self { ssh, target, session: Mutex::new(Some(Arc::new(session))) })
    }

    /// The session, reconnected if it broke.
    async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut held = self.session.lock().await;
        match held.as_ref() {
            Some(session) => Ok(session.clone()),
            None => {
                let session = Arc::new(straight(&self.ssh, self.target.clone()).await?);
                *held = Some(session.clone());
                Ok(session)
            }
        }
    }

    async fn once(&self, session: &Session, endpoint: &Endpoint) -> Result<Stream, Error> {
        match (endpoint, endpoint.host_and_port()) {
            (Endpoint::Unix(path), _) => self.socket(session, path).await,
            (_, Some((host, port))) => {
                let stream = session.tcp(&host, port).await?;
                let stream = tokio::net::UnixStream::from_std(stream).map_err(|error| Error::of(&error))?;
                Ok(Box::new(stream))
            }
            (endpoint, None) => Err(Error::of(&format!("{endpoint} is not a network address"))),
        }
    }

    /// A connection to a socket on that host: forwarded by sshd, or by `fleetctl fd-forward` if sshd refuses.
    async fn socket(&self, session: &Session, path: &Path) -> Result<Stream, Error> {
        let refused = match session.unix(&path.display().to_string()).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) if error.broken => return Err(error),
            Err(error) => error,
        };
        tracing::debug!(%refused, "sshd doesn't connect to the socket; trying fleetctl fd-forward there");
        let argv = ["fleetctl".to_owned(), "fd-forward".into(), path.display().to_string()];
        let remote = session.run(Some(&super::shell_line(&argv)), None).await?;
        Ok(Box::new(forward::Forwarded::new(remote, refused.to_string())))
    }
}

impl Dial for Tunnel {
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialing<'a> {
        Box::pin(async move {
            let mut answer = self.once(&*self.session().await.map_err(unreachable)?, endpoint).await;
            // The session may have broken since its last use.
            if answer.as_ref().is_err_and(|error| error.broken) {
                *self.session.lock().await = None;
                answer = self.once(&*self.session().await.map_err(unreachable)?, endpoint).await;
            }
            answer.map_err(unreachable)
        })
    }
}

fn unreachable(error: Error) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts_are_read() {
        let jump =
            |host: &str, user: Option<&str>, port| Ok(JumpHost { host: host.into(), user: user.map(Into::into), port });
        let cases = [
            ("n1", jump("n1", None, None)),
            ("core@n1:2222", jump("n1", Some("core"), Some(2222))),
            ("10.88.0.11:22", jump("10.88.0.11", None, Some(22))),
            ("[::1]:22", jump("::1", None, Some(22))),
            ("[::1]", jump("::1", None, None)),
            ("fe80::1", jump("fe80::1", None, None)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<JumpHost>(), expected, "{text}");
        }
        for bad in ["", "@n1", "n1:", "n1:ssh", "n1:0", ":22", "[::1", "[::1]x", "a b"] {
            assert!(bad.parse::<JumpHost>().is_err(), "{bad}");
        }
    }
}
