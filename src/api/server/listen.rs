//! Where the API listens: sockets passed by systemd, a Unix socket of its own, TCP on loopback. Owns who may connect;
//! must never expose the API to the network, since it doesn't authenticate clients.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::process::Command;

/// The group that may use the socket besides root.
const GROUP: &str = "fleet";

/// Read and write for root and for [`GROUP`].
const MODE: u32 = 0o660;

/// How long `getent` may take.
const GETENT: Duration = Duration::from_secs(5);

/// A source of requests.
#[derive(Debug)]
pub enum Listener {
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
    /// TCP on an address other than loopback.
    #[error(
        "won't listen on {0}: plain TCP is for loopback addresses only, since whoever reaches the API rules the \
         cluster; use the unix socket"
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
        let shown = |index: usize| match names.get(index) {
            Some(name) => format!("inherited socket {} ({name})", index + 1),
            None => format!("inherited socket {}", index + 1),
        };
        (0..handed.len()).filter_map(|index| inherit(&mut handed, index, &shown(index)).transpose()).collect()
    }

    /// A Unix socket at `path`: created aside and renamed, so that it never has the wrong permissions.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn unix(path: &Path) -> Result<Self, ListenError> {
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
        if let Some(gid) = group().await {
            let _ = std::os::unix::fs::chown(&aside, None, Some(gid));
        }
        std::fs::rename(&aside, path).map_err(io)?;
        Ok(Self::Unix(listener, Some(path.into())))
    }

    /// TCP at `address`, which must be a loopback one.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn tcp(address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().to_canonical().is_loopback() {
            return Err(ListenError::Open(address));
        }
        let listener = TcpListener::bind(address).await.map_err(|error| ListenError::Io(address.to_string(), error))?;
        Ok(Self::Tcp(listener))
    }
}

fn inherit(handed: &mut listenfd::ListenFd, index: usize, shown: &str) -> Result<Option<Listener>, ListenError> {
    let io = |error| ListenError::Io(shown.into(), error);
    let unfit = |why: &str| ListenError::Unfit(shown.into(), why.into());
    // A socket of the other kind is refused by the first call and accepted by the second.
    if let Ok(unix) = handed.take_unix_listener(index) {
        let Some(unix) = unix else { return Ok(None) };
        if !rustix::net::sockopt::socket_acceptconn(&unix).map_err(|error| io(error.into()))? {
            return Err(unfit("it is a connection, not a socket to accept connections on"));
        }
        unix.set_nonblocking(true).map_err(io)?;
        return Ok(Some(Listener::Unix(UnixListener::from_std(unix).map_err(io)?, None)));
    }
    let Ok(tcp) = handed.take_tcp_listener(index) else {
        return Err(unfit("it is no stream socket"));
    };
    let Some(tcp) = tcp else { return Ok(None) };
    if !rustix::net::sockopt::socket_acceptconn(&tcp).map_err(|error| io(error.into()))? {
        return Err(unfit("it is a connection, not a socket to accept connections on"));
    }
    let address = tcp.local_addr().map_err(io)?;
    if !address.ip().to_canonical().is_loopback() {
        return Err(ListenError::Open(address));
    }
    tcp.set_nonblocking(true).map_err(io)?;
    Ok(Some(Listener::Tcp(TcpListener::from_std(tcp).map_err(io)?)))
}

/// The id of [`GROUP`], wherever this host keeps its groups: `getent` uses all sources in `nsswitch.conf(5)`, including
/// directories on the network. A host without `getent` (such as one with musl, or a minimal image) has its groups in
/// the file.
async fn group() -> Option<u32> {
    let asked = Command::new("getent").args(["group", GROUP]).kill_on_drop(true).output();
    // A directory on the network may not answer; only root may then use the socket until the next start.
    let Ok(asked) = tokio::time::timeout(GETENT, asked).await else {
        tracing::warn!("`getent group {GROUP}` doesn't answer; only root may use the socket");
        return None;
    };
    let groups = match asked {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(_) => std::fs::read_to_string("/etc/group").unwrap_or_default(),
    };
    group_id(&groups)
}

/// The id of [`GROUP`] in the text of `group(5)`.
fn group_id(groups: &str) -> Option<u32> {
    let mut fields = groups.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(GROUP))?;
    fields.nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found() {
        assert_eq!(group_id("root:x:0:\nfleetfoxes:x:7:\nfleet:x:993:me\n"), Some(993));
        assert_eq!(group_id("root:x:0:\n"), None);
    }
}
