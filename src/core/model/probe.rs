//! The notation of probes, in `[X-Health]` and for `fleet-sidecar announce --check`: `http://HOST:PORT/PATH`,
//! `tcp:HOST:PORT`, `exec:COMMAND`. Values only: the room `probe` makes requests and connections.

use std::fmt;
use std::str::FromStr;

/// The most bytes of a probe.
const MAX_LEN: usize = 1024;

/// What a probe may be.
pub const HOW: &str = "write http://HOST:PORT/PATH, tcp:PORT or exec:COMMAND";

/// The port of HTTP.
pub const HTTP: u16 = 80;

/// How to find out whether a program works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It answers a request with a status below 400.
    Http {
        /// Where.
        target: Target,
        /// The path to request, with its query; begins with a slash.
        path: String,
    },
    /// It accepts connections.
    Tcp(Target),
    /// A command exits with status 0: the absolute path of a program, and its arguments, as [`words`] reads them.
    Exec(String),
    /// The same for a command of the shell, as `cmd COMMAND`. Only for a sidecar's `--check`.
    Shell(String),
}

/// Where to connect to. What is missing is up to whoever probes: the local host, or the announced address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// A name or an address, without brackets.
    pub host: Option<String>,
    /// A port that isn't 0.
    pub port: Option<u16>,
}

impl FromStr for Probe {
    type Err = String;

