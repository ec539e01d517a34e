//! The options of the commands that show what the cluster knows: the lists, `service`, `cat` and `version`.

use clap::Args;

use super::OutputFormat;

/// `list-units`, `list-unit-files`, `list-machines` and `list-services`.
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
    /// Don't shorten machine ids and hashes
    #[arg(long, short = 'l')]
    pub(in crate::cli) full: bool,
    /// Don't print the line of column names
    #[arg(long)]
    pub(in crate::cli) no_legend: bool,
    /// The columns to print, separated by commas
    #[arg(long, value_name = "FIELDS")]
    pub(in crate::cli) fields: Option<String>,
}

/// `cat`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Cat {
    /// The unit, or a quoted pattern of names
    #[arg(value_name = "UNIT")]
    pub(in crate::cli) units: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `version`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Version {
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}
