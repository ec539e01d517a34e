//! `fleetctl --help`: the commands in groups, an example, the environment, where to read on. Made of clap's
//! definitions, so that it can't be out of date; owns the order and the words around them.

use std::fmt::Write as _;

/// What belongs together. A command that is named nowhere here goes last.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run units", &["submit", "load", "start", "restart", "stop", "unload", "destroy"]),
    ("See what is there", &["list-units", "list-unit-files", "list-machines", "cat"]),
    ("See what units do", &["status", "journal", "ssh"]),
    ("Services", &["list-services", "service"]),
    ("More", &[]),
];

/// Before the options: what it is, how it is used, the commands.
pub(super) fn template(command: &clap::Command) -> String {
    let visible = || command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let width = visible().map(|sub| sub.get_name().len()).max().unwrap_or(0);
    let grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let mut text = "{about}\n\n{usage-heading} {usage}\n".to_owned();
    for (heading, names) in GROUPS {
        let named = names.iter().filter_map(|name| visible().find(|sub| sub.get_name() == *name));
        let rest = visible().filter(|sub| names.is_empty() && !grouped(sub.get_name()));
        let mut lines = String::new();
        for sub in named.chain(rest) {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(lines, "  {:width$}  {about}", sub.get_name());
        }
        if names.is_empty() {
            let _ = writeln!(lines, "  {:width$}  What a command does, and its options: fleetctl help start", "help");
        }
        if !lines.is_empty() {
            let _ = write!(text, "\n{heading}:\n{lines}");
        }
    }
    text + "\nGlobal options:\n{options}{after-help}"
}

/// After the options.
pub(super) const AFTER: &str = "\
Example:
  fleetctl list-machines             which hosts there are
  fleetctl start hello.service       hand in the file hello.service, and start it on a host that fits
  fleetctl list-units                where it runs
  fleetctl journal -f hello          what it says
  fleetctl destroy hello             stop it, and forget it

UNIT is a file (`units/hello.service`) or a unit's name; `.service` can be left out. Most commands take quoted patterns
of names too: 'web@*'. Commands can be shortened as long as they stay unique, and options can stand anywhere.

Environment:
  Each global option can be set in a variable: FLEETCTL_ENDPOINT for --endpoint, FLEETCTL_TUNNEL for --tunnel, and so
  on. An empty one counts as unset, and the command line counts more.

Exit status:
  0 done, 1 not done or not all of it, 2 not understood, 130 Ctrl-C ended the waiting; of `status`, `journal` and `ssh`
  also that of the command on the host, and 255 when the host can't be reached.

Read on:
  fleetctl help COMMAND, man fleetctl, systemd.unit(5) for unit files";
