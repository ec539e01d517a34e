//! Commands on this host: child processes. Knows nothing about SSH.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};

use super::{Ended, Running, Stdin};
use crate::model::name::MachineId;

/// A child process, killed when it is dropped.
pub(super) struct Process(Child);

/// This host's id according to `machine-id(5)`.
pub(super) fn machine_id() -> Option<MachineId> {
    std::fs::read_to_string("/etc/machine-id").ok()?.trim().parse().ok()
}

/// Start `argv`.
pub(super) fn run(argv: &[String], stdin: Stdin) -> io::Result<Running> {
    let [program, args @ ..] = argv else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut child = Command::new(program)
        .args(args)
        .stdin(if stdin == Stdin::Piped { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdout, stderr) = (super::reader(child.stdout.take()), super::reader(child.stderr.take()));
    let stdin = child.stdin.take().map(|stdin| Box::pin(stdin) as super::Writer);
    Ok(Running { stdin, stdout, stderr, process: super::Process::Local(Process(child)) })
}

impl Process {
    /// Wait until it has ended.
    pub(super) async fn wait(&mut self) -> io::Result<Ended> {
        Ok(ended(self.0.wait().await?))
    }
}

/// How a process ended.
pub(super) fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (None, Some(signal)) => {
            let number = u8::try_from(signal).unwrap_or(0);
            Ended::Signal(number, super::signal_name(number).into())
        }
        (code, _) => Ended::Status(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn words(argv: &[&str]) -> Vec<String> {
        argv.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn a_command_has_its_streams_and_its_status() {
        let mut running = run(&words(&["sh", "-c", "cat; echo to err >&2; exit 7"]), Stdin::Piped).unwrap();
        running.stdin.as_mut().unwrap().write_all(b"through").await.unwrap();
        running.stdin = None;
        let (mut out, mut err) = (String::new(), String::new());
        running.stdout.read_to_string(&mut out).await.unwrap();
        running.stderr.read_to_string(&mut err).await.unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("through", "to err\n"));
        assert_eq!(running.wait().await.unwrap(), Ended::Status(7));
    }

    #[tokio::test]
    async fn a_signal_ends_it_too() {
        let mut running = run(&words(&["sh", "-c", "kill -TERM $$"]), Stdin::Nothing).unwrap();
        let ended = running.wait().await.unwrap();
        assert_eq!((ended.code(), ended), (143, Ended::Signal(15, "TERM".into())));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { run(&words(&["/nowhere/program"]), Stdin::Nothing).err() });
        assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::NotFound));
    }
}
