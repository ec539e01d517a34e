//! The command line `fleetctl`: parsed here, carried out by the modules below.
//!
//! ```text
//! argv - input::argv -> args -> session -> commands -+- input: names, files, checks     what is meant
//!        spelling       clap    client,              +- follow, wait                    whether it is done
//!                               hosts,               +- journal, remote                 what units and hosts say
//!                               output               +- output: printer, tables         what is printed
//! ```
//!
//! Uses `api::wire`, `api::client`, `journal`, `remote`, `cli_docs` and `model`, and no other module. Only `output`
//! prints, and only the binary exits.

mod args;
mod commands;
mod condition;
mod error;
mod explain;
mod folder;
mod follow;
mod input;
mod known;
mod limit;
mod mass_loss;
mod output;
mod rolling;
mod session;
mod wait;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::api::client::{Client, Endpoint, Tls};
use crate::api::wire::Operation;
use crate::remote::{self, Hosts};
use args::{Change, Cli, Command, Create, Destroy, Format, Globals, Start, Submit};
use commands::{
    complete, context, cordon, diff, doctor, drain, edit, export, fd_forward, forget, history, import, journal, list,
    metadata, moves, rebalance, reboot, reset_failed, restart, restore, rollback, rollout, scale, services, settings,
    show, ssh, status, submit, undrain, units, verify, wait_for, what_if,
};
use error::{Error, Exit, Line};
use input::{argv, refused};
use output::Printer;
use session::Session;

/// Carry out `args`, which begin with the program's name. Returns the exit code of the process: 0 done, 1 not done, 2
/// invalid command line, 130 interrupted while waiting, 255 a host is unreachable; for a command on a host, its own.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let out = Printer::new();
    let (out, result) = match understand(args) {
        Ok(cli) => dispatch(out, cli),
        Err(refusal) => {
            let exit = refusal.print(&out);
            (out, Ok(exit))
        }
    };
    let exit = result.unwrap_or_else(|error| {
        out.messages(&error.lines);
        error.exit
    });
    remote::restore();
    match out.finish() {
        Ok(()) => exit.into(),
        Err(why) => {
            out.message(&why);
            Exit::Failure.into()
        }
    }
}

/// A command line that isn't carried out.
enum Refusal {
    /// Help was requested.
    Help(String),
    /// It can't be parsed.
    Invalid(Vec<Line>),
}

impl Refusal {
    /// Requested help goes to stdout.
    fn print(&self, out: &Printer) -> Exit {
        match self {
            Self::Help(text) => {
                out.data(text);
                Exit::Ok
            }
            Self::Invalid(lines) => {
                out.messages(lines);
                Exit::Usage
            }
        }
    }
}

