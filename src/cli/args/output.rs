//! What stdout is for: `--output`.

use clap::{Args, ValueEnum};

/// For people or for programs.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct OutputFormat {
    /// How to print what goes to stdout
    #[arg(long = "output", short = 'o', value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(in crate::cli) format: Format,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// Lines and tables
    Text,
    /// One JSON document
    Json,
}
