//! The options of the commands that change units: `submit`, `load`, `start`, `restart`, `stop`, `unload` and `destroy`.

use clap::Args;

use super::OutputFormat;

/// `submit`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Submit {
    #[command(flatten)]
    pub(in crate::cli) create: Create,
    /// With --replace of a template: also replace the file of its instances, where they run
    #[arg(long, requires = "replace")]
    pub(in crate::cli) instances: bool,
}

/// `load` and `start`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    /// Unit files, names of units, instances whose template the cluster has, or quoted patterns of names: 'web@*'
    #[arg(value_name = "UNIT", required = true)]
    pub(in crate::cli) units: Vec<String>,
    /// Replace units whose file differs from the one here
    #[arg(long)]
    pub(in crate::cli) replace: bool,
    /// With --replace of several running units: replace all of them together, not one after another
    #[arg(long, requires = "replace")]
    pub(in crate::cli) at_once: bool,
    /// Ignored: there are no signed units any more
    #[arg(long, hide = true)]
    pub(in crate::cli) sign: bool,
    #[command(flatten)]
    pub(in crate::cli) block: Block,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `restart`, `stop` and `unload`; `destroy` has more.
#[derive(Debug, Args)]
pub(in crate::cli) struct Change {
    /// Names of units, or quoted patterns of names: 'web@*'
    #[arg(value_name = "UNIT", required = true)]
    pub(in crate::cli) units: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) block: Block,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `destroy`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Destroy {
    #[command(flatten)]
    pub(in crate::cli) change: Change,
    /// Don't ask before a pattern destroys several units; without a terminal, nothing is asked
    #[arg(long)]
    pub(in crate::cli) yes: bool,
}

/// How long to wait until it is done.
#[derive(Debug, Args)]
pub(in crate::cli) struct Block {
    /// Don't wait until it is done
    #[arg(long)]
    pub(in crate::cli) no_block: bool,
    /// Wait at most N times 2 seconds; 0 waits without limit
    #[arg(long, value_name = "N", default_value = "0", value_parser = super::count)]
    pub(in crate::cli) block_attempts: u32,
}
