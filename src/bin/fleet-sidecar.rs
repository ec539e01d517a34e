//! `fleet-sidecar`: see `flotilla::sidecar`.

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use flotilla::model::text::without_os_error;
use flotilla::sidecar::{self, Arguments};
use flotilla::{cli_docs, telemetry};
use tokio::signal::unix::{SignalKind, signal};

#[expect(clippy::print_stderr, reason = "the error with which the sidecar ends")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(printed) = arguments.printed() {
        return print(printed);
    }
    let _ = telemetry::init(arguments.verbosity());
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet-sidecar: {}", without_os_error(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the error of a command that prints")]
fn print(printed: Result<String, cli_docs::Error>) -> ExitCode {
    let text = match printed {
        Ok(text) => text,
        Err(error) => {
            eprintln!("fleet-sidecar: {}", without_os_error(&error.to_string()));
            return if matches!(error, cli_docs::Error::NoCommand(_)) { ExitCode::from(2) } else { ExitCode::FAILURE };
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has closed the pipe.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("fleet-sidecar: {}", without_os_error(&error.to_string()));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// One thread: a sidecar mostly waits, and a host may run many.
#[tokio::main(flavor = "current_thread")]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    sidecar::run(arguments, async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    })
    .await
}
