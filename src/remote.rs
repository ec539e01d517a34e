//! Runs commands on the hosts of the cluster: on this host as a child process without SSH, on any other host through
//! SSH. Owns how a host is reached and how a running command is represented. Never decides which host is meant or what
//! runs there, and never knows the command line or the wording of results: it prints only through [`Streams`].

mod error;
mod forward;
mod local;
mod route;
mod shell;
mod stdin;
mod terminal;

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::api::client::Dial;
use crate::api::wire::MachineRef;
use crate::model::name::MachineId;
use crate::model::text::shell_word;
use crate::ssh::{self, Remote, Settings, Ssh};
pub use error::Error;
pub use forward::forward;
pub use route::JumpHost;
use route::{Route, Tunnel};
pub use terminal::restore;

/// How long a jump host may take to accept a connection, if there is another one to try.
const NEXT_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// The type of output streams.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// The type of input streams.
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// The stdin of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// Empty.
    Nothing,
    /// What is written to [`Running::stdin`].
    Piped,
}

/// The destination of a command's output.
pub trait Streams {
    /// Write output of a command. Returns whether the reader is still there.
    fn stdout(&self, bytes: &[u8]) -> bool;

    /// Write error output of a command.
    fn stderr(&self, bytes: &[u8]);
}

/// The hosts of the cluster, and how they are reached.
#[derive(Debug)]
pub struct Hosts {
    /// The host this process runs on, if it has a machine id.
    here: Option<MachineId>,
    route: Route,
    /// The hosts of which one is the jump host, in order of preference.
    jumps: Vec<JumpHost>,
    warn: fn(&[String]),
    /// The timeout for connecting to a host.
    timeout: std::time::Duration,
}

/// A running command. Dropping it ends the command: a local process is killed; a remote one loses its connection, and
/// with it its stdin, stdout and stderr.
pub struct Running {
    /// Its stdin, if requested. Dropping it closes the stdin.
    pub stdin: Option<Writer>,
    /// Its stdout.
    pub stdout: Reader,
    /// Its stderr.
    pub stderr: Reader,
    process: Process,
}

enum Process {
    Local(local::Process),
    Remote(Box<Remote>),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Status(u8),
    /// It was killed by a signal: the number on this host, 0 if there is none, and the name without `SIG`.
    Signal(u8, String),
}

impl Ended {
    /// The exit status as in shells: the status, or 128 plus the signal's number.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Status(status) => *status,
            Self::Signal(number, _) => number.saturating_add(128),
        }
    }
}

impl Hosts {
    /// Hosts that are reached through SSH according to `settings`, through one of `jumps` if there are any: the first
    /// one, until [`Self::tunnel`] has found which of them can be reached. `warn` shows lines to the user; it is called
    /// on other threads.
    #[must_use]
    pub fn new(settings: Settings, jumps: Vec<JumpHost>, warn: fn(&[String])) -> Self {
        let timeout = settings.timeout;
        let ssh = Ssh::new(settings, Arc::new(terminal::Person { warn }));
        let route = Route { ssh, jump: jumps.first().cloned() };
        Self { here: local::machine_id(), route, jumps, warn, timeout }
    }

    /// The tunnel to the API through the first of the jump hosts that can be reached, if there are any. Logs in there;
    /// from then on, the other hosts are reached through that one. A line says when the next one is tried.
    ///
    /// # Errors
    /// No host can be reached, or the last one refuses the login.
    pub async fn tunnel(&mut self) -> Result<Option<Arc<dyn Dial>>, Error> {
        let mut jumps = self.jumps.clone().into_iter().peekable();
        while let Some(jump) = jumps.next() {
            self.route.jump = Some(jump);
            let Some(target) = self.route.jump_target() else { continue };
            let target = target?;
            let label = target.label();
            let opened = match jumps.peek() {
                Some(_) if !is_reachable(&target).await => Err(Error::unreachable(format!("{label} doesn't answer"))),
                _ => Tunnel::open(self.route.ssh.clone(), target).await.map_err(Error::from),
            };
            match (opened, jumps.peek()) {
                (Ok(tunnel), _) => return Ok(Some(Arc::new(tunnel))),
                (Err(error), Some(next)) => {
                    (self.warn)(&[format!("{}; trying {}", error.summary(), next.host)]);
                }
                (Err(error), None) => return Err(error),
            }
        }
        Ok(None)
    }

