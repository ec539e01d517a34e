//! The options of `set`, `unset` and `settings`.

use clap::Args;

use super::OutputFormat;

/// `set`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Set {
    /// Settings and their values; `fleetctl settings` lists them
    #[arg(value_name = "SETTING=VALUE", required = true, value_parser = pair)]
    pub(in crate::cli) pairs: Vec<(String, String)>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `unset`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Unset {
    /// Settings that are to have their defaults
    #[arg(value_name = "SETTING", required = true)]
    pub(in crate::cli) names: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `settings`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Settings {
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be SETTING=VALUE; for a host, see `set-metadata`")?;
    if value.is_empty() {
        return Err(format!("a value is missing; `unset {name}` gives it its default"));
    }
    Ok((name.into(), value.into()))
}
