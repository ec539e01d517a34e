//! Whether a peer still acknowledges data, according to the kernel (`sock_diag(7)`, which `ss -ti` uses). Owns that
//! query and its encoding; never decides what silence means.
//!
//! `TCP_USER_TIMEOUT` would be simpler, but ends connections that work: it also applies while a slow peer answers every
//! probe with a closed window. `TCP_INFO` can't be read without `unsafe`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// The state of a connection regarding sent data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// Whether some of it isn't acknowledged.
    pub(super) outstanding: bool,
    /// Time since the peer's last acknowledgement, including those of probes.
    pub(super) silent: Duration,
    /// Attempts since then without an answer.
    pub(super) tries: u8,
}

/// Query the kernel about the TCP socket between these addresses, in this network namespace. Takes microseconds, and
/// never waits.
///
/// # Errors
/// The socket doesn't exist (any more), or this kernel doesn't support the query.
pub(super) fn about(local: SocketAddr, peer: SocketAddr) -> io::Result<Heard> {
    // A new socket each time, so that an answer can't belong to another query.
    let kind = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, kind, Some(netlink::SOCK_DIAG))?;
    send(&kernel, &request(local, peer), SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (read, _) = recv(&kernel, &mut answer, RecvFlags::empty())?;
    understood(&answer[..read])
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (linux/netlink.h, linux/inet_diag.h).
fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const LENGTH: u32 = 16 + 56;
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // The sequence number and the sender, which aren't needed.
    bytes.extend([0; 8]);
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let tcp = 6;
    bytes.extend([family.as_raw().to_ne_bytes()[0], tcp, 1 << (INET_DIAG_INFO - 1), 0]);
    // In any state.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    for address in [local, peer] {
        match address.ip() {
            IpAddr::V4(ip) => {
                bytes.extend(ip.octets());
                bytes.extend([0; 12]);
            }
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    let interface = if let SocketAddr::V6(local) = local { local.scope_id() } else { 0 };
    bytes.extend(interface.to_ne_bytes());
    // No cookie: the addresses identify the socket.
    bytes.extend([0xff; 8]);
    bytes
}

const INET_DIAG_INFO: u16 = 2;

/// `struct inet_diag_msg`, followed by `struct tcp_info` (linux/tcp.h); or `struct nlmsgerr`.
fn understood(answer: &[u8]) -> io::Result<Heard> {
    const NLMSG_ERROR: u16 = 2;
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer has an unknown form");
    if u16_at(answer, 4) == Some(NLMSG_ERROR) {
        let code = u32_at(answer, 16).ok_or_else(odd)?.cast_signed();
        return Err(io::Error::from_raw_os_error(-code));
    }
    let waiting = u32_at(answer, 16 + 60).ok_or_else(odd)?;
    let mut at = 16 + 72;
    // Attributes: length, type, value, and padding to a multiple of four bytes.
    while let (Some(length @ 4..), Some(kind)) = (u16_at(answer, at), u16_at(answer, at + 2)) {
        let info = answer.get(at + 4..at + usize::from(length)).ok_or_else(odd)?;
        if kind == INET_DIAG_INFO {
            let (Some([retransmits, probes]), Some(silent)) = (info.get(2..4), u32_at(info, 56)) else {
                return Err(odd());
            };
            return Ok(Heard {
                outstanding: waiting > 0,
                silent: Duration::from_millis(silent.into()),
                tries: *retransmits.max(probes),
            });
        }
        at += usize::from(length).next_multiple_of(4);
    }
    Err(odd())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Whether this kernel supports the query, tested with a socket that listens on `local`.
///
/// # Errors
/// Why it doesn't.
pub(super) fn possible(local: SocketAddr) -> io::Result<()> {
    let nobody = if local.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    match about(local, SocketAddr::new(nobody, 0)) {
        // The answer is shorter for a listening socket.
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn the_kernel_tells_what_waits() {
        for place in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            let listener = TcpListener::bind(place).await.unwrap();
            possible(listener.local_addr().unwrap()).unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            let ask = |stream: &TcpStream| about(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            client.write_all(b"x").await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
            assert!(!ask(&client).unwrap().outstanding, "{place}");
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(ask(&client).unwrap().silent >= Duration::from_millis(200), "{place}");
            // More than the server takes: the window is closed, and each window probe is answered.
            let stuff = vec![0; 64 << 20];
            let stuffed = tokio::time::timeout(Duration::from_secs(1), client.write_all(&stuff)).await;
            assert!(stuffed.is_err());
            let heard = ask(&client).unwrap();
            assert!(heard.outstanding && heard.tries < 2 && heard.silent < Duration::from_secs(1), "{heard:?}");
            let (local, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            client.set_zero_linger().unwrap();
            drop(client);
            assert_eq!(about(local, peer).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn what_is_no_answer_isnt_understood() {
        for length in [0, 16, 88, 200] {
            assert_eq!(understood(&vec![0; length]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
