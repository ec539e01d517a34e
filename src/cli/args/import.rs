//! The options of `import`.

use clap::Args;

use super::OutputFormat;

/// `import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Import {
    /// Names, or quoted patterns of names, to take over only these
    #[arg(value_name = "PATTERN")]
    pub(in crate::cli) patterns: Vec<String>,
    /// Where the other cluster's API listens: a socket's path or http://host:port
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) from: String,
    /// Submit the units without starting them
    #[arg(long)]
    pub(in crate::cli) apply: bool,
    /// With --apply: set the same desired state as in the other cluster. Units start here, even if they still run there
    #[arg(long, requires = "apply")]
    pub(in crate::cli) start: bool,
    /// With --apply: replace units whose file differs from the other cluster's
    #[arg(long, requires = "apply")]
    pub(in crate::cli) replace: bool,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}
