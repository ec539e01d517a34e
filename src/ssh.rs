//! An SSH client: sessions that log in with an agent or a key file, with commands and forwarded connections over them.
//! The only user of `ssh2`. Knows `~/.ssh/config` and `known_hosts`; never knows which host is meant or what runs
//! there, prints nothing, and asks the user only through [`Ask`].
//!
//! ```text
//! Ssh - config -> Target - connect -> handshake - known_hosts - auth -> Session - multiplexer -> Remote, UnixStream
//!       ~/.ssh                        a thread of its own from here on, one for each session
//! ```
//!
//! A session of libssh2 has a single lock and its calls block, so each session has its own thread and the rest of the
//! program sees only sockets: all data goes through socket pairs. This also allows SSH within SSH: the inner session's
//! connection is one end of such a pair.

mod auth;
mod channel;
mod codes;
pub mod config;
mod connect;
pub mod known_hosts;
mod multiplexer;
mod pattern;
mod request;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use request::{Ended, Pty};
pub use session::{Remote, Session};

/// CoreOS's user, the default of CoreOS fleet: tried where the host refuses who types, unless somebody chose a user.
const USER: &str = "core";

/// SSH's port.
const PORT: u16 = 22;

/// The settings from the command line, which take precedence over `~/.ssh/config`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The login name. Default: that of `~/.ssh/config`; else `me`, or where the host refuses that, `core`.
    pub user: Option<String>,
    /// The name of the user on this host.
    pub me: String,
    /// The port of the cluster's hosts. Default: that of `~/.ssh/config`, or 22.
    pub port: Option<u16>,
    /// Private keys that are tried before all others.
    pub identities: Vec<PathBuf>,
    /// The timeout for connecting, and for each answer during the login. Doesn't limit the user.
    pub timeout: Duration,
    /// The known_hosts file. Default: that of `~/.ssh/config`, or `~/.fleetctl/known_hosts`.
    pub known_hosts: Option<PathBuf>,
    /// Whether to connect to known hosts only.
    pub strict: Option<bool>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// The user's home directory, which contains `.ssh`.
    pub home: PathBuf,
}

/// The name of this process's user, if it has one on this host.
#[must_use]
pub fn me() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::Uid::current()).ok().flatten().map(|user| user.name)
}

/// The user at the terminal, if there is one. Called from threads that may block.
pub trait Ask: Send + Sync {
    /// Ask for a secret.
    fn secret(&self, prompt: &str) -> Answer;
    /// Ask a yes-or-no question; `None` without a terminal.
    fn confirm(&self, question: &str) -> Option<bool>;
    /// Show lines.
    fn warn(&self, lines: &[String]);
}

/// The answer to a question for a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The secret.
    Said(String),
    /// The user declined.
    GivenUp,
    /// There is no terminal.
    Nobody,
}

/// Why there is no session, or no command in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines.join("\n"))]
pub struct Error {
    /// The error and, where it matters, what to do.
    pub lines: Vec<String>,
    /// Advice for the user.
    pub hint: Option<String>,
    /// The connection is broken; a new one may work.
    pub broken: bool,
    /// The host doesn't let this user in with any of the keys.
    pub refused: bool,
}

impl Error {
    /// An error with the message of `error`.
    #[must_use]
    pub fn of(error: &impl ToString) -> Self {
        Self::new(error.to_string())
    }

    fn new(line: impl Into<String>) -> Self {
        Self::all(vec![line.into()])
    }

    fn all(lines: Vec<String>) -> Self {
        Self { lines, hint: None, broken: false, refused: false }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// How a host is reached.
#[derive(Debug, Clone, Copy)]
pub enum Way<'a> {
    /// Directly.
    Direct,
    /// Through the jump host: proxy settings in `~/.ssh/config` are ignored.
    Behind,
    /// It is the jump host. A user and port given with it take precedence over everything.
    Gate {
        /// The login name.
        user: Option<&'a str>,
        /// The port.
        port: Option<u16>,
    },
}

/// What to do about a host whose key isn't known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strict {
    /// Refuse.
    Yes,
    /// Ask the user.
    Ask,
    /// Trust it, and record it.
    AcceptNew,
    /// The same, and only warn about a changed key.
    No,
}

/// A host to log in on, with all its settings.
#[derive(Debug, Clone)]
pub struct Target {
    /// The host name or address to connect to.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The login name.
    pub user: String,
    /// Whether nobody chose the login name, and the host hasn't shown yet which one is right.
    is_open: bool,
    /// Its name for the user.
    name: String,
    /// Its name in the known_hosts file.
    alias: Option<String>,
    /// Keys to try first.
    pub identities: Vec<PathBuf>,
    identities_only: bool,
    agent: Option<PathBuf>,
    /// The known_hosts files; new hosts are added to the first.
    pub known_hosts: Vec<PathBuf>,
    strict: Strict,
}

impl Target {
    /// The value of `StrictHostKeyChecking` in `ssh_config(5)`.
    #[must_use]
    pub fn strictness(&self) -> &'static str {
        match self.strict {
            Strict::Yes => "yes",
            Strict::Ask => "ask",
            Strict::AcceptNew => "accept-new",
            Strict::No => "no",
        }
    }

    /// The same host with the other login name to try, if it refuses this one and nobody chose it.
    #[must_use]
    pub fn otherwise(&self) -> Option<Self> {
        let other = self.is_open && self.user != USER;
        other.then(|| Self { user: USER.into(), is_open: false, ..self.clone() })
    }

    /// Its name for messages, with the address if that differs.
    #[must_use]
    pub fn label(&self) -> String {
        let port = if self.port == PORT { String::new() } else { format!(" port {}", self.port) };
        if self.name == self.address {
            format!("{}{port}", self.address)
        } else {
            format!("{} ({}{port})", self.name, self.address)
        }
    }
}

