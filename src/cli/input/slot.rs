//! An unfinished command line → what its last word may be, as far as only the cluster knows it, or a table of ours.
//! Pure; asks nobody.

use crate::cli::input::argv;
use crate::model::settings::{ALL, Setting};

/// What completes a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Values {
    /// Names of units.
    Units {
        /// Those of templates as well.
        templates: bool,
        /// For a template, the beginning of its instances' names: `web@`.
        instances: bool,
        /// Files as well.
        files: bool,
    },
    /// Names of sets: their templates.
    Sets,
    /// Names of templates that can be scaled: all but those that have as many members as another one.
    Scalable,
    /// Names of hosts.
    Hosts,
    /// Names of hosts that are cordoned.
    CordonedHosts,
    /// Names of hosts that are drained.
    DrainedHosts,
    /// Names of hosts that are to reboot.
    RebootingHosts,
    /// Names of hosts that are gone.
    GoneHosts,
    /// Names of hosts and of units.
    HostsAndUnits,
    /// Metadata as `key=value`, of all hosts.
    Metadata,
    /// Names of hosts, and metadata as `key=value`.
    HostsAndMetadata,
    /// Keys of the metadata of all hosts.
    Keys,
    /// Keys of the metadata of a host, by what names it.
    KeysOf(String),
    /// Names of services.
    Services,
    /// Names of contexts.
    Contexts,
    /// States of units.
    States,
    /// Types of units.
    Types,
    /// One of these: the definition of the option has them.
    Words(Vec<String>),
}

/// Options that take several values, separated by commas.
const LISTS: [&str; 4] = ["fields", "host", "state", "type"];

/// The word to complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Slot {
    /// What completes it.
    pub(in crate::cli) values: Values,
    /// What is in front of the value in the same word: `--host=`, `--fields=unit,`.
    pub(in crate::cli) head: String,
    /// The beginning of the value.
    pub(in crate::cli) begun: String,
    /// Units that were named before, which aren't offered again.
    pub(in crate::cli) named: Vec<String>,
}

/// What the last of `words`, which follow the program's name, may be.
pub(in crate::cli) fn of(command: &clap::Command, words: &[String]) -> Option<Slot> {
    let (current, before) = words.split_last()?;
    let mut verb: Option<String> = None;
    let mut named = Vec::new();
    // The option whose value the next word is.
    let mut option: Option<String> = None;
    for word in before {
        match (option.take(), word.strip_prefix('-')) {
            (Some(_), _) => {}
            // What follows belongs to a command on a host.
            (None, Some("-")) => return None,
            (None, Some(name)) => option = takes_value(command, verb.as_deref(), name),
            (None, None) if verb.is_none() => verb = Some(argv::full_name(command, word)),
            (None, None) => named.push(word.clone()),
        }
    }
    if let Some(option) = option {
        return of_option(command, verb.as_deref(), &option, "", current);
    }
    if let Some(name) = current.strip_prefix("--") {
        let (name, value) = name.split_once('=')?;
        return of_option(command, verb.as_deref(), name, &format!("--{name}="), value);
    }
    let values = match verb?.as_str() {
        "reboot" if before.iter().any(|word| word == "--cancel") => Values::RebootingHosts,
        verb => of_argument(verb, &named)?,
    };
    // A pattern is matched by the cluster, and a flag is no value.
    let plain = !current.starts_with('-') && !current.contains(['*', '?', '[']);
    plain.then(|| Slot { values, head: String::new(), begun: current.clone(), named })
}

/// The option of `verb`, or of every command, with this name, which has no first dash.
fn option<'a>(command: &'a clap::Command, verb: Option<&str>, name: &str) -> Option<&'a clap::Arg> {
    let own = verb.and_then(|verb| command.find_subcommand(verb));
    let mut options = own.into_iter().chain([command]).flat_map(clap::Command::get_arguments);
    options.find(|arg| match name.strip_prefix('-') {
        Some(long) => arg.get_long() == Some(long),
        None => name.len() == 1 && arg.get_short() == name.chars().next() || arg.get_long() == Some(name),
    })
}

/// The long name of an option without `=` that takes the next word as its value; `name` has no first dash.
fn takes_value(command: &clap::Command, verb: Option<&str>, name: &str) -> Option<String> {
    let option = option(command, verb, name)?;
    let takes = option.get_action().takes_values() && !option.is_require_equals_set();
    takes.then(|| option.get_long().unwrap_or_default().to_owned())
}

