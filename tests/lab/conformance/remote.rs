//! What fleetctl does on hosts: status, journal, ssh, the tunnel. n1 stands for a laptop too: it reaches the others by
//! SSH.

use super::ground::{Ground, RUNS};

super::cases![
    status_is_systemctls_here_and_over_ssh,
    status_goes_on_and_ends_as_the_first_that_failed,
    journal_is_journalctls_here_and_over_ssh,
    journal_follows_with_either_dash,
    journal_that_follows_waits_for_a_unit_that_comes,
    ssh_runs_a_command_and_ends_as_it_does,
    ssh_names_hosts_by_the_beginning_of_their_id_and_by_a_unit,
    ssh_that_finds_nobody_exits_255,
    a_tunnel_leads_to_the_api_of_its_host,
    fd_forward_joins_a_socket,
    an_unknown_host_is_refused_unless_one_says_otherwise,
    what_asks_nobody_opens_no_connection,
    words_for_what_cant_be_reached_are_fleets,
];

/// Start `name` on the host of this rank.
fn run_on(g: &Ground, name: &str, rank: usize, text: &str) {
    g.file(name, &format!("{text}\n[X-Fleet]\nMachineMetadata=rank={rank}"));
    g.fleetctl(&format!("start {name}")).ok();
}

fn status_is_systemctls_here_and_over_ssh(g: &Ground) {
    let (here, there) = g.ssh().here_and_there();
    for (unit, rank) in [("here.service", here), ("there.service", there)] {
        run_on(g, unit, rank, &format!("[Unit]\nDescription=Says {unit}\n{RUNS}"));
    }
    let shown = g.fleetctl("status here.service there").ok();
    let (first, second) = shown.split_once("\n\n● there.service").unwrap_or_else(|| panic!("{shown}"));
    assert!(first.starts_with("● here.service - Says here.service\n"), "a blank line between two units: {shown}");
    for (text, rank, unit) in [(first, here, "here.service"), (second, there, "there.service")] {
        assert!(text.contains("Active: active (running)"), "{shown}");
        let pid = g.lab.main_pid(g.host(rank), unit);
        assert!(text.contains(&format!("Main PID: {pid} ")), "that host's own systemctl: {shown}");
    }
}

/// fleet stopped at the first unit that was not active, and printed nothing for globals.
fn status_goes_on_and_ends_as_the_first_that_failed(g: &Ground) {
    let (_, there) = g.ssh().here_and_there();
    run_on(g, "off.service", there, RUNS);
    g.lab.run(g.host(there), &["systemctl", "stop", "off.service"]).ok();
    g.file("all.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true")).file("idle.service", RUNS);
    g.fleetctl("submit idle").ok();
    g.fleetctl("start all").ok();
    let ran = g.fleetctl("status off nothing idle all");
    assert_eq!(ran.code, 3, "systemctl's for what is inactive: {ran:?}");
    assert_eq!(ran.stdout.matches("Active: active (running)").count(), 3, "a global on each host: {ran:?}");
    for said in ["Unit nothing.service does not exist.", "Unit idle.service does not appear to be loaded."] {
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
    assert_eq!((g.fleetctl("status nothing").code, g.fleetctl("status idle").code), (1, 1));
}

const COUNTS: &str =
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'for i in $(seq 20); do echo line $i; done'";

fn journal_is_journalctls_here_and_over_ssh(g: &Ground) {
    let (here, there) = g.ssh().here_and_there();
    for (unit, rank) in [("here.service", here), ("there.service", there)] {
        run_on(g, unit, rank, COUNTS);
        let journal = |options: &str| g.fleetctl(&format!("journal {unit} {options}")).ok();
        let truth = |options: &str| {
            let line = format!("journalctl --unit {unit} --no-pager {options}");
            g.lab.sh(g.host(rank), &line).ok()
        };
        assert_eq!(journal(""), truth("-n 10 -o short"), "ten lines, in journalctl's form");
        assert_eq!(journal("--lines 3 --output cat"), truth("-n 3 -o cat"));
        assert_eq!(journal("-lines=1 -output=cat"), truth("-n 1 -o cat"));
        assert_eq!(journal("--output short-iso").lines().count(), truth("-n 10 -o short-iso").lines().count());
    }
}

