//! The command line as typed by people and old scripts → what clap expects. fleet changed its command line library
//! twice; scripts use `-no-legend`, `--l`, `--replace=true`, `list-m` and options before the command, and all of these
//! work. Owns spelling only: unknown arguments are passed on unchanged, for clap to report.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use crate::cli::args;

/// The definitions with the defaults of the context that `args` ask for, and `args` as these definitions expect them.
///
/// # Errors
/// What is wrong with the file of contexts, one line each.
pub(in crate::cli) fn understood(
    args: impl IntoIterator<Item = OsString>,
) -> Result<(clap::Command, Vec<OsString>), Vec<String>> {
    let command = args::command();
    let words = normalise(&command, args);
    // The definitions are made again only for a context: they are most of what a short command costs.
    Ok(match args::context::of(&words)? {
        None => (command, words),
        context => (args::command_in(context.as_ref()), words),
    })
}

/// `args` (the program's name first), with the command's full name moved to the front and every known option in clap's
/// spelling.
fn normalise(command: &clap::Command, args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut options = Options::of(command);
    let mut args = args.into_iter();
    let mut front: Vec<OsString> = args.next().into_iter().collect();
    let words: Vec<OsString> = args.collect();
    let at = place_of_command(command, &options, &words);
    let verb = at.and_then(|at| words[at].to_str()).map(|word| full_name(command, word));
    if let Some(sub) = verb.as_ref().and_then(|verb| command.find_subcommand(verb)) {
        options.prefer(sub);
    }
    let words = words.into_iter().enumerate().filter(|(index, _)| Some(*index) != at).map(|(_, word)| word);
    let mut rest = spelled(command, &options, verb.as_deref(), words);
    if verb.as_deref() == Some("help") {
        rest = without_options(&options, rest);
    }
    front.extend(verb.map(Into::into));
    front.extend(rest);
    front
}

/// Where in `words` the command is: the first word that is neither an option nor the value of one.
fn place_of_command(command: &clap::Command, options: &Options, words: &[OsString]) -> Option<usize> {
    let mut index = 0;
    while let Some(word) = words.get(index) {
        let Some(text) = word.to_str() else {
            index += 1;
            continue;
        };
        let next = words.get(index + 1).and_then(|next| next.to_str());
        index += match options.spell(text) {
            _ if text == "--" => return None,
            Some(Spelling::Takes(_)) => 2,
            // A word that isn't a command must be the value.
            Some(Spelling::Either(_)) if next.is_none_or(|next| !is_command(command, next)) => 2,
            Some(_) => 1,
            None if text.starts_with('-') && text.len() > 1 => 1,
            None => return Some(index),
        };
    }
    None
}

/// The `words` around the command `verb`, spelled as clap expects.
fn spelled(
    command: &clap::Command,
    options: &Options,
    verb: Option<&str>,
    mut words: impl Iterator<Item = OsString>,
) -> Vec<OsString> {
    let mut rest = Vec::new();
    // For `ssh`: the number of words before the remote command, which has options of its own.
    let mut before = 1;
    while let Some(word) = words.next() {
        let Some(text) = word.to_str() else {
            rest.push(word);
            continue;
        };
        if text == "--" {
            rest.push(word);
            rest.extend(words);
            break;
        }
        match options.spell(text) {
            Some(Spelling::Flag(flag)) => {
                if names_host(&flag) {
                    before = 0;
                }
                rest.push(flag.into());
            }
            Some(Spelling::Off) => {}
            // The next argument is its value, whatever it looks like.
            Some(Spelling::Takes(option)) => {
                if names_host(&option) {
                    before = 0;
                }
                rest.push(option.into());
                rest.extend(words.next());
            }
            // This command doesn't have it.
            Some(Spelling::Either(option)) => rest.push(option.into()),
            None if text.starts_with('-') && text.len() > 1 => rest.push(word),
            None => match verb {
                Some("help") => rest.push(full_name(command, text).into()),
                Some("ssh") if before == 0 => {
                    rest.extend(["--".into(), word]);
                    rest.extend(words);
                    break;
                }
                Some("ssh") => {
                    before -= 1;
                    rest.push(word);
                }
                _ => rest.push(word),
            },
        }
    }
    rest
}

/// The arguments of `help`: clap takes every word after it as a command's name, so options are removed.
fn without_options(options: &Options, args: Vec<OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut rest = Vec::new();
    while let Some(arg) = args.next() {
        match arg.to_str().and_then(|text| options.spell(text)) {
            Some(Spelling::Takes(_)) => drop(args.next()),
            Some(Spelling::Flag(flag) | Spelling::Either(flag)) if !matches!(flag.as_str(), "-h" | "--help") => {}
            _ => rest.push(arg),
        }
    }
    rest
}

fn names_host(option: &str) -> bool {
    matches!(option.split('=').next(), Some("--machine" | "--unit"))
}