/// The value of the option `name`. Those that take a list are completed after its last comma.
fn of_option(command: &clap::Command, verb: Option<&str>, name: &str, head: &str, value: &str) -> Option<Slot> {
    let values = match name {
        "host" | "machine" | "to" => Values::Hosts,
        "lose" => Values::HostsAndMetadata,
        "each" => Values::Keys,
        "start" => Values::Units { templates: false, instances: true, files: true },
        "unit" => Values::Units { templates: false, instances: false, files: false },
        "context" => Values::Contexts,
        "state" => Values::States,
        "type" => Values::Types,
        _ => {
            let option = option(command, verb, &format!("-{name}")).filter(|option| option.get_action().takes_values());
            let words = option?.get_possible_values().iter().map(|word| word.get_name().to_owned()).collect::<Vec<_>>();
            (!words.is_empty()).then_some(Values::Words(words))?
        }
    };
    let (before, begun) = value
        .rsplit_once(',')
        .filter(|_| LISTS.contains(&name))
        .map_or(("", value), |(before, begun)| (&value[..=before.len()], begun));
    let named = before.split(',').map(str::to_owned).collect();
    Some(Slot { values, head: format!("{head}{before}"), begun: begun.into(), named })
}

/// The argument after the arguments `before` it.
fn of_argument(verb: &str, before: &[String]) -> Option<Values> {
    let units = |templates, files| Some(Values::Units { templates, instances: false, files });
    match verb {
        "submit" => units(true, true),
        // The files of `what-if --start` may be several.
        "load" | "start" | "what-if" => Some(Values::Units { templates: false, instances: true, files: true }),
        "verify" | "diff" => units(true, true),
        "restart" | "reset-failed" | "stop" | "unload" | "status" | "wait" | "list-units" => units(false, false),
        "destroy" | "journal" | "list-unit-files" => units(true, false),
        "cat" | "edit" if before.is_empty() => units(true, false),
        "ssh" if before.is_empty() => Some(Values::HostsAndUnits),
        "scale" if before.is_empty() => Some(Values::Scalable),
        "move" if before.is_empty() => units(false, false),
        "rebalance" | "explain" => units(true, false),
        "move" => Some(Values::HostsAndUnits),
        "list-sets" => Some(Values::Sets),
        "rollout" if before.is_empty() => units(true, false),
        // Also those that are cordoned or drained: the same is asked again, with a reason or with `--force`.
        "list-machines" | "cordon" | "drain" | "reboot" => Some(Values::Hosts),
        "uncordon" => Some(Values::CordonedHosts),
        "undrain" => Some(Values::DrainedHosts),
        "forget" => Some(Values::GoneHosts),
        "set-metadata" | "unset-metadata" if before.is_empty() => Some(Values::Hosts),
        "set-metadata" => Some(Values::Metadata),
        "unset-metadata" => before.first().cloned().map(Values::KeysOf),
        "set" => Some(Values::Words(assignments())),
        "unset" => Some(Values::Words(ALL.iter().map(|setting| setting.name.to_owned()).collect())),
        "list-services" => Some(Values::Services),
        "service" if before.is_empty() => Some(Values::Services),
        "context" if matches!(before, [action] if action == "show" || action == "use") => Some(Values::Contexts),
        _ => None,
    }
}