/// `-f` was one of the options that stopped working with 0.13.
fn journal_follows_with_either_dash(g: &Ground) {
    let (_, there) = g.ssh().here_and_there();
    run_on(g, "talks.service", there, "[Service]\nExecStart=/bin/sh -c 'while sleep 0.2; do echo again; done'");
    for option in ["-f", "--f", "--follow", "-follow"] {
        // It doesn't end by itself, so `timeout` ends it.
        let ran = g.sh(&format!("timeout 2 fleetctl journal {option} -lines 1 -output cat talks.service"));
        assert!(ran.code == 124 && ran.stdout.matches("again\n").count() > 3, "{option}: {ran:?}");
    }
}

/// fleet refused to follow a unit that didn't run yet.
fn journal_that_follows_waits_for_a_unit_that_comes(g: &Ground) {
    g.ssh().file("later.service", COUNTS);
    g.fleetctl("submit later").ok();
    let follow =
        "timeout 4 fleetctl journal -f --output cat later > seen & sleep 1; fleetctl start later; wait; cat seen";
    let seen = g.sh(follow).ok();
    assert!(seen.contains("line 19\nline 20\n"), "{seen}");
}

fn ssh_runs_a_command_and_ends_as_it_does(g: &Ground) {
    let (here, there) = g.ssh().here_and_there();
    for rank in [here, there] {
        let (id, host) = (g.id(rank), g.host(rank));
        assert_eq!(g.fleetctl(&format!("ssh {id} hostname")).ok(), format!("{host}\n"));
        // fleet required `--` before a command with options; here they belong to the command without it, too.
        for line in [format!("ssh {id} -- uname -n"), format!("ssh {id} uname -n")] {
            assert_eq!(g.fleetctl(&line).ok(), format!("{host}\n"), "{line}");
        }
        let ran = g.fleetctl(&format!("ssh {id} 'cat; echo talk >&2; exit 7' < /etc/os-release"));
        assert_eq!((ran.code, ran.stderr.as_str()), (7, "talk\n"));
        assert_eq!(ran.stdout, g.sh("cat /etc/os-release").ok(), "our stdin is the command's");
    }
    // By default it is who types. fleet's was `core`, which is still the one where the host refuses that user.
    let default = || g.fleetctl(&format!("ssh {} id -un", g.id(there))).ok();
    assert_eq!(default(), "root\n");
    let keys = |from: &str, to: &str| g.lab.run(g.host(there), &["mv", from, to]).ok();
    keys("/root/.ssh/authorized_keys", "/root/.ssh/away");
    let refused = default();
    keys("/root/.ssh/away", "/root/.ssh/authorized_keys");
    assert_eq!(refused, "core\n");
    for option in ["--ssh-username=root", "-ssh-username root"] {
        assert_eq!(g.fleetctl(&format!("{option} ssh {} id -un", g.id(there))).ok(), "root\n");
    }
}

fn ssh_names_hosts_by_the_beginning_of_their_id_and_by_a_unit(g: &Ground) {
    let (_, there) = g.ssh().here_and_there();
    run_on(g, "web.service", there, RUNS);
    let host = format!("{}\n", g.host(there));
    let start = &g.id(there)[..8];
    for words in [start, "web.service", "web", "--unit web", "--unit=web.service", &format!("--machine {start}")] {
        assert_eq!(g.fleetctl(&format!("ssh {words} hostname")).ok(), host, "{words}");
    }
}

fn ssh_that_finds_nobody_exits_255(g: &Ground) {
    let (_, there) = g.ssh().here_and_there();
    run_on(g, "web.service", there, RUNS);
    for options in ["--ssh-port 1", "--ssh-username nobody"] {
        for command in ["ssh web true", "status web", "journal web"] {
            let ran = g.fleetctl(&format!("{options} {command}"));
            assert!(ran.code == 255 && ran.stdout.is_empty() && !ran.stderr.is_empty(), "{options} {command}: {ran:?}");
        }
    }
}

