//! The options of the commands about unit files: `verify`.

use clap::Args;

use super::OutputFormat;

/// `verify`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// Unit files
    #[arg(value_name = "FILE")]
    pub(in crate::cli) files: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}
