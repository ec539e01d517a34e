//! What can be typed: commands, options and their help, from which completions and manual pages are made too.
//! Owns clap's definitions; does nothing with what was typed.

mod backup;
mod change;
mod connection;
pub(super) mod context;
mod examples;
mod file;
mod help;
mod hosts;
mod import;
mod journal;
mod legacy;
mod list;
mod output;
mod rollout;
mod settings;
mod wait;
mod what_if;

use clap::builder::BoolishValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand};

pub(super) use backup::{Export, Restore};
pub(super) use change::{Block, Change, Count, Create, Destroy, PlanOnly, Rollback, Scale, Start, Submit};
pub(super) use connection::Connection;
pub(super) use file::{Diff, Edit, History, Verify, editor};
pub(super) use hosts::{
    Cordon, Doctor, Drain, Explain, Forget, Move, Rebalance, Reboot, SetMetadata, Ssh, Status, Uncordon, Undrain,
    UnsetMetadata,
};
pub(super) use import::Import;
pub(super) use journal::Journal;
pub(super) use legacy::{Legacy, SIGNED};
#[cfg(test)]
pub(super) use list::FIELDS;
pub(super) use list::{Cat, Columns, Filter, List, ListMachines, ListUnits, Service, Version};
pub(super) use output::{Format, OutputFormat};
pub(super) use rollout::Rollout;
pub(super) use settings::{Set, Settings, Unset};
pub(super) use wait::Wait;
pub(super) use what_if::WhatIf;

/// Where `fleetd` listens unless told otherwise.
const ENDPOINT: &str = "unix:///run/fleet.sock";

/// fleetd gives up on its store after 5 seconds, and says so: worth waiting for.
const REQUEST_TIMEOUT: &str = "6";

/// How long a completion may take, in seconds: together with the start of this program less than 150 ms, which a person
/// doesn't notice.
const COMPLETION_TIMEOUT: &str = "0.12";

