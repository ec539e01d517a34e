//! What can be typed: commands, options and their help, from which completions and manual pages are made too.
//! Owns clap's definitions; does nothing with what was typed.

mod change;
mod connection;
mod help;
mod hosts;
mod import;
mod journal;
mod legacy;
mod list;
mod output;

use clap::builder::BoolishValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand};

pub(super) use change::{Block, Change, Create, Submit};
pub(super) use connection::Connection;
pub(super) use hosts::{Ssh, Status};
pub(super) use import::Import;
pub(super) use journal::Journal;
pub(super) use legacy::{Legacy, SIGNED};
pub(super) use list::{Cat, Columns, List, Service, Version};
pub(super) use output::{Format, OutputFormat};

/// Where `fleetd` listens unless told otherwise.
const ENDPOINT: &str = "unix:///run/fleet.sock";

/// fleetd gives up on its store after 5 seconds, and says so: worth waiting for.
const REQUEST_TIMEOUT: &str = "6";

/// systemd for a whole cluster: submit unit files, and they run on the hosts that fit.
#[derive(Debug, Parser)]
#[command(name = "fleetctl", disable_version_flag = true, max_term_width = 100)]
#[command(after_help = help::AFTER)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) globals: Globals,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Options that go with every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Globals {
    /// Where fleetd listens: a socket's path, http://host:port or https://host:port; of a comma-separated list, the
    /// first that answers
    #[arg(long, global = true, env = "FLEETCTL_ENDPOINT", hide_env = true, value_name = "URL")]
    #[arg(default_value = ENDPOINT)]
    pub(super) endpoint: String,
    /// The timeout for an answer of fleetd, in seconds
    #[arg(long, global = true, env = "FLEETCTL_REQUEST_TIMEOUT", hide_env = true, value_name = "SECONDS")]
    #[arg(default_value = REQUEST_TIMEOUT, value_parser = seconds)]
    pub(super) request_timeout: std::time::Duration,
    /// Log requests and responses to stderr
    #[arg(long, global = true, env = "FLEETCTL_DEBUG", hide_env = true, value_parser = BoolishValueParser::new())]
    pub(super) debug: bool,
    /// Print the version
    #[arg(long, short = 'v', global = true)]
    pub(super) version: bool,
    #[command(flatten)]
    pub(super) reach: Connection,
    #[command(flatten)]
    pub(super) legacy: Legacy,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Submit unit files to the cluster, without running them
    Submit(Submit),
    /// Put units on hosts, without starting them; submits their files if need be
    Load(Create),
    /// Start units on hosts that fit; submits their files if need be
    Start(Create),
    /// Stop and start units where they are, one after another
    Restart(Change),
    /// Stop units; they stay on their hosts, ready to be started
    Stop(Change),
    /// Stop units and take them off their hosts; they stay in the cluster
    Unload(Change),
    /// Stop units and remove them from the cluster
    Destroy(Change),
    /// Print a unit's file as it was submitted
    Cat(Cat),
    /// List the states of units that are on hosts
    ListUnits(List),
    /// List the units that the cluster knows
    ListUnitFiles(List),
    /// List the hosts of the cluster
    ListMachines(List),
    /// Take over the units of another cluster, CoreOS fleet's or Flotilla's; without --apply, only show what that would
    /// do
    Import(Import),
    /// Show the journals of units, wherever they run
    Journal(Journal),
    /// Show systemd's status of units, on the hosts they are on
    Status(Status),
    /// A shell, or a command, on a host, or on the host of a unit
    Ssh(Ssh),
    /// Connect stdin and stdout with a unix socket; what `--tunnel` runs on a host whose sshd doesn't forward sockets
    #[command(hide = true)]
    FdForward {
        /// The socket
        #[arg(value_name = "SOCKET")]
        sockets: Vec<std::path::PathBuf>,
    },
    /// List the announced services
    ListServices(List),
    /// List the instances of a service
    Service(Service),
    /// Ignored: there are no signed units any more
    #[command(hide = true)]
    Verify {
        /// Unit files
        #[arg(value_name = "UNIT")]
        units: Vec<String>,
    },
    /// Print the version
    Version(Version),
    #[command(flatten)]
    Manual(crate::cli_docs::Asked),
}

/// The definitions as clap has them. A variable of the environment that is empty counts as unset.
pub(super) fn command() -> clap::Command {
    let command = Cli::command().mut_args(|arg| {
        let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if empty { arg.env(clap::builder::Resettable::Reset) } else { arg }
    });
    let template = help::template(&command);
    command.help_template(template)
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it must be a number of seconds, as 5 or 2.5".to_owned())?;
    if seconds > 0.0 && seconds <= 86_400.0 {
        Ok(std::time::Duration::from_secs_f64(seconds))
    } else {
        Err("it must be more than 0 and at most a day".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_hold_together() {
        command().debug_assert();
    }

    #[test]
    fn each_global_option_has_its_variable() {
        let mut seen = 0;
        for arg in Cli::command().get_arguments() {
            let Some(long) = arg.get_long().filter(|long| !matches!(*long, "version" | "help")) else { continue };
            let variable = format!("FLEETCTL_{}", long.to_ascii_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(variable.as_str()), "{long}");
            seen += 1;
        }
        assert!(seen > 15, "{seen}");
    }

    #[test]
    fn timeouts_are_seconds() {
        assert_eq!(seconds("2.5"), Ok(std::time::Duration::from_millis(2500)));
        for bad in ["0", "-1", "inf", "NaN", "1e9", "5s", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
