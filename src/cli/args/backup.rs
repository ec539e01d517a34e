//! The options of `export` and `restore`.

use clap::Args;

use super::{OutputFormat, PlanOnly};

/// `export`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    /// A folder that is new, empty or of an earlier export, which is brought up to date
    #[arg(value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub(in crate::cli) folder: String,
    /// Don't ask before more than half of the units of the folder are deleted from it
    #[arg(long)]
    pub(in crate::cli) yes: bool,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `restore`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Restore {
    /// A folder of `fleetctl export`
    #[arg(value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub(in crate::cli) folder: String,
    /// Don't ask before units that the cluster has are changed
    #[arg(long)]
    pub(in crate::cli) yes: bool,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}
