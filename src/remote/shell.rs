//! A shell or a command on a host, connected to this process's terminal and streams. Owns the terminal while it runs,
//! the handling of signals that would end this process, and the exit status; never decides which host is meant.

use std::io;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Ended, Error, Hosts, Streams, stdin, terminal};
use crate::api::wire::MachineRef;
use crate::ssh::{Remote, Target};

/// The signals that end a program, with their numbers.
const DEADLY: [(SignalKind, u8); 4] =
    [(SignalKind::hangup(), 1), (SignalKind::interrupt(), 2), (SignalKind::quit(), 3), (SignalKind::terminate(), 15)];

/// The exit status of a death by SIGPIPE, as in shells.
const BROKEN_PIPE: u8 = 141;

impl Hosts {
    /// Run a shell on `machine`, or `line` in a shell, until it has ended. Returns its exit status, as in shells.
    /// `forward_agent` lets the host use this host's SSH agent, through OpenSSH's `ssh`.
    ///
    /// # Errors
    /// The host can't be reached, the shell can't be started, or the connection broke.
    pub async fn shell(
        &self,
        machine: &MachineRef,
        line: Option<&str>,
        forward_agent: bool,
        to: &impl Streams,
    ) -> Result<u8, Error> {
        if self.is_here(machine) {
            return here(line).await;
        }
        if forward_agent {
            return self.shell_with_agent(machine, line).await;
        }
        let connection = self.log_in(machine).await?;
        let pty = if line.is_none() { terminal::pty() } else { None };
        let interactive = pty.is_some();
        let remote = connection.run(line, pty).await?;
        drop(connection);
        attend(remote, interactive, to)
            .await
            .map_err(|error| Error::unreachable(format!("the connection to {} broke: {error}", machine.legend(false))))
    }

    /// libssh2 can request agent forwarding, but can't accept the resulting connections, so OpenSSH's client is used.
    async fn shell_with_agent(&self, machine: &MachineRef, line: Option<&str>) -> Result<u8, Error> {
        if std::env::var_os("SSH_AUTH_SOCK").is_none_or(|path| path.is_empty()) {
            return Err(Error::unreachable(
                "there is no agent to forward: SSH_AUTH_SOCK environment variable is not set. Verify ssh-agent is \
                 running.",
            ));
        }
        super::addressed(machine)?;
        let route = &self.route;
        let timeout = self.timeout.as_secs().max(1);
        // That program tries one user: which one, only a login shows.
        let is_open = |target: &Target| target.otherwise().is_some();
        if is_open(&route.target(machine)?) || route.jump_target().transpose()?.as_ref().is_some_and(is_open) {
            drop(self.log_in(machine).await);
        }
        let mut command = Command::new("ssh");
        command.arg("-A").args(options(&route.target(machine)?, timeout));
        if let Some(jump) = route.jump_target() {
            let jump = jump?;
            let words: Vec<String> = ["ssh".to_owned()].into_iter().chain(options(&jump, timeout)).collect();
            let through = format!("{} -W '[%h]:%p' {}", super::shell_line(&words), super::shell_line(&[jump.address]));
            command.args(["-o".to_owned(), format!("ProxyCommand={through}")]);
        }
        command.arg("--").arg(&machine.ip).args(line);
        child(command, "ssh, which `--forward-agent` needs").await
    }
}

/// Connect stdin and the command's output until it has ended.
async fn attend(mut remote: Remote, interactive: bool, to: &impl Streams) -> io::Result<u8> {
    let (Some(mut stdout), Some(mut stderr)) = (remote.stdout.take(), remote.stderr.take()) else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    let mut resized = signal(SignalKind::window_change())?;
    let mut deadly = Vec::new();
    // Raw until the end of this function, however it ends. An unhandled signal would end the program without restoring
    // it.
    let raw = if interactive {
        for (kind, number) in DEADLY {
            deadly.push((signal(kind)?, number));
        }
        Some(terminal::Raw::new()?)
    } else {
        None
    };
    let typed = remote.stdin.take().zip(stdin::open().ok()).map(|(mut to, mut from)| {
        tokio::spawn(async move {
            // When our stdin ends, `to` is dropped, which closes the command's stdin.
            drop(tokio::io::copy(&mut from, &mut to).await);
        })
    });
    let (mut out, mut err) = (vec![0; 32 * 1024], vec![0; 32 * 1024]);
    let (mut out_open, mut err_open) = (true, true);
    let exit = loop {
        if !out_open && !err_open {
            break Ended::from(remote.wait().await?).code();
        }
        tokio::select! {
            read = read(&mut stdout, &mut out), if out_open => {
                out_open = read > 0;
                // The reader is gone. A local command would end by SIGPIPE.
                if !to.stdout(&out[..read]) {
                    break BROKEN_PIPE;
                }
            }
            read = read(&mut stderr, &mut err), if err_open => {
                err_open = read > 0;
                to.stderr(&err[..read]);
            }
            _ = resized.recv(), if interactive => remote.resize(terminal::size()),
            number = any(&mut deadly), if interactive => break 128 + number,
        }
    };
    if let Some(typed) = typed {
        typed.abort();
    }
    drop(raw);
    Ok(exit)
}

/// A stream that fails counts as ended; the end of the command reports why.
async fn read(from: &mut (impl AsyncRead + Unpin), bytes: &mut [u8]) -> usize {
    from.read(bytes).await.unwrap_or(0)
}

async fn any(signals: &mut [(Signal, u8)]) -> u8 {
    std::future::poll_fn(|cx| {
        let came = signals.iter_mut().find_map(|(signal, number)| signal.poll_recv(cx).is_ready().then_some(*number));
        came.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await
}

/// Run a shell, or a line in a shell, on this host.
async fn here(line: Option<&str>) -> Result<u8, Error> {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    let mut command = Command::new(&shell);
    if let Some(line) = line {
        command.args(["-c", line]);
    }
    child(command, &shell.display().to_string()).await
}

/// Run a child with our terminal and streams. Keys that interrupt it must not end this process.
async fn child(mut command: Command, name: &str) -> Result<u8, Error> {
    let failed = |error: io::Error| Error::unreachable(format!("can't run {name}: {error}"));
    let mut deadly = Vec::new();
    for (kind, number) in [DEADLY[1], DEADLY[2]] {
        deadly.push((signal(kind).map_err(failed)?, number));
    }
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(super::local::ended(status.map_err(failed)?).code()),
            _ = any(&mut deadly) => {}
        }
    }
}

/// The options of `ssh(1)` for a target.
fn options(target: &Target, timeout: u64) -> Vec<String> {
    let files = |files: &[std::path::PathBuf]| {
        files.iter().map(|file| format!("\"{}\"", file.display())).collect::<Vec<_>>().join(" ")
    };
    let mut words = vec![
        "-l".to_owned(),
        target.user.clone(),
        "-p".into(),
        target.port.to_string(),
        "-o".into(),
        format!("ConnectTimeout={timeout}"),
        "-o".into(),
        format!("UserKnownHostsFile={}", files(&target.known_hosts)),
        "-o".into(),
        format!("StrictHostKeyChecking={}", target.strictness()),
    ];
    words.extend(target.identities.iter().flat_map(|file| ["-i".to_owned(), file.display().to_string()]));
    words
}
