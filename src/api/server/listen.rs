//! Where the API listens: sockets passed by systemd, Unix sockets of its own, TCP on loopback. Owns who may connect,
//! and the role of each socket; must never expose the API to the network, since it doesn't authenticate clients.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::process::Command;

use crate::model::listen::{Listen, NOT_ON_TCP, Place, is_loopback};
use crate::model::role::{Grant, Role};

/// Read and write for root and for the socket's group.
const MODE: u32 = 0o660;

/// How long `getent` may take.
const GETENT: Duration = Duration::from_secs(5);

/// The names of passed sockets that have the role of their kind: that of `fleetd.socket`, and what systemd says of a
/// socket without a name.
const UNNAMED: [&str; 2] = ["api", "unknown"];

/// A source of requests.
#[derive(Debug)]
pub struct Listener {
    /// Its address, as clients know it.
    pub name: String,
    /// What its clients may do.
    pub grant: Grant,
    pub(super) socket: Socket,
    /// What is answered there.
    pub(super) serves: Serves,
}

/// What is answered on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    /// The API.
    Api,
    /// FleetLock.
    FleetLock,
}

/// A socket to accept connections on.
#[derive(Debug)]
pub(super) enum Socket {
    /// A Unix socket, and its path if it is ours to remove.
    Unix(UnixListener, Option<PathBuf>),
    /// TCP on a loopback address.
    Tcp(TcpListener),
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system's error.
    #[error("can't listen on {0}: {1}")]
    Io(String, #[source] io::Error),
    /// Another process answers there.
    #[error("can't listen on {0}: another process listens there (another fleetd?)")]
    Taken(String),
    /// A file that isn't a socket is in the way.
    #[error("can't listen on {0}: there is a file that is no socket")]
    NoSocket(String),
    /// A passed socket is of a kind on which the API can't be served.
    #[error(
        "can't serve the API on {0}: {1}; fleetd.socket needs `ListenStream=` with a path, or with 127.0.0.1:PORT or \
         [::1]:PORT, and `Accept=no`"
    )]
    Unfit(String, String),
    /// The name of a passed socket isn't a role.
    #[error(
        "can't serve the API on {0}: `FileDescriptorName=` must be `api`, or the role of the socket's clients as \
         `role=ROLE[&name=GLOB]`: {1}"
    )]
    Role(String, String),
    /// TCP on an address other than loopback.
    #[error(
        "won't listen on {0}: plain TCP is for loopback addresses only, since the API doesn't authenticate clients; \
         use a Unix socket"
    )]
    Open(SocketAddr),
}

impl Listener {
    /// The sockets that systemd (or another manager) passed, in order; none without socket activation.
    ///
    /// # Errors
    /// A socket that is neither a Unix socket nor TCP on loopback.
    pub fn inherited() -> Result<Vec<Self>, ListenError> {
        // The names first: taking the sockets clears the environment.
        let names: Vec<String> =
            sd_notify::listen_fds_with_names().into_iter().flatten().map(|(_, name)| name).collect();
        let mut handed = listenfd::ListenFd::from_env();
        let count = handed.len();
        let shown = |index: usize| match names.get(index) {
            Some(name) => format!("inherited socket {} ({name})", index + 1),
            None => format!("inherited socket {}", index + 1),
        };
        let inherited = |index: usize| {
            let shown = shown(index);
            let socket = inherit(&mut handed, index, &shown).transpose()?;
            Some(socket.and_then(|socket| Self::passed(socket, names.get(index).map(String::as_str), &shown)))
        };
        (0..count).filter_map(inherited).collect()
    }

    /// A socket that was passed under `name`, which says the role of its clients.
    fn passed(socket: Socket, name: Option<&str>, shown: &str) -> Result<Self, ListenError> {
        let is_unnamed = |name: &str| UNNAMED.contains(&name) || name.ends_with(".socket");
        let grant = match name.filter(|name| !is_unnamed(name)) {
            Some(name) => name.parse().map_err(|what| ListenError::Role(shown.into(), what))?,
            None => Grant::all(if matches!(socket, Socket::Unix(..)) { Role::Admin } else { Role::Reader }),
        };
        if matches!(socket, Socket::Tcp(_)) && grant.role == Role::Announcer {
            return Err(ListenError::Role(shown.into(), NOT_ON_TCP.into()));
        }
        let path =
            |address: &tokio::net::unix::SocketAddr| address.as_pathname().map(|path| path.display().to_string());
        let address = match &socket {
            Socket::Unix(unix, _) => unix.local_addr().ok().as_ref().and_then(path),
            Socket::Tcp(tcp) => tcp.local_addr().ok().map(|address| address.to_string()),
        };
        let name = address.unwrap_or_else(|| shown.into());
        Ok(Self { name, grant, socket, serves: Serves::Api })
    }