/// `placement=pack`, `overcommit-cpu=`.
fn assignments() -> Vec<String> {
    let of = |setting: &Setting| -> Vec<String> {
        let values = if setting.words.is_empty() { &[""] } else { setting.words };
        values.iter().map(|value| format!("{}={value}", setting.name)).collect()
    };
    ALL.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::FIELDS;

    #[test]
    fn the_last_word_of_a_line_is_understood() {
        let command = crate::cli::args::documented();
        let units = |templates, files| Some(Values::Units { templates, instances: false, files });
        let files = || Some(Values::Units { templates: false, instances: true, files: true });
        let words = |words: &[&str]| Some(Values::Words(words.iter().map(|word| (*word).to_owned()).collect()));
        let fields = || words(FIELDS[0].1);
        let cases = [
            ("stop ", units(false, false), "", ""),
            ("stop a we", units(false, false), "", "we"),
            ("destr web@", units(true, false), "", "web@"),
            ("start --timeout 60s we", files(), "", "we"),
            ("start --timeout ", None, "", ""),
            ("--endpoint /x stop we", units(false, false), "", "we"),
            ("cat a ", None, "", ""),
            ("stop we*", None, "", ""),
            ("stop -", None, "", ""),
            ("st", None, "", ""),
            ("ssh ", Some(Values::HostsAndUnits), "", ""),
            ("ssh n1 ", None, "", ""),
            ("ssh --machine n", Some(Values::Hosts), "", "n"),
            ("ssh n1 -- ls ", None, "", ""),
            ("list-units --host n1,n", Some(Values::Hosts), "n1,", "n"),
            ("list-units --host=n", Some(Values::Hosts), "--host=", "n"),
            ("list-units --fields=unit,ac", fields(), "--fields=unit,", "ac"),
            ("list-units --fields ", fields(), "", ""),
            ("scale we", Some(Values::Scalable), "", "we"),
            ("scale web@ ", None, "", ""),
            ("list-sets ", Some(Values::Sets), "", ""),
            ("list-machines n", Some(Values::Hosts), "", "n"),
            ("service w", Some(Values::Services), "", "w"),
            ("list-services ", Some(Values::Services), "", ""),
            ("nonsense ", None, "", ""),
            ("forget n", Some(Values::GoneHosts), "", "n"),
            ("set-metadata n", Some(Values::Hosts), "", "n"),
            (
                "set placement=p",
                words(&[
                    "overcommit-cpu=",
                    "overcommit-memory=",
                    "placement=spread",
                    "placement=pack",
                    "reboot-slots=",
                    "reboot-windows=always",
                ]),
                "",
                "placement=p",
            ),
            (
                "unset o",
                words(&["overcommit-cpu", "overcommit-memory", "placement", "reboot-slots", "reboot-windows"]),
                "",
                "o",
            ),
            ("set-m n1 zone=a di", Some(Values::Metadata), "", "di"),
            ("unset-metadata n1 z", Some(Values::KeysOf("n1".into())), "", "z"),
            ("cordon n1 n", Some(Values::Hosts), "", "n"),
            ("uncordon n", Some(Values::CordonedHosts), "", "n"),
            ("cordon --why ", None, "", ""),
            ("drain --parallel 3 n", Some(Values::Hosts), "", "n"),
            ("undrain n", Some(Values::DrainedHosts), "", "n"),
            ("undrain n1 --restore n", Some(Values::DrainedHosts), "", "n"),
            ("reboot --force n", Some(Values::Hosts), "", "n"),
            ("reboot --cancel n", Some(Values::RebootingHosts), "", "n"),
            ("move w", units(false, false), "", "w"),
            ("move web@2 n", Some(Values::HostsAndUnits), "", "n"),
            ("move web@2 --to n", Some(Values::Hosts), "", "n"),
            ("what-if --lose n", Some(Values::HostsAndMetadata), "", "n"),
            ("what-if --lose n1 --each z", Some(Values::Keys), "", "z"),
            ("what-if --each=z", Some(Values::Keys), "--each=", "z"),
            ("what-if --start a.service b", files(), "", "b"),
            ("what-if --start a", files(), "", "a"),
            ("what-if --add ", None, "", ""),
            ("--context pr", Some(Values::Contexts), "", "pr"),
            ("list-units --context=pr", Some(Values::Contexts), "--context=", "pr"),
            ("context use ", Some(Values::Contexts), "", ""),
            ("context us", None, "", ""),
            ("list-units --state failed,wa", Some(Values::States), "failed,", "wa"),
            ("list-unit-files --type=so", Some(Values::Types), "--type=", "so"),
            ("list-units -o j", words(&["text", "json"]), "", "j"),
            ("list-units --output=j", words(&["text", "json"]), "--output=", "j"),
            ("wait --for ", words(&["active", "ready", "inactive", "settled"]), "", ""),
            ("wait --for=se", words(&["active", "ready", "inactive", "settled"]), "--for=", "se"),
            ("wait --for=active we", units(false, false), "", "we"),
            ("start --watch 10s we", files(), "", "we"),
            ("list-units --watch we", units(false, false), "", "we"),
            ("start --bogus=x", None, "", ""),
        ];
        for (line, values, head, begun) in cases {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let slot = of(&command, &words);
            assert_eq!(slot.as_ref().map(|slot| &slot.values), values.as_ref(), "{line}");
            if let Some(slot) = slot {
                assert_eq!((slot.head.as_str(), slot.begun.as_str()), (head, begun), "{line}");
            }
        }
    }
}
