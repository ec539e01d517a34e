//! `fleet-sidecar`: see `flotilla::sidecar`.

use std::process::ExitCode;

use clap::Parser as _;
use flotilla::sidecar::{self, Arguments};
use flotilla::telemetry;
use tokio::signal::unix::{SignalKind, signal};

#[expect(clippy::print_stderr, reason = "the last word of a sidecar that could not go on")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let _ = telemetry::init(arguments.verbosity());
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet-sidecar: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread: it waits nearly always, and there may be many on a host.
#[tokio::main(flavor = "current_thread")]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    sidecar::run(arguments, async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    })
    .await
}
