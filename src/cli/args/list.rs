//! The options of the commands that show what the cluster knows: the lists, `service`, `cat` and `version`.

use clap::Args;

use super::OutputFormat;

/// `list-services` and `list-sets`, and what the other lists have in common with it.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Names, or quoted patterns of names, to list only these
    #[arg(value_name = "PATTERN")]
    pub(in crate::cli) patterns: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) columns: Columns,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `list-machines`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListMachines {
    #[command(flatten)]
    pub(in crate::cli) list: List,
    /// Also the hosts that are gone, as on a terminal, with `--output json` and with `--fields=gone`
    #[arg(long, short = 'a')]
    pub(in crate::cli) all: bool,
}

/// `list-units` and `list-unit-files`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListUnits {
    #[command(flatten)]
    pub(in crate::cli) list: List,
    #[command(flatten)]
    pub(in crate::cli) filter: Filter,
    /// Keep the table up to date until Ctrl-C; without a terminal, print a line for each row that changes
    #[arg(long, short = 'w')]
    pub(in crate::cli) watch: bool,
}

/// Which units are listed. A unit must match all options that are given.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct Filter {
    /// Only units that failed
    #[arg(long)]
    pub(in crate::cli) failed: bool,
    /// Only units that should run and don't
    #[arg(long)]
    pub(in crate::cli) not_running: bool,
    /// Only units in one of these states: failed, dead, restarting, unready, waiting, starting, stopping, running, done
    /// or inactive, or a state of systemd's, such as active
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    pub(in crate::cli) states: Vec<String>,
    /// Only units on these hosts: their names, addresses or ids
    #[arg(long = "host", value_name = "HOST", value_delimiter = ',')]
    pub(in crate::cli) hosts: Vec<String>,
    /// Only units of these types, such as service,socket
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub(in crate::cli) types: Vec<String>,
}

/// `service`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Service {
    /// The service
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) columns: Columns,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// What a table looks like.
#[derive(Debug, Args)]
pub(in crate::cli) struct Columns {
    /// Don't shorten names, machine ids and hashes
    #[arg(long, short = 'l')]
    pub(in crate::cli) full: bool,
    /// Don't print the line of column names
    #[arg(long)]
    pub(in crate::cli) no_legend: bool,
    /// The columns to print, separated by commas
    #[arg(long, value_name = "FIELDS")]
    pub(in crate::cli) fields: Option<String>,
}

/// The fields of each list.
pub(in crate::cli) const FIELDS: [(&str, &[&str]); 6] = [
    (
        "list-units",
        &[
            "unit", "machine", "active", "sub", "load", "hash", "ip", "hostname", "job", "error", "missing",
            "restarts", "failure", "status", "ready", "health",
        ],
    ),
    ("list-unit-files", &["unit", "hash", "dstate", "state", "target", "global", "desc", "waiting"]),
    (
        "list-machines",
        &[
            "machine", "ip", "metadata", "builtin", "hostname", "version", "since", "gone", "state", "drain", "cordon",
            "memory", "cpu",
        ],
    ),
    ("list-sets", &["set", "wanted", "ready", "waiting", "done", "revision", "rollout", "members", "file", "lead"]),
    ("list-services", &["service", "instances", "addresses", "units"]),
    ("service", &["instance", "address", "port", "weight", "unit", "machine", "hostname", "metadata", "ttl", "since"]),
];

/// `command` with the names of its fields in the help of `--fields`.
pub(super) fn with_fields(command: clap::Command) -> clap::Command {
    match FIELDS.iter().find(|(name, _)| *name == command.get_name()) {
        Some((_, fields)) => command.mut_arg("fields", |arg| {
            arg.help(format!("The columns to print, separated by commas: {}", fields.join(", ")))
        }),
        None => command,
    }
}

/// `command` with the names of its fields as possible values, for completion.
pub(super) fn with_values(command: clap::Command) -> clap::Command {
    match FIELDS.iter().find(|(name, _)| *name == command.get_name()) {
        Some((_, fields)) => command.mut_arg("fields", |arg| {
            arg.value_parser(clap::builder::PossibleValuesParser::new(*fields)).hide_possible_values(true)
        }),
        None => command,
    }
}

/// `cat`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Cat {
    /// The unit, or a quoted pattern of names
    #[arg(value_name = "UNIT")]
    pub(in crate::cli) units: Vec<String>,
    /// Print another text that it had, by its number in `fleetctl history`
    #[arg(long, value_name = "N")]
    pub(in crate::cli) revision: Option<u64>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `version`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Version {
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}
