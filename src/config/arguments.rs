//! `fleetd`'s command line: clap's definitions, from which its help, its completions and its manual page are generated.
//! Owns the syntax; carries nothing out.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use super::Overrides;
use crate::cli_docs::{self, Shell};

/// The sections of the manual page that clap doesn't generate.
const SECTIONS: [(&str, &[&str]); 4] = [
    (
        "SIGNALS",
        &[
            "SIGHUP: read the configuration again. A file with mistakes is refused, and the old configuration remains \
             in force.",
            "SIGTERM, SIGINT: end. Units keep running, and the host stays registered until its lease expires; when the \
             whole system is shutting down, the host leaves the cluster as soon as its units have stopped.",
            "SIGUSR1: print the state of the daemon and of its units as one line of JSON on stdout.",
        ],
    ),
    (
        "FILES",
        &["/etc/fleet/fleet.conf: the configuration; /run/fleet.sock: the API; /run/fleet: unit files and state, \
            until the next boot; /var/lib/fleet: the state of a standalone host."],
    ),
    (
        "ENVIRONMENT",
        &["FLEET_<KEY>, for every key of fleet.conf: takes precedence over the file, even if it is empty."],
    ),
    ("SEE ALSO", &["fleet.conf(5), flotilla.unit(5), fleetctl(1), systemd(1), sd_notify(3), systemd.socket(5)"]),
];

/// The manual page of fleetd's configuration, which is its page in `docs`.
fn configuration_page() -> String {
    let text = include_str!("../../docs/configuration.md");
    cli_docs::manual("fleet.conf", "5", "configuration of fleetd(8)", text, &["fleetctl"])
}

/// The manual page of unit files, which is their page in `docs`.
fn unit_page() -> String {
    let text = include_str!("../../docs/unit-files.md");
    cli_docs::manual("flotilla.unit", "5", "unit files of a cluster: [X-Fleet], templates, syntax", text, &[])
}

/// Flotilla's daemon: runs the units that the cluster assigns to this host, through systemd
#[derive(Debug, Parser)]
#[command(name = "fleetd", version, max_term_width = 100)]
#[command(
    after_help = "Every key of the file can be given as FLEET_<KEY> in the environment, which takes precedence.\n\
    SIGHUP reloads the file, SIGUSR1 prints the daemon's state as JSON."
)]
struct Arguments {
    /// Read the configuration from this file instead of /etc/fleet/fleet.conf
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Run a cluster of this host only, with its state in a file instead of etcd
    #[arg(long)]
    standalone: bool,
    /// Check the configuration, print every error in it and the state of its store and of systemd, and exit
    ///
    /// The exit status is 0 if the configuration is valid, 1 if not. Nothing is changed, and a store that doesn't
    /// answer is not an error.
    #[arg(long)]
    check: bool,
    /// `version`, `completion SHELL`, `man`, `man fleet.conf`, `man flotilla.unit`
    #[arg(hide = true)]
    words: Vec<String>,
}

/// The meaning of a command line.
#[derive(Debug)]
pub enum Asked {
    /// Run the daemon.
    Run(Overrides),
    /// Check the configuration and exit.
    Check(Overrides),
    /// Print this on stdout and exit.
    Print(String),
    /// Print this on stderr: the command line is invalid.
    Complain(String),
}

/// Parse `args`, which begin with the program's name.
pub fn understand(args: impl IntoIterator<Item = OsString>) -> Asked {
    let Arguments { config, standalone, check, words } = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        // The same output as CoreOS fleet's and fleetctl's.
        Err(error) if error.kind() == ErrorKind::DisplayVersion => return version(),
        Err(error) if error.use_stderr() => return Asked::Complain(error.render().to_string()),
        Err(help) => return Asked::Print(help.render().to_string()),
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] if check => Asked::Check(Overrides { file: config, standalone }),
        [] => Asked::Run(Overrides { file: config, standalone }),
        ["version"] => version(),
        ["man"] => Asked::Print(cli_docs::daemon(Arguments::command(), &SECTIONS)),
        ["man", "fleet.conf"] => Asked::Print(configuration_page()),
        ["man", "flotilla.unit"] => Asked::Print(unit_page()),
        ["completion", shell] if let Ok(shell) = shell.parse::<Shell>() => {
            Asked::Print(cli_docs::completion(Arguments::command(), shell))
        }
        _ => Asked::Complain("fleetd takes no arguments. Did you mean to invoke fleetctl instead?\n".into()),
    }
}

fn version() -> Asked {
    Asked::Print(concat!("fleetd version ", env!("CARGO_PKG_VERSION"), "\n").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &str) -> Asked {
        understand(std::iter::once("fleetd").chain(words.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn words_are_understood_or_named() {
        assert!(matches!(typed("--standalone"), Asked::Run(Overrides { file: None, standalone: true })));
        assert!(matches!(typed("--config /x"), Asked::Run(Overrides { file: Some(_), standalone: false })));
        assert!(matches!(typed("--check --config /x"), Asked::Check(Overrides { file: Some(_), standalone: false })));
        let version = concat!("fleetd version ", env!("CARGO_PKG_VERSION"), "\n");
        for spelling in ["version", "--version", "-V"] {
            assert!(matches!(typed(spelling), Asked::Print(text) if text == version));
        }
        let advice = "Did you mean to invoke fleetctl instead?";
        for wrong in ["list-units", "start a.service", "completion tcsh", "version now"] {
            assert!(matches!(typed(wrong), Asked::Complain(text) if text.contains(advice)));
        }
        assert!(matches!(typed("--foo"), Asked::Complain(text) if text.contains("--foo")));
    }

    #[test]
    fn the_manual_says_what_the_daemon_takes() {
        let Asked::Print(page) = typed("man") else { panic!() };
        for wanted in [".TH fleetd 8", "SIGHUP", "standalone", "/etc/fleet/fleet.conf", ".SH SIGNALS"] {
            assert!(page.contains(wanted), "{wanted}: {page}");
        }
        assert!(!page.contains("words"), "{page}");
    }

    #[test]
    fn the_pages_on_files_have_all_keys_and_options_and_no_markdown() {
        let options = ["MachineID=", "MachineMetadata=", "MachineOf=", "Conflicts=", "Replaces=", "Global="];
        for (name, words) in [("fleet.conf", &super::super::KEYS[..]), ("flotilla.unit", &options)] {
            let Asked::Print(page) = typed(&format!("man {name}")) else { panic!("{name}") };
            assert!(page.starts_with(&format!(".TH {name} 5\n")), "{page}");
            for word in words {
                assert!(page.contains(&format!("\\fB{word}")), "{word}: {page}");
            }
            for mark in ["](", "```", "\n#", "\n| ", "**"] {
                assert!(!page.contains(mark), "{mark}: {page}");
            }
        }
    }
}