/// systemd for a cluster: submit unit files, and they run on the hosts that fit
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
    /// Where fleetd listens: a socket's path, http://host:port or https://host:port; of several, comma-separated or
    /// with the option repeated, the first that answers
    #[arg(long, global = true, env = "FLEETCTL_ENDPOINT", hide_env = true, value_name = "URL")]
    #[arg(default_value = ENDPOINT, value_delimiter = ',')]
    pub(super) endpoint: Vec<String>,
    /// Take the options that are not given from this context of ~/.config/flotilla/config
    #[arg(long, global = true, env = "FLEETCTL_CONTEXT", hide_env = true, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// The timeout for an answer of fleetd, in seconds
    #[arg(long, global = true, env = "FLEETCTL_REQUEST_TIMEOUT", hide_env = true, value_name = "SECONDS")]
    #[arg(default_value = REQUEST_TIMEOUT, value_parser = seconds)]
    pub(super) request_timeout: std::time::Duration,
    /// Log requests and responses to stderr
    #[arg(long, global = true, env = "FLEETCTL_DEBUG", hide_env = true, value_parser = BoolishValueParser::new())]
    pub(super) debug: bool,
    /// Print the version
    #[arg(long, short = 'v', short_alias = 'V', global = true)]
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
    /// Place units on hosts, without starting them
    Load(Create),
    /// Start units on hosts that fit; submits files if needed
    Start(Start),
    /// Restart units on their hosts, one after another
    Restart(Change),
    /// Start units again that have failed, and forget where they failed before
    ResetFailed(Change),
    /// Stop units; they stay on their hosts
    Stop(Change),
    /// Stop units and take them off their hosts
    Unload(Change),
    /// Stop units and remove them from the cluster
    Destroy(Destroy),
    /// Change how many members a set has
    Scale(Scale),
    /// Give units back the files that they had before
    Rollback(Rollback),
    /// Show how far a new file has got; pause it, or promote it
    Rollout(Rollout),
    /// Wait until units are in a state
    Wait(Wait),
    /// Print a unit's file as it was submitted
    Cat(Cat),
    /// List the states of units that are on hosts
    ListUnits(ListUnits),
    /// List the units that the cluster knows
    ListUnitFiles(ListUnits),
    /// List the sets and how many of their members are up
    ListSets(List),
    /// List the hosts of the cluster
    ListMachines(ListMachines),
    /// Give a host metadata, for `MachineMetadata=` in unit files
    SetMetadata(SetMetadata),
    /// Take metadata from a host
    UnsetMetadata(UnsetMetadata),
    /// Place no new units on hosts
    Cordon(Cordon),
    /// Place new units on hosts again
    Uncordon(Uncordon),
    /// Move units away from hosts, and place no new ones there
    Drain(Drain),
    /// Move units to other hosts
    Move(Move),
    /// Move units to hosts that are better for them
    Rebalance(Rebalance),
    /// Drain hosts no longer
    Undrain(Undrain),
    /// Reboot hosts, one after the other, each without its units
    Reboot(Reboot),
    /// Forget hosts that are gone and won't be back
    Forget(Forget),
    /// List the settings of the cluster
    Settings(Settings),
    /// Change settings of the cluster
    Set(Set),
    /// Give settings of the cluster their defaults
    Unset(Unset),
    /// Write all units into a folder, as a backup
    Export(Export),
    /// Bring all units of such a folder back
    Restore(Restore),
    /// Take over units of another cluster, also of CoreOS fleet
    Import(Import),
    /// Show the journals of units, from all hosts
    Journal(Journal),
    /// Show what needs attention, or systemd's status of units
    Status(Status),
    /// Find what needs a person, and say what to do about it
    Doctor(Doctor),
    /// Say why units wait, or are where they are
    Explain(Explain),
    /// Say where units would be if hosts were lost or added, or units started
    WhatIf(WhatIf),
    /// Open a shell or run a command on a host, or on a unit's host
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
    /// Check unit files before they are submitted
    Verify(Verify),
    /// Show how unit files here differ from those in the cluster
    Diff(Diff),
    /// List the texts that a unit's file has and had
    History(History),
    /// Edit a unit's file in the cluster
    Edit(Edit),
    /// List, show or select contexts: how to reach each cluster
    Context(context::ContextArgs),
    /// Print the version
    Version(Version),
    /// The options of every command
    #[command(hide = true)]
    Options,
    /// What the last word of an unfinished command line may be; what the completion scripts ask
    #[command(hide = true, name = "__complete")]
    Complete {
        /// How long it may take, in seconds; what isn't known by then is left out
        #[arg(long, env = "FLEETCTL_COMPLETION_TIMEOUT", hide_env = true, value_name = "SECONDS")]
        #[arg(default_value = COMPLETION_TIMEOUT, value_parser = seconds)]
        completion_timeout: std::time::Duration,
        /// The words after `fleetctl`
        #[arg(value_name = "WORD", last = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    #[command(flatten)]
    Manual(crate::cli_docs::Asked),
}

/// The definitions for parsing and help. A variable of the environment that is empty counts as unset.
pub(super) fn command() -> clap::Command {
    command_in(None)
}

/// The definitions in a context, which sets defaults.
pub(super) fn command_in(context: Option<&context::Context>) -> clap::Command {
    let command = Cli::command().mut_args(|arg| {
        let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        let arg = if empty { arg.env(clap::builder::Resettable::Reset) } else { arg };
        context::default(arg, context)
    });
    let template = help::overview(&command);
    let mut command = command.help_template(template).mut_subcommands(|sub| {
        let after = help::after(&sub);
        list::with_fields(sub.after_help(after))
    });
    command.build();
    command.mut_subcommands(|sub| if sub.get_name() == "options" { sub } else { sub.mut_args(unlisted) })
}

/// The definitions for manual pages and completion: every option is listed with every command.
pub(super) fn documented() -> clap::Command {
    command().mut_subcommands(|sub| {
        let sub = list::with_values(sub);
        sub.mut_args(|arg| if arg.is_global_set() && !legacy::is(&arg) { arg.hide(false) } else { arg })
    })
}

/// Not in the help of each command: `fleetctl help options` lists it.
fn unlisted(arg: clap::Arg) -> clap::Arg {
    if arg.is_global_set() { arg.hide(true) } else { arg }
}

/// A whole number of attempts.
fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "it must be a whole number".into())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| "it must be a port, 1 to 65535".into())
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it must be a number of seconds, such as 5 or 2.5".to_owned())?;
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
