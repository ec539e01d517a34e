//! Words that are no commands of ours → the command that does what was meant. Owns the table of the words that people
//! know from other tools, and the suggestions for misspelt commands. Never runs a command in place of another one.

use super::argv;
use crate::cli::error::Line;
use crate::model::text::shell_word;

/// The words of other tools for something that one of our commands does.
struct Words {
    typed: &'static [&'static str],
    /// Our command line; `{}` stands for the arguments that were typed.
    ours: &'static str,
    /// What that does.
    does: &'static str,
}

/// docker, docker compose, kubectl, nomad, podman, systemctl and the shell.
const OTHERS: &[Words] = &[
    Words { typed: &["logs", "log", "tail"], ours: "journal{}", does: "shows what units log" },
    Words {
        typed: &["ps", "ls", "get", "list", "units", "pods", "containers", "jobs", "job"],
        ours: "list-units",
        does: "lists the units on hosts, `fleetctl list-unit-files` all units of the cluster",
    },
    Words {
        typed: &["nodes", "node", "hosts", "machines", "members", "servers"],
        ours: "list-machines",
        does: "lists the hosts of the cluster",
    },
    Words {
        typed: &["rm", "remove", "delete", "del", "purge"],
        ours: "destroy{}",
        does: "stops units and removes them from the cluster (`stop` and `unload` keep them)",
    },
    Words {
        typed: &["down", "kill"],
        ours: "stop{}",
        does: "stops units, `fleetctl destroy` also removes them from the cluster",
    },
    Words {
        typed: &["show", "describe", "inspect", "info"],
        ours: "status{}",
        does: "shows the state of units, `fleetctl cat` their files",
    },
    Words {
        typed: &["apply", "deploy", "up", "run", "create", "update", "upgrade", "replace"],
        ours: "start --replace FILE...",
        does: "submits new and changed unit files and starts their units",
    },
    Words { typed: &["exec", "attach", "shell", "login", "enter", "bash", "sh"], ours: "ssh{}", does: "goes there" },
    Words { typed: &["validate", "check", "lint"], ours: "verify{}", does: "checks unit files, and submits nothing" },
    Words {
        typed: &["reload"],
        ours: "restart{}",
        does: "restarts units; `fleetctl ssh UNIT systemctl reload UNIT` reloads one",
    },
    Words {
        typed: &["daemon-reload"],
        ours: "start --replace FILE...",
        does: "is all: hosts reload systemd themselves",
    },
    Words {
        typed: &["top", "stats"],
        ours: "ssh HOST systemd-cgtop",
        does: "shows what the units of a host use, `fleetctl list-units` where units run",
    },
    Words {
        typed: &["is-active", "is-failed"],
        ours: "wait --for=active{}",
        does: "waits until units are active; `fleetctl list-units` shows the states of units",
    },
    Words { typed: &["undo", "revert"], ours: "rollback{}", does: "gives a unit the file back that it had before" },
    Words {
        typed: &["backup", "save", "dump", "snapshot"],
        ours: "export{}",
        does: "writes the files and desired states of all units into a folder",
    },
    Words { typed: &["ctx", "contexts", "config"], ours: "context{}", does: "lists and selects contexts" },
    Words { typed: &["enable"], ours: "start{}", does: "starts units and keeps them running" },
    Words { typed: &["disable"], ours: "unload{}", does: "stops units and takes them off their hosts" },
];

/// The commands that change nothing: only these are suggested for a word that is merely close in letters.
const READ: [&str; 15] = [
    "cat",
    "diff",
    "doctor",
    "explain",
    "help",
    "journal",
    "list-machines",
    "list-services",
    "list-sets",
    "list-unit-files",
    "list-units",
    "status",
    "verify",
    "version",
    "what-if",
];

/// The largest edit distance of a suggestion, and how many letters of the command there must be for each edit.
const NEAR: usize = 2;
const LETTERS: usize = 3;

