//! Commands on the hosts of the cluster: "run this on that host". On the host this process runs on, a process of its
//! own without SSH; on any other host through SSH. Owns how a host is reached and what a running command looks like
//! from here. Never decides which host is meant or what is to run there, never knows the command line or the words of
//! an answer: it prints only through the [`Streams`] it is given.

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
use crate::ssh::{self, Remote, Settings, Ssh};
pub use error::Error;
pub use forward::forward;
pub use route::JumpHost;
use route::{Route, Tunnel};
pub use terminal::restore;

/// Where output comes from.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// Where input goes.
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// What a command reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// Nothing: its end, at once.
    Nothing,
    /// What is written to [`Running::stdin`].
    Piped,
}

/// Where the output of commands goes.
pub trait Streams {
    /// What a command printed. Returns whether anybody still reads it.
    fn stdout(&self, bytes: &[u8]) -> bool;

    /// What a command complained about.
    fn stderr(&self, bytes: &[u8]);
}

/// The hosts of the cluster, and how they are reached.
#[derive(Debug)]
pub struct Hosts {
    /// The host this process runs on, if it has a machine id.
    here: Option<MachineId>,
    route: Route,
    /// For connecting to a host.
    timeout: std::time::Duration,
}

/// A command that runs. Dropped, it is ended: a process here is killed; one on another host loses its connection, and
/// with it its stdin, stdout and stderr.
pub struct Running {
    /// Its stdin, if it was asked for. Dropped, the command reads its end.
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
    /// By itself, with this exit status.
    Status(u8),
    /// By a signal: its number here, 0 if it has none, and its name without `SIG`.
    Signal(u8, String),
}

impl Ended {
    /// As shells number it: the status, or 128 plus the signal's number.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Status(status) => *status,
            Self::Signal(number, _) => number.saturating_add(128),
        }
    }
}

impl Hosts {
    /// Hosts that are reached through SSH as `settings` say, through `jump` if there is one. `warn` shows lines to the
    /// person at the terminal; a thread of its own calls it.
    #[must_use]
    pub fn new(settings: Settings, jump: Option<JumpHost>, warn: fn(&[String])) -> Self {
        let timeout = settings.timeout;
        let ssh = Ssh::new(settings, Arc::new(terminal::Person { warn }));
        Self { here: local::machine_id(), route: Route { ssh, jump }, timeout }
    }

    /// The way to the API through the jump host, if there is one. Logs in there.
    ///
    /// # Errors
    /// That host can't be reached, or refuses the login.
    pub async fn tunnel(&self) -> Result<Option<Arc<dyn Dial>>, Error> {
        match self.route.jump_target() {
            Some(target) => Ok(Some(Arc::new(Tunnel::open(self.route.ssh.clone(), target?).await?))),
            None => Ok(None),
        }
    }

    /// Whether `machine` is the host this process runs on. SSH isn't used then.
    #[must_use]
    pub fn is_here(&self, machine: &MachineRef) -> bool {
        self.here.as_ref() == Some(&machine.id)
    }

    /// Run `argv` on `machine`, word by word as it stands: no shell changes anything in it.
    ///
    /// # Errors
    /// When the host can't be reached, or the program can't be started. A program that a *remote* host doesn't have is
    /// no error: the shell there says so on stderr, and ends with 127.
    pub async fn run(&self, machine: &MachineRef, argv: &[String], stdin: Stdin) -> Result<Running, Error> {
        if self.is_here(machine) {
            return local::run(argv, stdin).map_err(|error| {
                Error::NotStarted(format!("can't run {}: {error}", argv.first().map_or("", String::as_str)))
            });
        }
        Self::run_there(&self.route, machine, argv, stdin).await
    }

    /// As [`Hosts::run`], but without questions or warnings: a host that needs one answered counts as unreachable.
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

    /// A session on `machine`.
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

async fn log_in(route: &Route, machine: &MachineRef) -> Result<ssh::Session, Error> {
    addressed(machine)?;
    Ok(route.open(machine).await?)
}

/// That `machine` has an address.
fn addressed(machine: &MachineRef) -> Result<(), Error> {
    if machine.ip.is_empty() {
        let host = machine.legend(false);
        return Err(Error::Unreachable {
            lines: vec![
                "Could not determine address of machine.".into(),
                format!("{host} has told the cluster no address; `public_ip` in its fleet.conf names one"),
            ],
            hint: None,
        });
    }
    Ok(())
}

/// A stream that may be missing, as one that is at its end.
fn reader(stream: Option<impl AsyncRead + Send + 'static>) -> Reader {
    match stream {
        Some(stream) => Box::pin(stream),
        None => Box::pin(tokio::io::empty()),
    }
}

/// `argv` as a line that a shell splits into the same words again.
#[must_use]
pub fn shell_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    let quote = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}

impl Running {
    /// Pass both streams on as they come, until both have ended (`true`) or nobody reads our stdout any longer
    /// (`false`). A stream that fails counts as ended; [`Running::wait`] tells why.
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

    /// Wait until it has ended. Its stdin, if it is still held, is closed first; read its output to the end before, or
    /// beside.
    ///
    /// # Errors
    /// When nobody can say how it ended: the connection broke.
    pub async fn wait(&mut self) -> io::Result<Ended> {
        self.stdin = None;
        match &mut self.process {
            Process::Local(process) => process.wait().await,
            Process::Remote(remote) => Ok(remote.wait().await?.into()),
        }
    }
}

/// The signals that a protocol or a shell may name; their numbers are Linux's on all machines we run on.
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
            // RFC 4254 has 32 bits for it; what systems have is one byte.
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
