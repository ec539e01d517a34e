//! The options of the commands about unit files: `verify`, `diff`, `history` and `edit`; and which editor a person
//! uses.

use std::ffi::OsString;

use clap::Args;

use super::{Block, OutputFormat, PlanOnly};

/// `verify`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// Unit files
    #[arg(value_name = "FILE")]
    pub(in crate::cli) files: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `diff`.
#[derive(Debug, Args)]
#[command(override_usage = "fleetctl diff [OPTIONS] UNIT...\n       fleetctl diff [OPTIONS] UNIT N [M]")]
pub(in crate::cli) struct Diff {
    /// Unit files, names of units whose file is here, instances, or quoted patterns of names: 'web@*'. Or one unit, and
    /// the number of a revision in `fleetctl history`, which is compared with the present one or with revision M
    #[arg(value_name = "UNIT", required = true)]
    pub(in crate::cli) units: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `history`.
#[derive(Debug, Args)]
pub(in crate::cli) struct History {
    /// The unit; also one that was destroyed within a week
    #[arg(value_name = "UNIT")]
    pub(in crate::cli) unit: String,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `edit`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Edit {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub(in crate::cli) unit: String,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    #[command(flatten)]
    pub(in crate::cli) block: Block,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// The editors that are tried if the person has chosen none, as `systemctl edit` tries them.
const EDITORS: [&str; 4] = ["editor", "nano", "vim", "vi"];

/// The person's editor: `$VISUAL`, `$EDITOR`, or the first that is installed.
pub(in crate::cli) fn editor() -> String {
    let chosen = ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os).find(|editor| !editor.is_empty());
    let installed = |name: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
        std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
    };
    match chosen {
        Some(editor) => editor.to_string_lossy().into_owned(),
        None => EDITORS.into_iter().find(installed).unwrap_or("vi").into(),
    }
}