/// The message about the unknown command `typed`, which was followed by `rest`.
pub(in crate::cli) fn unknown(command: &clap::Command, typed: &str, rest: &[String]) -> Vec<Line> {
    let begins: Vec<&str> =
        argv::visible(command).filter(|name| !typed.is_empty() && name.starts_with(typed)).collect();
    if begins.len() > 1 {
        return vec![format!("the command `{typed}` is ambiguous: it could be {}", begins.join(", ")).into()];
    }
    let word = typed.to_ascii_lowercase();
    if let Some(words) = OTHERS.iter().find(|words| words.typed.contains(&word.as_str())) {
        let line = words.ours.replace("{}", &arguments(rest));
        return vec![format!("no command `{typed}`: `fleetctl {line}` {}", words.does).into()];
    }
    let mut lines = vec![Line::Message(format!("no command `{typed}`"))];
    lines.push(match nearest(&word) {
        Some(near) => Line::hint(format!("did you mean `fleetctl {near}`?")),
        None => Line::hint("`fleetctl help` lists the commands"),
    });
    lines
}

fn nearest(typed: &str) -> Option<&'static str> {
    let far = |name: &'static str| (strsim::osa_distance(name, typed), name);
    let near = READ.into_iter().map(far).filter(|(far, name)| *far <= NEAR && far * LETTERS <= name.len());
    near.min().map(|(_, name)| name)
}

/// The arguments as they can be typed again, each after a blank.
fn arguments(rest: &[String]) -> String {
    rest.iter().map(|arg| format!(" {}", shell_word(arg))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Vec<String> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let typed = words.next().unwrap();
        let lines = unknown(&crate::cli::args::command(), &typed, &words.collect::<Vec<_>>());
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn words_of_other_tools_name_our_commands() {
        for (typed, ours) in [
            ("logs -f web@1", "no command `logs`: `fleetctl journal -f web@1` shows what units log"),
            ("exec web@1 ls", "no command `exec`: `fleetctl ssh web@1 ls` goes there"),
            ("rm web@*", "no command `rm`: `fleetctl destroy 'web@*'` stops units and removes them"),
            ("ps -a", "no command `ps`: `fleetctl list-units` lists the units on hosts"),
            ("Apply -f units/", "no command `Apply`: `fleetctl start --replace FILE...` submits"),
        ] {
            assert!(said(typed)[0].starts_with(ours), "{typed}: {:?}", said(typed));
        }
    }

    #[test]
    fn the_table_names_commands_that_there_are_and_each_word_once() {
        let command = crate::cli::args::command();
        let mut seen = std::collections::BTreeSet::new();
        for words in OTHERS {
            let ours = words.ours.split([' ', '{']).next().unwrap();
            assert!(command.find_subcommand(ours).is_some(), "{ours}");
            for typed in words.typed {
                assert!(seen.insert(typed), "{typed} is there twice");
                assert!(command.find_subcommand(typed).is_none(), "{typed} is a command");
            }
        }
        for name in READ {
            assert!(name == "help" || command.find_subcommand(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_slip_is_never_answered_with_a_command_that_changes_something() {
        for (typed, hint) in [
            ("strat a", "hint: `fleetctl help` lists the commands"),
            ("stopp a", "hint: `fleetctl help` lists the commands"),
            ("destory a", "hint: `fleetctl help` lists the commands"),
            ("statsu a", "hint: did you mean `fleetctl status`?"),
            ("jounral a", "hint: did you mean `fleetctl journal`?"),
            ("list-unit-file", "hint: did you mean `fleetctl list-unit-files`?"),
            ("cta a", "hint: did you mean `fleetctl cat`?"),
            ("git", "hint: `fleetctl help` lists the commands"),
        ] {
            assert_eq!(said(typed).last().map(String::as_str), Some(hint), "{typed}");
        }
    }

    #[test]
    fn a_beginning_of_several_lists_them() {
        assert_eq!(said("list-u")[0], "the command `list-u` is ambiguous: it could be list-units, list-unit-files");
    }
}
