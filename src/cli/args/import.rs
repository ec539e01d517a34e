//! The options of `import`.

use clap::Args;

use super::{OutputFormat, PlanOnly};

/// `import`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("taken").args(["apply", "plan"]).multiple(true))]
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
    /// With --apply or --plan: set the same desired state as in the other cluster. Units start here, also if they run
    /// there
    #[arg(long, requires = "taken")]
    pub(in crate::cli) start: bool,
    /// With --apply or --plan: replace units whose file differs from the other cluster's
    #[arg(long, requires = "taken")]
    pub(in crate::cli) replace: bool,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}
