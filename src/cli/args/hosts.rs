//! The options of the commands about hosts, or that go to hosts: `status`, `doctor`, `explain`, `ssh`, `cordon`,
//! `uncordon`, `drain`, `undrain`, `move`, `rebalance`, `reboot`, `set-metadata`, `unset-metadata` and `forget`.

use std::time::Duration;

use clap::Args;

use super::OutputFormat;
use super::change::PlanOnly;
use crate::model::machine::check_key;

/// `status`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Status {
    /// Names of units, or quoted patterns of names: 'web@*'; without any, the state of the cluster
    #[arg(value_name = "UNIT")]
    pub(in crate::cli) units: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `doctor`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Doctor {
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `explain`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Explain {
    /// Names of units, quoted patterns of names: 'web@*'; or sets, for their members
    #[arg(value_name = "UNIT", required = true)]
    pub(in crate::cli) units: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `ssh`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Ssh {
    /// The host: its id or the beginning of it, its name, its address; or a unit, for the host it is on
    #[arg(value_name = "MACHINE|UNIT")]
    #[arg(help_heading = None)]
    pub(in crate::cli) words: Vec<String>,
    /// This host
    #[arg(long, value_name = "MACHINE")]
    pub(in crate::cli) machine: Option<String>,
    /// The host of this unit
    #[arg(long, value_name = "UNIT")]
    pub(in crate::cli) unit: Option<String>,
    /// Forward your SSH agent to the host (by the `ssh` program)
    #[arg(long, short = 'A')]
    pub(in crate::cli) forward_agent: bool,
}

/// The hosts that a command is about, one or more.
#[derive(Debug, Args)]
pub(in crate::cli) struct Hosts {
    /// Hosts: their names, addresses, ids or the beginnings of ids
    #[arg(value_name = "HOST", required = true)]
    pub(in crate::cli) hosts: Vec<String>,
}

/// `cordon`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Cordon {
    #[command(flatten)]
    pub(in crate::cli) named: Hosts,
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) why: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `uncordon`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Uncordon {
    #[command(flatten)]
    pub(in crate::cli) named: Hosts,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// How units leave hosts.
#[derive(Debug, Args)]
pub(in crate::cli) struct Leaving {
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) why: Option<String>,
    /// How many units that belong to no set may be on their way from a host at once; without it, 10
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) parallel: Option<u32>,
    /// After this time, move what can be moved regardless of --parallel and of Parallel=; without it, 60m
    #[arg(long, value_name = "TIME", value_parser = super::change::time)]
    pub(in crate::cli) deadline: Option<Duration>,
    /// Stop also units that fit no other host
    #[arg(long)]
    pub(in crate::cli) force: bool,
}

/// `drain`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Drain {
    #[command(flatten)]
    pub(in crate::cli) named: Hosts,
    #[command(flatten)]
    pub(in crate::cli) leaving: Leaving,
    /// Stop global units too, when no other unit is left
    #[arg(long)]
    pub(in crate::cli) globals: bool,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    /// Don't wait until the units have left
    #[arg(long)]
    pub(in crate::cli) no_block: bool,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `undrain`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Undrain {
    #[command(flatten)]
    pub(in crate::cli) named: Hosts,
    /// Bring back the units that have left, as far as they still fit
    #[arg(long)]
    pub(in crate::cli) restore: bool,
    /// How many units that belong to no set may be on their way to a host at once; without it, 10
    #[arg(long, value_name = "N", requires = "restore", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) parallel: Option<u32>,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    /// Don't wait until the units are back
    #[arg(long)]
    pub(in crate::cli) no_block: bool,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `move`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Move {
    /// Names of units, quoted patterns of names, or sets; then the host that they move to, if the last word is none of
    /// these. Without a host, each unit goes to the best of the others
    #[arg(value_name = "UNIT", required = true)]
    pub(in crate::cli) words: Vec<String>,
    /// The host that they move to; all words are units then
    #[arg(long, value_name = "HOST")]
    pub(in crate::cli) to: Option<String>,
    /// Move units although they belong to their hosts (MoveAfterSec=infinity), or these are away
    #[arg(long)]
    pub(in crate::cli) force: bool,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    /// Don't wait until the units have moved
    #[arg(long)]
    pub(in crate::cli) no_block: bool,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `rebalance`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rebalance {
    /// Names of units, quoted patterns of names, or sets, of which units may move; without any, all units may
    #[arg(value_name = "UNIT")]
    pub(in crate::cli) units: Vec<String>,
    /// How many moves to make at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(in crate::cli) max_moves: u32,
    /// Move without a question
    #[arg(long, conflicts_with = "plan")]
    pub(in crate::cli) yes: bool,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    /// Don't wait until the units have moved
    #[arg(long)]
    pub(in crate::cli) no_block: bool,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `reboot`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Reboot {
    /// Hosts, in the order in which they are to reboot: their names, addresses, ids or the beginnings of ids
    #[arg(value_name = "HOST", required_unless_present = "all")]
    pub(in crate::cli) hosts: Vec<String>,
    /// All hosts that are registered, by name
    #[arg(long, conflicts_with = "hosts")]
    pub(in crate::cli) all: bool,
    #[command(flatten)]
    pub(in crate::cli) leaving: Leaving,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    /// Don't wait until the hosts are back
    #[arg(long)]
    pub(in crate::cli) no_block: bool,
    /// The hosts are to reboot no longer; one that is drained for it takes its units back
    #[arg(long, conflicts_with_all = ["why", "parallel", "deadline", "force", "plan"])]
    pub(in crate::cli) cancel: bool,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `forget`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Forget {
    /// Hosts that are gone: their names, addresses, ids or the beginnings of ids
    #[arg(value_name = "HOST", required_unless_present = "held")]
    pub(in crate::cli) hosts: Vec<String>,
    /// All hosts that vanished together and whose units are held, so that these are moved now
    #[arg(long, conflicts_with = "hosts")]
    pub(in crate::cli) held: bool,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `set-metadata`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SetMetadata {
    /// The host: its name, address, id or the beginning of its id; the whole id of a host that is yet to join
    #[arg(value_name = "HOST")]
    pub(in crate::cli) host: String,
    /// What it gets, instead of what its fleet.conf says; units that no longer fit the host move at once
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = pair)]
    pub(in crate::cli) pairs: Vec<(String, String)>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `unset-metadata`.
#[derive(Debug, Args)]
pub(in crate::cli) struct UnsetMetadata {
    /// The host: its name, address, id or the beginning of its id
    #[arg(value_name = "HOST")]
    pub(in crate::cli) host: String,
    /// What it has no longer, even if its fleet.conf has it; units that no longer fit the host move at once
    #[arg(value_name = "KEY", required_unless_present = "all", value_parser = key)]
    pub(in crate::cli) keys: Vec<String>,
    /// Remove all that was set and unset, so that what its fleet.conf says applies again
    #[arg(long, conflicts_with = "keys")]
    pub(in crate::cli) all: bool,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

fn key(text: &str) -> Result<String, String> {
    check_key(text).map(|()| text.into())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it must be key=value")?;
    check_key(key)?;
    if value.is_empty() {
        return Err(format!("a value is missing; `unset-metadata` removes {key}"));
    }
    Ok((key.into(), value.into()))
}
