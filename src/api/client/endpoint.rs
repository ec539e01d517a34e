//! Where `fleetd` listens, as given in `--endpoint`. Owns that grammar; opens nothing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// One address of `fleetd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:///run/fleet.sock`, `file:///run/fleet.sock` or `/run/fleet.sock`.
    Unix(PathBuf),
    /// `http://host:port`, kept as `host:port`.
    Http(String),
    /// `https://host:port`, kept as `host:port`.
    Https(String),
}

/// A text that isn't an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no endpoint: {1}")]
pub struct EndpointError(String, &'static str);

impl Endpoint {
    /// A comma-separated list of endpoints.
    ///
    /// # Errors
    /// The first that isn't one, or an empty list.
    pub fn list(text: &str) -> Result<Vec<Self>, EndpointError> {
        text.split(',').map(|one| one.trim().parse()).collect()
    }

    /// What goes into the `Host` header.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Http(authority) | Self::Https(authority) => authority,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let bad = |why| EndpointError(text.into(), why);
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("file://")) {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(bad("the socket's path must be absolute, as in unix:///run/fleet.sock"))
            };
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let (rest, secure) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return Err(bad("write unix:///run/fleet.sock, http://host:port or https://host:port")),
        };
        let authority = rest.trim_end_matches('/');
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        if authority.is_empty() || host.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(bad("only a host and a port may follow"));
        }
        let port = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map(|(_, port)| port);
        let authority = match port.map(str::parse::<u16>) {
            Some(Ok(_)) => authority.into(),
            Some(Err(_)) => return Err(bad("the port must be a number up to 65535")),
            None => format!("{authority}:{}", if secure { 443 } else { 80 }),
        };
        Ok(if secure { Self::Https(authority) } else { Self::Http(authority) })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Http(authority) => write!(f, "http://{authority}"),
            Self::Https(authority) => write!(f, "https://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let cases = [
            ("unix:///run/fleet.sock", "/run/fleet.sock"),
            ("file:///run/fleet.sock", "/run/fleet.sock"),
            ("/tmp/x", "/tmp/x"),
            ("http://10.0.0.1:49153", "http://10.0.0.1:49153"),
            ("http://10.0.0.1:49153/", "http://10.0.0.1:49153"),
            ("http://n1", "http://n1:80"),
            ("http://[::1]", "http://[::1]:80"),
            ("http://[::1]:49153", "http://[::1]:49153"),
            ("https://n1", "https://n1:443"),
            ("https://n1:1/", "https://n1:1"),
        ];
        for (text, shown) in cases {
            assert_eq!(text.parse::<Endpoint>().map(|e| e.to_string()), Ok(shown.into()), "{text}");
        }
        for bad in ["", "n1:49153", "https://", "http://", "http://n1:port", "unix://run/x", "http://n1/fleet"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
        assert_eq!(Endpoint::list("/a, http://b:1").map(|list| list.len()), Ok(2));
        assert!(Endpoint::list("/a,").is_err());
    }
}