    /// A socket of this daemon's own.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn open(listen: &Listen) -> Result<Self, ListenError> {
        let socket = match &listen.place {
            Place::Unix { path, group } => Self::unix(path, group).await?,
            Place::Tcp(address) => Self::tcp(*address).await?,
        };
        let name = match &socket {
            // Port 0 is any that is free.
            Socket::Tcp(tcp) => tcp.local_addr().map_or_else(|_| listen.place.to_string(), |bound| bound.to_string()),
            Socket::Unix(..) => listen.place.to_string(),
        };
        Ok(Self { name, grant: listen.grant.clone(), socket, serves: Serves::Api })
    }

    /// A socket on which FleetLock is answered, and nothing else.
    ///
    /// # Errors
    /// An address that isn't loopback, or on which another process listens.
    pub async fn fleetlock(address: SocketAddr) -> Result<Self, ListenError> {
        let grant = Grant { role: Role::Announcer, names: Vec::new() };
        let listener = Self::open(&Listen { place: Place::Tcp(address), grant }).await?;
        Ok(Self { serves: Serves::FleetLock, ..listener })
    }

    /// A Unix socket at `path`: created aside and renamed, so that it never has the wrong permissions.
    async fn unix(path: &Path, group: &str) -> Result<Socket, ListenError> {
        let shown = || path.display().to_string();
        let io = |error| ListenError::Io(shown(), error);
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
            Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NoSocket(shown())),
            Ok(_) => match UnixStream::connect(path).await {
                Ok(_) => return Err(ListenError::Taken(shown())),
                // No process listens there any more: it was left by a daemon that was killed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(io(error)),
            },
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        let aside = PathBuf::from(aside);
        let _ = std::fs::remove_file(&aside);
        let listener = UnixListener::bind(&aside).map_err(io)?;
        std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(MODE)).map_err(io)?;
        // Only root may give files away; the socket of any other user is for that user alone.
        if let Some(gid) = group_id(group).await {
            let _ = std::os::unix::fs::chown(&aside, None, Some(gid));
        }
        std::fs::rename(&aside, path).map_err(io)?;
        Ok(Socket::Unix(listener, Some(path.into())))
    }

    /// TCP at `address`, which must be a loopback one.
    async fn tcp(address: SocketAddr) -> Result<Socket, ListenError> {
        if !is_loopback(&address) {
            return Err(ListenError::Open(address));
        }
        let listener = TcpListener::bind(address).await.map_err(|error| ListenError::Io(address.to_string(), error))?;
        Ok(Socket::Tcp(listener))
    }
}

fn inherit(handed: &mut listenfd::ListenFd, index: usize, shown: &str) -> Result<Option<Socket>, ListenError> {
    let io = |error| ListenError::Io(shown.into(), error);
    let unfit = |why: &str| ListenError::Unfit(shown.into(), why.into());
    // A socket of the other kind is refused by the first call and accepted by the second.
    if let Ok(unix) = handed.take_unix_listener(index) {
        let Some(unix) = unix else { return Ok(None) };
        if !rustix::net::sockopt::socket_acceptconn(&unix).map_err(|error| io(error.into()))? {
            return Err(unfit("it is a connection, not a socket to accept connections on"));
        }
        unix.set_nonblocking(true).map_err(io)?;
        return Ok(Some(Socket::Unix(UnixListener::from_std(unix).map_err(io)?, None)));
    }
    let Ok(tcp) = handed.take_tcp_listener(index) else {
        return Err(unfit("it is no stream socket"));
    };
    let Some(tcp) = tcp else { return Ok(None) };
    if !rustix::net::sockopt::socket_acceptconn(&tcp).map_err(|error| io(error.into()))? {
        return Err(unfit("it is a connection, not a socket to accept connections on"));
    }
    let address = tcp.local_addr().map_err(io)?;
    if !is_loopback(&address) {
        return Err(ListenError::Open(address));
    }
    tcp.set_nonblocking(true).map_err(io)?;
    Ok(Some(Socket::Tcp(TcpListener::from_std(tcp).map_err(io)?)))
}

/// The id of `group`, wherever this host keeps its groups: `getent` uses all sources in `nsswitch.conf(5)`, including
/// directories on the network. A host without `getent` (such as one with musl, or a minimal image) has its groups in
/// the file.
async fn group_id(group: &str) -> Option<u32> {
    let asked = Command::new("getent").args(["group", group]).kill_on_drop(true).output();
    // A directory on the network may not answer; only root may then use the socket until the next start.
    let Ok(asked) = tokio::time::timeout(GETENT, asked).await else {
        tracing::warn!("`getent group {group}` doesn't answer; only root may use its socket");
        return None;
    };
    let groups = match asked {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(_) => std::fs::read_to_string("/etc/group").unwrap_or_default(),
    };
    let id = id_of(group, &groups);
    if id.is_none() {
        tracing::warn!("there is no group {group}; its socket is for its owner only");
    }
    id
}

/// The id of `group` in the text of `group(5)`.
fn id_of(group: &str, groups: &str) -> Option<u32> {
    let mut fields = groups.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(group))?;
    fields.nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found() {
        assert_eq!(id_of("fleet", "root:x:0:\nfleetfoxes:x:7:\nfleet:x:993:me\n"), Some(993));
        assert_eq!(id_of("fleet", "root:x:0:\n"), None);
    }
}
