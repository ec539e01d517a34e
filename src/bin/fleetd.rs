//! `fleetd`: the daemon that runs on every host.
#![expect(clippy::print_stderr, reason = "an invalid command line, or the error with which the daemon ends")]

use std::io::{self, Write as _};
use std::process::ExitCode;

use flotilla::config::arguments::{self, Asked};
use flotilla::config::{self, Overrides};
use flotilla::daemon::{self, ProcessHandles, check, signals};
use flotilla::model::text::without_os_error;
use flotilla::telemetry;

fn main() -> ExitCode {
    match arguments::understand(std::env::args_os()) {
        Asked::Print(text) => ended(say(&text).map_err(Into::into)),
        Asked::Complain(text) => {
            eprint!("{}", without_os_error(&text));
            ExitCode::from(2)
        }
        Asked::Check(overrides) => {
            let (text, status) = check::run(&overrides);
            print(&text);
            ExitCode::from(status)
        }
        Asked::Run(overrides) => ended(run(overrides)),
    }
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("fleetd: {}", without_os_error(&format!("{error:#}")));
    ExitCode::FAILURE
}

/// One thread: nothing here computes for long, and the daemon should be small.
#[tokio::main(flavor = "current_thread")]
async fn run(overrides: Overrides) -> anyhow::Result<()> {
    let settings = config::load(&overrides)?;
    let log_level = telemetry::init(settings.verbosity);
    let requests = signals::follow()?; // before anything else: a signal during startup must not kill the daemon
    let load = Box::new(move || config::load(&overrides));
    daemon::run(settings, ProcessHandles { requests, load, log_level, print }).await
}

/// If printing fails the daemon continues.
fn print(text: &str) {
    let _ = say(&without_os_error(text));
}

/// Print `text`; a reader that has closed the pipe is no error.
fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let said = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    said.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}
