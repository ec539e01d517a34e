//! The command line `fleetctl`: understood here, done by the modules below.
//!
//! ```text
//! argv ─ argv ─▶ args ─▶ session ─┬─▶ units ── files ── check     what to send
//!      spelling   clap    client, │     └───── follow ── wait     whether it is done
//!                         output  ├─▶ list ── table
//!                                 └─▶ show                        cat, version, completions, manual
//! ```
//!
//! Sees `api::wire`, `api::client` and `model`, nothing else of ours. Only `output` prints, and only the binary exits.

mod args;
mod argv;
mod check;
mod error;
mod explain;
mod files;
mod follow;
mod list;
mod names;
mod output;
mod session;
mod show;
mod table;
mod units;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::api::client::{Client, Endpoint};
use args::{Change, Cli, Command, Create, Format, Globals};
use error::{Error, Exit};
use output::Output;
use session::Session;
use wait::Aim;

/// Do what `args` say, the program's name first. The exit code is for the process to end with: 0 done, 1 not done, 2 not
/// understood, 130 no longer waited for.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let out = Output::new();
    let (out, result) = match understand(args) {
        Ok(cli) => dispatch(out, cli),
        Err(error) => {
            let exit = complain(&out, &error);
            (out, Ok(exit))
        }
    };
    let exit = result.unwrap_or_else(|error| {
        out.talk_lines(&error.lines);
        error.exit
    });
    match out.finish() {
        Ok(()) => exit.into(),
        Err(why) => {
            out.talk(&why);
            Exit::Failure.into()
        }
    }
}

fn understand(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = args::command();
    let mut built = command.clone();
    built.build();
    let matches = command.try_get_matches_from_mut(argv::normalise(&built, args))?;
    Cli::from_arg_matches(&matches)
}

/// What clap has to say: help, asked for, is data.
fn complain(out: &Output, error: &clap::Error) -> Exit {
    let text = error.render().to_string();
    if error.use_stderr() {
        out.talk(&text);
        Exit::Usage
    } else {
        out.data(&text);
        Exit::Ok
    }
}

fn dispatch(out: Output, cli: Cli) -> (Output, Result<Exit, Error>) {
    let Cli { globals, command } = cli;
    let command = match command {
        _ if globals.version => Command::Version,
        Some(command) => command,
        None => {
            out.talk(&args::command().render_help().to_string());
            return (out, Ok(Exit::Usage));
        }
    };
    let result = match command {
        Command::Version => Ok(show::version(&out)),
        Command::Completion { shell } => Ok(show::completion(&out, shell)),
        Command::Man { command } => show::man(&out, command.as_deref()),
        command => return remote(out, &globals, &command),
    };
    (out, result)
}

/// The commands that ask the cluster.
fn remote(out: Output, globals: &Globals, command: &Command) -> (Output, Result<Exit, Error>) {
    if globals.debug {
        output::log_to_stderr();
    }
    let endpoints = match Endpoint::list(&globals.endpoint) {
        Ok(endpoints) => endpoints,
        Err(error) => return (out, Err(Error::usage(error.to_string(), "see `--endpoint` and FLEETCTL_ENDPOINT"))),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return (out, Err(Error::failure(format!("can't start: {error}")))),
    };
    let client = Client::new(endpoints, globals.request_timeout);
    let session = Session { client, out, format: format(command) };
    let result = runtime.block_on(carry_out(&session, command));
    (session.out, result)
}

async fn carry_out(session: &Session, command: &Command) -> Result<Exit, Error> {
    match command {
        Command::Submit(args) => units::submit(session, args).await,
        Command::Load(args) => units::create(session, args, Aim::Load).await,
        Command::Start(args) => units::create(session, args, Aim::Start).await,
        Command::Stop(args) => units::change(session, args, Aim::Stop).await,
        Command::Unload(args) => units::change(session, args, Aim::Unload).await,
        Command::Destroy(args) => units::change(session, args, Aim::Destroy).await,
        Command::Cat(args) => show::cat(session, args).await,
        Command::ListUnits(args) => list::units(session, args).await,
        Command::ListUnitFiles(args) => list::unit_files(session, args).await,
        Command::ListMachines(args) => list::machines(session, args).await,
        Command::Version | Command::Completion { .. } | Command::Man { .. } => Ok(Exit::Ok),
    }
}

fn format(command: &Command) -> Format {
    match command {
        Command::Submit(args)
        | Command::Load(Create { submit: args, .. })
        | Command::Start(Create { submit: args, .. }) => args.output.format,
        Command::Stop(Change { output, .. })
        | Command::Unload(Change { output, .. })
        | Command::Destroy(Change { output, .. }) => output.format,
        Command::Cat(args) => args.output.format,
        Command::ListUnits(args) | Command::ListUnitFiles(args) | Command::ListMachines(args) => args.output.format,
        Command::Version | Command::Completion { .. } | Command::Man { .. } => Format::Text,
    }
}