    /// This host, of which nothing but its machine id is known.
    #[must_use]
    pub fn here(&self) -> Option<MachineRef> {
        self.here.clone().map(|id| MachineRef { id, ip: String::new(), hostname: String::new() })
    }

    /// Whether `machine` is this host. SSH isn't used then.
    #[must_use]
    pub fn is_here(&self, machine: &MachineRef) -> bool {
        self.here.as_ref() == Some(&machine.id)
    }

    /// Run `argv` on `machine`, word for word: no shell interprets it.
    ///
    /// # Errors
    /// The host can't be reached, or the program can't be started. A program that doesn't exist on a *remote* host is
    /// not an error: the shell there reports it on stderr and exits with 127.
    pub async fn run(&self, machine: &MachineRef, argv: &[String], stdin: Stdin) -> Result<Running, Error> {
        if self.is_here(machine) {
            return local::run(argv, stdin).map_err(|error| {
                Error::NotStarted(format!("can't run {}: {error}", argv.first().map_or("", String::as_str)))
            });
        }
        Self::run_there(&self.route, machine, argv, stdin).await
    }

    /// As [`Hosts::run`], but without questions or warnings: a host that needs an answer counts as unreachable.
    ///
    /// # Errors
    /// As [`Hosts::run`].
    pub async fn run_quietly(&self, machine: &MachineRef, argv: &[String]) -> Result<Running, Error> {
        if self.is_here(machine) {
            return self.run(machine, argv, Stdin::Nothing).await;
        }
        if !self.route.ssh.has_keys() {
            return Err(Error::unreachable(format!("no key to log in on {} with", machine.ip)));
        }
        let route = Route { ssh: self.route.ssh.quietly(), jump: self.route.jump.clone() };
        Self::run_there(&route, machine, argv, Stdin::Nothing).await
    }

    /// Log in on `machine`.
    async fn log_in(&self, machine: &MachineRef) -> Result<ssh::Session, Error> {
        log_in(&self.route, machine).await
    }

    async fn run_there(route: &Route, machine: &MachineRef, argv: &[String], stdin: Stdin) -> Result<Running, Error> {
        let mut remote = log_in(route, machine).await?.run(Some(&shell_line(argv)), None).await?;
        let mut running = Running {
            stdin: remote.stdin.take().map(|stdin| Box::pin(stdin) as Writer),
            stdout: reader(remote.stdout.take()),
            stderr: reader(remote.stderr.take()),
            process: Process::Remote(Box::new(remote)),
        };
        if stdin == Stdin::Nothing {
            running.stdin = None;
        }
        Ok(running)
    }
}

/// Whether a host accepts a connection to its SSH port soon enough to be preferred to the next one.
async fn is_reachable(target: &ssh::Target) -> bool {
    let connecting = tokio::net::TcpStream::connect((target.address.as_str(), target.port));
    matches!(tokio::time::timeout(NEXT_AFTER, connecting).await, Ok(Ok(_)))
}

async fn log_in(route: &Route, machine: &MachineRef) -> Result<ssh::Session, Error> {
    addressed(machine)?;
    Ok(route.open(machine).await?)
}

/// Fails if `machine` has no address.
fn addressed(machine: &MachineRef) -> Result<(), Error> {
    if machine.ip.is_empty() {
        let host = machine.legend(false);
        return Err(Error::Unreachable {
            lines: vec![
                "Could not determine address of machine.".into(),
                format!("{host} has reported no address to the cluster; set `public_ip` in its fleet.conf"),
            ],
            hint: None,
        });
    }
    Ok(())
}