/// There is no user.
struct Nobody;

impl Ask for Nobody {
    fn secret(&self, _: &str) -> Answer {
        Answer::Nobody
    }

    fn confirm(&self, _: &str) -> Option<bool> {
        None
    }

    fn warn(&self, _: &[String]) {}
}

/// Connects to hosts.
#[derive(Clone)]
pub struct Ssh {
    settings: Arc<Settings>,
    ask: Arc<dyn Ask>,
    /// The answers, so that each passphrase is asked for only once.
    passphrases: Arc<Mutex<BTreeMap<PathBuf, Answer>>>,
    /// Warnings that were shown already.
    warned: Arc<Mutex<Vec<String>>>,
    /// The addresses and ports of hosts that let nobody but [`USER`] in.
    cores: Arc<Mutex<BTreeSet<(String, u16)>>>,
    /// Held while asking: sessions connect concurrently, but there is only one terminal.
    turn: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssh").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Ssh {
    /// Use `settings`, and `ask` for what they leave open.
    #[must_use]
    pub fn new(settings: Settings, ask: Arc<dyn Ask>) -> Self {
        Self {
            settings: settings.into(),
            ask,
            passphrases: Arc::default(),
            warned: Arc::default(),
            cores: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// The same, without asking or warning the user.
    #[must_use]
    pub fn quietly(&self) -> Self {
        // No questions are asked, so there is no need to wait for other sessions.
        Self { ask: Arc::new(Nobody), turn: Arc::default(), ..self.clone() }
    }

    /// Whether there is an agent or a key to log in with.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        let Settings { agent, identities, home, .. } = &*self.settings;
        agent.is_some() || !identities.is_empty() || auth::usual(home).any(|file| file.exists())
    }

    /// The settings of `host` according to `~/.ssh/config`; `shown` is its name in messages.
    ///
    /// # Errors
    /// The configuration can't be read, or requires something unsupported for this host, such as `ProxyJump`.
    pub fn target(&self, host: &str, shown: Option<&str>, way: Way<'_>) -> Result<Target, Error> {
        let settings = &self.settings;
        let (found, notes) = config::lookup(&settings.home, host, matches!(way, Way::Behind))?;
        if !notes.is_empty() && !self.warned.lock().is_ok_and(|warned| *warned == notes) {
            self.ask.warn(&notes);
            if let Ok(mut warned) = self.warned.lock() {
                *warned = notes;
            }
        }
        let strict = match settings.strict {
            Some(true) => Strict::Ask,
            Some(false) => Strict::No,
            None => found.strict.unwrap_or(Strict::Ask),
        };
        let (user, port) = match way {
            Way::Gate { user, port } => (user.map(str::to_owned), port),
            Way::Direct | Way::Behind => (None, settings.port),
        };
        let address = found.host_name.unwrap_or_else(|| host.into());
        let port = port.or(found.port).unwrap_or(PORT);
        let chosen = user.or_else(|| settings.user.clone()).or(found.user);
        let is_core = || self.cores.lock().is_ok_and(|cores| cores.contains(&(address.clone(), port)));
        let (user, is_open) = match chosen {
            Some(user) => (user, false),
            None if is_core() => (USER.to_owned(), false),
            None => (settings.me.clone(), true),
        };
        let identities = found.identities.iter().map(|file| config::expand(file, &settings.home, &address, &user));
        let known_hosts = match (&settings.known_hosts, found.known_hosts) {
            (Some(file), _) => vec![file.clone()],
            (None, Some(files)) => {
                files.iter().map(|file| config::expand(file, &settings.home, &address, &user)).collect()
            }
            (None, None) => vec![settings.home.join(".fleetctl/known_hosts")],
        };
        let agent = match found.agent.as_deref() {
            None | Some("SSH_AUTH_SOCK") => settings.agent.clone(),
            Some("none") => None,
            Some(path) => Some(config::expand(path, &settings.home, &address, &user)),
        };
        Ok(Target {
            port,
            is_open,
            identities: settings.identities.iter().cloned().chain(identities).collect(),
            identities_only: found.identities_only.unwrap_or(false),
            name: shown.unwrap_or(host).into(),
            alias: found.alias,
            address,
            user,
            agent,
            known_hosts,
            strict,
        })
    }

    /// Log in over TCP, or over an existing connection to the host's sshd; as the target's user and no other.
    ///
    /// # Errors
    /// The host can't be reached, its key has changed, or it accepts none of the keys.
    pub async fn connect(
        &self,
        target: &Target,
        over: Option<std::os::unix::net::UnixStream>,
    ) -> Result<Session, Error> {
        session::open(self.clone(), target.clone(), over).await
    }

    /// The host of `target` refused the user on this host, and let the other one in: from now on, that is its user.
    pub fn remember(&self, target: &Target) {
        if let Ok(mut cores) = self.cores.lock() {
            cores.insert((target.address.clone(), target.port));
        }
    }

    /// Wait until no other session asks a question. The caller must then check whether its own question is still open.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timeout_words(&self) -> String {
        format!("within {} s", self.settings.timeout.as_secs_f64())
    }
}
