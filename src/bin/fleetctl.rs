//! `fleetctl`: see `flotilla::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    flotilla::cli::run(std::env::args_os())
}