    /// # Errors
    /// What it must be.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LEN {
            return Err(format!("at most {MAX_LEN} bytes are possible"));
        }
        if let Some(rest) = text.strip_prefix("http://") {
            let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
            if let Some(odd) = path.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
                return Err(format!("{odd:?} can't be in a path"));
            }
            return Ok(Self::Http { target: authority.parse()?, path: path.into() });
        }
        if text == "tcp" {
            return Ok(Self::Tcp(Target::default()));
        }
        if let Some(rest) = text.strip_prefix("tcp:") {
            let rest = if rest.contains(':') { rest.into() } else { format!(":{rest}") };
            let target: Target = rest.parse()?;
            return if target.port.is_some() { Ok(Self::Tcp(target)) } else { Err("a port is missing".into()) };
        }
        if let Some(command) = text.strip_prefix("exec:").map(str::trim) {
            let absolute = words(command)?.first().is_some_and(|program| program.starts_with('/'));
            return if absolute { Ok(Self::Exec(command.into())) } else { Err("write an absolute path".into()) };
        }
        match text.strip_prefix("cmd ").map(str::trim) {
            Some(command) if !command.is_empty() => Ok(Self::Shell(command.into())),
            _ => Err(HOW.into()),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    /// `HOST:PORT`, `[ADDRESS]:PORT`, `HOST`, `:PORT`, or nothing.
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or("a bracket is missing")?;
                let valid = host.parse::<std::net::Ipv6Addr>().is_ok();
                let host = if valid { host } else { return Err(format!("`{host}` is no IPv6 address")) };
                match (after.strip_prefix(':'), after.is_empty()) {
                    (None, false) => return Err(format!("`{after}` after the bracket must be a colon and a port")),
                    (port, _) => (host, port),
                }
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !text.starts_with('[') && !host.chars().all(is_name) {
            return Err(format!("`{host}` is no host"));
        }
        let number = |text: &str| text.parse().ok().filter(|port| *port > 0 && !text.starts_with('+'));
        let port = port.map(|port| number(port).ok_or_else(|| format!("`{port}` is no port"))).transpose()?;
        Ok(Self { host: (!host.is_empty()).then(|| host.into()), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or_default();
        if host.contains(':') {
            write!(f, "[{host}]")?
        } else {
            f.write_str(host)?
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { target, path } => write!(f, "http://{target}{path}"),
            Self::Tcp(Target { host: None, port: None }) => f.write_str("tcp"),
            Self::Tcp(Target { host: None, port: Some(port) }) => write!(f, "tcp:{port}"),
            Self::Tcp(target) => write!(f, "tcp:{target}"),
            Self::Exec(command) => write!(f, "exec:{command}"),
            Self::Shell(command) => write!(f, "cmd {command}"),
        }
    }
}

/// The words of a command: separated by white space, unless it is between two quotation marks of one kind. Nothing else
/// has a meaning of its own.
///
/// # Errors
/// A quotation mark is missing.
pub fn words(command: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '\t', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quote.is_none() { Ok(words) } else { Err("a quotation mark is missing".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: Option<&str>, port: Option<u16>) -> Target {
        Target { host: host.map(Into::into), port }
    }

    #[test]
    fn probes_are_read_and_shown_as_they_are_written() {
        let http = |host, port, path: &str| Probe::Http { target: target(host, port), path: path.into() };
        for (text, probe) in [
            ("tcp", Probe::Tcp(target(None, None))),
            ("tcp:80", Probe::Tcp(target(None, Some(80)))),
            ("tcp:db:5432", Probe::Tcp(target(Some("db"), Some(5432)))),
            ("tcp:[::1]:80", Probe::Tcp(target(Some("::1"), Some(80)))),
            ("http://n1:80/a?b=c", http(Some("n1"), Some(80), "/a?b=c")),
            ("http://[::1]:81/x", http(Some("::1"), Some(81), "/x")),
            ("http://:8080/ready", http(None, Some(8080), "/ready")),
            ("http:///health", http(None, None, "/health")),
            ("http://n1/", http(Some("n1"), None, "/")),
            ("exec:/bin/check -q \"a b\"", Probe::Exec("/bin/check -q \"a b\"".into())),
            ("cmd pg_isready -q", Probe::Shell("pg_isready -q".into())),
        ] {
            assert_eq!(text.parse(), Ok(probe.clone()), "{text}");
            assert_eq!(probe.to_string(), text);
        }
        assert_eq!("http://n1".parse(), Ok(http(Some("n1"), None, "/")));
        assert_eq!("tcp::80".parse(), Ok(Probe::Tcp(target(None, Some(80)))));
        assert_eq!("exec: /bin/true ".parse(), Ok(Probe::Exec("/bin/true".into())));
    }

    #[test]
    fn what_is_no_probe_is_refused_with_the_reason() {
        for (text, why) in [
            ("", HOW),
            ("8080", HOW),
            ("cmd", HOW),
            ("cmd ", HOW),
            ("true", HOW),
            ("https://x/", HOW),
            ("tcp:", "`` is no port"),
            ("tcp:0", "`0` is no port"),
            ("tcp:+80", "`+80` is no port"),
            ("tcp:65536", "`65536` is no port"),
            ("tcp:[::1]", "a port is missing"),
            ("tcp:[::1]80", "`80` after the bracket must be a colon and a port"),
            ("tcp:[::1:80", "a bracket is missing"),
            ("tcp:[a]:80", "`a` is no IPv6 address"),
            ("tcp:a b:80", "`a b` is no host"),
            ("http://a b/", "`a b` is no host"),
            ("http://u@h/", "`u@h` is no host"),
            ("http://h:x/", "`x` is no port"),
            ("http://h/a b", "' ' can't be in a path"),
            ("http://h/a\u{e4}", "'ä' can't be in a path"),
            ("http://h/#a", "'#' can't be in a path"),
            ("exec:alive", "write an absolute path"),
            ("exec:", "write an absolute path"),
            ("exec:/a 'b", "a quotation mark is missing"),
        ] {
            assert_eq!(text.parse::<Probe>(), Err(why.into()), "{text}");
        }
        assert!(format!("http://h/{}", "a".repeat(1024)).parse::<Probe>().is_err());
    }

    #[test]
    fn a_command_has_words() {
        for (command, expected) in [
            ("", vec![]),
            ("/bin/a  -b\tc", vec!["/bin/a", "-b", "c"]),
            ("/bin/a \"b 'c\" '' d\"e\"'f g'", vec!["/bin/a", "b 'c", "", "def g"]),
            ("/bin/a \\ $b;c", vec!["/bin/a", "\\", "$b;c"]),
        ] {
            assert_eq!(words(command).unwrap(), expected, "{command}");
        }
    }
}
