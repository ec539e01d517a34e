//! SSH, from the client's side: sessions that log in with an agent or a key file, commands and forwarded connections
//! over them. Sole owner of `ssh2`. Knows what `~/.ssh/config` and `known_hosts` say; never which host is meant or what
//! runs there, prints nothing and asks nobody but [`Ask`].
//!
//! ```text
//! Ssh ─ config ─▶ Target ─ connect ─▶ handshake ─ known_hosts ─ auth ─▶ Session ─ multiplexer ─▶ Remote, UnixStream
//!       ~/.ssh                        a thread of its own from here on, one for each session
//! ```
//!
//! A session of libssh2 is one lock and its calls wait, so each session lives on a thread of its own, and everything
//! else sees sockets: what a command prints and reads goes through socket pairs. That is also how SSH goes through SSH:
//! the inner session's connection is the end of such a pair.

mod auth;
mod channel;
mod codes;
mod config;
mod connect;
mod known_hosts;
mod multiplexer;
mod pattern;
mod request;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use request::{Ended, Pty};
pub use session::{Remote, Session};

/// The user of CoreOS, whom fleet's users and scripts take for granted.
const USER: &str = "core";

/// SSH's port.
const PORT: u16 = 22;

/// What was typed. It wins over `~/.ssh/config`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The login name. Without one: that of `~/.ssh/config`, or `core`.
    pub user: Option<String>,
    /// The port of the hosts of the cluster. Without one: that of `~/.ssh/config`, or 22.
    pub port: Option<u16>,
    /// Private keys to try before all others.
    pub identities: Vec<PathBuf>,
    /// Bounds connecting, and each answer during the login. Never the time that a person takes.
    pub timeout: Duration,
    /// The file of known hosts. Without one: that of `~/.ssh/config`, or `~/.fleetctl/known_hosts`.
    pub known_hosts: Option<PathBuf>,
    /// Whether only known hosts are talked to.
    pub strict: Option<bool>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// The user's home: where `.ssh` is.
    pub home: PathBuf,
}

/// The person before the terminal, if there is one. Called from threads that wait.
pub trait Ask: Send + Sync {
    /// A secret.
    fn secret(&self, prompt: &str) -> Answer;
    /// Yes or no; nothing without a terminal.
    fn confirm(&self, question: &str) -> Option<bool>;
    /// Something to know, in lines.
    fn warn(&self, lines: &[String]);
}

/// What comes of asking for a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Said(String),
    /// The person doesn't want to.
    GivenUp,
    /// There is no terminal to ask.
    Nobody,
}

/// Why there is no session, or no command in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines.join("\n"))]
pub struct Error {
    /// What is wrong, and where it matters what to do.
    pub lines: Vec<String>,
    /// Advice for a person.
    pub hint: Option<String>,
    /// The connection is gone; a new one may do.
    pub broken: bool,
}

impl Error {
    /// In the words of `error`.
    #[must_use]
    pub fn of(error: &impl ToString) -> Self {
        Self::new(error.to_string())
    }

    fn new(line: impl Into<String>) -> Self {
        Self::all(vec![line.into()])
    }

    fn all(lines: Vec<String>) -> Self {
        Self { lines, hint: None, broken: false }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// On which way a host is reached.
#[derive(Debug, Clone, Copy)]
pub enum Way<'a> {
    /// Straight.
    Direct,
    /// Through another one: what `~/.ssh/config` says of ways doesn't count.
    Behind,
    /// It is the one to go through. What was written with it wins over everything.
    Gate {
        /// The login name.
        user: Option<&'a str>,
        /// The port.
        port: Option<u16>,
    },
}

/// What to do about a host whose key isn't known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strict {
    /// Refuse.
    Yes,
    /// Ask whoever sits there.
    Ask,
    /// Take it for genuine, and remember it.
    AcceptNew,
    /// The same, and only warn of one that changed.
    No,
}

/// A host to log in on, with all that is to be known of it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where to connect to.
    pub address: String,
    /// And its port.
    pub port: u16,
    /// As whom.
    pub user: String,
    /// As a person knows it.
    name: String,
    /// What it is called in the file of known hosts.
    alias: Option<String>,
    /// Keys to try first.
    pub identities: Vec<PathBuf>,
    identities_only: bool,
    agent: Option<PathBuf>,
    /// The files of known hosts; new ones go into the first.
    pub known_hosts: Vec<PathBuf>,
    strict: Strict,
}

impl Target {
    /// As `StrictHostKeyChecking` of `ssh_config(5)` has it.
    #[must_use]
    pub fn strictness(&self) -> &'static str {
        match self.strict {
            Strict::Yes => "yes",
            Strict::Ask => "ask",
            Strict::AcceptNew => "accept-new",
            Strict::No => "no",
        }
    }

    /// For messages: the name, and the address where that tells more.
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

/// Nobody sits there.
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

/// How to log in, wherever.
#[derive(Clone)]
pub struct Ssh {
    settings: Arc<Settings>,
    ask: Arc<dyn Ask>,
    /// Asked for once each.
    passphrases: Arc<Mutex<BTreeMap<PathBuf, Answer>>>,
    /// What was said already.
    warned: Arc<Mutex<Vec<String>>>,
    /// Whoever holds it may ask: sessions begin at once, and there is one person before one terminal.
    turn: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssh").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Ssh {
    /// With `settings`; what they leave open, `ask` may be asked.
    #[must_use]
    pub fn new(settings: Settings, ask: Arc<dyn Ask>) -> Self {
        Self {
            settings: settings.into(),
            ask,
            passphrases: Arc::default(),
            warned: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// The same, but whoever sits there isn't asked anything, nor told.
    #[must_use]
    pub fn quietly(&self) -> Self {
        // Nobody is asked at once: no turn to wait for.
        Self { ask: Arc::new(Nobody), turn: Arc::default(), ..self.clone() }
    }

    /// Whether there is anything to log in with: an agent, or a key.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        let Settings { agent, identities, home, .. } = &*self.settings;
        agent.is_some() || !identities.is_empty() || auth::usual(home).any(|file| file.exists())
    }

    /// `host` as `~/.ssh/config` has it; `shown` is what it is called in messages.
    ///
    /// # Errors
    /// A configuration that can't be read, or that wants for this host what isn't there, as `ProxyJump`.
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
        let user = user.or_else(|| settings.user.clone()).or(found.user);
        let user = user.unwrap_or_else(|| USER.into());
        let address = found.host_name.unwrap_or_else(|| host.into());
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
            port: port.or(found.port).unwrap_or(PORT),
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

    /// Log in, over TCP, or over a connection to the host's sshd that there is already.
    ///
    /// # Errors
    /// No way to the host, a host that isn't who it was, or none of the keys is accepted.
    pub async fn connect(
        &self,
        target: &Target,
        over: Option<std::os::unix::net::UnixStream>,
    ) -> Result<Session, Error> {
        session::open(self.clone(), target.clone(), over).await
    }

    /// Wait until no other session asks anything. Whoever has waited looks again whether there is still something to
    /// ask.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timeout_words(&self) -> String {
        format!("within {} s", self.settings.timeout.as_secs_f64())
    }
}