/// fleet's commands: what abbreviates one of them keeps its meaning, whatever commands there are besides. `fleetctl re`
/// is `restart` in spite of `restore`.
const FLEETS: [&str; 16] = [
    "cat",
    "destroy",
    "help",
    "journal",
    "list-machines",
    "list-unit-files",
    "list-units",
    "load",
    "restart",
    "ssh",
    "start",
    "status",
    "stop",
    "submit",
    "unload",
    "version",
];

/// Commands that are newer than the abbreviations that scripts use: `fleetctl ver` is `version` in spite of `verify`.
const LATER: [&str; 23] = [
    "cordon",
    "diff",
    "doctor",
    "drain",
    "edit",
    "explain",
    "history",
    "list-sets",
    "move",
    "rebalance",
    "reboot",
    "rollback",
    "rollout",
    "scale",
    "set",
    "set-metadata",
    "settings",
    "uncordon",
    "undrain",
    "unset",
    "unset-metadata",
    "verify",
    "what-if",
];

/// The only command that begins with `typed`, or else `typed`: first of fleet's, then of all but the later ones, then
/// of these. Hidden commands can't be abbreviated.
pub(super) fn full_name(command: &clap::Command, typed: &str) -> String {
    if typed.is_empty() || visible(command).any(|name| name == typed) {
        return typed.into();
    }
    let matching = |of: &dyn Fn(&str) -> bool| -> BTreeSet<&str> {
        visible(command).filter(|name| name.starts_with(typed) && of(name)).collect()
    };
    let fleets = FLEETS.iter().filter(|name| name.starts_with(typed)).count();
    let earlier = matching(&|name| !LATER.contains(&name));
    let found = match fleets {
        1 => matching(&|name| FLEETS.contains(&name)),
        _ if earlier.is_empty() => matching(&|name| LATER.contains(&name)),
        _ => earlier,
    };
    let mut found = found.into_iter();
    found.next().filter(|_| found.next().is_none()).unwrap_or(typed).into()
}

/// The names of the commands that help lists.
pub(in crate::cli) fn visible(command: &clap::Command) -> impl Iterator<Item = &str> {
    command.get_subcommands().filter(|c| !c.is_hide_set()).map(clap::Command::get_name).chain(["help"])
}

/// Whether `word` names a command, possibly shortened.
fn is_command(command: &clap::Command, word: &str) -> bool {
    let name = full_name(command, word);
    visible(command).any(|visible| visible == name)
}

enum Spelling {
    /// A complete argument.
    Flag(String),
    /// A flag that was switched off, which is the default.
    Off,
    /// An option whose value is the next argument.
    Takes(String),
    /// In some commands the one, in others the other: a flag, or an option whose value is the next argument.
    Either(String),
}

/// What an option takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    /// An optional value after `=`.
    Attached,
    /// Commands differ: nothing, or a value.
    Differs,
}

/// The options of all commands, and what they take. As soon as the command is known, its own options take precedence.
struct Options {
    long: BTreeMap<String, Takes>,
    short: BTreeMap<char, Takes>,
}

impl Options {
    fn of(command: &clap::Command) -> Self {
        let mut options =
            Self { long: [("help".into(), Takes::Nothing)].into(), short: [('h', Takes::Nothing)].into() };
        let either = |known: &mut Takes, takes| {
            if *known != takes {
                *known = Takes::Differs
            }
        };
        for (arg, takes) in std::iter::once(command).chain(command.get_subcommands()).flat_map(arguments) {
            if let Some(long) = arg.get_long() {
                options.long.entry(long.into()).and_modify(|known| either(known, takes)).or_insert(takes);
            }
            if let Some(short) = arg.get_short() {
                options.short.entry(short).and_modify(|known| either(known, takes)).or_insert(takes);
            }
        }
        options
    }

    /// The command is `command`.
    fn prefer(&mut self, command: &clap::Command) {
        for (arg, takes) in arguments(command) {
            self.long.extend(arg.get_long().map(|long| (long.into(), takes)));
            self.short.extend(arg.get_short().map(|short| (short, takes)));
        }
    }

    fn spell(&self, text: &str) -> Option<Spelling> {
        let dashes = if text.starts_with("--") { "--" } else { "-" };
        let body = text.strip_prefix(dashes)?;
        let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
        let mut chars = name.chars();
        let (spelling, takes) = match (chars.next(), chars.next()) {
            (Some(short), None) => (format!("-{short}"), *self.short.get(&short)?),
            _ => (format!("--{name}"), *self.long.get(name)?),
        };
        Some(match (takes, value) {
            (Takes::Value, None) => Spelling::Takes(spelling),
            (Takes::Differs, None) => Spelling::Either(spelling),
            (Takes::Value | Takes::Attached | Takes::Differs, Some(value)) => {
                Spelling::Flag(format!("{spelling}={value}"))
            }
            (Takes::Nothing | Takes::Attached, None) => Spelling::Flag(spelling),
            // Go's flags can have values.
            (Takes::Nothing, Some("1" | "t" | "T" | "true" | "TRUE" | "True")) => Spelling::Flag(spelling),
            (Takes::Nothing, Some("0" | "f" | "F" | "false" | "FALSE" | "False")) => Spelling::Off,
            (Takes::Nothing, Some(value)) => Spelling::Flag(format!("{spelling}={value}")),
        })
    }
}

