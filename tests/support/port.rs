//! A port whose number must be known before somebody listens on it. Owns its reservation, which lasts until the port is
//! dropped; never listens itself. For any test: `#[path = "support/port.rs"] mod port;`
//!
//! A number that was free a moment ago may be given to another test, or to a connection, before it is used. The port is
//! therefore kept bound by a socket that doesn't listen. While it is, Linux gives the number to no socket that asks for
//! any port, and refuses connections to it; a server that asks for this number with `SO_REUSEADDR` may listen on it,
//! see socket(7) and ip(7).

use std::net::{Ipv4Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

/// A reserved port of 127.0.0.1.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _reservation: std::os::fd::OwnedFd,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let reservation = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_reuseaddr(&reservation, true).expect("a setting of any socket");
        bind(&reservation, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let name = SocketAddr::try_from(getsockname(&reservation).expect("its name")).expect("an IPv4 address");
        Self { number: name.port(), _reservation: reservation }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
