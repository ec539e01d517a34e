//! The notation of health checks: `tcp`, `http://…`, `cmd …`. Values only; `announce::probe` performs the checks.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// How to check whether an instance is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    /// It accepts connections.
    Tcp,
    /// It answers a request with a status below 400.
    Http {
        /// The server, as `host:port`; `None` for the announced address.
        authority: Option<String>,
        /// The path to request.
        path: String,
    },
    /// A command exits with status 0.
    Command(String),
}

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "tcp" {
            return Ok(Self::Tcp);
        }
        if let Some(rest) = text.strip_prefix("http://") {
            let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
            let known = if authority.is_empty() { "localhost" } else { authority };
            let uri: Uri = format!("http://{known}{path}").parse().map_err(|error| format!("`{text}`: {error}"))?;
            let authority = (!authority.is_empty()).then(|| {
                let host = uri.host().unwrap_or_default();
                format!("{host}:{}", uri.port_u16().unwrap_or(80))
            });
            return Ok(Self::Http { authority, path: path.into() });
        }
        match text.strip_prefix("cmd ").map(str::trim) {
            Some(command) if !command.is_empty() => Ok(Self::Command(command.into())),
            _ => Err("write tcp, http://HOST:PORT/PATH or 'cmd COMMAND'".into()),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Http { authority, path } => write!(f, "http://{}{path}", authority.as_deref().unwrap_or_default()),
            Self::Command(command) => write!(f, "cmd {command}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read() {
        let http = |authority: Option<&str>, path: &str| {
            Ok(Check::Http { authority: authority.map(Into::into), path: path.into() })
        };
        assert_eq!("tcp".parse(), Ok(Check::Tcp));
        assert_eq!("http://n1:80/a?b=c".parse(), http(Some("n1:80"), "/a?b=c"));
        assert_eq!("http://n1".parse(), http(Some("n1:80"), "/"));
        assert_eq!("http://[::1]:81/x".parse(), http(Some("[::1]:81"), "/x"));
        assert_eq!("http:///health".parse(), http(None, "/health"));
        assert_eq!("cmd pg_isready -q".parse(), Ok(Check::Command("pg_isready -q".into())));
        for bad in ["", "cmd ", "cmd", "https://x/", "tcp:1", "http://a b/", "true"] {
            assert!(bad.parse::<Check>().is_err(), "{bad}");
        }
    }
}