/// The options and arguments of `command`, and what they take.
fn arguments(command: &clap::Command) -> impl Iterator<Item = (&clap::Arg, Takes)> {
    command.get_arguments().map(|arg| {
        let takes = match (arg.get_action().takes_values(), arg.is_require_equals_set()) {
            (false, _) => Takes::Nothing,
            (true, false) => Takes::Value,
            (true, true) => Takes::Attached,
        };
        (arg, takes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_spellings_become_new_ones() {
        let cases = [
            ("list-units -no-legend", "list-units --no-legend"),
            ("list-units -fields=unit,machine -full", "list-units --fields=unit,machine --full"),
            ("list-units -fields unit", "list-units --fields unit"),
            ("list-units -l", "list-units -l"),
            ("list-units --l --h", "list-units -l -h"),
            ("-endpoint /x list-m", "list-machines --endpoint /x"),
            ("--no-legend list-machines", "list-machines --no-legend"),
            ("--no-legend=true list-units --full=false", "list-units --no-legend"),
            ("-debug=1 submi a.service", "submit --debug a.service"),
            ("start a --no-block b", "start a --no-block b"),
            ("start --block-attempts -1", "start --block-attempts -1"),
            ("start -- -full a", "start -- -full a"),
            ("start list-m", "start list-m"),
            ("help list-m", "help list-machines"),
            ("--endpoint /x help", "help"),
            ("-endpoint=/x -debug help list-m --no-legend", "help list-machines"),
            ("--bogus help", "help --bogus"),
            ("help --h", "help -h"),
            ("--fields --full list-units", "list-units --fields --full"),
            ("-v", "-v"),
            ("-version", "--version"),
            ("--help", "--help"),
            ("list-u", "list-u"),
            ("ver", "version"),
            ("list-s", "list-services"),
            ("list-se web", "list-services web"),
            ("list-set", "list-sets"),
            ("sc web@ -1", "scale web@ -1"),
            ("scale web@ -1 --no-block", "scale web@ -1 --no-block"),
            ("d a", "destroy a"),
            ("di a", "diff a"),
            ("c a", "cat a"),
            ("re a", "restart a"),
            ("r a", "restart a"),
            ("rest a", "restart a"),
            ("resto a", "restore a"),
            ("rollb a 3", "rollback a 3"),
            ("rollo a", "rollout a"),
            ("h", "help"),
            ("he", "help"),
            ("hi a", "history a"),
            ("un a", "unload a"),
            ("unset-m n1 a", "unset-metadata n1 a"),
            ("se a", "service a"),
            ("set-m n1 a=b", "set-metadata n1 a=b"),
            ("f n2", "forget n2"),
            ("sta a", "sta a"),
            ("co", "context"),
            ("verif", "verify"),
            ("ma", "ma"),
            ("man", "man"),
            ("start -", "start -"),
            ("star a --bogus", "start a --bogus"),
            ("--bogus start a", "start --bogus a"),
            ("-lfull list-units", "list-units -lfull"),
            ("frobnicate -x", "frobnicate -x"),
            ("--no-legend=maybe list-units", "list-units --no-legend=maybe"),
            ("ssh n1 ls -full --no-legend", "ssh n1 -- ls -full --no-legend"),
            ("ssh -A n1", "ssh -A n1"),
            ("ssh n1 --A", "ssh n1 -A"),
            ("-debug ssh --machine n1 ls -l", "ssh --debug --machine n1 -- ls -l"),
            ("ssh -unit=web cat -debug", "ssh --unit=web -- cat -debug"),
            ("ssh n1 -- ls -l", "ssh n1 -- ls -l"),
            ("-strict-host-key-checking=false list-m", "list-machines --strict-host-key-checking=false"),
            ("--strict-host-key-checking list-m", "list-machines --strict-host-key-checking"),
            ("list-units --watch web", "list-units --watch web"),
            ("list-units -watch=true -w", "list-units --watch -w"),
            ("start --watch 10s web", "start --watch 10s web"),
            ("start -watch=10s web", "start --watch=10s web"),
            ("--watch list-units web", "list-units --watch web"),
            ("--watch 10s start web", "start --watch 10s web"),
            ("--watch=false list-units", "list-units"),
            ("help --watch start", "help start"),
            ("", ""),
        ];
        let command = crate::cli::args::command();
        for (typed, expected) in cases {
            let args = std::iter::once("fleetctl").chain(typed.split_whitespace()).map(OsString::from);
            let normal = normalise(&command, args);
            let words: Vec<_> = normal.iter().skip(1).map(|word| word.to_str().unwrap()).collect();
            assert_eq!(words.join(" "), expected, "{typed}");
        }
    }
}
