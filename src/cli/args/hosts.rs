//! The options of the commands about hosts, or that go to hosts: `status`, `ssh` and `forget`.

use clap::Args;

use super::OutputFormat;

/// `status`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Status {
    /// Names of units, or quoted patterns of names: 'web@*'; without any, the state of the cluster
    #[arg(value_name = "UNIT")]
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
