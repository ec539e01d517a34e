//! Documentation of a program's command line: shell completions and manual pages. Owns how they are generated from
//! clap's definitions; must never depend on a program, print, or decide which commands exist.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, Subcommand};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

mod markdown;

pub use clap_complete::Shell;
pub use markdown::manual;

/// The commands that ask for it, to be flattened into a program's own.
#[derive(Debug, Subcommand)]
pub enum Asked {
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completion {
        /// For which shell
        shell: Shell,
    },
    /// Print a manual page, in roff: the program's, or that of one command
    #[command(hide = true)]
    Man {
        /// The command
        command: Option<String>,
        /// Write all pages into this folder instead
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        all: Option<PathBuf>,
    },
}

/// Why nothing can be printed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The requested command doesn't exist.
    #[error("there is no command `{0}`")]
    NoCommand(String),
    /// A page can't be written.
    #[error("can't write {}: {why}", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        why: io::Error,
    },
}

impl Asked {
    /// Carry the command out for the program that `command` defines. Returns the text to print, which is empty if it
    /// was written to files.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn answer(&self, mut command: Command) -> Result<String, Error> {
        match self {
            Self::Completion { shell } => Ok(completion(command, *shell)),
            Self::Man { all: Some(folder), .. } => pages(command, folder).map(|()| String::new()),
            Self::Man { command: None, .. } => {
                command.build();
                Ok(page(command))
            }
            Self::Man { command: Some(name), .. } => {
                command.build();
                let found = command.find_subcommand(name).cloned();
                found.map(page).ok_or_else(|| Error::NoCommand(name.clone()))
            }
        }
    }
}

/// A completion script for `command` in `shell`.
#[must_use]
pub fn completion(mut command: Command, shell: Shell) -> String {
    let (mut script, name) = (Vec::new(), command.get_name().to_owned());
    clap_complete::generate(shell, &mut command, &name, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let script = match shell {
        // clap_complete 4.6 spells a hyphen in the program's name in two ways, and then completes nothing after a
        // command.
        Shell::Bash => script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__")),
        _ => script,
    };
    match command.find_subcommand(ASKS).and(asking(shell)) {
        Some(asking) => with_asking(&script, shell, &name, asking),
        None => script,
    }
}

/// The command of a program that prints what the last word of an unfinished line may be, one candidate on each line.
const ASKS: &str = "__complete";

/// A function of a shell that asks the program itself first, and completes what it knows nothing of as before.
fn asking(shell: Shell) -> Option<&'static str> {
    match shell {
        Shell::Bash => Some(include_str!("cli_docs/asking.bash")),
        Shell::Zsh => Some(include_str!("cli_docs/asking.zsh")),
        Shell::Fish => Some(include_str!("cli_docs/asking.fish")),
        _ => None,
    }
}

fn with_asking(script: &str, shell: Shell, name: &str, asking: &str) -> String {
    let asking = asking.replace("PROGRAM", name).replace("FUNCTION", &name.replace('-', "_"));
    match shell {
        Shell::Bash => {
            script.replace(&format!("complete -F _{name} "), &format!("complete -F _{name}_asking ")) + &asking
        }
        // The generated function gets another name, and the asking one that by which zsh finds it.
        Shell::Zsh => {
            let script = script.replacen(&format!("\n_{name}() {{"), &format!("\n_{name}_generated() {{"), 1);
            script.replacen("\nif [ \"$funcstack[1]\"", &format!("\n{asking}\nif [ \"$funcstack[1]\""), 1)
        }
        _ => script.to_owned() + &asking,
    }
}

/// The manual page of a daemon (section 8) in roff. `sections` are those that clap can't generate, each with a title
/// and its paragraphs.
#[must_use]
pub fn daemon(command: Command, sections: &[(&str, &[&str])]) -> String {
    let page = Man::new(command).section("8");
    written(|roff| {
        page.render_title(roff)?;
        page.render_name_section(roff)?;
        page.render_synopsis_section(roff)?;
        page.render_description_section(roff)?;
        page.render_options_section(roff)?;
        for (title, paragraphs) in sections {
            let mut section = Roff::new();
            section.control("SH", [*title]);
            for paragraph in *paragraphs {
                section.control("PP", []).text([roman(*paragraph)]);
            }
            section.to_writer(roff)?;
        }
        page.render_version_section(roff)
    })
}

/// A page of section 1. The help that follows the options is divided into sections.
fn page(mut command: Command) -> String {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_version = command.get_version().is_some();
    let lists_commands = command.get_subcommands().any(|command| !command.is_hide_set());
    let page = Man::new(command.override_usage(usage));
    written(|roff| {
        page.render_title(roff)?;
        page.render_name_section(roff)?;
        page.render_synopsis_section(roff)?;
        page.render_description_section(roff)?;
        page.render_options_section(roff)?;
        if lists_commands {
            page.render_subcommands_section(roff)?;
        }
        for (title, lines) in sections(&after) {
            section(&title, &lines).to_writer(roff)?;
        }
        if has_version { page.render_version_section(roff) } else { Ok(()) }
    })
}

/// `text` as sections: one begins at each line that isn't indented and ends with a colon; what precedes the first is
/// `NOTES`. Each has its title and its lines.
fn sections(text: &str) -> Vec<(String, Vec<&str>)> {
    let mut sections: Vec<(String, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match line.strip_suffix(':').filter(|title| !title.starts_with(' ')) {
            Some(title) => sections.push((title.to_ascii_uppercase(), Vec::new())),
            None if line.is_empty() => {}
            None if sections.is_empty() => sections.push(("NOTES".into(), vec![line])),
            None => sections.last_mut().into_iter().for_each(|(_, lines)| lines.push(line)),
        }
    }
    sections
}

/// Lines of help are laid out already, so they aren't filled again.
fn section(title: &str, lines: &[&str]) -> Roff {
    let mut section = Roff::new();
    section.control("SH", [title]);
    let laid_out = lines.iter().all(|line| line.starts_with(' '));
    if laid_out {
        section.control("nf", []);
    }
    for line in lines {
        section.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    if laid_out {
        section.control("fi", []);
    }
    section
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut roff = Vec::new();
    let written = write(&mut roff);
    debug_assert!(written.is_ok(), "memory takes everything");
    String::from_utf8_lossy(&roff).into_owned()
}

/// `PROGRAM.1`, and a page for each command that its help lists.
fn pages(mut root: Command, folder: &Path) -> Result<(), Error> {
    let failed = |path: &Path, why: io::Error| Error::Write { path: path.into(), why };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    root.build();
    let program = root.get_name().to_owned();
    let commands = root.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    let pages = commands.map(|command| (format!("{program}-{}.1", command.get_name()), command.clone()));
    for (name, command) in std::iter::once((format!("{program}.1"), root.clone())).chain(pages) {
        let path = folder.join(name);
        std::fs::write(&path, page(command)).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}
