//! Contexts: named sets of options in the user's file, used where neither the command line nor the environment sets
//! one. Owns the file's place, its syntax and which options it may set; never reaches a cluster.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::output::OutputFormat;
use crate::cli::error::problem_line;
use crate::model::file::UnitFile;

/// The options that a context may set: how to reach a cluster.
const OPTIONS: [&str; 12] = [
    "endpoint",
    "request-timeout",
    "tunnel",
    "ssh-username",
    "ssh-identity",
    "ssh-port",
    "ssh-timeout",
    "known-hosts-file",
    "strict-host-key-checking",
    "ca-file",
    "cert-file",
    "key-file",
];

/// Commands that work without a context, so that a mistake in the file keeps nobody from reading about it.
const WITHOUT: [&str; 8] = ["help", "man", "completion", "__complete", "version", "options", "context", "fd-forward"];

/// `context`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ContextArgs {
    /// List the contexts, show one, or use one from now on
    #[arg(value_name = "ACTION", value_enum, default_value = "list")]
    pub(in crate::cli) action: Action,
    /// The context; with `show`, the one in use by default
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// What `context` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Action {
    /// List all contexts
    List,
    /// Print the options of one
    Show,
    /// Use one from now on, when neither --context nor FLEETCTL_CONTEXT names another
    Use,
}

/// One context: its options, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Context {
    pub(in crate::cli) name: String,
    pub(in crate::cli) options: Vec<(String, String)>,
}

/// The user's contexts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::cli) struct Contexts {
    pub(in crate::cli) all: Vec<Context>,
    /// The one that `fleetctl context use` selected.
    pub(in crate::cli) selected: Option<String>,
}

/// Where contexts are: `$XDG_CONFIG_HOME/flotilla`, or `~/.config/flotilla`.
pub(in crate::cli) fn folder() -> PathBuf {
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::home_dir().unwrap_or_else(|| "/".into()).join(".config");
    base.unwrap_or_else(home).join("flotilla")
}

/// The name of the file of contexts in its folder.
pub(in crate::cli) const FILE: &str = "config";
/// The name of the file that holds the name of the selected context.
pub(in crate::cli) const SELECTED: &str = "context";

