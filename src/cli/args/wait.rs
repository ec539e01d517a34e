//! The options of `wait`.

use std::time::Duration;

use clap::Args;

use super::OutputFormat;
use crate::cli::wait::AwaitedState;

/// `wait`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Wait {
    /// Names of units, or quoted patterns of names: 'web@*'; without any, `settled` is about all units
    #[arg(value_name = "UNIT")]
    pub(in crate::cli) units: Vec<String>,
    /// The state to wait for
    #[arg(long = "for", value_name = "STATE", value_enum)]
    pub(in crate::cli) state: AwaitedState,
    /// Wait at most this long, such as 60s or 5m
    #[arg(long, value_name = "TIME", value_parser = super::change::time)]
    pub(in crate::cli) timeout: Option<Duration>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}