fn a_tunnel_leads_to_the_api_of_its_host(g: &Ground) {
    let (_, there) = g.ssh().here_and_there();
    let address = format!("10.0.0.{there}");
    g.file("a.service", RUNS);
    // This host's own fleetd is not used.
    let away = "systemctl stop fleetd";
    g.sh(away).ok();
    for way in [
        format!("fleetctl --tunnel {address}"),
        format!("fleetctl --tunnel={address}:22"),
        format!("fleetctl -tunnel {address} --endpoint unix:///var/run/fleet.sock"),
        format!("FLEETCTL_TUNNEL={address} fleetctl"),
    ] {
        let listed = g.sh(&format!("{way} list-machines --no-legend --fields=machine --full"));
        assert!(listed.stdout.contains(g.id(there)), "{way}: {listed:?}");
    }
    let started = g.sh(&format!("FLEETCTL_TUNNEL={address} fleetctl start a.service")).ok();
    g.sh("systemctl start fleetd").ok();
    g.until_all_are_there("n1");
    assert!(started.starts_with("Unit a.service launched on "), "{started}");
    // An endpoint on the network is resolved on the tunnel's host.
    let (here, _) = g.here_and_there();
    let listed = g.lab.run(
        g.host(there),
        &["env", "FLEETCTL_ENDPOINT=http://127.0.0.1:49153", "fleetctl", "list-machines", "--no-legend"],
    );
    assert_eq!(listed.code, 1, "only n1 listens there: {listed:?}");
    let through = format!("--tunnel 10.0.0.{here} --endpoint http://127.0.0.1:49153 list-machines --no-legend");
    assert_eq!(g.fleetctl(&through).ok().lines().count(), 3);
}

fn fd_forward_joins_a_socket(g: &Ground) {
    // stdin stays open until the answer arrives, as that of a tunnel does.
    let asked = "printf 'GET /fleet/v1/machines HTTP/1.1\\r\\nHost: fleet\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1";
    let answered = g.sh(&format!("({asked}) | fleetctl fd-forward /run/fleet.sock")).ok();
    assert!(answered.starts_with("HTTP/1.1 200 OK\r\n") && answered.contains(g.id(1)), "{answered}");
}

fn an_unknown_host_is_refused_unless_one_says_otherwise(g: &Ground) {
    let (_, there) = g.ssh().here_and_there();
    let ssh =
        |options: &str| g.fleetctl(&format!("--known-hosts-file /root/known {options} ssh {} hostname", g.id(there)));
    let ran = ssh("");
    assert!(ran.code == 255 && ran.stderr.contains("isn't known"), "{ran:?}");
    assert_eq!(ssh("--strict-host-key-checking=false").stdout, format!("{}\n", g.host(there)));
    assert_eq!(ssh("").ok(), format!("{}\n", g.host(there)), "now it is");
    // Another host answers at that address.
    g.sh("ssh-keygen -q -t ed25519 -N '' -f other && sed -i \"s@ssh-ed25519 .*@$(cut -d' ' -f1-2 other.pub)@\" known")
        .ok();
    let ran = ssh("");
    assert!(ran.code == 255 && ran.stderr.contains("REMOTE HOST IDENTIFICATION HAS CHANGED!"), "{ran:?}");
}

/// Every command of fleet built its client first: with `--tunnel`, `version` logged in.
fn what_asks_nobody_opens_no_connection(g: &Ground) {
    let version = g.fleetctl("version").ok();
    for reach in ["--tunnel 10.0.0.9:1", "--endpoint /nowhere"] {
        assert_eq!(g.fleetctl(&format!("{reach} version")).ok(), version);
        assert!(g.fleetctl(&format!("{reach} help")).ok().contains("Usage: fleetctl"));
    }
}

fn words_for_what_cant_be_reached_are_fleets(g: &Ground) {
    g.file("idle.service", RUNS);
    g.fleetctl("submit idle.service").ok();
    g.session(
        "fleetctl ssh
        fleetctl ssh nothing true
        fleetctl ssh --machine nothing true
        fleetctl ssh --unit nothing true
        fleetctl ssh --machine nothing --unit idle
        fleetctl ssh idle true
        fleetctl status nothing
        fleetctl status idle
        fleetctl journal
        fleetctl journal nothing
        fleetctl journal idle
        fleetctl journal -f nothing
        fleetctl fd-forward
        fleetctl fd-forward /a /b
        fleetctl --tunnel 127.0.0.1:1 list-units",
    );
}