impl Contexts {
    /// Read the contexts in `folder`; without a file there are none.
    ///
    /// # Errors
    /// All mistakes in the file, one a line.
    pub(in crate::cli) fn read(folder: &Path) -> Result<Self, Vec<String>> {
        let file = folder.join(FILE);
        let all = match fs::read(&file) {
            Ok(text) => parse(&file.display().to_string(), &text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(vec![format!("can't read {}: {}", file.display(), error.kind())]),
        };
        let selected = fs::read_to_string(folder.join(SELECTED)).ok();
        let selected = selected.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        Ok(Self { all, selected })
    }

    /// The context of this name.
    pub(in crate::cli) fn get(&self, name: &str) -> Option<&Context> {
        self.all.iter().find(|context| context.name == name)
    }

    /// What to say of a context that doesn't exist.
    pub(in crate::cli) fn unknown(&self, name: &str, folder: &Path) -> String {
        let names: Vec<&str> = self.all.iter().map(|context| context.name.as_str()).collect();
        let there = if names.is_empty() { "none".into() } else { names.join(", ") };
        format!("no context `{name}` in {}: there is {there}", folder.join(FILE).display())
    }
}

/// The contexts in a file: systemd's syntax, a section for each.
fn parse(file: &str, text: &[u8]) -> Result<Vec<Context>, Vec<String>> {
    let is_empty = text.split(|byte| *byte == b'\n').all(|line| {
        let line = line.trim_ascii();
        line.is_empty() || line.starts_with(b"#") || line.starts_with(b";")
    });
    if is_empty {
        return Ok(Vec::new());
    }
    let parsed = UnitFile::parse(text).map_err(|error| vec![problem_line(file, error.line(), &error.what())])?;
    let mut problems: Vec<String> =
        parsed.warnings().iter().map(|warning| problem_line(file, Some(warning.line), &warning.what)).collect();
    let mut all: Vec<Context> = Vec::new();
    for option in parsed.options() {
        if let Err(what) = check(&option.name, &option.value) {
            problems.push(problem_line(file, Some(option.line), &what));
            continue;
        }
        let pair = (option.name.clone(), option.value.clone());
        match all.iter_mut().find(|context| context.name == option.section) {
            Some(context) => context.options.push(pair),
            None => all.push(Context { name: option.section.clone(), options: vec![pair] }),
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

/// Whether an option may be set to this value, by its own definition.
fn check(name: &str, value: &str) -> Result<(), String> {
    if !OPTIONS.contains(&name) {
        return Err(format!("unknown option `{name}`; there are {}", OPTIONS.join(", ")));
    }
    let definitions = super::Globals::augment_args(clap::Command::new("fleetctl").no_binary_name(true));
    let definitions = definitions.mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
    let parsed = definitions.try_get_matches_from([format!("--{name}={value}")]);
    parsed.map(drop).map_err(|error| {
        let why = std::error::Error::source(&error).map_or("this is not a valid value".into(), ToString::to_string);
        format!("`{name}={value}`: {why}")
    })
}

/// The context of a command line in clap's spelling: that of `--context`, of the environment, or the selected one.
///
/// # Errors
/// The file has mistakes, or there is no such context.
pub(in crate::cli) fn of(words: &[OsString]) -> Result<Option<Context>, Vec<String>> {
    let verb = words.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    if WITHOUT.contains(&verb) {
        return Ok(None);
    }
    let folder = folder();
    let contexts = Contexts::read(&folder)?;
    let variable = std::env::var_os("FLEETCTL_CONTEXT").and_then(|name| name.into_string().ok());
    let Some(name) = typed(words).or(variable.filter(|name| !name.is_empty())).or_else(|| contexts.selected.clone())
    else {
        return Ok(None);
    };
    contexts.get(&name).cloned().map(Some).ok_or_else(|| vec![contexts.unknown(&name, &folder)])
}

/// The value of `--context` in `words`, which a command on another host isn't part of.
fn typed(words: &[OsString]) -> Option<String> {
    let mut words = words.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    while let Some(word) = words.next() {
        if let Some(name) = word.strip_prefix("--context=") {
            return Some(name.into());
        }
        if word == "--context" {
            return words.next().map(Into::into);
        }
    }
    None
}

/// `arg`, with the context's value as its default: the command line and the environment take precedence.
pub(super) fn default(arg: clap::Arg, context: Option<&Context>) -> clap::Arg {
    let options = context.map_or(&[][..], |context| &context.options);
    let set = options.iter().filter(|(name, _)| arg.get_long() == Some(name));
    let values: Vec<clap::builder::OsStr> = set.map(|(_, value)| OsString::from(value).into()).collect();
    match (values.last().cloned(), arg.get_action()) {
        (None, _) => arg,
        (Some(_), clap::ArgAction::Append) => arg.default_values(values),
        (Some(last), _) => arg.default_value(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_section_for_each_context() {
        let text =
            "# mine\n[prod]\ntunnel=core@n1,n2\ntunnel=n3\nssh-port=2222\n\n[lab]\nendpoint=http://10.0.0.1:49153\n";
        let all = parse("config", text.as_bytes()).unwrap();
        let names: Vec<&str> = all.iter().map(|context| context.name.as_str()).collect();
        assert_eq!((names, all[0].options.len()), (vec!["prod", "lab"], 3));
        assert_eq!(parse("config", b"# nothing yet\n\n"), Ok(vec![]));
    }

    #[test]
    fn every_mistake_is_shown_with_its_line() {
        let text = "[prod]\ntunel=n1\nssh-port=0\nwithout a value\nssh-timeout=soon\n";
        let problems = parse("config", text.as_bytes()).unwrap_err();
        let expected =
            ["config:4: ", "config:2: unknown option `tunel`; there are ", "config:3: `ssh-port=0`: it must be a port"];
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problems:#?}");
        }
        assert!(
            problems[3].starts_with("config:5: `ssh-timeout=soon`: it must be a number of seconds"),
            "{problems:#?}"
        );
        assert!(parse("config", b"[prod\ntunnel=n1\n").unwrap_err()[0].starts_with("config:1: bad section header"));
    }

    #[test]
    fn what_is_typed_goes_before_what_the_context_sets() {
        let options =
            [("tunnel", "n1,n2"), ("ssh-port", "2222"), ("endpoint", "http://a:1"), ("endpoint", "http://b:1")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let context = Context { name: "prod".into(), options };
        let parse = |words: &[&str]| {
            let words = ["fleetctl"].iter().chain(words).chain(&["list-units"]);
            let matches = crate::cli::args::command_in(Some(&context)).try_get_matches_from(words).unwrap();
            let all = |name: &str| matches.get_many::<String>(name).unwrap().cloned().collect::<Vec<_>>().join(" ");
            (all("tunnel"), all("endpoint"), matches.get_one::<u16>("ssh_port").copied())
        };
        assert_eq!(parse(&[]), ("n1 n2".into(), "http://a:1 http://b:1".into(), Some(2222)));
        assert_eq!(parse(&["--tunnel=x", "--ssh-port=22"]), ("x".into(), "http://a:1 http://b:1".into(), Some(22)));
        assert_eq!(typed(&["fleetctl", "ssh", "--context", "prod", "n1"].map(OsString::from)), Some("prod".into()));
        assert_eq!(typed(&["fleetctl", "ssh", "n1", "--", "--context=x"].map(OsString::from)), None);
    }
}
