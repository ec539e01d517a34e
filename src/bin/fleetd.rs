//! `fleetd`: the daemon that runs on every host.

use std::io::{self, Write as _};
use std::process::ExitCode;

use flotilla::config::arguments::{self, Asked};
use flotilla::config::{self, Overrides};
use flotilla::daemon::{self, ProcessHandles, signals};
use flotilla::telemetry;

#[expect(clippy::print_stderr, reason = "the last word of a daemon")]
fn main() -> ExitCode {
    match arguments::understand(std::env::args_os()) {
        Asked::Print(text) => match say(&text) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                eprintln!("fleetd: {error}");
                ExitCode::FAILURE
            }
            Ok(()) | Err(_) => ExitCode::SUCCESS,
        },
        Asked::Complain(text) => {
            eprint!("{text}");
            ExitCode::from(2)
        }
        Asked::Run(overrides) => match run(overrides) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("fleetd: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// One thread: nothing here computes for long, and the daemon should be small.
#[tokio::main(flavor = "current_thread")]
async fn run(overrides: Overrides) -> anyhow::Result<()> {
    let settings = config::load(&overrides)?;
    let log_level = telemetry::init(settings.verbosity);
    // Before anything else: a signal during startup must not kill the daemon.
    let requests = signals::follow()?;
    let load = Box::new(move || config::load(&overrides));
    daemon::run(settings, ProcessHandles { requests, load, log_level, print }).await
}

/// If printing fails the daemon continues.
fn print(text: &str) {
    let _ = say(text);
}

fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