fn understand(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Refusal> {
    let (mut command, words) =
        argv::understood(args).map_err(|lines| Refusal::Invalid(lines.into_iter().map(Line::Message).collect()))?;
    let typed: Vec<String> = words.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let parsed = command.try_get_matches_from_mut(words).and_then(|matches| Cli::from_arg_matches(&matches));
    let understood = parsed.map_err(|error| {
        if error.use_stderr() {
            Refusal::Invalid(refused::lines(&command, &error, &typed))
        } else {
            Refusal::Help(error.render().to_string())
        }
    });
    // To free the definitions piece by piece would take a fifth as long as to make them, and the process ends soon.
    std::mem::forget(command);
    understood
}

fn dispatch(out: Printer, cli: Cli) -> (Printer, Result<Exit, Error>) {
    let Cli { globals, command } = cli;
    let command = match command {
        _ if globals.version => Command::Version(args::Version { output: args::OutputFormat { format: Format::Text } }),
        Some(command) => command,
        None => {
            out.message(&args::command().render_help().to_string());
            return (out, Ok(Exit::Usage));
        }
    };
    let result = match command {
        Command::Version(args) => Ok(show::version(&out, args.output.format)),
        Command::Verify(args) => verify(&out, &globals, &args),
        Command::Context(args) => context::run(&out, &args),
        Command::Options => Ok(show::options(&out)),
        Command::Manual(asked) => show::manual(&out, &asked),
        Command::Complete { completion_timeout, words } => {
            let client = async |globals: &Globals| client(globals, &mut globals.reach.hosts()?).await;
            complete::run(&out, completion_timeout, &words, client);
            Ok(Exit::Ok)
        }
        Command::FdForward { sockets } => {
            runtime().and_then(|runtime| runtime.block_on(fd_forward::run(&out, &sockets)))
        }
        command => return ask_cluster(out, &globals, &command),
    };
    (out, result)
}

/// The command that asks the cluster if there is one.
fn verify(out: &Printer, globals: &Globals, args: &args::Verify) -> Result<Exit, Error> {
    let is_json = args.output.format == Format::Json;
    runtime()?.block_on(async {
        let client = async { client(globals, &mut globals.reach.hosts()?).await };
        verify::run(out, args, is_json, client.await).await
    })
}

/// The commands that need the cluster.
fn ask_cluster(out: Printer, globals: &Globals, command: &Command) -> (Printer, Result<Exit, Error>) {
    if globals.debug {
        output::log_to_stderr();
    }
    match globals.legacy.warnings() {
        Ok(lines) => out.messages(&lines),
        Err(line) => {
            let hint = "drop `--driver` (FLEETCTL_DRIVER), and name a fleetd with `--endpoint` or `--tunnel`";
            return (out, Err(Error::usage(line, hint)));
        }
    }
    let connected = runtime().and_then(|runtime| {
        let mut hosts = globals.reach.hosts()?;
        let client = runtime.block_on(client(globals, &mut hosts))?;
        Ok((runtime, hosts, client))
    });
    let (runtime, hosts, client) = match connected {
        Ok(connected) => connected,
        Err(error) => return (out, Err(error)),
    };
    let session = Session { client, hosts, out, format: format(command), offline: OnceCell::new() };
    let result = runtime.block_on(carry_out(&session, command));
    (session.out, result)
}

/// One thread, since commands mostly wait.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Error::failure(format!("can't start: {error}")))
}

async fn client(globals: &Globals, hosts: &mut Hosts) -> Result<Client, Error> {
    let endpoints = Endpoint::list(&globals.endpoint.join(","))
        .map_err(|error| Error::usage(error.to_string(), "see `--endpoint` and FLEETCTL_ENDPOINT"))?;
    let secure = endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Https(_)));
    let mut client = Client::new(endpoints, globals.request_timeout).telling(|line| output::warn(&[line]));
    if secure {
        let args::Connection { ca_file, cert_file, key_file, .. } = &globals.reach;
        let tls = Tls::load(ca_file.as_deref(), cert_file.as_deref(), key_file.as_deref());
        client = client.with_tls(tls.map_err(|error| Error::usage(error.to_string(), "all three are PEM files"))?);
    }
    if let Some(tunnel) = hosts.tunnel().await? {
        client = client.through(tunnel);
    }
    Ok(client)
}