/// An optional stream; if it is missing, it is empty.
fn reader(stream: Option<impl AsyncRead + Send + 'static>) -> Reader {
    match stream {
        Some(stream) => Box::pin(stream),
        None => Box::pin(tokio::io::empty()),
    }
}

/// `argv` as a line that a shell splits into the same words.
#[must_use]
pub fn shell_line(argv: &[String]) -> String {
    argv.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

impl Running {
    /// Pass both streams on until both have ended (`true`) or the reader of our stdout is gone (`false`). A stream that
    /// fails counts as ended; [`Running::wait`] returns the error.
    pub async fn pass_on(&mut self, to: &impl Streams) -> bool {
        let (mut out, mut err) = (vec![0; 64 * 1024], vec![0; 4 * 1024]);
        let (mut out_open, mut err_open) = (true, true);
        while out_open || err_open {
            tokio::select! {
                read = self.stdout.read(&mut out), if out_open => {
                    let read = read.unwrap_or(0);
                    out_open = read > 0;
                    if !to.stdout(&out[..read]) {
                        return false;
                    }
                }
                read = self.stderr.read(&mut err), if err_open => {
                    let read = read.unwrap_or(0);
                    err_open = read > 0;
                    to.stderr(&err[..read]);
                }
            }
        }
        true
    }

    /// Wait until it has ended. This first closes its stdin, if it is still held. Its output must be read before or
    /// concurrently.
    ///
    /// # Errors
    /// The connection broke, so the exit status is unknown.
    pub async fn wait(&mut self) -> io::Result<Ended> {
        self.stdin = None;
        match &mut self.process {
            Process::Local(process) => process.wait().await,
            Process::Remote(remote) => Ok(remote.wait().await?.into()),
        }
    }
}

/// The signals that a protocol or a shell may name; the numbers are Linux's.
const SIGNALS: [(u8, &str); 13] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (4, "ILL"),
    (6, "ABRT"),
    (8, "FPE"),
    (9, "KILL"),
    (10, "USR1"),
    (11, "SEGV"),
    (12, "USR2"),
    (13, "PIPE"),
    (14, "ALRM"),
    (15, "TERM"),
];

impl From<ssh::Ended> for Ended {
    fn from(ended: ssh::Ended) -> Self {
        match ended {
            // RFC 4254 has 32 bits for it; systems use one byte.
            ssh::Ended::Status(status) => Self::Status(u8::try_from(status).unwrap_or(255)),
            ssh::Ended::Signal(name) => {
                let number = SIGNALS.iter().find(|(_, known)| *known == name).map_or(0, |(number, _)| *number);
                Self::Signal(number, name)
            }
        }
    }
}

fn signal_name(number: u8) -> &'static str {
    SIGNALS.iter().find(|(n, _)| *n == number).map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_make_the_same_words_again() {
        let words =
            ["journalctl", "-u", "web@1.service", "", "a b", "it's", "$HOME", "\\x2d", "*", "--since=-1h", "a\nb"];
        let argv: Vec<String> = words.iter().map(ToString::to_string).collect();
        let line = format!("printf '%s|' {}", shell_line(&argv));
        let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), words.map(|word| format!("{word}|")).concat());
        assert!(shell_line(&argv).starts_with("journalctl -u web@1.service '' 'a b' "), "{line}");
    }

    #[test]
    fn signals_have_the_numbers_of_shells() {
        assert_eq!(Ended::from(ssh::Ended::Signal("TERM".into())).code(), 143);
        assert_eq!(Ended::from(ssh::Ended::Status(7)).code(), 7);
        assert_eq!(Ended::from(ssh::Ended::Status(-1)).code(), 255);
    }
}
