//! Examples of each command, for its help and its manual page. Owns the lines; `help` puts them in place.

/// A command, and examples of it: each a command line without `fleetctl`, and what it does.
type Examples = (&'static str, &'static [(&'static str, &'static str)]);

const EXAMPLES: &[Examples] = &[
    (
        "submit",
        &[
            ("submit web@.service", "submit a template, to start instances of it later"),
            ("submit --replace --instances web@.service", "replace it, and the files of its instances"),
        ],
    ),
    (
        "verify",
        &[
            ("verify units/*.service", "check these files, with systemd and the cluster if they are there"),
            ("verify --output json web.service", "the same for an editor"),
        ],
    ),
    (
        "diff",
        &[
            ("diff web.service", "how the file here differs, and what `start --replace` would do"),
            ("diff web@1", "how an instance differs from its template"),
            ("diff web@ 7", "how the present file of web@.service differs from its revision 7"),
            ("diff web@ 7 9", "how revision 9 differs from revision 7"),
        ],
    ),
    (
        "history",
        &[
            ("history web.service", "the texts that it has and had: since when, by whom, and what became of each"),
            ("history web@", "those of the template web@.service"),
        ],
    ),
    ("edit", &[("edit web.service", "change its file in $EDITOR, and restart it if it runs")]),
    ("load", &[("load db.service", "place db.service on a host, without starting it")]),
    (
        "start",
        &[
            ("start hello.service", "submit the file hello.service and start the unit"),
            ("start --timeout 60s web@1 web@2", "start two instances of web@.service, and wait a minute at most"),
            ("start --replace 'web@*'", "take the changed file of web@.service, one instance after another"),
        ],
    ),
    ("restart", &[("restart 'web@*'", "restart all instances of web@, one after another")]),
    (
        "reset-failed",
        &[
            ("reset-failed web@1", "start it again now, and move it again if it fails (Reschedule=on-failure)"),
            ("reset-failed '*'", "start all units again that have failed"),
        ],
    ),
    ("stop", &[("stop web.service", "stop it; it stays on its host")]),
    ("unload", &[("unload web.service", "stop it and take it off its host; it stays submitted")]),
    (
        "destroy",
        &[
            ("destroy web.service", "stop it and remove it from the cluster"),
            ("destroy --yes 'web@*'", "all instances, without a question"),
            ("destroy --plan 'web@*'", "change nothing, and say what would stop, and what would take its place"),
        ],
    ),
    (
        "scale",
        &[
            ("scale web@ 5", "web@.service gets five members: web@1 to web@5"),
            ("scale web@ +2", "two more than now; the lowest free numbers come first"),
            ("scale web@ -1", "one fewer; the highest number goes first"),
            ("scale --plan web@ 5", "change nothing, and say where the new members would go"),
        ],
    ),
    (
        "rollback",
        &[
            ("rollback web@", "the set has its last other file again, with what was changed in the same batch"),
            ("rollback --hooks web@", "the same, and the units of Before= and After= in that file run"),
            ("rollback --only web.service 7", "the file of revision 7 in `fleetctl history`, and nothing else"),
        ],
    ),
    (
        "wait",
        &[
            ("wait --for=active --timeout 5m db 'web@*'", "until all of them are active, five minutes at most"),
            ("wait --for=inactive job", "until it runs nowhere, also if it is destroyed meanwhile"),
            ("wait --for=settled", "until everything that was asked for is done or has failed"),
        ],
    ),
    (
        "cat",
        &[
            ("cat web.service", "print its file"),
            ("cat web > web.service", "save it, to change it and `start --replace web.service`"),
            ("cat --revision 3 web > web.service", "save another text that it had, to start it again"),
        ],
    ),
    (
        "list-units",
        &[
            ("list-units", "which units are on hosts, and their states"),
            ("list-units --failed --host n2", "only those that failed on the host n2"),
            ("list-units --fields=unit,hostname,error 'web@*'", "only these columns of these units"),
            ("list-units -w 'web@*'", "the same units, kept up to date until Ctrl-C"),
        ],
    ),
    (
        "list-unit-files",
        &[
            ("list-unit-files", "all units of the cluster, and what is wanted of each"),
            ("list-unit-files --not-running", "those that should run and don't"),
        ],
    ),
    (
        "list-sets",
        &[
            ("list-sets", "the sets, how many members each should have and how many are up"),
            ("list-sets --fields=set,wanted,ready 'web*'", "only these columns of these sets"),
            ("list-sets --fields=set,wanted,file,lead", "what each file says: a number, or another set"),
        ],
    ),
    (
        "rollout",
        &[
            ("rollout", "the rollouts that aren't done"),
            ("rollout web@", "how the rollout of the set web@.service stands, member by member"),
            ("rollout web@ promote --follow", "go on beyond the canaries, and look on until it has ended"),
            ("rollout web@ retry --plan", "change nothing, and say which members would restart, in which order"),
            ("rollout web@ pause", "let no other member have the new file until `rollout web@ resume`"),
        ],
    ),
    (
        "list-machines",
        &[
            ("list-machines --fields=hostname,version", "which host runs which version"),
            ("list-machines --all", "also the hosts that are gone"),
            ("list-machines --fields=hostname,state", "which hosts are cordoned, since when, by whom and why"),
        ],
    ),
    (
        "set-metadata",
        &[
            ("set-metadata n2 disk=ssd", "n2 has an SSD now: units with MachineMetadata=disk=ssd fit it"),
            ("set-metadata n2 zone=b rack=7", "both at once; units that are to be in another zone leave"),
        ],
    ),
    (
        "unset-metadata",
        &[
            ("unset-metadata n2 disk", "n2 has no disk=… any more, even if its fleet.conf has"),
            ("unset-metadata --all n2", "what n2's fleet.conf says applies again"),
        ],
    ),
    (
        "cordon",
        &[
            ("cordon n2 --why disk", "place no new units on n2; those that run there stay"),
            ("cordon n1 n2", "the same for two hosts, in one step"),
        ],
    ),
    ("uncordon", &[("uncordon n2", "place new units on n2 again; those that waited for it start")]),
    (
        "drain",
        &[
            ("drain n2 --why kernel", "move the units of n2 to other hosts, and place no new ones there"),
            ("drain n2 n3 --plan", "change nothing, and say which units would move where"),
            ("drain n2 --globals --deadline 10m", "global units too, and after ten minutes regardless of budgets"),
        ],
    ),
    (
        "move",
        &[
            ("move web@2 n4", "move web@2.service to n4, with the units that must be with it"),
            ("move 'web@*' --plan", "change nothing, and say where each would go if it left its host"),
            ("move --force db n3", "db.service goes to n3, although it belongs to a host that is away"),
        ],
    ),
    (
        "rebalance",
        &[
            ("rebalance", "show which units would be better on other hosts, and move them after a yes"),
            ("rebalance 'web@*' --max-moves 3", "no more than three moves, and only of these units"),
            ("rebalance --plan", "change nothing; the exit status is 3 if any would move"),
            ("rebalance --yes", "without a question, for scripts"),
        ],
    ),
    (
        "undrain",
        &[
            ("undrain n2", "n2 takes units again"),
            ("undrain n2 --restore", "the units that left come back too, as far as they still fit"),
        ],
    ),
    (
        "reboot",
        &[
            ("reboot n2 --why kernel", "drain n2, reboot it, and bring its units back"),
            ("reboot --all", "all hosts, one after the other; the first that doesn't come back stops the rest"),
            ("reboot n3 --cancel", "n3 is to reboot no longer"),
        ],
    ),
    (
        "forget",
        &[
            ("forget n2", "n2 is gone and won't be back: don't list it any more"),
            ("forget --held", "the hosts that vanished together are really gone: move their units now"),
        ],
    ),
    ("settings", &[("settings", "what is set for the whole cluster, and what each setting does")]),
    (
        "set",
        &[
            ("set placement=pack", "fill one host before the next, with units that say what they take"),
            ("set overcommit-memory=120% overcommit-cpu=300%", "let units declare more than hosts have"),
        ],
    ),
    ("unset", &[("unset placement", "spread units over the hosts again")]),
    ("export", &[("export backup", "write all units into the folder backup, or bring it up to date; keep it in git")]),
    (
        "restore",
        &[
            ("restore backup", "bring the units of the folder back, and ask before units that are here are changed"),
            ("restore --yes backup", "without a question, for scripts"),
        ],
    ),
    (
        "import",
        &[
            ("import --from http://old:49153", "show what taking over all units there would do"),
            ("import --from http://old:49153 --apply 'web@*'", "submit the units that match here too"),
        ],
    ),
    (
        "journal",
        &[
            ("journal -f web@1", "follow what web@1 logs"),
            ("journal --since -1h 'web@*' db", "the last hour of several units, in order of time"),
            ("journal -p err -n 50 db", "its last 50 entries of priority err or higher"),
        ],
    ),
    (
        "status",
        &[
            ("status", "the cluster: its hosts and units, and what needs attention"),
            ("status web.service", "what systemd says of it, on the host it is on"),
        ],
    ),
    (
        "doctor",
        &[
            (
                "doctor",
                "hosts, units, rollouts, etcd, versions: what is wrong, and what to do; exit status 3 if any is",
            ),
            ("doctor --output json", "the same for a program"),
        ],
    ),
    (
        "explain",
        &[
            (
                "explain web@3",
                "why it waits: each host, and every rule that speaks against it; or why it is where it is",
            ),
            ("explain 'web@*'", "the same of all that match"),
            ("explain web@ --output json", "of each member of the set web@.service, for programs"),
        ],
    ),
    (
        "what-if",
        &[
            ("what-if --lose n2", "which units would move to which hosts, and which would wait, and why"),
            ("what-if --lose zone=a --add 2:zone=c", "without a whole zone, and with two more hosts in another one"),
            ("what-if --each-host", "whether the cluster can lose any one host: exit status 3 if it can't"),
            ("what-if --start big.service --each zone", "and any one zone, once big.service runs"),
        ],
    ),
    (
        "ssh",
        &[("ssh n1", "a shell on the host n1"), ("ssh web@1 systemctl cat web@1", "a command on the host of web@1")],
    ),
    ("list-services", &[("list-services", "which services are announced, and where")]),
    ("service", &[("service web", "the instances of the service web")]),
    (
        "context",
        &[("context", "list the contexts of ~/.config/flotilla/config"), ("context use prod", "use prod from now on")],
    ),
    ("version", &[("version --output json", "the version, for a program")]),
    (
        "options",
        &[
            ("--tunnel core@n1 list-units", "ask a cluster from elsewhere, over SSH"),
            ("--context prod list-units", "ask the cluster of a context"),
        ],
    ),
];

/// The section of examples for `command`'s help.
pub(super) fn of(command: &str) -> Option<String> {
    let (_, examples) = EXAMPLES.iter().find(|(name, _)| *name == command)?;
    let lines = examples.iter().map(|(line, does)| format!("\n  fleetctl {line}\n      {does}"));
    Some(format!("Examples:{}", lines.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_examples_that_parse() {
        let command = crate::cli::args::command();
        for name in crate::cli::input::argv::visible(&command).filter(|name| *name != "help") {
            assert!(of(name).is_some(), "{name} has no example");
        }
        for (name, examples) in EXAMPLES.iter().copied() {
            assert!(command.find_subcommand(name).is_some(), "{name}");
            for (line, _) in examples {
                // What a shell would make of it.
                let words = line.split(" > ").next().unwrap().split_whitespace().map(|word| word.trim_matches('\''));
                let words = std::iter::once("fleetctl").chain(words);
                let parsed = command.clone().try_get_matches_from(words);
                let matches = parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
                assert!(name == "options" || matches.subcommand_name() == Some(name), "{line}");
            }
        }
    }
}
