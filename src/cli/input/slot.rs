//! An unfinished command line → what its last word may be, as far as only the cluster knows it, or a table of ours.
//! Pure; asks nobody.

use crate::cli::args::FIELDS;
use crate::cli::input::argv;

/// What completes a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Values {
    /// Names of units. `templates` is whether those of templates are among them, `files` whether files are as well.
    Units { templates: bool, files: bool },
    /// Names of hosts.
    Hosts,
    /// Names of hosts and of units.
    HostsAndUnits,
    /// Names of services.
    Services,
    /// The fields of a list.
    Fields(&'static [&'static str]),
}

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
    let verb = verb?;
    if let Some(option) = option {
        return of_option(&verb, &option, "", current);
    }
    if let Some(name) = current.strip_prefix("--") {
        let (name, value) = name.split_once('=')?;
        return of_option(&verb, name, &format!("--{name}="), value);
    }
    let values = of_argument(&verb, named.len())?;
    // A pattern is matched by the cluster, and a flag is no value.
    let plain = !current.starts_with('-') && !current.contains(['*', '?', '[']);
    plain.then(|| Slot { values, head: String::new(), begun: current.clone(), named })
}

/// The long name of an option without `=` that takes the next word as its value; `name` has no first dash.
fn takes_value(command: &clap::Command, verb: Option<&str>, name: &str) -> Option<String> {
    let own = verb.and_then(|verb| command.find_subcommand(verb));
    let mut options = own.into_iter().chain([command]).flat_map(clap::Command::get_arguments);
    let is = |arg: &&clap::Arg| match name.strip_prefix('-') {
        Some(long) => arg.get_long() == Some(long),
        None => name.len() == 1 && arg.get_short() == name.chars().next() || arg.get_long() == Some(name),
    };
    let option = options.find(is)?;
    let takes = option.get_action().takes_values() && !option.is_require_equals_set();
    takes.then(|| option.get_long().unwrap_or_default().to_owned())
}

/// The value of an option. Those that take a list are completed after its last comma.
fn of_option(verb: &str, option: &str, head: &str, value: &str) -> Option<Slot> {
    let fields = || FIELDS.iter().find(|(name, _)| *name == verb).map(|(_, fields)| Values::Fields(fields));
    let (values, is_list) = match option {
        "fields" => (fields()?, true),
        "host" => (Values::Hosts, true),
        "machine" => (Values::Hosts, false),
        "unit" => (Values::Units { templates: false, files: false }, false),
        _ => return None,
    };
    let (before, begun) = value
        .rsplit_once(',')
        .filter(|_| is_list)
        .map_or(("", value), |(before, begun)| (&value[..=before.len()], begun));
    let named = before.split(',').map(str::to_owned).collect();
    Some(Slot { values, head: format!("{head}{before}"), begun: begun.into(), named })
}

/// The argument after `before` others.
fn of_argument(verb: &str, before: usize) -> Option<Values> {
    let units = |templates, files| Some(Values::Units { templates, files });
    match verb {
        "submit" => units(true, true),
        "load" | "start" => units(false, true),
        "restart" | "stop" | "unload" | "status" | "wait" | "list-units" => units(false, false),
        "destroy" | "journal" | "list-unit-files" => units(true, false),
        "cat" if before == 0 => units(true, false),
        "ssh" if before == 0 => Some(Values::HostsAndUnits),
        "list-machines" | "forget" => Some(Values::Hosts),
        "list-services" => Some(Values::Services),
        "service" if before == 0 => Some(Values::Services),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_line_is_understood() {
        let command = crate::cli::args::documented();
        let units = |templates, files| Some(Values::Units { templates, files });
        let fields = || Some(Values::Fields(FIELDS[0].1));
        let cases = [
            ("stop ", units(false, false), "", ""),
            ("stop a we", units(false, false), "", "we"),
            ("destr web@", units(true, false), "", "web@"),
            ("start --timeout 60s we", units(false, true), "", "we"),
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
            ("list-machines n", Some(Values::Hosts), "", "n"),
            ("service w", Some(Values::Services), "", "w"),
            ("list-services ", Some(Values::Services), "", ""),
            ("nonsense ", None, "", ""),
        ];
        for (line, values, head, begun) in cases {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let slot = of(&command, &words);
            assert_eq!(slot.as_ref().map(|slot| slot.values), values, "{line}");
            if let Some(slot) = slot {
                assert_eq!((slot.head.as_str(), slot.begun.as_str()), (head, begun), "{line}");
            }
        }
    }
}
