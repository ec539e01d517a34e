//! `fleetctl ssh`: which host is meant, and a shell or a command there, with this process's terminal, streams and exit
//! code.

use std::io;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Ended, stdin, terminal};
use crate::api::client::ClientError;
use crate::api::wire::{MachineRef, MachineView};
use crate::cli::args::Ssh;
use crate::cli::error::{Error, Exit, HINT};
use crate::cli::session::Session;
use crate::cli::{explain, names};
use crate::ssh::{Remote, Target};

/// The signals that end a program, with their numbers.
const DEADLY: [(SignalKind, u8); 4] =
    [(SignalKind::hangup(), 1), (SignalKind::interrupt(), 2), (SignalKind::quit(), 3), (SignalKind::terminate(), 15)];

/// The command.
pub(in crate::cli) async fn ssh(session: &Session, args: &Ssh) -> Result<Exit, Error> {
    let (machine, words) = match (&args.machine, &args.unit, args.words.as_slice()) {
        (Some(_), Some(_), _) => {
            return Err(Error::usage(
                "Both machine and unit flags provided, please specify only one.",
                "`fleetctl ssh --unit web.service`",
            ));
        }
        (Some(machine), None, words) => (by_machine(session, machine).await?, words),
        (None, Some(unit), words) => (by_unit(session, unit).await?, words),
        (None, None, [name, words @ ..]) => {
            let machine = match by_machine(session, name).await? {
                None => by_unit(session, name).await?,
                found => found,
            };
            (machine, words)
        }
        (None, None, []) => {
            return Err(Error::usage(
                "Unable to proceed: one machine or unit must be provided",
                "`fleetctl ssh n1`; `fleetctl list-machines` lists the hosts",
            ));
        }
    };
    let Some(machine) = machine else {
        return Err(Error::unreached("Unable to proceed: could not find matching unit or machine")
            .because(format!("{HINT}`fleetctl list-machines` and `fleetctl list-units` list them")));
    };
    // As ssh and fleet do: the words are a line for the shell over there.
    let line = (!words.is_empty()).then(|| words.join(" "));
    if session.reach.is_here(&machine) {
        return here(line.as_deref()).await;
    }
    if args.forward_agent {
        return with_agent(session, &machine, line.as_deref()).await;
    }
    let connection = session.reach.log_in(&machine).await?;
    let pty = if line.is_none() { terminal::pty() } else { None };
    let interactive = pty.is_some();
    let remote = connection.run(line.as_deref(), pty).await?;
    drop(connection);
    attend(session, remote, interactive).await.map_err(|error| {
        Error::unreached(format!("the connection to {} broke: {error}", explain::legend(&machine, false)))
    })
}

/// The one host that goes by `name`: its name, its address, its id or the beginning of that.
async fn by_machine(session: &Session, name: &str) -> Result<Option<MachineRef>, Error> {
    let machines = session.client.machines().await?.machines;
    let exact = |machine: &&MachineView| [machine.id.as_str(), &machine.hostname, &machine.ip].contains(&name);
    let mut found: Vec<&MachineView> = machines.iter().filter(exact).collect();
    if found.is_empty() && !name.is_empty() {
        found = machines.iter().filter(|machine| machine.id.as_str().starts_with(name)).collect();
    }
    if let [_, _, ..] = found.as_slice() {
        let mut error = Error::unreached(format!("{name} could be any of these hosts:"));
        for machine in found {
            error = error.because(format!("  {}  {}  {}", machine.id, machine.hostname, machine.ip));
        }
        return Err(error.because("Unable to proceed: could not find matching unit or machine"));
    }
    Ok(found.first().map(|machine| MachineRef {
        id: machine.id.clone(),
        ip: machine.ip.clone(),
        hostname: machine.hostname.clone(),
    }))
}

/// The host of a unit. A global one has many, and none is better than another.
async fn by_unit(session: &Session, arg: &str) -> Result<Option<MachineRef>, Error> {
    let Ok(name) = names::unit(arg) else { return Ok(None) };
    let unit = match session.client.unit(&name).await {
        Err(ClientError::Api(detail)) if detail.code == 404 => return Ok(None),
        answer => answer?.unit,
    };
    if unit.global {
        let mut error = Error::unreached(format!("{name} is on every host that fits; say which one you mean:"));
        for state in &unit.states {
            let MachineRef { id, ip, hostname } = &state.machine;
            error = error.because(format!("  fleetctl ssh {hostname}  ({}.../{ip})", id.short()));
        }
        return Err(error);
    }
    match unit.machine {
        Some(machine) => Ok(Some(machine)),
        None => {
            let why = unit.waiting.unwrap_or_else(|| format!("it is {}", unit.desired));
            Err(Error::unreached(format!("{name} is on no host: {why}")))
        }
    }
}