async fn carry_out(session: &Session, command: &Command) -> Result<Exit, Error> {
    match command {
        Command::Submit(args) => submit::submit(session, args).await,
        Command::Load(args) => submit::create(session, args, Operation::Load, None).await,
        Command::Start(Start { create, watch }) => submit::create(session, create, Operation::Start, *watch).await,
        Command::Restart(args) => restart::run(session, args).await,
        Command::ResetFailed(args) => reset_failed::run(session, args).await,
        Command::Stop(args) => units::change(session, args, Operation::Stop).await,
        Command::Unload(args) => units::change(session, args, Operation::Unload).await,
        Command::Destroy(args) => units::destroy(session, args).await,
        Command::Scale(args) => scale::run(session, args).await,
        Command::Rollback(args) => rollback::run(session, args).await,
        Command::Rollout(args) => rollout::run(session, args).await,
        Command::Wait(args) => wait_for::run(session, args).await,
        Command::Cat(args) => show::cat(session, args).await,
        Command::Diff(args) => diff::run(session, args).await,
        Command::History(args) => history::run(session, args).await,
        Command::Edit(args) => edit::run(session, args).await,
        Command::ListUnits(args) => list::units(session, args).await,
        Command::ListUnitFiles(args) => list::unit_files(session, args).await,
        Command::ListSets(args) => list::sets(session, args).await,
        Command::ListMachines(args) => list::machines(session, args).await,
        Command::SetMetadata(args) => metadata::set(session, args).await,
        Command::UnsetMetadata(args) => metadata::unset(session, args).await,
        Command::Cordon(args) => cordon::cordon(session, args).await,
        Command::Uncordon(args) => cordon::uncordon(session, args).await,
        Command::Drain(args) => drain::drain(session, args).await,
        Command::Undrain(args) => undrain::undrain(session, args).await,
        Command::Reboot(args) => reboot::reboot(session, args).await,
        Command::Move(args) => moves::run(session, args).await,
        Command::Rebalance(args) => rebalance::run(session, args).await,
        Command::Forget(args) => forget::run(session, args).await,
        Command::Settings(_) => settings::show(session).await,
        Command::Set(args) => settings::set(session, args).await,
        Command::Unset(args) => settings::unset(session, args).await,
        Command::Export(args) => export::run(session, args).await,
        Command::Restore(args) => restore::run(session, args).await,
        Command::Import(args) => import::run(session, args).await,
        Command::Journal(args) => journal::run(session, args).await,
        Command::Status(args) => status::run(session, args).await,
        Command::Doctor(_) => doctor::run(session).await,
        Command::Explain(args) => commands::explain::run(session, args).await,
        Command::WhatIf(args) => what_if::run(session, args).await,
        Command::Ssh(args) => ssh::run(session, args).await,
        Command::ListServices(args) => services::list(session, args).await,
        Command::Service(args) => services::show(session, args).await,
        Command::Version(_)
        | Command::Verify(_)
        | Command::Context(_)
        | Command::Options
        | Command::Manual(_)
        | Command::Complete { .. }
        | Command::FdForward { .. } => Ok(Exit::Ok),
    }
}

fn format(command: &Command) -> Format {
    match command {
        Command::Submit(Submit { create: Create { output, .. }, .. })
        | Command::Load(Create { output, .. })
        | Command::Start(Start { create: Create { output, .. }, .. })
        | Command::Restart(Change { output, .. })
        | Command::ResetFailed(Change { output, .. })
        | Command::Stop(Change { output, .. })
        | Command::Unload(Change { output, .. })
        | Command::Destroy(Destroy { change: Change { output, .. }, .. }) => output.format,
        Command::Scale(args) => args.output.format,
        Command::Rollback(args) => args.output.format,
        Command::Rollout(args) => args.output.format,
        Command::Wait(args) => args.output.format,
        Command::Cat(args) => args.output.format,
        Command::Diff(args) => args.output.format,
        Command::History(args) => args.output.format,
        Command::Edit(args) => args.output.format,
        Command::Export(args) => args.output.format,
        Command::Restore(args) => args.output.format,
        Command::Import(args) => args.output.format,
        Command::ListUnits(args) | Command::ListUnitFiles(args) => args.list.output.format,
        Command::ListMachines(args) => args.list.output.format,
        Command::ListServices(args) | Command::ListSets(args) => args.output.format,
        Command::Service(args) => args.output.format,
        Command::Status(args) => args.output.format,
        Command::Doctor(args) => args.output.format,
        Command::Explain(args) => args.output.format,
        Command::WhatIf(args) => args.output.format,
        Command::Cordon(args) => args.output.format,
        Command::Uncordon(args) => args.output.format,
        Command::Drain(args) => args.output.format,
        Command::Undrain(args) => args.output.format,
        Command::Reboot(args) => args.output.format,
        Command::Move(args) => args.output.format,
        Command::Rebalance(args) => args.output.format,
        Command::Forget(args) => args.output.format,
        Command::Settings(args) => args.output.format,
        Command::Set(args) => args.output.format,
        Command::Unset(args) => args.output.format,
        Command::SetMetadata(args) => args.output.format,
        Command::UnsetMetadata(args) => args.output.format,
        // The formats of a journal are journalctl's.
        Command::Journal(_)
        | Command::Version(_)
        | Command::Verify(_)
        | Command::Context(_)
        | Command::Options
        | Command::Manual(_)
        | Command::Complete { .. }
        | Command::Ssh(_)
        | Command::FdForward { .. } => Format::Text,
    }
}
