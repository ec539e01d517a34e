//! `fleetctl --help` lists the commands in groups, `fleetctl help COMMAND` has the command's own options and examples,
//! and `fleetctl help options` the options of every command. Made of clap's definitions, so that it can't be out of
//! date; owns the order and the words around them.

use std::fmt::Write as _;

use super::examples;

/// What belongs together. A command that is named nowhere here goes last.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Run units",
        &["submit", "load", "start", "restart", "stop", "unload", "destroy", "scale", "rollback", "rollout", "wait"],
    ),
    ("Unit files", &["cat", "diff", "edit", "verify"]),
    (
        "See what is there",
        &["status", "doctor", "explain", "list-units", "list-unit-files", "list-machines", "journal", "ssh"],
    ),
    ("More", &[]),
];

/// Not on the screen, where there is room for 32 lines: `version` is `fleetctl --version` too, `import` is needed once,
/// `rollback`, `diff` and `cat` name `history`, where `forget` or `reset-failed` helps, `status` says so, and who takes
/// hosts out of service, announces services, has several clusters, sets, hosts of several kinds, or other settings,
/// reads about `cordon`, `drain`, `move`, `rebalance`, `reboot`, `what-if`, `list-services`, `service`, `context`,
/// `list-sets`, `set-metadata` and `settings` there.
const LEFT_OUT: [&str; 22] = [
    "list-sets",
    "version",
    "history",
    "import",
    "forget",
    "reset-failed",
    "cordon",
    "uncordon",
    "drain",
    "undrain",
    "reboot",
    "move",
    "rebalance",
    "list-services",
    "service",
    "context",
    "set-metadata",
    "unset-metadata",
    "settings",
    "set",
    "unset",
    "what-if",
];

/// What follows the list of commands.
const READ_ON: &str = "Help: fleetctl help COMMAND; options of every command: fleetctl help options";

/// What it is and the commands, on one screen.
pub(super) fn overview(command: &clap::Command) -> String {
    let visible = || command.get_subcommands().filter(|sub| !sub.is_hide_set() && !LEFT_OUT.contains(&sub.get_name()));
    let width = visible().map(|sub| sub.get_name().len()).max().unwrap_or(0);
    let grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let mut text = "{about}\n{usage-heading} fleetctl [OPTIONS] COMMAND [ARGUMENTS]\n".to_owned();
    for (heading, names) in GROUPS {
        let named = names.iter().filter_map(|name| visible().find(|sub| sub.get_name() == *name));
        let rest = visible().filter(|sub| names.is_empty() && !grouped(sub.get_name()));
        let _ = writeln!(text, "{heading}:");
        for sub in named.chain(rest) {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:width$}  {about}", sub.get_name());
        }
    }
    text + READ_ON
}

/// What follows the options of `command`.
pub(super) fn after(command: &clap::Command) -> String {
    let own = command.get_after_help().map(ToString::to_string);
    let examples = examples::of(command.get_name());
    let name = command.get_name();
    let rest =
        if name == "options" { AFTER } else { "See also:\n  fleetctl help options, for the options of every command" };
    own.into_iter().chain(examples).chain([rest.to_owned()]).collect::<Vec<_>>().join("\n\n")
}

/// What holds for every command. A section of the manual page begins at each line that ends with a colon.
pub(super) const AFTER: &str = "\
Units:
  UNIT is a file (units/hello.service) or the name of a unit; `.service` can
  be left out. Most commands also take quoted patterns of names: 'web@*'.
  Commands can be shortened as long as they are unique, and options can be
  anywhere on the command line.

Environment:
  Each of these options can be set in a variable: FLEETCTL_ENDPOINT for
  --endpoint, FLEETCTL_TUNNEL for --tunnel, and so on. An empty variable
  counts as unset, and the command line takes precedence.

Contexts:
  Each section of ~/.config/flotilla/config ($XDG_CONFIG_HOME) is a context:
  [prod], followed by lines such as tunnel=core@n1,core@n2. It sets the
  options that neither the command line nor the environment sets. --context,
  FLEETCTL_CONTEXT or `fleetctl context use` select it.

Exit status:
  0    done
  1    not done, or not all of it; `diff`: files differ (2: not known)
  2    the command line is invalid; nothing was done
  3    `status` without a unit: something needs a person; with --plan:
       something would change
  130  Ctrl-C ended the wait
  255  `status`, `journal`, `ssh`: a host is unreachable; otherwise these exit
       with the status of the command on the host

See also:
  fleetd(8), systemd.unit(5), systemctl(1), journalctl(1)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_fits_on_one_screen() {
        let mut command = crate::cli::args::command();
        let text = command.render_help().to_string();
        assert!(text.lines().count() <= 32, "{} lines:\n{text}", text.lines().count());
        assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
        let mut started = command.find_subcommand("start").unwrap().clone();
        let text = started.render_help().to_string();
        assert!(text.lines().count() <= 32 && !text.contains("--tunnel"), "{text}");
        assert!(overview(&command).contains("\nMore:\n"));
    }
}