/// Stdin to the command, what it prints to here, until it has ended.
async fn attend(session: &Session, mut remote: Remote, interactive: bool) -> io::Result<Exit> {
    let (Some(mut stdout), Some(mut stderr)) = (remote.stdout.take(), remote.stderr.take()) else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    let mut resized = signal(SignalKind::window_change())?;
    let mut deadly = Vec::new();
    // Raw until the end of this function, however it ends. A signal would end the program without it.
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
            // Its end is the end of `to`, and the command's stdin is at its end as well.
            drop(tokio::io::copy(&mut from, &mut to).await);
        })
    });
    let (mut out, mut err) = (vec![0; 32 * 1024], vec![0; 32 * 1024]);
    let (mut out_open, mut err_open) = (true, true);
    let exit = loop {
        if !out_open && !err_open {
            break Exit::Status(Ended::from(remote.wait().await?).code());
        }
        tokio::select! {
            read = read(&mut stdout, &mut out), if out_open => {
                out_open = read > 0;
                // Nobody reads it any more: as a local command would, it ends by SIGPIPE.
                if !session.out.pass(&out[..read]) {
                    break Exit::Status(141);
                }
            }
            read = read(&mut stderr, &mut err), if err_open => {
                err_open = read > 0;
                session.out.pass_talk(&err[..read]);
            }
            _ = resized.recv(), if interactive => remote.resize(terminal::size()),
            number = any(&mut deadly), if interactive => break Exit::Status(128 + number),
        }
    };
    if let Some(typed) = typed {
        typed.abort();
    }
    drop(raw);
    Ok(exit)
}

/// A stream that fails is at its end; why, the command's end will tell.
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

/// On this host: a shell, or a line for one.
async fn here(line: Option<&str>) -> Result<Exit, Error> {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    let mut command = Command::new(&shell);
    if let Some(line) = line {
        command.args(["-c", line]);
    }
    child(command, &shell.display().to_string()).await
}

/// With our terminal and our streams. What is typed to end it goes to it, not to us.
async fn child(mut command: Command, name: &str) -> Result<Exit, Error> {
    let failed = |error: io::Error| Error::unreached(format!("can't run {name}: {error}"));
    let mut deadly = Vec::new();
    for (kind, number) in [DEADLY[1], DEADLY[2]] {
        deadly.push((signal(kind).map_err(failed)?, number));
    }
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(Exit::Status(super::local::ended(status.map_err(failed)?).code())),
            _ = any(&mut deadly) => {}
        }
    }
}

/// libssh2 can ask for the agent to be forwarded, but not take the connections that come back for it. OpenSSH's program
/// can.
async fn with_agent(session: &Session, machine: &MachineRef, line: Option<&str>) -> Result<Exit, Error> {
    if std::env::var_os("SSH_AUTH_SOCK").is_none_or(|path| path.is_empty()) {
        return Err(Error::unreached(
            "there is no agent to forward: SSH_AUTH_SOCK environment variable is not set. Verify ssh-agent is running.",
        ));
    }
    super::addressed(machine)?;
    let route = &session.reach.route;
    let timeout = session.reach.timeout.as_secs().max(1);
    let mut command = Command::new("ssh");
    command.arg("-A").args(options(&route.target(machine)?, timeout));
    if let Some(gate) = route.gate() {
        let gate = gate?;
        let words: Vec<String> = ["ssh".to_owned()].into_iter().chain(options(&gate, timeout)).collect();
        let through = format!("{} -W '[%h]:%p' {}", super::shell_line(&words), super::shell_line(&[gate.address]));
        command.args(["-o".to_owned(), format!("ProxyCommand={through}")]);
    }
    command.arg("--").arg(&machine.ip).args(line);
    child(command, "ssh, which `--forward-agent` needs").await
}

/// A target, in the words of `ssh(1)`.
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
